using Platter.Core.Tls;

namespace Platter.Nbd.Tls;

/// <summary>How a server uses its certificates.</summary>
public sealed record NbdServerCertificateOptions
{
    /// <summary>Whether clients that do not encrypt are turned away.</summary>
    public bool IsRequired { get; init; } = true;

    /// <summary>Whether clients must have a certificate that an authority of <c>ca-cert.pem</c> signed, as QEMU has it by default.</summary>
    public bool VerifyPeer { get; init; } = true;

    /// <summary>Who is let in of those; null for all. Asked at every connection.</summary>
    public Func<NbdAuthorization>? Authorization { get; init; }

    /// <summary>Whether our own certificate is looked at before any client does (dates, purpose, authority).</summary>
    public bool CheckOwn { get; init; } = true;

    /// <summary>Password of the private key; null when it has none.</summary>
    public string? KeyPassword { get; init; }

    /// <summary>What may be agreed on. What is more than a choice of versions needs <see cref="Library"/>.</summary>
    public TlsProfile Profile { get; init; } = TlsProfile.Default;

    /// <summary>Who does the work, if it is available; null for .NET's own TLS.</summary>
    public TlsLibrary? Library { get; init; }
}
