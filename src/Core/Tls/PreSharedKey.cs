using System.Security.Cryptography;

namespace Platter.Core.Tls;

/// <summary>A key that a server shares with one client, and the client's name.</summary>
public sealed class PreSharedKey
{
    private readonly byte[] _identity;
    private readonly byte[] _identityHash;
    private readonly byte[] _key;

    internal PreSharedKey(byte[] identity, byte[] key)
    {
        _identity = identity;
        _identityHash = SHA256.HashData(identity);
        _key = key;
    }

    /// <summary>The name, 1 to <see cref="PreSharedKeys.MaxIdentityBytes"/> bytes without NUL, UTF-8 as a rule.</summary>
    public ReadOnlySpan<byte> Identity => _identity;

    /// <summary>The key, <see cref="PreSharedKeys.MinKeyBytes"/> to <see cref="PreSharedKeys.MaxKeyBytes"/> bytes. Secret.</summary>
    public ReadOnlySpan<byte> Key => _key;

    /// <summary>Whether a name with this SHA-256 is meant; takes the same time for all names.</summary>
    internal bool IsOf(ReadOnlySpan<byte> identityHash) => CryptographicOperations.FixedTimeEquals(_identityHash, identityHash);
}
