using Platter.Core.Codecs;

namespace Platter.Host.Codecs;

/// <summary>An encoder that goes back to its pool when it is disposed. Must not be used after that, nor disposed twice.</summary>
internal sealed class PooledCompressor(NativeEncoder encoder, CodecPool<PooledCompressor> pool) : Compressor
{
    /// <inheritdoc/>
    public override int Compress(ReadOnlySpan<byte> input, Span<byte> output) => encoder.Compress(input, output);

    /// <inheritdoc/>
    public override void Dispose()
    {
        if (!pool.TryReturn(this))
        {
            encoder.Dispose();
        }
    }
}
