namespace Platter.Host.Codecs;

/// <summary>The native state of one encoder; see <see cref="Platter.Core.Codecs.Compressor"/> for what encoding means.</summary>
internal abstract class NativeEncoder : IDisposable
{
    /// <summary>Encodes one whole stream; ready for the next one afterwards.</summary>
    /// <returns>Bytes of the stream, or -1 when it does not fit.</returns>
    public abstract int Compress(ReadOnlySpan<byte> input, Span<byte> output);

    /// <summary>Frees the native state.</summary>
    public abstract void Dispose();
}
