namespace Platter.Core.Tls;

/// <summary>Why a peer's certificate is refused.</summary>
/// <param name="Reason">In our words, one line.</param>
/// <param name="Alert">In those of the protocol, for the peer.</param>
public sealed record TlsRefusal(string Reason, TlsAlert Alert = TlsAlert.BadCertificate);

/// <summary>What a peer is told of its certificate (RFC 8446, section 6.2).</summary>
public enum TlsAlert
{
    /// <summary>Something is wrong with it.</summary>
    BadCertificate,

    /// <summary>It is not for this purpose.</summary>
    UnsupportedCertificate,

    /// <summary>Its issuer has taken it back.</summary>
    CertificateRevoked,

    /// <summary>It has expired or is not valid yet.</summary>
    CertificateExpired,

    /// <summary>No authority that counts has signed it.</summary>
    UnknownAuthority,
}
