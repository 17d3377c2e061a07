using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Platter.Core.Errors;
using Platter.Core.Tls;
using Platter.Nbd.Wire;

namespace Platter.Nbd.Tls;

/// <summary>One side of sessions with certificates: by the host's library where there is one, and by .NET where not. What is trusted is the same with both.</summary>
internal sealed class CertificateSessions
{
    private readonly TlsCertificateSide? _side;
    private readonly SslStreamSessions? _streams;

    private CertificateSessions(TlsCertificateSide? side, SslStreamSessions? streams) => (_side, _streams) = (side, streams);

    /// <summary>Takes over a certificate.</summary>
    /// <param name="library">Who does the work; null for .NET.</param>
    /// <param name="settings">The side and what it wants; without certificates.</param>
    /// <param name="path">The certificate's file, for messages.</param>
    /// <param name="certificate">With its key; null for a client without one.</param>
    /// <param name="others">Those that it was signed with.</param>
    /// <exception cref="BlockException">It cannot be used.</exception>
    public static CertificateSessions Prepare(
        TlsLibrary? library, TlsCertificateSettings settings, string path, X509Certificate2? certificate, X509Certificate2Collection others)
    {
        if (library is not { IsAvailable: true })
        {
            return new(null, SslStreamSessions.Prepare(path, certificate, others, settings.Profile));
        }

        var key = Array.Empty<byte>();
        try
        {
            if (certificate is not null)
            {
                key = KeyOf(certificate);
                settings = settings with { Certificates = [certificate.RawData, .. others.Select(static other => other.RawData)], PrivateKey = key };
            }

            return new(library.Prepare(settings), null);
        }
        catch (Exception e) when (e is CryptographicException or BlockException { Kind: BlockErrorKind.InvalidRequest })
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, $"{path}: the certificate cannot be used: {e.Message}", e);
        }
        finally
        {
            CryptographicOperations.ZeroMemory(key);
        }
    }

    /// <summary>A server's session, blocking.</summary>
    /// <param name="wire">The connection; belongs to the result, or stays the caller's when this throws.</param>
    /// <param name="judge">As with <see cref="TlsCertificateSide.Start"/>; null when clients need no certificate.</param>
    /// <param name="timeout">For the whole handshake.</param>
    public NbdWire Accept(SocketWire wire, Func<IReadOnlyList<byte[]>, TlsRefusal?>? judge, TimeSpan timeout) =>
        _side is null ? _streams!.Accept(wire, judge, timeout) : TlsEngineWire.Authenticate(wire, _side.Start(null, judge), timeout);

    /// <summary>A client's session.</summary>
    /// <param name="wire">The connection; belongs to the result, or stays the caller's when this throws.</param>
    /// <param name="hostName">Whom the server is told that is meant.</param>
    /// <param name="judge">As with <see cref="TlsCertificateSide.Start"/>; null for a server that need not prove anything.</param>
    /// <param name="cancellationToken">Gives up.</param>
    public async ValueTask<NbdWire> ConnectAsync(SocketWire wire, string hostName, Func<IReadOnlyList<byte[]>, TlsRefusal?>? judge, CancellationToken cancellationToken)
    {
        if (_side is null)
        {
            return await _streams!.ConnectAsync(wire, hostName, judge, cancellationToken).ConfigureAwait(false);
        }

        // Addresses are no server names (RFC 6066, section 3).
        var indicated = IPAddress.TryParse(hostName, out _) || hostName.Any(static c => !char.IsAscii(c)) ? null : hostName;
        return await TlsEngineWire.AuthenticateAsync(wire, _side.Start(indicated, judge), cancellationToken).ConfigureAwait(false);
    }

    private static byte[] KeyOf(X509Certificate2 certificate)
    {
        using var curve = certificate.GetECDsaPrivateKey();
        using var rsa = curve is null ? certificate.GetRSAPrivateKey() : null;
        return curve?.ExportPkcs8PrivateKey() ?? rsa?.ExportPkcs8PrivateKey() ?? throw new CryptographicException("neither RSA nor elliptic curve");
    }
}
