using System.Runtime.InteropServices;
using Platter.Core.Errors;
using Platter.Core.Tls;

namespace Platter.Host.Tls;

/// <summary>A session whose peers show certificates. The library proves that they have the keys; whether they are trusted is not its business but the caller's.</summary>
internal sealed unsafe class OpenSslCertificateEngine : OpenSslEngine
{
    private readonly Func<IReadOnlyList<byte[]>, TlsRefusal?>? _judge;
    private TlsRefusal? _refusal;
    private bool _wasJudged;

    /// <summary>A session of a context.</summary>
    public OpenSslCertificateEngine(OpenSslContext context, bool isServer, string? hostName, Func<IReadOnlyList<byte[]>, TlsRefusal?>? judge)
        : base(context, isServer)
    {
        _judge = judge;
        if (hostName is not null)
        {
            // What does not fit into the message is not said.
            _ = OpenSsl.ControlText(Open(), OpenSsl.SSL_CTRL_SET_TLSEXT_HOSTNAME, 0, hostName);
            OpenSsl.ClearErrors();
        }
    }

    /// <summary>What a context must call for certificates.</summary>
    public static void SetCallbacks(OpenSslContext context) => OpenSsl.SetVerifyCallback(context, &Verify, null);

    /// <inheritdoc/>
    protected override void Check(void* session)
    {
        if (_refusal is not null || (_judge is not null && !_wasJudged))
        {
            throw Refused("peer did not return a certificate");
        }
    }

    /// <inheritdoc/>
    protected override BlockException Refused(string? reason) =>
        _refusal is { } refusal ? new(BlockErrorKind.AccessDenied, $"TLS: {refusal.Reason}")
        : reason is "peer did not return a certificate" ? new(BlockErrorKind.AccessDenied, $"TLS: the {(IsServer ? "client" : "server")} has sent no certificate")
        : AlertIn(reason) is { } alert ? new(BlockErrorKind.AccessDenied, $"TLS: the peer ends the handshake: {alert}")
        : new(BlockErrorKind.Protocol, $"TLS: the handshake failed: {Readable(reason)}");

    /// <summary>Called instead of the library's own verification.</summary>
    /// <returns>1 for a good one.</returns>
    [UnmanagedCallersOnly]
    private static int Verify(void* verification, void* argument)
    {
        try
        {
            if (OpenSsl.DataOfVerification(verification, OpenSsl.IndexOfSession()) is var session && session is null || Of(session) is not OpenSslCertificateEngine engine)
            {
                return 0;
            }

            if (engine._judge is null)
            {
                return 1;
            }

            engine._refusal = engine._judge(Sent(verification));
            engine._wasJudged = true;
            if (engine._refusal is null)
            {
                return 1;
            }

            OpenSsl.SetVerificationError(verification, engine._refusal.Alert switch
            {
                TlsAlert.UnsupportedCertificate => OpenSsl.X509_V_ERR_INVALID_PURPOSE,
                TlsAlert.CertificateRevoked => OpenSsl.X509_V_ERR_CERT_REVOKED,
                TlsAlert.CertificateExpired => OpenSsl.X509_V_ERR_CERT_HAS_EXPIRED,
                TlsAlert.UnknownAuthority => OpenSsl.X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
                _ => OpenSsl.X509_V_ERR_CERT_REJECTED,
            });
        }
        catch
        {
            // Nothing may be thrown through the library; 0 ends the handshake.
        }

        return 0;
    }

    private static List<byte[]> Sent(void* verification)
    {
        var own = Der(OpenSsl.CertificateOf(verification));
        List<byte[]> sent = [own];
        var others = OpenSsl.SentWith(verification);
        for (var i = 0; others is not null && i < OpenSsl.CountOf(others); i++)
        {
            // Its own is among them, or not, depending on the side.
            if (Der(OpenSsl.ValueOf(others, i)) is var der && !der.AsSpan().SequenceEqual(own))
            {
                sent.Add(der);
            }
        }

        return sent;
    }

    private static byte[] Der(void* certificate)
    {
        var length = certificate is null ? 0 : OpenSsl.WriteCertificate(certificate, null);
        if (length <= 0)
        {
            throw new InvalidOperationException();
        }

        var der = new byte[length];
        fixed (byte* to = der)
        {
            var at = to;
            _ = OpenSsl.WriteCertificate(certificate, &at);
        }

        return der;
    }
}
