using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Platter.Core.Errors;
using Platter.Nbd.Wire;

namespace Platter.Nbd.Tls;

/// <summary>A client of servers with a certificate; with or without one of its own. TLS 1.2 and 1.3.</summary>
public sealed class NbdClientCertificates : NbdClientTls
{
    // Where a server on a unix socket runs.
    private const string LocalHost = "localhost";

    private readonly CertificateTrust? _trust;
    private readonly SslStreamCertificateContext? _certificate;
    private readonly NbdClientCertificateOptions _options;

    private NbdClientCertificates(CertificateTrust? trust, SslStreamCertificateContext? certificate, NbdClientCertificateOptions options)
    {
        _trust = trust;
        _certificate = certificate;
        _options = options;
    }

    /// <summary>Trusts the authorities that the host trusts, and has no certificate of its own.</summary>
    public static NbdClientCertificates FromHost(NbdClientCertificateOptions? options = null) => new(CertificateTrust.OfHost, null, options ?? new());

    /// <summary>Reads credentials from a directory as QEMU and libnbd have it: <c>ca-cert.pem</c> and perhaps <c>client-cert.pem</c> with <c>client-key.pem</c>,
    /// and <c>ca-crl.pem</c>.</summary>
    /// <param name="directory">Where the files are.</param>
    /// <param name="options">What else is wanted; null for everything by default.</param>
    /// <exception cref="BlockException">A file is missing or broken; the message names it.</exception>
    public static NbdClientCertificates Load(string directory, NbdClientCertificateOptions? options = null)
    {
        options ??= new();
        var hasAuthorities = options.VerifyPeer || File.Exists(Path.Combine(directory, "ca-cert.pem"));
        var trust = hasAuthorities ? CertificateTrust.Load(directory) : null;
        var path = Path.Combine(directory, "client-cert.pem");
        var keyPath = Path.Combine(directory, "client-key.pem");
        if (!File.Exists(path) && !File.Exists(keyPath))
        {
            return new(trust, null, options);
        }

        var (certificate, others) = CredentialFile.ReadPair(path, keyPath, "client's", options.KeyPassword);
        if (options.CheckOwn && trust?.Doubts(certificate, others, CertificateTrust.ClientPurpose) is { } doubts)
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, $"{path}: the certificate {doubts}");
        }

        try
        {
            return new(trust, SslStreamCertificateContext.Create(certificate, others, offline: true), options);
        }
        catch (Exception e) when (e is CryptographicException or NotSupportedException)
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, $"{path}: the certificate cannot be used", e);
        }
    }

    /// <inheritdoc/>
    internal override async ValueTask<NbdWire> ConnectAsync(SocketWire wire, string? hostName, CancellationToken cancellationToken)
    {
        string? refusal = null;
        var host = hostName ?? LocalHost;
        var stream = new WireStream(wire, blocking: true);
        var ssl = new SslStream(stream, leaveInnerStreamOpen: true);
        try
        {
            var options = new SslClientAuthenticationOptions
            {
                TargetHost = host,
                EnabledSslProtocols = _options.Versions,
                AllowRenegotiation = false,
                AllowTlsResume = false,
                
                // Also for a certificate that nobody looks at: nothing it names is fetched.
                CertificateChainPolicy = (_trust ?? CertificateTrust.OfHost).Policy(CertificateTrust.ServerPurpose),
                CertificateRevocationCheckMode = X509RevocationMode.NoCheck,
                ClientCertificateContext = _certificate,
                RemoteCertificateValidationCallback = (_, certificate, chain, errors) =>
                {
                    refusal = _options.VerifyPeer ? _trust!.Refuses("server", certificate as X509Certificate2, chain, errors, host) : null;
                    return refusal is null;
                },
            };
            await ssl.AuthenticateAsClientAsync(options, cancellationToken).ConfigureAwait(false);
            return new SslStreamWire(wire, stream, ssl);
        }
        catch (Exception e)
        {
            await ssl.DisposeAsync().ConfigureAwait(false);
            throw e switch
            {
                _ when refusal is not null => new BlockException(BlockErrorKind.AccessDenied, $"TLS: {refusal}", e),
                OperationCanceledException => e,
                _ when e is BlockException || TlsFailure.Is(e) => TlsFailure.InHandshake(e, stream.Ended, byServer: true),
                _ => e,
            };
        }
    }
}
