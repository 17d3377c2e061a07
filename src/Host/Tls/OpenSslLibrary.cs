using System.Collections.Concurrent;
using Platter.Core.Tls;

namespace Platter.Host.Tls;

/// <summary>TLS by the host's OpenSSL 3.</summary>
/// <remarks>
/// Suites with forward secrecy and authenticated encryption only. With keys, of TLS 1.3 those with SHA-256, which is what an external key is for unless something else
/// is said, of 1.2 ECDHE-PSK and DHE-PSK. No tickets, no renegotiation, no compression. With keys there are no certificates on either side, so that nothing but the
/// key can authenticate anybody: a server that leaves it out and shows a certificate is refused.
/// </remarks>
public sealed class OpenSslLibrary : TlsLibrary
{
    private const string Ciphers =
        "ECDHE-PSK-CHACHA20-POLY1305:DHE-PSK-AES256-GCM-SHA384:DHE-PSK-CHACHA20-POLY1305:DHE-PSK-AES128-GCM-SHA256";

    private const string StrongCiphers = "ECDHE-PSK-CHACHA20-POLY1305:DHE-PSK-AES256-GCM-SHA384:DHE-PSK-CHACHA20-POLY1305";

    private const string CiphersOf13 = "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256";

    private const string StrongCiphersOf13 = "TLS_CHACHA20_POLY1305_SHA256";

    // Kept for the life of the process: there are few of them.
    private readonly ConcurrentDictionary<(TlsProfile Profile, bool IsServer), OpenSslContext> _contexts = new();

    private OpenSslLibrary()
    {
    }

    /// <summary>The one instance.</summary>
    public static OpenSslLibrary Instance { get; } = new();

    /// <inheritdoc/>
    public override bool IsAvailable => OpenSsl.IsAvailable;

    /// <inheritdoc/>
    public override TlsEngine Accept(PreSharedKeys keys, TlsProfile profile) => new OpenSslKeyEngine(ContextOf(profile, isServer: true), keys);

    /// <inheritdoc/>
    public override TlsEngine Connect(PreSharedKey key, TlsProfile profile) => new OpenSslKeyEngine(ContextOf(profile, isServer: false), key);

    /// <inheritdoc/>
    public override TlsCertificateSide Prepare(TlsCertificateSettings settings) => new OpenSslCertificates(settings);

    private OpenSslContext ContextOf(TlsProfile profile, bool isServer) => _contexts.GetOrAdd((profile, isServer), static how =>
    {
        var isStrong = how.Profile.IsStrong;
        var context = OpenSslContext.Make(how.Profile, isStrong ? StrongCiphers : Ciphers, isStrong ? StrongCiphersOf13 : CiphersOf13);
        OpenSslKeyEngine.SetCallbacks(context, how.IsServer);
        return context;
    });
}
