using System.Net.Sockets;
using Platter.Core.Errors;
using Platter.Core.Storages;
using Platter.Nbd.Protocol;
using Platter.Nbd.Wire;

namespace Platter.Nbd.Client;

/// <summary>One connection in its transmission phase, with many requests in flight.</summary>
/// <remarks>
/// Requests go out under a send lock, mostly on the thread of whoever asks. One thread of the connection's own reads all replies, blocking, and finds the request by its cookie, whose low
/// bits are the request's slot: bytes that arrive wake that thread and nobody else, and where callers allow it (<see cref="InlineCompletions"/>) it also
/// does what they do next. An error that the server reports fails one request. Anything that breaks the protocol ends the connection, since nothing after
/// it can be trusted to be where it should. Locks, in this order: a slot, the send lock, <c>_gate</c>, a request's own.
/// Thread-safe.
/// </remarks>
internal sealed partial class NbdConnection : IAsyncDisposable
{
    /// <summary>Requests in flight; common servers work on 16 at a time.</summary>
    public const int MaxInFlight = 16;

    private const int SlotBits = 8;

    // Up to here, a copy is cheaper than another system call.
    private const int MaxCopiedPayload = 32 * 1024;

    // So much the buffers between us and a server take in any case: sending it does not wait for the server.
    private const int NeverWaitsBytes = 68 * 1024;

    // Room for some requests without payloads, and for one with the only payload that they can have on an export that cannot be written.
    private const int MinBufferBytes = 1024;

    // Whose reader a thread is.
    [ThreadStatic]
    private static NbdConnection? t_reader;

    private static readonly TimeSpan s_abandonDelay = TimeSpan.FromSeconds(2);

    private readonly NbdWire _wire;
    private readonly NbdInput _input;
    private readonly string _name;
    private readonly SemaphoreSlim _slots = new(MaxInFlight);
    private readonly SemaphoreSlim _sendLock = new(1);
    private readonly Lock _gate = new();
    private readonly NbdPendingRequest?[] _pending = new NbdPendingRequest?[MaxInFlight];
    private readonly byte[] _requestBytes;
    private int _held;
    private ulong _nextSerial;
    private NbdConnectionException? _failure;
    private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private bool _loopEnded;
    private int _disposed;
    private int _inFlight;
    private int _unanswered;
    private int _longReplies;

    private NbdConnection(NbdHandshake handshake, string name, NbdExportInfo export)
    {
        _wire = handshake.Wire;
        _input = handshake.Input;
        _name = name;
        _requestBytes = new byte[export.Can(NbdTransmissionFlags.ReadOnly) ? MinBufferBytes : NbdRequest.ExtendedSize + MaxCopiedPayload];
        _input.BeforeWaiting = SendHeld;
        Export = export;
    }

    /// <summary>What the handshake agreed on.</summary>
    public NbdExportInfo Export { get; }

    /// <summary>Requests that wait for a slot or an answer.</summary>
    public int InFlight => Volatile.Read(ref _inFlight);

    /// <summary>Completes when the connection has ended, for whatever reason; never fails.</summary>
    public Task Ended => _ended.Task;

    /// <summary>Connects and enters the transmission phase.</summary>
    /// <exception cref="BlockException">The server cannot be reached, refuses, breaks the protocol or takes too long.</exception>
    public static ValueTask<NbdConnection> OpenAsync(NbdAddress address, NbdClientOptions options, CancellationToken cancellationToken) =>
        NbdConnector.OpenAsync(
            address,
            options,
            async (handshake, token) =>
            {
                var export = await handshake.EnterAsync(address.ExportName, options.AllContexts, options.BestStyle, token).ConfigureAwait(false);
                return new NbdConnection(handshake, address.ToString(), export);
            },
            static connection => connection.ReadReplies(),
            cancellationToken);

