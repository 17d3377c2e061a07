using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Platter.Core.Errors;
using Platter.Core.Tls;
using Platter.Nbd.Wire;

namespace Platter.Nbd.Tls;

/// <summary>One side of sessions with certificates by .NET's own TLS, where there is no <see cref="TlsLibrary"/>.</summary>
/// <param name="certificate">Ours; null for a client without one.</param>
/// <param name="profile">What may be agreed on.</param>
internal sealed class SslStreamSessions(SslStreamCertificateContext? certificate, TlsProfile profile)
{
    private readonly SslProtocols _versions = (profile.Versions.HasFlag(TlsVersions.Tls12) ? SslProtocols.Tls12 : SslProtocols.None)
        | (profile.Versions.HasFlag(TlsVersions.Tls13) ? SslProtocols.Tls13 : SslProtocols.None);

    /// <summary>Takes over a certificate.</summary>
    /// <param name="path">Its file, for messages.</param>
    /// <param name="certificate">With its key; null for a client without one.</param>
    /// <param name="others">Those that it was signed with.</param>
    /// <param name="profile">What may be agreed on.</param>
    /// <exception cref="BlockException">It cannot be used.</exception>
    public static SslStreamSessions Prepare(string path, X509Certificate2? certificate, X509Certificate2Collection others, TlsProfile profile)
    {
        if (profile.IsStrong)
        {
            throw new BlockException(BlockErrorKind.Unsupported, "this priority needs OpenSSL 3 (libssl.so.3), which was not found");
        }

        try
        {
            return new(certificate is null ? null : SslStreamCertificateContext.Create(certificate, others, offline: true), profile);
        }
        catch (Exception e) when (e is CryptographicException or NotSupportedException)
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, $"{path}: the certificate cannot be used", e);
        }
    }

    /// <summary>A server's side, blocking.</summary>
    /// <param name="wire">The connection; belongs to the result, or stays the caller's when this throws.</param>
    /// <param name="judge">As with <see cref="TlsCertificateSide.Start"/>; null when clients need no certificate.</param>
    /// <param name="timeout">For the whole of it.</param>
    public NbdWire Accept(SocketWire wire, Func<IReadOnlyList<byte[]>, TlsRefusal?>? judge, TimeSpan timeout)
    {
        TlsRefusal? refusal = null;
        var stream = new WireStream(wire, blocking: true);
        stream.LimitReceiving(new Deadline(timeout));
        var ssl = new SslStream(stream, leaveInnerStreamOpen: true);
        try
        {
            ssl.AuthenticateAsServer(new SslServerAuthenticationOptions
            {
                ServerCertificateContext = certificate,
                EnabledSslProtocols = _versions,
                AllowRenegotiation = false,
                AllowTlsResume = false,
                ClientCertificateRequired = judge is not null,
                CertificateChainPolicy = NoPolicy(),
                CertificateRevocationCheckMode = X509RevocationMode.NoCheck,
                RemoteCertificateValidationCallback = (_, peer, chain, _) =>
                {
                    refusal = judge?.Invoke(Sent(peer, chain));
                    return refusal is null;
                },
            });
            stream.LimitReceiving(null);
            return new SslStreamWire(wire, stream, ssl);
        }
        catch (Exception e) when (e is BlockException || TlsFailure.Is(e))
        {
            ssl.Dispose();
            throw refusal is null ? TlsFailure.InHandshake(e, stream.Ended, byServer: false) : new BlockException(BlockErrorKind.AccessDenied, $"TLS: {refusal.Reason}", e);
        }
    }

    /// <summary>A client's side.</summary>
    /// <param name="wire">The connection; belongs to the result, or stays the caller's when this throws.</param>
    /// <param name="hostName">Whom the server is told that is meant.</param>
    /// <param name="judge">As with <see cref="TlsCertificateSide.Start"/>.</param>
    /// <param name="cancellationToken">Gives up.</param>
    public async ValueTask<NbdWire> ConnectAsync(SocketWire wire, string hostName, Func<IReadOnlyList<byte[]>, TlsRefusal?>? judge, CancellationToken cancellationToken)
    {
        TlsRefusal? refusal = null;
        var stream = new WireStream(wire, blocking: true);
        var ssl = new SslStream(stream, leaveInnerStreamOpen: true);
        try
        {
            var options = new SslClientAuthenticationOptions
            {
                TargetHost = hostName,
                EnabledSslProtocols = _versions,
                AllowRenegotiation = false,
                AllowTlsResume = false,
                CertificateChainPolicy = NoPolicy(),
                CertificateRevocationCheckMode = X509RevocationMode.NoCheck,
                ClientCertificateContext = certificate,
                RemoteCertificateValidationCallback = (_, peer, chain, _) =>
                {
                    refusal = judge?.Invoke(Sent(peer, chain));
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
                _ when refusal is not null => new BlockException(BlockErrorKind.AccessDenied, $"TLS: {refusal.Reason}", e),
                OperationCanceledException => e,
                _ when e is BlockException || TlsFailure.Is(e) => TlsFailure.InHandshake(e, stream.Ended, byServer: true),
                _ => e,
            };
        }
    }

    // What .NET thinks of the peer's certificates does not count: the same judge decides here and with a library. But it must not fetch anything they name.
    private static X509ChainPolicy NoPolicy() => new()
    {
        RevocationMode = X509RevocationMode.NoCheck, DisableCertificateDownloads = true, TrustMode = X509ChainTrustMode.CustomRootTrust,
    };

    private static List<byte[]> Sent(X509Certificate? peer, X509Chain? chain)
    {
        List<byte[]> sent = [];
        if (peer is not null)
        {
            sent.Add(peer.GetRawCertData());
            sent.AddRange((chain?.ChainPolicy.ExtraStore ?? []).Select(static certificate => certificate.RawData));
        }

        return sent;
    }
}
