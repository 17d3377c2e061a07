using System.Runtime.InteropServices;
using Platter.Core.Errors;
using Platter.Core.Tls;

namespace Platter.Host.Tls;

/// <summary>One TLS session of OpenSSL between two buffers.</summary>
/// <remarks>The library's own memory buffers copy and clear everything once more; these are read and written by it in place (a BIO of our own).</remarks>
internal abstract unsafe class OpenSslEngine : TlsEngine
{
    // Four records, which hold 16 KiB and some each.
    private const int BufferBytes = (64 << 10) + (4 << 10);

    // What came in plain text behind the session, or a peer that asks for answers without end, must not fill the memory.
    private const int MaxOutputBytes = 1 << 20;

    private static readonly Lazy<nint> s_buffers = new(static () => (nint)MakeBuffers());

    private readonly byte[] _input = GC.AllocateUninitializedArray<byte>(BufferBytes);
    private int _inputStart;
    private int _inputEnd;
    private byte[] _output = GC.AllocateUninitializedArray<byte>(BufferBytes);
    private int _outputStart;
    private int _outputEnd;
    private bool _outputIsFull;
    private GCHandle _self;
    private void* _session;

    /// <summary>A session of a context.</summary>
    /// <param name="context">What it has in common with others.</param>
    /// <param name="isServer">Which side it is.</param>
    protected OpenSslEngine(OpenSslContext context, bool isServer)
    {
        IsServer = isServer;
        _session = OpenSsl.New(context);
        var buffers = OpenSsl.NewBio((void*)s_buffers.Value);
        if (_session is null || buffers is null)
        {
            OpenSsl.FreeBio(buffers);
            OpenSsl.Free(_session);
            throw new BlockException(BlockErrorKind.LimitExceeded, $"{OpenSsl.Library} has no memory for a session");
        }

        _self = GCHandle.Alloc(this, GCHandleType.Weak);
        OpenSsl.SetBioData(buffers, (void*)GCHandle.ToIntPtr(_self));
        OpenSsl.SetBioInit(buffers, 1);

        // The session frees it with itself.
        OpenSsl.SetBio(_session, buffers, buffers);
        _ = OpenSsl.SetData(_session, 0, (void*)GCHandle.ToIntPtr(_self));
        if (isServer)
        {
            OpenSsl.SetAccept(_session);
        }
        else
        {
            OpenSsl.SetConnect(_session);
        }
    }

    /// <summary>Which side this is.</summary>
    protected bool IsServer { get; }

    /// <inheritdoc/>
    public override Memory<byte> Input
    {
        get
        {
            Open();
            return _input.AsMemory(_inputEnd);
        }
    }

    /// <inheritdoc/>
    public override ReadOnlyMemory<byte> Output
    {
        get
        {
            Open();
            return _output.AsMemory(_outputStart, _outputEnd - _outputStart);
        }
    }

    /// <inheritdoc/>
    public override bool IsClosed => (OpenSsl.GetShutdown(Open()) & OpenSsl.SSL_RECEIVED_SHUTDOWN) != 0;

    /// <summary>The engine of a session, for callbacks.</summary>
    public static OpenSslEngine? Of(void* session) => At(OpenSsl.GetData(session, 0));

    /// <inheritdoc/>
    public override bool Handshake()
    {
        var session = Open();
        OpenSsl.ClearErrors();
        var result = OpenSsl.DoHandshake(session);
        GC.KeepAlive(this);
        if (result != 1)
        {
            return WantsMore(session, result) ? false : throw Refused(OpenSsl.TakeError());
        }

        Check(session);
        return true;
    }

    /// <inheritdoc/>
    public override void Put(int count)
    {
        Open();
        _inputEnd += count;
    }

    /// <inheritdoc/>
    public override void Sent(int count)
    {
        Open();
        _outputStart += count;
        if (_outputStart == _outputEnd)
        {
            _outputStart = _outputEnd = 0;
        }
    }

