using Platter.Core.Tls;

namespace Platter.Nbd.Tls;

/// <summary>How a client uses certificates.</summary>
public sealed record NbdClientCertificateOptions
{
    /// <summary>Whether the server must prove who it is. Without that, anybody between the two can read and change everything.</summary>
    public bool VerifyPeer { get; init; } = true;

    /// <summary>Whether our own certificate is looked at before any server does (dates, purpose, authority).</summary>
    public bool CheckOwn { get; init; } = true;

    /// <summary>Password of the private key; null when it has none.</summary>
    public string? KeyPassword { get; init; }

    /// <summary>What may be agreed on. What is more than a choice of versions needs <see cref="Library"/>.</summary>
    public TlsProfile Profile { get; init; } = TlsProfile.Default;

    /// <summary>Who does the work, if it is available; null for .NET's own TLS.</summary>
    public TlsLibrary? Library { get; init; }
}
