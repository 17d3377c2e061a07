namespace Platter.Core.Codecs;

/// <summary>Hands out decoders and encoders. Thread-safe; what it hands out is not.</summary>
public abstract class CodecProvider
{
    /// <summary>A decoder for raw deflate streams (RFC 1951) with any window up to 32 KiB. Dispose it to give it back.</summary>
    public abstract Decompressor RentInflate();

    /// <summary>A decoder for zstd frames (RFC 8878); several frames in a row are one stream. Declared windows above 8 MiB are invalid input.</summary>
    /// <exception cref="Errors.BlockException"><see cref="Errors.BlockErrorKind.Unsupported"/>, naming the library that is missing.</exception>
    public abstract Decompressor RentZstd();

    /// <summary>An encoder for raw deflate streams whose distances stay within 4 KiB, as qcow2's readers expect. Dispose it to give it back.</summary>
    /// <param name="level">1 (fast) to 9 (small); null for the library's own choice.</param>
    public abstract Compressor RentDeflate(int? level);

    /// <summary>An encoder for zstd frames.</summary>
    /// <param name="level">1 (fast) to 22 (small); null for the library's own choice.</param>
    /// <exception cref="Errors.BlockException"><see cref="Errors.BlockErrorKind.Unsupported"/>, naming the library that is missing.</exception>
    public abstract Compressor RentZstdCompressor(int? level);
}
