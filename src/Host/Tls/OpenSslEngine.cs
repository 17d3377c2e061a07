using System.Runtime.InteropServices;
using System.Text;
using Platter.Core.Errors;
using Platter.Core.Tls;

namespace Platter.Host.Tls;

/// <summary>One TLS session of OpenSSL between two memory buffers.</summary>
internal sealed unsafe class OpenSslEngine : TlsEngine
{
    // What came in plain text behind the session, or a peer that asks for answers without end, must not fill the memory.
    private const int MaxIdleOutput = 1 << 20;

    private GCHandle _self;
    private void* _session;
    private void* _received;
    private void* _output;

    /// <summary>A session of a context.</summary>
    /// <param name="context">The library's context of this side.</param>
    /// <param name="keys">A server's keys; null for a client.</param>
    /// <param name="key">A client's key; null for a server.</param>
    public OpenSslEngine(void* context, PreSharedKeys? keys, PreSharedKey? key)
    {
        Keys = keys;
        Key = key;
        _session = OpenSsl.New(context);
        _received = OpenSsl.NewBio(OpenSsl.MemoryBio());
        _output = OpenSsl.NewBio(OpenSsl.MemoryBio());
        if (_session is null || _received is null || _output is null)
        {
            OpenSsl.FreeBio(_received);
            OpenSsl.FreeBio(_output);
            OpenSsl.Free(_session);
            throw new BlockException(BlockErrorKind.LimitExceeded, $"{OpenSsl.Library} has no memory for a session");
        }

        // The session frees both with itself.
        OpenSsl.SetBio(_session, _received, _output);
        _self = GCHandle.Alloc(this, GCHandleType.Weak);
        _ = OpenSsl.SetData(_session, 0, (void*)GCHandle.ToIntPtr(_self));
        if (keys is not null)
        {
            OpenSsl.SetAccept(_session);
        }
        else
        {
            OpenSsl.SetConnect(_session);
        }
    }

    /// <summary>A server's keys.</summary>
    public PreSharedKeys? Keys { get; }

    /// <summary>A client's key.</summary>
    public PreSharedKey? Key { get; }

    /// <summary>Who the client says it is; null before it did.</summary>
    public byte[]? Peer { get; set; }

    /// <summary>Whether that client has a key.</summary>
    public bool PeerIsKnown { get; set; }

    /// <inheritdoc/>
    public override int OutputBytes => (int)OpenSsl.PendingOf(Open(_output));

    /// <inheritdoc/>
    public override bool IsClosed => (OpenSsl.GetShutdown(Open(_session)) & OpenSsl.SSL_RECEIVED_SHUTDOWN) != 0;

    /// <summary>The engine of a session, for callbacks.</summary>
    public static OpenSslEngine? Of(void* session) =>
        OpenSsl.GetData(session, 0) is var data and not null ? GCHandle.FromIntPtr((nint)data).Target as OpenSslEngine : null;

    /// <inheritdoc/>
    public override bool Handshake()
    {
        var session = Open(_session);
        OpenSsl.ClearErrors();
        var result = OpenSsl.DoHandshake(session);
        if (result != 1)
        {
            return WantsMore(session, result) ? false : throw Refused(OpenSsl.TakeError());
        }

        // A key of 1.3 shows as a session that was resumed; without one the server has found another way, and there is no other way.
        if (OpenSsl.Version(session) > OpenSsl.TLS1_2_VERSION && OpenSsl.SessionReused(session) != 1)
        {
            throw new BlockException(BlockErrorKind.AccessDenied, "TLS: no pre-shared key was agreed on");
        }

        return true;
    }

    /// <inheritdoc/>
    public override void Put(ReadOnlySpan<byte> received)
    {
        fixed (byte* from = received)
        {
            if (received.Length > 0 && OpenSsl.WriteBio(Open(_received), from, received.Length) != received.Length)
            {
                throw new BlockException(BlockErrorKind.LimitExceeded, $"{OpenSsl.Library} has no memory for what was received");
            }
        }
    }

