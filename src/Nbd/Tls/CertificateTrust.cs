using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Platter.Core.Errors;
using Platter.Core.Tls;

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
        return new(path, authorities, File.Exists(revocations) ? RevocationList.Load(revocations, path, authorities) : []);
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

    /// <summary>Judges what a peer has sent.</summary>
    /// <param name="who">"client" or "server".</param>
    /// <param name="sent">Its certificate and then others, in DER; empty when it sent none.</param>
    /// <param name="profile">How strong keys must be.</param>
    /// <param name="hostName">What a server's must be for; null for a client.</param>
    /// <param name="authorize">What else speaks against a certificate that is good; null for nothing.</param>
    /// <returns>Why it is refused, or null.</returns>
    public TlsRefusal? Refuses(string who, IReadOnlyList<byte[]> sent, TlsProfile profile, string? hostName, Func<X509Certificate2, string?>? authorize = null)
    {
        if (sent.Count == 0)
        {
            return new($"the {who} has sent no certificate");
        }

        var certificates = new X509Certificate2Collection();
        try
        {
            foreach (var der in sent)
            {
                certificates.Add(X509CertificateLoader.LoadCertificate(der));
            }

            return Refuses(who, certificates, profile, hostName, authorize);
        }
        catch (CryptographicException)
        {
            return new($"the {who}'s certificate is malformed");
        }
        finally
        {
            foreach (var certificate in certificates)
            {
                certificate.Dispose();
            }
        }
    }

    /// <summary>Judges a certificate of our own, so that what no peer would accept is noticed at once.</summary>
    /// <returns>Why peers will refuse it, or null.</returns>
    public string? Doubts(X509Certificate2 certificate, X509Certificate2Collection others, string purpose)
    {
        using var chain = new X509Chain { ChainPolicy = Policy(purpose) };
        chain.ChainPolicy.ExtraStore.AddRange(others);
        return (chain.Build(certificate) ? Revoked(chain) : Describe(chain))?.Reason;
    }

    private TlsRefusal? Refuses(string who, X509Certificate2Collection certificates, TlsProfile profile, string? hostName, Func<X509Certificate2, string?>? authorize)
    {
        var certificate = certificates[0];
        var subject = $"the {who}'s certificate '{SafeText.Clean(SubjectOf(certificate), 256)}'";
        using var chain = new X509Chain { ChainPolicy = Policy(hostName is null ? ClientPurpose : ServerPurpose) };
        chain.ChainPolicy.ExtraStore.AddRange(certificates);
        var problem = !chain.Build(certificate) ? Describe(chain)
            : hostName is not null && !IsFor(certificate, hostName) ? new($"is for {NamesOf(certificate)} and not for '{SafeText.Clean(hostName, 256)}'")
            : Revoked(chain) ?? (profile.IsStrong && chain.ChainElements.Any(static element => !IsStrong(element.Certificate)) ? new("has a key, or is signed by one, that is too short for this priority") : null);
        return problem is not null ? problem with { Reason = $"{subject} {problem.Reason}" }
            : authorize?.Invoke(certificate) is { } reason ? new(reason) : null;
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

    private static bool IsFor(X509Certificate2 certificate, string hostName)
    {
        try
        {
            return certificate.MatchesHostname(hostName);
        }
        catch (ArgumentException)
        {
            // Not a name that any host can have.
            return false;
        }
    }

    // 128 bits of security.
    private static bool IsStrong(X509Certificate2 certificate)
    {
        using var rsa = certificate.GetRSAPublicKey();
        using var curve = certificate.GetECDsaPublicKey();
        return rsa?.KeySize >= 3072 || curve?.KeySize >= 256;
    }

    private TlsRefusal? Revoked(X509Chain chain)
    {
        foreach (var element in chain.ChainElements)
        {
            foreach (var list in _revoked)
            {
                if (list.Refuses(element.Certificate) is { } reason)
                {
                    return new(reason, TlsAlert.CertificateRevoked);
                }
            }
        }

        return null;
    }

    private TlsRefusal Describe(X509Chain chain)
    {
        var status = X509ChainStatusFlags.NoError;
        foreach (var one in chain.ChainStatus)
        {
            status |= one.Status;
        }

        return (status & (X509ChainStatusFlags.UntrustedRoot | X509ChainStatusFlags.PartialChain | X509ChainStatusFlags.NotSignatureValid)) != 0
                ? new($"is not signed by an authority of {_name}", TlsAlert.UnknownAuthority)
            : (status & X509ChainStatusFlags.NotTimeValid) != 0 ? new("has expired or is not valid yet", TlsAlert.CertificateExpired)
            : (status & X509ChainStatusFlags.NotValidForUsage) != 0 ? new("is not meant for this purpose", TlsAlert.UnsupportedCertificate)
            : new($"is not accepted ({status})");
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
