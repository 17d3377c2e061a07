using System.Runtime.InteropServices;
using System.Security.Cryptography;
using Platter.Core.Errors;
using Platter.Core.Tls;

namespace Platter.Host.Tls;

/// <summary>TLS with pre-shared keys by the host's OpenSSL.</summary>
/// <remarks>
/// Suites with forward secrecy and authenticated encryption only: of TLS 1.3 those with SHA-256, which is what an external key is for unless something else
/// is said, of 1.2 ECDHE-PSK and DHE-PSK. No tickets, no renegotiation, no compression. There are no certificates on either side, so that nothing but the
/// key can authenticate anybody: a server that leaves it out and shows a certificate is refused.
/// </remarks>
public sealed unsafe class OpenSslKeys : PreSharedKeyTls
{
    private const string Ciphers =
        "ECDHE-PSK-CHACHA20-POLY1305:DHE-PSK-AES256-GCM-SHA384:DHE-PSK-CHACHA20-POLY1305:DHE-PSK-AES128-GCM-SHA256:@SECLEVEL=2";

    private const string CiphersOf13 = "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256";

    // What an unknown client is answered with: nobody has it, so the handshake fails as it does with a wrong key.
    // Made when it is needed: whoever opens an export without TLS does not wait for the library.
    private static readonly Lazy<byte[]> s_nobodysKey = new(() => RandomNumberGenerator.GetBytes(32));

    private readonly Lazy<nint> _server;
    private readonly Lazy<nint> _client;

    private OpenSslKeys(bool only12)
    {
        // Kept for the life of the process: there are two of them.
        _server = new(() => (nint)MakeContext(isServer: true, only12));
        _client = new(() => (nint)MakeContext(isServer: false, only12));
    }

    /// <summary>The one instance.</summary>
    public static OpenSslKeys Instance { get; } = new(only12: false);

    /// <summary>An instance without TLS 1.3; for tests.</summary>
    internal static OpenSslKeys Only12 { get; } = new(only12: true);

    /// <inheritdoc/>
    public override TlsEngine Accept(PreSharedKeys keys) => new OpenSslEngine((void*)_server.Value, keys, null);

    /// <inheritdoc/>
    public override TlsEngine Connect(PreSharedKey key) => new OpenSslEngine((void*)_client.Value, null, key);

    private static void* MakeContext(bool isServer, bool only12)
    {
        OpenSsl.Prepare();
        var context = OpenSsl.NewContext(OpenSsl.Method());
        if (context is null
            || OpenSsl.ControlContext(context, OpenSsl.SSL_CTRL_SET_MIN_PROTO_VERSION, OpenSsl.TLS1_2_VERSION, null) != 1
            || OpenSsl.ControlContext(context, OpenSsl.SSL_CTRL_SET_MAX_PROTO_VERSION, only12 ? OpenSsl.TLS1_2_VERSION : 0, null) != 1
            || OpenSsl.SetCiphers(context, Ciphers) != 1 || OpenSsl.SetCiphersOf13(context, CiphersOf13) != 1)
        {
            throw new BlockException(BlockErrorKind.Unsupported, $"{OpenSsl.Library} cannot do TLS with pre-shared keys: {OpenSsl.TakeError()}");
        }

        OpenSsl.SetOptions(
            context,
            OpenSsl.SSL_OP_NO_TICKET | OpenSsl.SSL_OP_NO_COMPRESSION | OpenSsl.SSL_OP_NO_RENEGOTIATION | OpenSsl.SSL_OP_CIPHER_SERVER_PREFERENCE);
        OpenSsl.ControlContext(context, OpenSsl.SSL_CTRL_MODE, OpenSsl.SSL_MODE_RELEASE_BUFFERS, null);
        if (isServer)
        {
            OpenSsl.SetTickets(context, 0);
            OpenSsl.ControlContext(context, OpenSsl.SSL_CTRL_SET_DH_AUTO, 1, null);
            OpenSsl.SetServerCallback(context, &FindKey);
        }
        else
        {
            // No certificate is trusted, so that none can take the key's place.
            OpenSsl.SetVerify(context, OpenSsl.SSL_VERIFY_PEER, null);
            OpenSsl.SetClientCallback(context, &GiveKey);
        }

        return context;
    }

    [UnmanagedCallersOnly]
    private static uint FindKey(void* session, byte* identity, byte* key, uint maxKey)
    {
        try
        {
            if (identity is null || OpenSslEngine.Of(session) is not { } engine)
            {
                return 0;
            }

            var name = MemoryMarshal.CreateReadOnlySpanFromNullTerminated(identity);
            var found = engine.Keys!.Find(name);
            engine.Peer = name.ToArray();
            engine.PeerIsKnown = found is not null;
            return Copy(found is null ? s_nobodysKey.Value : found.Key, key, maxKey);
        }
        catch
        {
            // Nothing may be thrown through the library; 0 ends the handshake.
            return 0;
        }
    }

    [UnmanagedCallersOnly]
    private static uint GiveKey(void* session, byte* hint, byte* identity, uint maxIdentity, byte* key, uint maxKey)
    {
        try
        {
            if (OpenSslEngine.Of(session)?.Key is not { } own)
            {
                return 0;
            }

            var used = Copy(own.Identity, identity, maxIdentity - 1);
            identity[used] = 0;
            return used == 0 ? 0 : Copy(own.Key, key, maxKey);
        }
        catch
        {
            return 0;
        }
    }

    private static uint Copy(ReadOnlySpan<byte> from, byte* to, uint room) =>
        from.TryCopyTo(new Span<byte>(to, (int)Math.Min(room, int.MaxValue))) ? (uint)from.Length : 0;
}