    /// <inheritdoc/>
    public override int Take(Span<byte> into)
    {
        fixed (byte* to = into)
        {
            return into.Length == 0 ? 0 : Math.Max(OpenSsl.ReadBio(Open(_output), to, into.Length), 0);
        }
    }

    /// <inheritdoc/>
    public override int Decrypt(Span<byte> into)
    {
        var session = Open(_session);
        var done = 0;
        OpenSsl.ClearErrors();
        fixed (byte* to = into)
        {
            // One call decrypts one record.
            while (done < into.Length)
            {
                var count = OpenSsl.Read(session, to + done, into.Length - done);
                if (count > 0)
                {
                    done += count;
                    continue;
                }

                if (done == 0 && !WantsMore(session, count) && !IsClosed)
                {
                    throw new BlockException(BlockErrorKind.Protocol, $"TLS: {Readable(OpenSsl.TakeError())}");
                }

                break;
            }
        }

        return OutputBytes <= MaxIdleOutput ? done : throw new BlockException(BlockErrorKind.Protocol, "TLS: the peer asks for too much");
    }

    /// <inheritdoc/>
    public override void Encrypt(ReadOnlySpan<byte> bytes)
    {
        var session = Open(_session);
        OpenSsl.ClearErrors();
        fixed (byte* from = bytes)
        {
            for (var done = 0; done < bytes.Length;)
            {
                var count = OpenSsl.Write(session, from + done, bytes.Length - done);
                done += count > 0 ? count : throw new BlockException(BlockErrorKind.Protocol, $"TLS: {Readable(OpenSsl.TakeError())}");
            }
        }
    }

    /// <inheritdoc/>
    public override void Close()
    {
        // Whether the peer answers does not matter.
        _ = OpenSsl.Shutdown(Open(_session));
        OpenSsl.ClearErrors();
    }

    /// <inheritdoc/>
    public override void Dispose()
    {
        if (_session is not null)
        {
            OpenSsl.Free(_session);
            _session = _received = _output = null;
            _self.Free();
        }
    }

    private static bool WantsMore(void* session, int result) => OpenSsl.ErrorOf(session, result) == OpenSsl.SSL_ERROR_WANT_READ;

    private void* Open(void* pointer)
    {
        ObjectDisposedException.ThrowIf(pointer is null, this);
        return pointer;
    }

    private BlockException Refused(string? reason)
    {
        // The library's words for a key that does not fit, and for being told so: without the key there is nothing else to go by.
        var isKey = reason is "binder does not verify" or "decryption failed or bad record mac" or "digest check failed" or "psk identity not found"
            or "sslv3 alert bad record mac" or "sslv3 alert illegal parameter" or "tlsv1 alert decrypt error" or "tlsv1 alert unknown psk identity" or "tlsv1 alert access denied" or "tlsv1 alert internal error";
        if (!isKey)
        {
            return new(BlockErrorKind.Protocol, $"TLS: the handshake failed: {Readable(reason)}");
        }

        var who = Peer is null ? string.Empty : $" of '{SafeText.Clean(Encoding.UTF8.GetString(Peer), 128)}'";
        return new(
            BlockErrorKind.AccessDenied,
            Keys is null ? $"TLS: the server does not accept the key of '{SafeText.Clean(Encoding.UTF8.GetString(Key!.Identity), 128)}'"
                : Peer is not null && !PeerIsKnown ? $"TLS: there is no key{who}" : $"TLS: the key{who} is not ours");
    }

    // "tlsv13 alert certificate required" and the like.
    private static string Readable(string? reason) =>
        reason is null ? "the session was broken off"
        : reason.IndexOf(" alert ", StringComparison.Ordinal) is var at and > 0 ? $"the peer says: {reason[(at + 7)..]}" : reason;
}
