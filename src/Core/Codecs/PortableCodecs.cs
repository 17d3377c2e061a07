using System.IO.Compression;
using Platter.Core.Errors;

namespace Platter.Core.Codecs;

/// <summary>Decoders and encoders without native libraries: deflate, no zstd. Slower than the native ones, work everywhere.</summary>
public sealed class PortableCodecs : CodecProvider
{
    /// <summary>The one instance.</summary>
    public static PortableCodecs Instance { get; } = new();

    /// <inheritdoc/>
    public override Decompressor RentInflate() => new StreamInflate();

    /// <inheritdoc/>
    public override Decompressor RentZstd() => throw NoZstd();

    /// <inheritdoc/>
    public override Compressor RentDeflate(int? level) => new PortableDeflate();

    /// <inheritdoc/>
    public override Compressor RentZstdCompressor(int? level) => throw NoZstd();

    private static BlockException NoZstd() => new(
        BlockErrorKind.Unsupported, "zstd compressed clusters need the library libzstd.so.1, which was not found");

    private sealed class StreamInflate : Decompressor
    {
        public override int Decompress(ReadOnlySpan<byte> input, Span<byte> output)
        {
            using var source = new MemoryStream(input.ToArray(), writable: false);
            using var inflate = new DeflateStream(source, CompressionMode.Decompress);
            try
            {
                return inflate.ReadAtLeast(output, output.Length, throwOnEndOfStream: false);
            }
            catch (InvalidDataException)
            {
                return -1;
            }
        }

        public override void Dispose()
        {
        }
    }
}
