using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Platter.Core.Errors;

namespace Platter.Nbd.Tls;

/// <summary>Whose signature counts: the authorities of one file, or the host's own; and what they have taken back.</summary>
/// <remarks>Immutable and thread-safe. Nothing is ever fetched over the network.</remarks>
internal sealed class CertificateTrust
{
    /// <summary>The purposes of certificates (RFC 5280, section 4.2.1.12).</summary>
    public const string ServerPurpose = "1.3.6.1.5.5.7.3.1", ClientPurpose = "1.3.6.1.5.5.7.3.2";

    private readonly string _name;
    private readonly X509Certificate2Collection? _authorities;
    private readonly IReadOnlyList<RevocationList> _revoked;

    private CertificateTrust(string name, X509Certificate2Collection? authorities, IReadOnlyList<RevocationList> revoked)
    {
        _name = name;
        _authorities = authorities;
        _revoked = revoked;
    }

    /// <summary>The authorities that the host trusts.</summary>
    public static CertificateTrust OfHost { get; } = new("this host", null, []);

    /// <summary>The authorities of a directory of credentials: <c>ca-cert.pem</c> and, if there is one, <c>ca-crl.pem</c>.</summary>
    /// <exception cref="BlockException">A file is missing or broken.</exception>
    public static CertificateTrust Load(string directory)
    {
        var path = Path.Combine(directory, "ca-cert.pem");
        var authorities = CredentialFile.ReadCertificates(path, "certificate of the authority");
        var revocations = Path.Combine(directory, "ca-crl.pem");
        return new(path, authorities, File.Exists(revocations) ? RevocationList.Load(revocations) : []);
    }

    /// <summary>How a chain is to be built.</summary>
    /// <param name="purpose">What the certificate must be good for.</param>
    public X509ChainPolicy Policy(string purpose)
    {
        var policy = new X509ChainPolicy { RevocationMode = X509RevocationMode.NoCheck, DisableCertificateDownloads = true };
        policy.ApplicationPolicy.Add(new Oid(purpose));
        if (_authorities is not null)
        {
            policy.TrustMode = X509ChainTrustMode.CustomRootTrust;
            policy.CustomTrustStore.AddRange(_authorities);
        }

        return policy;
    }

    /// <summary>Judges a peer's certificate after .NET has.</summary>
    /// <param name="who">"client" or "server".</param>
    /// <param name="certificate">The peer's; null when it sent none.</param>
    /// <param name="chain">As it was built.</param>
    /// <param name="errors">What .NET found.</param>
    /// <param name="hostName">What it must be for; null for no name.</param>
    /// <returns>Why it is refused, or null.</returns>
    public string? Refuses(string who, X509Certificate2? certificate, X509Chain? chain, SslPolicyErrors errors, string? hostName)
    {
        if (certificate is null || (errors & SslPolicyErrors.RemoteCertificateNotAvailable) != 0)
        {
            return $"the {who} has sent no certificate";
        }

        var subject = $"the {who}'s certificate '{SafeText.Clean(SubjectOf(certificate), 256)}'";
        if (chain is null || (errors & SslPolicyErrors.RemoteCertificateChainErrors) != 0)
        {
            return $"{subject} {Describe(chain)}";
        }

        if ((errors & SslPolicyErrors.RemoteCertificateNameMismatch) != 0)
        {
            return $"{subject} is for {NamesOf(certificate)} and not for '{SafeText.Clean(hostName ?? string.Empty, 256)}'";
        }

        return errors != SslPolicyErrors.None ? $"{subject} is not accepted" : Revoked(chain) is { } revoked ? $"{subject} {revoked}" : null;
    }

    /// <summary>Judges a certificate of our own, so that what no peer would accept is noticed at once.</summary>
    /// <returns>Why peers will refuse it, or null.</returns>
    public string? Doubts(X509Certificate2 certificate, X509Certificate2Collection others, string purpose)
    {
        using var chain = new X509Chain { ChainPolicy = Policy(purpose) };
        chain.ChainPolicy.ExtraStore.AddRange(others);
        return chain.Build(certificate) ? Revoked(chain) : Describe(chain);
    }

    /// <summary>A certificate's subject; never throws.</summary>
    public static string SubjectOf(X509Certificate2 certificate)
    {
        try
        {
            return DistinguishedNameText.Of(certificate.SubjectName);
        }
        catch (CryptographicException)
        {
            return "a malformed name";
        }
    }

    private string? Revoked(X509Chain chain)
    {
        foreach (var element in chain.ChainElements)
        {
            foreach (var list in _revoked)
            {
                if (list.Refuses(element.Certificate) is { } reason)
                {
                    return reason;
                }
            }
        }

        return null;
    }

    private string Describe(X509Chain? chain)
    {
        var status = X509ChainStatusFlags.NoError;
        foreach (var one in chain?.ChainStatus ?? [])
        {
            status |= one.Status;
        }

        return (status & (X509ChainStatusFlags.UntrustedRoot | X509ChainStatusFlags.PartialChain | X509ChainStatusFlags.NotSignatureValid)) != 0
                ? $"is not signed by an authority of {_name}"
            : (status & X509ChainStatusFlags.NotTimeValid) != 0 ? "has expired or is not valid yet"
            : (status & X509ChainStatusFlags.NotValidForUsage) != 0 ? "is not meant for this purpose"
            : $"is not accepted ({status})";
    }

    private static string NamesOf(X509Certificate2 certificate)
    {
        var names = new List<string>();
        foreach (var extension in certificate.Extensions)
        {
            if (extension is X509SubjectAlternativeNameExtension alternatives)
            {
                names.AddRange(alternatives.EnumerateDnsNames());
                names.AddRange(alternatives.EnumerateIPAddresses().Select(static address => address.ToString()));
            }
        }

        return names.Count > 0 ? SafeText.Clean(string.Join(", ", names), 256) : "no host";
    }
}
