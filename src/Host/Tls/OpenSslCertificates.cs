using Platter.Core.Errors;
using Platter.Core.Tls;

namespace Platter.Host.Tls;

/// <summary>One side of sessions with certificates.</summary>
internal sealed unsafe class OpenSslCertificates : TlsCertificateSide
{
    // Longer keys first, as GnuTLS has it: where the processor does AES by itself, shorter ones save next to nothing.
    private const string Ciphers =
        "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
        + "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:DHE-RSA-AES256-GCM-SHA384:DHE-RSA-AES128-GCM-SHA256";

    private const string StrongCiphers =
        "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";

    private const string CiphersOf13 = "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256";

    private const string StrongCiphersOf13 = "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";

    private readonly OpenSslContext _context;
    private readonly bool _isServer;

    /// <summary>Takes over what the settings say.</summary>
    /// <exception cref="BlockException">There is no library, or it accepts something not.</exception>
    public OpenSslCertificates(TlsCertificateSettings settings)
    {
        _isServer = settings.IsServer;
        var isStrong = settings.Profile.IsStrong;
        _context = OpenSslContext.Make(settings.Profile, isStrong ? StrongCiphers : Ciphers, isStrong ? StrongCiphersOf13 : CiphersOf13);
        try
        {
            // A client always asks its judge, who says yes to everything if nobody is to be verified.
            OpenSsl.SetVerify(
                _context,
                !settings.IsServer ? OpenSsl.SSL_VERIFY_PEER : settings.WantsCertificate ? OpenSsl.SSL_VERIFY_PEER | OpenSsl.SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0,
                null);
            OpenSslCertificateEngine.SetCallbacks(_context);
            Show(settings);
        }
        catch
        {
            _context.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public override TlsEngine Start(string? hostName, Func<IReadOnlyList<byte[]>, TlsRefusal?>? judge) => new OpenSslCertificateEngine(_context, _isServer, hostName, judge);

    private void Show(TlsCertificateSettings settings)
    {
        OpenSsl.ClearErrors();
        for (var i = 0; i < settings.Certificates.Count; i++)
        {
            var der = settings.Certificates[i];
            void* certificate;
            fixed (byte* from = der)
            {
                var at = from;
                certificate = OpenSsl.ParseCertificate(null, &at, der.Length);
            }

            if (i == 0)
            {
                var isGood = certificate is not null && OpenSsl.UseCertificate(_context, certificate) == 1;
                OpenSsl.FreeCertificate(certificate);
                OrThrow(isGood);
            }
            else if (certificate is null || OpenSsl.ControlContext(_context, OpenSsl.SSL_CTRL_EXTRA_CHAIN_CERT, 0, certificate) != 1)
            {
                // Who has taken it frees it.
                OpenSsl.FreeCertificate(certificate);
                OrThrow(false);
            }
        }

        if (settings.Certificates.Count > 0)
        {
            fixed (byte* from = settings.PrivateKey.Span)
            {
                var at = from;
                var key = OpenSsl.ParsePrivateKey(null, &at, settings.PrivateKey.Length);
                var isGood = key is not null && OpenSsl.UsePrivateKey(_context, key) == 1 && OpenSsl.CheckPrivateKey(_context) == 1;
                OpenSsl.FreeKey(key);
                OrThrow(isGood);
            }
        }
    }

    private static void OrThrow(bool isGood)
    {
        if (!isGood)
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, OpenSsl.TakeError() ?? "unknown reason");
        }
    }
}
