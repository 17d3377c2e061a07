using Platter.Core.Errors;
using Platter.Core.Tls;
using Platter.Nbd.Wire;

namespace Platter.Nbd.Tls;

/// <summary>A client of servers with a certificate; with or without one of its own. TLS 1.2 and 1.3.</summary>
public sealed class NbdClientCertificates : NbdClientTls
{
    // Where a server on a unix socket runs.
    private const string LocalHost = "localhost";

    private readonly CertificateTrust? _trust;
    private readonly CertificateSessions _sessions;
    private readonly NbdClientCertificateOptions _options;

    private NbdClientCertificates(CertificateTrust? trust, CertificateSessions sessions, NbdClientCertificateOptions options)
    {
        _trust = trust;
        _sessions = sessions;
        _options = options;
    }

    /// <summary>Trusts the authorities that the host trusts, and has no certificate of its own.</summary>
    public static NbdClientCertificates FromHost(NbdClientCertificateOptions? options = null)
    {
        options ??= new();
        return new(CertificateTrust.OfHost, CertificateSessions.Prepare(options.Library, Settings(options), string.Empty, null, []), options);
    }

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
            return new(trust, CertificateSessions.Prepare(options.Library, Settings(options), path, null, []), options);
        }

        var (certificate, others) = CredentialFile.ReadPair(path, keyPath, "client's", options.KeyPassword);
        if (options.CheckOwn && trust?.Doubts(certificate, others, CertificateTrust.ClientPurpose) is { } doubts)
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, $"{path}: the certificate {doubts}");
        }

        return new(trust, CertificateSessions.Prepare(options.Library, Settings(options), path, certificate, others), options);
    }

    /// <inheritdoc/>
    internal override ValueTask<NbdWire> ConnectAsync(SocketWire wire, string? hostName, CancellationToken cancellationToken)
    {
        var host = hostName ?? LocalHost;
        return _sessions.ConnectAsync(wire, host, _options.VerifyPeer ? sent => _trust!.Refuses("server", sent, _options.Profile, host) : null, cancellationToken);
    }

    private static TlsCertificateSettings Settings(NbdClientCertificateOptions options) => new(IsServer: false, options.Profile);
}
