namespace Platter.Formats.Qcow2.Encryption.Hashes;

/// <summary>The compression function of a hash that works on blocks of sixteen 32-bit words (MD5, SHA-224, RIPEMD-160).</summary>
internal interface ICompression
{
    /// <summary>Words of state that a digest is made of.</summary>
    static abstract int DigestWords { get; }

    /// <summary>Whether words and the length are big-endian.</summary>
    static abstract bool IsBigEndian { get; }

    /// <summary>Sets the state every message starts from.</summary>
    static abstract void Start(Span<uint> state);

    /// <summary>Takes in a block; may use <paramref name="block"/> as scratch space.</summary>
    static abstract void Compress(Span<uint> state, Span<uint> block);
}
