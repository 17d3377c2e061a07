namespace Platter.Formats.Qcow2.Encryption.Ciphers;

/// <summary>A block cipher with its key: the bare permutation, block by block (ECB). Modes are built on top of it.</summary>
/// <remarks>
/// Instances may be used by many threads at once, and calls allocate nothing. Both spans hold the same number of whole
/// blocks and are either the same memory or do not overlap; this is our own code calling, so it is only asserted.
/// Implementations are fastest with many blocks per call.
/// </remarks>
internal abstract class BlockCipher
{
    /// <summary>Bytes in a block: 16, or 8 for CAST5.</summary>
    public abstract int BlockBytes { get; }

    /// <summary>Encrypts every block of <paramref name="source"/>.</summary>
    public abstract void Encrypt(ReadOnlySpan<byte> source, Span<byte> destination);

    /// <summary>Decrypts every block of <paramref name="source"/>.</summary>
    public abstract void Decrypt(ReadOnlySpan<byte> source, Span<byte> destination);
}
