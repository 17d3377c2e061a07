using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Platter.Core.Errors;
using Platter.Nbd.Wire;

namespace Platter.Nbd.Tls;

/// <summary>A server with a certificate, and clients with or without one. TLS 1.2 and 1.3.</summary>
/// <remarks>Clients that must have a certificate need one signed by an authority of <c>ca-cert.pem</c>; what else the host trusts does not count.</remarks>
public sealed class NbdServerCertificates : NbdServerTls
{
    private readonly SslStreamCertificateContext _certificate;
    private readonly CertificateTrust? _trust;
    private readonly NbdServerCertificateOptions _options;

    private NbdServerCertificates(SslStreamCertificateContext certificate, CertificateTrust? trust, NbdServerCertificateOptions options)
    {
        _certificate = certificate;
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

        try
        {
            return new(SslStreamCertificateContext.Create(certificate, others, offline: true), options.VerifyPeer ? trust : null, options)
            {
                IsRequired = options.IsRequired,
            };
        }
        catch (Exception e) when (e is CryptographicException or NotSupportedException)
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, $"{path}: the certificate cannot be used", e);
        }
    }

    /// <inheritdoc/>
    internal override NbdWire Accept(SocketWire wire, TimeSpan timeout)
    {
        string? refusal = null;
        var stream = new WireStream(wire, blocking: true);
        stream.LimitReceiving(new Deadline(timeout));
        var ssl = new SslStream(stream, leaveInnerStreamOpen: true);
        try
        {
            ssl.AuthenticateAsServer(new SslServerAuthenticationOptions
            {
                ServerCertificateContext = _certificate,
                EnabledSslProtocols = _options.Versions,
                AllowRenegotiation = false,
                AllowTlsResume = false,
                ClientCertificateRequired = _trust is not null,
                CertificateChainPolicy = (_trust ?? CertificateTrust.OfHost).Policy(CertificateTrust.ClientPurpose),
                CertificateRevocationCheckMode = X509RevocationMode.NoCheck,
                RemoteCertificateValidationCallback = (_, certificate, chain, errors) =>
                {
                    refusal = _trust is null ? null : Refuses(certificate as X509Certificate2, chain, errors);
                    return refusal is null;
                },
            });
            stream.LimitReceiving(null);
            return new SslStreamWire(wire, stream, ssl);
        }
        catch (Exception e) when (e is BlockException || TlsFailure.Is(e))
        {
            ssl.Dispose();
            throw refusal is null ? TlsFailure.InHandshake(e, stream.Ended, byServer: false) : new BlockException(BlockErrorKind.AccessDenied, $"TLS: {refusal}", e);
        }
    }

    private string? Refuses(X509Certificate2? certificate, X509Chain? chain, SslPolicyErrors errors)
    {
        if (_trust!.Refuses("client", certificate, chain, errors, null) is { } reason)
        {
            return reason;
        }

        try
        {
            return _options.Authorization is null || _options.Authorization().Allows(DistinguishedNameText.Of(certificate!.SubjectName))
                ? null
                : $"the client '{SafeText.Clean(CertificateTrust.SubjectOf(certificate!), 256)}' is not authorised";
        }
        catch (Exception e) when (e is BlockException or CryptographicException)
        {
            return $"the client cannot be authorised: {e.Message}";
        }
    }
}
