namespace Platter.Core.Tls;

/// <summary>What one side of sessions with certificates shows and wants.</summary>
/// <param name="IsServer">Which side.</param>
/// <param name="Profile">What may be agreed on.</param>
public sealed record TlsCertificateSettings(bool IsServer, TlsProfile Profile)
{
    /// <summary>Our certificate, in DER, and behind it those that it was signed with; empty for a client without one.</summary>
    public IReadOnlyList<byte[]> Certificates { get; init; } = [];

    /// <summary>The private key of the first one, PKCS #8 in DER. Secret; not used after the call that it is given to.</summary>
    public ReadOnlyMemory<byte> PrivateKey { get; init; }

    /// <summary>Whether a server wants a certificate of its clients.</summary>
    public bool WantsCertificate { get; init; }
}