    /// <summary>Sends a request that obeys the export's size constraints, and waits for its answer.</summary>
    /// <param name="operation">The request.</param>
    /// <param name="inline">Whether the caller goes on upon the reader's thread (<see cref="InlineCompletions"/>).</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <exception cref="NbdConnectionException">The connection has ended; whether the request was done is unknown.</exception>
    /// <exception cref="BlockException">The server refuses or failed.</exception>
    public async ValueTask<NbdPendingRequest> RequestAsync(NbdOperation operation, bool inline, CancellationToken cancellationToken)
    {
        Interlocked.Increment(ref _inFlight);
        try
        {
            await _slots.WaitAsync(cancellationToken).ConfigureAwait(false);
            try
            {
                await _sendLock.WaitAsync(cancellationToken).ConfigureAwait(false);
            }
            catch
            {
                _slots.Release();
                throw;
            }

            // From here on the reader loop gives back the slot, unless the connection was dead already.
            CancellationTokenRegistration giveUp = default;
            NbdPendingRequest request;
            try
            {
                request = Register(operation, inline);
                if (operation.Payload.Length > 0)
                {
                    request.Hold();
                }

                giveUp = cancellationToken.UnsafeRegister(static (state, by) => Abandon(state, by), (this, request));
                await SendRequestAsync(request).ConfigureAwait(false);
            }
            finally
            {
                _sendLock.Release();
            }

            using (giveUp)
            {
                await request.Done.ConfigureAwait(false);
            }

            return request;
        }
        finally
        {
            Interlocked.Decrement(ref _inFlight);
        }
    }

    /// <summary>Ends the connection as if the network had: requests in flight fail, and may be repeated elsewhere.</summary>
    public void Drop(string why) => Kill(new NbdConnectionException($"{_name}: {why}", isLost: true));

