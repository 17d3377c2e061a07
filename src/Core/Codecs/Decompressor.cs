namespace Platter.Core.Codecs;

/// <summary>A decoder with reusable state; used by one thread at a time.</summary>
public abstract class Decompressor : IDisposable
{
    /// <summary>Decodes a stream from the start of <paramref name="input"/> until <paramref name="output"/> is full or the stream ends.</summary>
    /// <param name="input">Encoded bytes; may go on with anything after the end of the stream.</param>
    /// <param name="output">Receives at most its length; never more.</param>
    /// <returns>Bytes decoded, or -1 when the input is not a valid stream.</returns>
    public abstract int Decompress(ReadOnlySpan<byte> input, Span<byte> output);

    /// <summary>Gives the state back to its provider, or frees it.</summary>
    public abstract void Dispose();
}
