using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using Platter.Core.Errors;
using Platter.Core.Tls;

namespace Platter.Host.Tls;

/// <summary>A session that is authenticated by a key that both sides have.</summary>
internal sealed unsafe class OpenSslKeyEngine : OpenSslEngine
{
    // What an unknown client is answered with: nobody has it, so the handshake fails as it does with a wrong key.
    // Made when it is needed: whoever opens an export without TLS does not wait for the library.
    private static readonly Lazy<byte[]> s_nobodysKey = new(() => RandomNumberGenerator.GetBytes(32));

    private readonly PreSharedKeys? _keys;
    private readonly PreSharedKey? _key;

    // Who the client says it is, and whether it has a key.
    private byte[]? _peer;
    private bool _peerIsKnown;

    /// <summary>A server's session.</summary>
    public OpenSslKeyEngine(OpenSslContext context, PreSharedKeys keys)
        : base(context, isServer: true) => _keys = keys;

    /// <summary>A client's session.</summary>
    public OpenSslKeyEngine(OpenSslContext context, PreSharedKey key)
        : base(context, isServer: false) => _key = key;

    /// <summary>What a context must call for keys.</summary>
    public static void SetCallbacks(OpenSslContext context, bool isServer)
    {
        if (isServer)
        {
            OpenSsl.SetServerCallback(context, &FindKey);
        }
        else
        {
            // No certificate is trusted, so that none can take the key's place.
            OpenSsl.SetVerify(context, OpenSsl.SSL_VERIFY_PEER, null);
            OpenSsl.SetClientCallback(context, &GiveKey);
        }
    }

    /// <inheritdoc/>
    protected override void Check(void* session)
    {
        // A key of 1.3 shows as a session that was resumed; without one the server has found another way, and there is no other way.
        if (OpenSsl.Version(session) > OpenSsl.TLS1_2_VERSION && OpenSsl.SessionReused(session) != 1)
        {
            throw new BlockException(BlockErrorKind.AccessDenied, "TLS: no pre-shared key was agreed on");
        }
    }

    /// <inheritdoc/>
    protected override BlockException Refused(string? reason)
    {
        // The library's words for a key that does not fit, and for being told so: without the key there is nothing else to go by.
        var isKey = reason is "binder does not verify" or "decryption failed or bad record mac" or "digest check failed" or "psk identity not found"
            or "sslv3 alert bad record mac" or "sslv3 alert illegal parameter" or "tlsv1 alert decrypt error" or "tlsv1 alert unknown psk identity" or "tlsv1 alert access denied" or "tlsv1 alert internal error";
        if (!isKey && reason is "certificate verify failed")
        {
            return new(BlockErrorKind.AccessDenied, "TLS: the server shows a certificate and knows no pre-shared keys");
        }

        if (_keys is not null && _peer is null && reason is "no suitable signature algorithm" or "no shared cipher")
        {
            // It went on to look for a certificate that we could show.
            return new(BlockErrorKind.AccessDenied, "TLS: the client has no pre-shared key");
        }

        if (!isKey)
        {
            return new(BlockErrorKind.Protocol, $"TLS: the handshake failed: {Readable(reason)}");
        }

        var who = _peer is null ? string.Empty : $" of '{NameOf(_peer)}'";
        return new(
            BlockErrorKind.AccessDenied,
            _key is not null ? $"TLS: the server does not accept the key of '{NameOf(_key.Identity)}'"
                : _peer is not null && !_peerIsKnown ? $"TLS: there is no key{who}" : $"TLS: the key{who} is not ours");
    }

    private static string NameOf(ReadOnlySpan<byte> identity) => SafeText.Clean(Encoding.UTF8.GetString(identity), 128);

    [UnmanagedCallersOnly]
    private static uint FindKey(void* session, byte* identity, byte* key, uint maxKey)
    {
        try
        {
            if (identity is null || Of(session) is not OpenSslKeyEngine engine)
            {
                return 0;
            }

            var name = MemoryMarshal.CreateReadOnlySpanFromNullTerminated(identity);
            var found = engine._keys!.Find(name);
            engine._peer = name.ToArray();
            engine._peerIsKnown = found is not null;
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
            if (Of(session) is not OpenSslKeyEngine { _key: { } own })
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
