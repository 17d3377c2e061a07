namespace Platter.Core.Tls;

/// <summary>What two sides may agree on. Whatever it says: forward secrecy and authenticated encryption.</summary>
/// <param name="Versions">Versions of the protocol; at least one.</param>
/// <param name="IsStrong">Whether only keys of 256 bits are used, and certificates of 128 bits of security and more (RSA from 3072 bits on).</param>
public sealed record TlsProfile(TlsVersions Versions = TlsVersions.All, bool IsStrong = false)
{
    /// <summary>Everything that is good enough.</summary>
    public static TlsProfile Default { get; } = new();
}

/// <summary>Versions of the protocol.</summary>
[Flags]
public enum TlsVersions
{
    /// <summary>None.</summary>
    None = 0,

    /// <summary>TLS 1.2 (RFC 5246).</summary>
    Tls12 = 1,

    /// <summary>TLS 1.3 (RFC 8446).</summary>
    Tls13 = 2,

    /// <summary>Both.</summary>
    All = Tls12 | Tls13,
}
