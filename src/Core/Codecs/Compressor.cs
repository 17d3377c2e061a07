namespace Platter.Core.Codecs;

/// <summary>An encoder with reusable state; used by one thread at a time.</summary>
public abstract class Compressor : IDisposable
{
    /// <summary>Encodes <paramref name="input"/> as one whole stream.</summary>
    /// <param name="input">Not empty.</param>
    /// <param name="output">Receives the stream.</param>
    /// <returns>Bytes of the stream, or -1 when it does not fit.</returns>
    public abstract int Compress(ReadOnlySpan<byte> input, Span<byte> output);

    /// <summary>Gives the state back to its provider, or frees it.</summary>
    public abstract void Dispose();
}