    /// <summary>Says goodbye and closes. Requests in flight fail.</summary>
    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0)
        {
            return;
        }

        if (await _sendLock.WaitAsync(TimeSpan.FromSeconds(1)).ConfigureAwait(false))
        {
            try
            {
                var bytes = new byte[NbdRequest.ExtendedSize];
                var size = new NbdRequest(NbdCommandFlags.None, NbdCommand.Disconnect, 0, 0, 0).WriteTo(bytes, Export.Style);
                using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(1));
                await _wire.SendAsync(_requestBytes.AsMemory(0, _held), limit.Token).ConfigureAwait(false);
                await _wire.SendAsync(bytes.AsMemory(0, size), limit.Token).ConfigureAwait(false);
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException or OperationCanceledException)
            {
                // A goodbye that does not get through changes nothing.
            }
            finally
            {
                _sendLock.Release();
            }
        }

        Kill(new NbdConnectionException($"{_name}: the connection is closed", isLost: false));
        await Ended.ConfigureAwait(false);
    }

    private NbdPendingRequest Register(in NbdOperation operation, bool inline)
    {
        lock (_gate)
        {
            if (_loopEnded || _failure is not null)
            {
                _slots.Release();
                throw _failure!.Again();
            }

            var slot = Array.IndexOf(_pending, null);
            var request = new NbdPendingRequest(operation, (++_nextSerial << SlotBits) | (uint)slot, inline);
            _pending[slot] = request;
            return request;
        }
    }

    private ValueTask SendRequestAsync(NbdPendingRequest request)
    {
        var bytes = NbdRequest.ExtendedSize + request.Operation.Payload.Length;
        var unanswered = Interlocked.Add(ref _unanswered, bytes);
        if (request.HasLongReply)
        {
            Interlocked.Increment(ref _longReplies);
        }

        // Who calls an asynchronous method does not expect to wait in it, unless it promised that it can. And a reader must not wait for a server that may be waiting for it to read.
        if (unanswered <= NeverWaitsBytes
            || (InlineCompletions.AreAllowed && (t_reader is not null ? Volatile.Read(ref _longReplies) == 0 : Thread.CurrentThread.IsThreadPoolThread)))
        {
            SendRequest(request, mayHold: unanswered <= NeverWaitsBytes && t_reader == this);
            return ValueTask.CompletedTask;
        }

        return new(Task.Run(() => SendRequest(request, mayHold: false)));
    }

    private void CountAnswer(NbdPendingRequest request)
    {
        Interlocked.Add(ref _unanswered, -(NbdRequest.ExtendedSize + request.Operation.Payload.Length));
        if (request.HasLongReply)
        {
            Interlocked.Decrement(ref _longReplies);
        }
    }

    /// <summary>Sends a request, or holds it back until this thread has nothing left to read: then several go out at once.</summary>
    /// <remarks>Not cancellable: half a request would leave the server waiting for the rest of it.</remarks>
    private void SendRequest(NbdPendingRequest request, bool mayHold)
    {
        var operation = request.Operation;
        var payload = operation.Payload.Span;
        var flags = operation.Flags;
        var length = (ulong)operation.Length;
        if (Export.Style == NbdHeaderStyle.Extended && operation.Command == NbdCommand.Write)
        {
            flags |= NbdCommandFlags.PayloadLength;
        }
        else if (operation.OnlyContext is { } context)
        {
            flags |= NbdCommandFlags.PayloadLength;
            payload = new NbdStatusQuery(length, [Export.Contexts[context].Id]).ToArray();
            length = (ulong)payload.Length;
        }

        try
        {
            if (_held > 0 && _requestBytes.Length - _held < NbdRequest.ExtendedSize + Math.Min(payload.Length, MaxCopiedPayload))
            {
                Flush();
            }

            _held += new NbdRequest(flags, operation.Command, request.Cookie, (ulong)operation.Offset, length).WriteTo(_requestBytes.AsSpan(_held), Export.Style);
            var copied = payload[..Math.Min(payload.Length, _requestBytes.Length - _held)];
            copied.CopyTo(_requestBytes.AsSpan(_held));
            _held += copied.Length;
            if (!mayHold || copied.Length < payload.Length)
            {
                Flush();
                _wire.Send(payload[copied.Length..]);
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // The request is registered: it fails with all others when the loop ends.
            Kill(new NbdConnectionException($"{_name}: the connection broke: {e.Message}", isLost: true, e));
        }
        finally
        {
            if (operation.Payload.Length > 0)
            {
                request.LetGo();
            }
        }
    }

    // The reader, before it waits. Whoever has the lock came after what is held, and sends that first.
    private void SendHeld()
    {
        if (_held == 0 || !_sendLock.Wait(0))
        {
            return;
        }

        try
        {
            Flush();
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            Kill(new NbdConnectionException($"{_name}: the connection broke: {e.Message}", isLost: true, e));
        }
        finally
        {
            _sendLock.Release();
        }
    }

    private void Flush()
    {
        var count = _held;
        _held = 0;
        _wire.Send(_requestBytes.AsSpan(0, count));
    }

    private static void Abandon(object? state, CancellationToken by)
    {
        var (connection, request) = ((NbdConnection, NbdPendingRequest))state!;
        if (request.Abandon(by))
        {
            _ = connection.KillIfStuckAsync(request);
        }
    }

    // A server that stops in the middle of a chunk, or of taking one, must not keep a caller that has given up.
    private async Task KillIfStuckAsync(NbdPendingRequest request)
    {
        await Task.WhenAny(request.Done, Task.Delay(s_abandonDelay)).ConfigureAwait(false);
        if (!request.Done.IsCompleted)
        {
            Kill(new NbdConnectionException($"{_name}: the server stopped in the middle of a request", isLost: true));
        }
    }

    /// <summary>Ends the connection; the first reason counts. Requests fail when the loop notices, and so have their buffers back for sure.</summary>
    private void Kill(NbdConnectionException reason)
    {
        lock (_gate)
        {
            _failure ??= reason;
        }

        _wire.Cut();
        _wire.Dispose();
    }
}
