using Platter.Core.Codecs;

namespace Platter.Host.Codecs;

/// <summary>A decoder that goes back to its pool when it is disposed. Must not be used after that, nor disposed twice.</summary>
internal sealed class PooledDecompressor(NativeDecoder decoder, CodecPool<PooledDecompressor> pool) : Decompressor
{
    /// <inheritdoc/>
    public override int Decompress(ReadOnlySpan<byte> input, Span<byte> output) =>
        output.IsEmpty || input.IsEmpty ? 0 : decoder.Decompress(input, output);

    /// <inheritdoc/>
    public override void Dispose()
    {
        if (!pool.TryReturn(this))
        {
            decoder.Dispose();
        }
    }
}