    /// <inheritdoc/>
    public override int Decrypt(Span<byte> into)
    {
        var session = Open();
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

                // After an alert the session counts as closed as well, but that is no goodbye.
                if (done == 0 && OpenSsl.ErrorOf(session, count) is not (OpenSsl.SSL_ERROR_WANT_READ or OpenSsl.SSL_ERROR_ZERO_RETURN))
                {
                    throw Broken();
                }

                break;
            }
        }

        GC.KeepAlive(this);
        return done;
    }

    /// <inheritdoc/>
    public override void Encrypt(ReadOnlySpan<byte> bytes)
    {
        var session = Open();
        OpenSsl.ClearErrors();
        fixed (byte* from = bytes)
        {
            for (var done = 0; done < bytes.Length;)
            {
                var count = OpenSsl.Write(session, from + done, bytes.Length - done);
                done += count > 0 ? count : throw Broken();
            }
        }

        GC.KeepAlive(this);
    }

    /// <inheritdoc/>
    public override void Close()
    {
        // Whether the peer answers does not matter.
        _ = OpenSsl.Shutdown(Open());
        OpenSsl.ClearErrors();
        GC.KeepAlive(this);
    }

    /// <inheritdoc/>
    public override void Dispose()
    {
        if (_session is not null)
        {
            OpenSsl.Free(_session);
            _session = null;
            _self.Free();
        }
    }

    /// <summary>Looks at a session whose handshake is over.</summary>
    /// <exception cref="BlockException">It is not what was wanted.</exception>
    protected abstract void Check(void* session);

    /// <summary>What a handshake ended with.</summary>
    /// <param name="reason">The library's words; null when it has none.</param>
    protected abstract BlockException Refused(string? reason);

    /// <summary>The session itself.</summary>
    protected void* Open()
    {
        ObjectDisposedException.ThrowIf(_session is null, this);
        return _session;
    }

    /// <summary>What the peer says in an alert ("tlsv13 alert certificate required" and the like), or null.</summary>
    protected static string? AlertIn(string? reason) => reason?.IndexOf(" alert ", StringComparison.Ordinal) is { } at and > 0 ? reason[(at + 7)..] : null;

    /// <summary>A reason for people.</summary>
    protected static string Readable(string? reason) =>
        reason is null ? "the session was broken off" : AlertIn(reason) is { } alert ? $"the peer says: {alert}" : reason;

    private static bool WantsMore(void* session, int result) => OpenSsl.ErrorOf(session, result) == OpenSsl.SSL_ERROR_WANT_READ;

    private static OpenSslEngine? At(void* handle) => handle is null ? null : GCHandle.FromIntPtr((nint)handle).Target as OpenSslEngine;

    private BlockException Broken()
    {
        var reason = OpenSsl.TakeError();
        return new(BlockErrorKind.Protocol, _outputIsFull ? "TLS: the peer asks for too much" : $"TLS: {Readable(reason)}");
    }

    private static void* MakeBuffers()
    {
        var method = OpenSsl.NewBioMethod(OpenSsl.NewBioIndex() | OpenSsl.BIO_TYPE_SOURCE_SINK, "Platter");
        if (method is null || OpenSsl.SetBioRead(method, &ReadInput) != 1 || OpenSsl.SetBioWrite(method, &WriteOutput) != 1 || OpenSsl.SetBioControl(method, &Control) != 1)
        {
            throw new BlockException(BlockErrorKind.LimitExceeded, $"{OpenSsl.Library} has no memory");
        }

        return method;
    }

    [UnmanagedCallersOnly]
    private static int ReadInput(void* bio, byte* into, int count)
    {
        // Nothing in these three throws: the sizes were looked at before.
        OpenSsl.ClearBioFlags(bio, OpenSsl.BIO_FLAGS_RETRY_ALL);
        if (At(OpenSsl.GetBioData(bio)) is not { } engine || count <= 0)
        {
            return 0;
        }

        var size = Math.Min(count, engine._inputEnd - engine._inputStart);
        if (size == 0)
        {
            OpenSsl.SetBioFlags(bio, OpenSsl.BIO_FLAGS_READ | OpenSsl.BIO_FLAGS_SHOULD_RETRY);
            return -1;
        }

        engine._input.AsSpan(engine._inputStart, size).CopyTo(new Span<byte>(into, size));
        engine._inputStart += size;
        if (engine._inputStart == engine._inputEnd)
        {
            engine._inputStart = engine._inputEnd = 0;
        }

        return size;
    }

    [UnmanagedCallersOnly]
    private static int WriteOutput(void* bio, byte* from, int count)
    {
        OpenSsl.ClearBioFlags(bio, OpenSsl.BIO_FLAGS_RETRY_ALL);
        if (At(OpenSsl.GetBioData(bio)) is not { } engine || count <= 0)
        {
            return -1;
        }

        var waiting = engine._outputEnd - engine._outputStart;
        if (count > engine._output.Length - engine._outputEnd)
        {
            if (waiting + count > MaxOutputBytes)
            {
                engine._outputIsFull = true;
                return -1;
            }

            // Somebody may be sending from the old one.
            var larger = GC.AllocateUninitializedArray<byte>(Math.Max(2 * (waiting + count), BufferBytes));
            engine._output.AsSpan(engine._outputStart, waiting).CopyTo(larger);
            (engine._output, engine._outputStart, engine._outputEnd) = (larger, 0, waiting);
        }

        new ReadOnlySpan<byte>(from, count).CopyTo(engine._output.AsSpan(engine._outputEnd));
        engine._outputEnd += count;
        return count;
    }

    [UnmanagedCallersOnly]
    private static nint Control(void* bio, int command, nint number, void* pointer) => command == OpenSsl.BIO_CTRL_FLUSH ? 1 : 0;
}
