namespace Platter.Core.Codecs;

/// <summary>Hands out decoders. Thread-safe; what it hands out is not.</summary>
public abstract class CodecProvider
{
    /// <summary>A decoder for raw deflate streams (RFC 1951) with any window up to 32 KiB. Dispose it to give it back.</summary>
    public abstract Decompressor RentInflate();

    /// <summary>A decoder for zstd frames (RFC 8878); several frames in a row are one stream. Declared windows above 8 MiB are invalid input.</summary>
    /// <exception cref="Errors.BlockException"><see cref="Errors.BlockErrorKind.Unsupported"/>, naming the library that is missing.</exception>
    public abstract Decompressor RentZstd();
}
