namespace Platter.Host.Codecs;

/// <summary>The native state of one decoder; see <see cref="Platter.Core.Codecs.Decompressor"/> for what decoding means.</summary>
internal abstract class NativeDecoder : IDisposable
{
    /// <summary>Which library it comes from.</summary>
    public abstract string Library { get; }

    /// <summary>Decodes a stream from its start; ready for the next one afterwards.</summary>
    /// <returns>Bytes decoded, or -1 when the input is not valid.</returns>
    public abstract int Decompress(ReadOnlySpan<byte> input, Span<byte> output);

    /// <summary>Frees the native state.</summary>
    public abstract void Dispose();
}
