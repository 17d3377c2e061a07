using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Platter.Core.Errors;
using Platter.Core.Tls;
using Platter.Nbd.Wire;

namespace Platter.Nbd.Tls;

/// <summary>A server with a certificate, and clients with or without one. TLS 1.2 and 1.3.</summary>
/// <remarks>Clients that must have a certificate need one signed by an authority of <c>ca-cert.pem</c>; what else the host trusts does not count.</remarks>
public sealed class NbdServerCertificates : NbdServerTls
{
    private readonly CertificateSessions _sessions;
    private readonly CertificateTrust? _trust;
    private readonly NbdServerCertificateOptions _options;

    private NbdServerCertificates(CertificateSessions sessions, CertificateTrust? trust, NbdServerCertificateOptions options)
    {
        _sessions = sessions;
        _trust = trust;
        _options = options;
    }

    /// <summary>Reads credentials from a directory as QEMU and libnbd have it: <c>ca-cert.pem</c>, <c>server-cert.pem</c>, <c>server-key.pem</c> and perhaps <c>ca-crl.pem</c>.</summary>
    /// <param name="directory">Where the files are.</param>
    /// <param name="options">What else is wanted; null for everything by default.</param>
    /// <exception cref="BlockException">A file is missing, broken, or of no use because every client would refuse it; the message names it.</exception>
    public static NbdServerCertificates Load(string directory, NbdServerCertificateOptions? options = null)
    {
        options ??= new();
        if (options.Authorization is not null && !options.VerifyPeer)
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, "clients can only be authorised by name when their certificates are verified");
        }

        var path = Path.Combine(directory, "server-cert.pem");
        var (certificate, others) = CredentialFile.ReadPair(path, Path.Combine(directory, "server-key.pem"), "server's", options.KeyPassword);
        var hasAuthorities = options.VerifyPeer || File.Exists(Path.Combine(directory, "ca-cert.pem"));
        var trust = hasAuthorities ? CertificateTrust.Load(directory) : null;
        if (options.CheckOwn && trust?.Doubts(certificate, others, CertificateTrust.ServerPurpose) is { } doubts)
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, $"{path}: the certificate {doubts}");
        }

        var settings = new TlsCertificateSettings(IsServer: true, options.Profile) { WantsCertificate = options.VerifyPeer };
        return new(CertificateSessions.Prepare(options.Library, settings, path, certificate, others), options.VerifyPeer ? trust : null, options)
        {
            IsRequired = options.IsRequired,
        };
    }

    /// <inheritdoc/>
    internal override NbdWire Accept(SocketWire wire, TimeSpan timeout) => _sessions.Accept(wire, _trust is null ? null : Judge, timeout);

    private TlsRefusal? Judge(IReadOnlyList<byte[]> sent) => _trust!.Refuses("client", sent, _options.Profile, null, Unauthorized);

    private string? Unauthorized(X509Certificate2 certificate)
    {
        try
        {
            return _options.Authorization is null || _options.Authorization().Allows(DistinguishedNameText.Of(certificate.SubjectName))
                ? null
                : $"the client '{SafeText.Clean(CertificateTrust.SubjectOf(certificate), 256)}' is not authorised";
        }
        catch (Exception e) when (e is BlockException or CryptographicException)
        {
            return $"the client cannot be authorised: {e.Message}";
        }
    }
}
