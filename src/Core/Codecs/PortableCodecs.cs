using System.IO.Compression;
using Platter.Core.Errors;

namespace Platter.Core.Codecs;

/// <summary>Decoders from .NET alone: deflate, no zstd. Slower than the native ones, works everywhere.</summary>
public sealed class PortableCodecs : CodecProvider
{
    /// <summary>The one instance.</summary>
    public static PortableCodecs Instance { get; } = new();

    /// <inheritdoc/>
    public override Decompressor RentInflate() => new StreamInflate();

    /// <inheritdoc/>
    public override Decompressor RentZstd() => throw new BlockException(
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
