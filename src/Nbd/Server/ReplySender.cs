using System.Net.Sockets;
using Platter.Core.Errors;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Nbd.Wire;

namespace Platter.Nbd.Server;

/// <summary>The sending half of a connection: whole replies, one after the other, from whichever thread has one.</summary>
/// <remarks>Requests that were handed to a worker come back here. The worker sends them if the socket takes them at once; if not, a thread of
/// this connection's own does, so that a client that does not read keeps no worker. Lock order: <see cref="_gate"/> and <see cref="_finishedGate"/> are never held together.</remarks>
internal sealed class ReplySender(NbdWire wire) : IDisposable
{
    private const int BatchBytes = 128 << 10;

    // What a socket that is writable takes without waiting; its buffer has several times as much.
    private const int NoWaitBytes = 64 << 10;

    private readonly Lock _gate = new();
    private readonly object _finishedGate = new();
    private readonly Queue<DeferredRequest> _finished = new();

    // These four belong to whoever drains the queue.
    private readonly List<DeferredRequest> _done = [];
    private byte[]? _batch;
    private int? _pending;
    private bool _draining;

    private bool _handedOver;
    private Thread? _thread;
    private bool _stopped;
    private volatile bool _failed;
    private volatile Exception? _failure;

    /// <summary>Whether nothing can be sent any more.</summary>
    public bool HasFailed => _failed;

    /// <summary>Throws what a thread that sent replies met.</summary>
    /// <exception cref="BlockException">Nothing can be sent any more.</exception>
    /// <exception cref="SocketException">It took too long.</exception>
    public void ThrowIfFailed()
    {
        if (_failure is { } failure)
        {
            if (failure is SocketException { SocketErrorCode: SocketError.TimedOut or SocketError.WouldBlock })
            {
                throw new SocketException((int)SocketError.TimedOut);
            }

            throw new BlockException(BlockErrorKind.Protocol, $"replies could not be sent: {failure.Message}", failure);
        }
    }

    /// <summary>Sends whole replies.</summary>
    /// <exception cref="SocketException">The client is gone, or took nothing for too long.</exception>
    public void Send(ReadOnlySpan<byte> replies)
    {
        lock (_gate)
        {
            SendAll(replies);
        }
    }

    /// <summary>Sends replies of which the last one ends with <paramref name="length"/> bytes of a storage.</summary>
    /// <returns>False when the storage cannot send itself: then <paramref name="otherwise"/> has sent the bytes, under the same lock.</returns>
    /// <exception cref="BlockException">The storage did not have what was promised, or the client is gone: the connection must end.</exception>
    public bool TrySendFrom(ReadOnlySpan<byte> replies, Storage storage, HostOffset at, long length, Action<Storage, HostOffset, long> otherwise)
    {
        lock (_gate)
        {
            SendAll(replies);
            var sent = wire.Descriptor is { } descriptor ? storage.TrySendTo(descriptor, at, length) : -1;
            if (sent < 0)
            {
                otherwise(storage, at, length);
                return false;
            }

            if (sent != length)
            {
                // The header is out and promises these bytes; nothing but the end of the connection can take that back.
                _failed = true;
                throw new BlockException(BlockErrorKind.Io, $"{storage.Name}: only {sent} of {length} bytes at {at} could be sent");
            }

            return true;
        }
    }

    /// <summary>Sends more of a reply; only for the callback of <see cref="TrySendFrom"/>.</summary>
    public void SendMore(ReadOnlySpan<byte> bytes) => SendAll(bytes);

    /// <summary>Queues a finished request; its reply goes out soon, and then it is released.</summary>
    /// <remarks>The calling worker sends what is queued if that takes no waiting; otherwise the connection's own thread does.</remarks>
    public void Post(DeferredRequest request)
    {
        lock (_finishedGate)
        {
            _finished.Enqueue(request);
            if (_draining)
            {
                return;
            }

            _draining = true;
        }

        Drain(mayWait: false);
    }

    /// <summary>Ends the thread once everything that was posted has been handled.</summary>
    public void Dispose()
    {
        Thread? thread;
        lock (_finishedGate)
        {
            _stopped = true;
            thread = _thread;
            Monitor.Pulse(_finishedGate);
        }

        thread?.Join();
    }

    private void SendAll(ReadOnlySpan<byte> bytes)
    {
        if (_failed)
        {
            throw new SocketException((int)SocketError.Shutdown);
        }

        try
        {
            wire.Send(bytes);
        }
        catch
        {
            _failed = true;
            throw;
        }
    }

    /// <summary>The connection's own thread: sends what no worker could without waiting for the client.</summary>
    private void SendFinished()
    {
        while (true)
        {
            lock (_finishedGate)
            {
                while (!_handedOver)
                {
                    if (_stopped)
                    {
                        return;
                    }

                    Monitor.Wait(_finishedGate);
                }

                _handedOver = false;
            }

            Drain(mayWait: true);
        }
    }

    /// <summary>Sends what is queued until nothing is left. Only whoever has set <see cref="_draining"/> may call it.</summary>
    private void Drain(bool mayWait)
    {
        while (TakeBatch(mayWait ? BatchBytes : NoWaitBytes) is var used and >= 0)
        {
            var replies = used > 0 ? _batch.AsSpan(0, used) : _done[0].Reply;
            if (!_failed && !TrySend(replies, mayWait) && TryHandOver(used))
            {
                return;
            }

            ReleaseBatch();
        }
    }

    /// <summary>Takes what is ready, as much as goes out together.</summary>
    /// <returns>Bytes in <see cref="_batch"/>; 0 when one long reply stands alone; -1 when nothing is queued, which also ends the draining.</returns>
    private int TakeBatch(int limit)
    {
        if (_pending is { } pending)
        {
            _pending = null;
            return pending;
        }

        var used = 0;
        lock (_finishedGate)
        {
            if (_finished.Count == 0)
            {
                _draining = false;
                return -1;
            }

            _batch ??= new byte[BatchBytes];
            while (_finished.TryPeek(out var next) && (_done.Count == 0 || used + next.Reply.Length <= limit))
            {
                if (next.Reply.Length > limit)
                {
                    _done.Add(_finished.Dequeue());
                    return 0;
                }

                _done.Add(_finished.Dequeue());
                next.Reply.CopyTo(_batch.AsSpan(used));
                used += next.Reply.Length;
            }
        }

        // A request that was given up has no reply; it is released like the others.
        return used;
    }

    private bool TrySend(ReadOnlySpan<byte> replies, bool mayWait)
    {
        try
        {
            if (mayWait)
            {
                Send(replies);
                return true;
            }

            if (replies.Length > NoWaitBytes || !_gate.TryEnter())
            {
                return false;
            }

            try
            {
                // Writable means that a good part of the kernel's buffer is free, which is more than this.
                if (!wire.CanSendNow)
                {
                    return false;
                }

                SendAll(replies);
                return true;
            }
            finally
            {
                _gate.Exit();
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            Fail(e);
            return true;
        }
    }

    /// <summary>Wakes the thread that waits for requests; it reports.</summary>
    private void Fail(Exception e)
    {
        _failure = e;
        _failed = true;
        wire.Cut();
    }

    private void ReleaseBatch()
    {
        foreach (var request in _done)
        {
            request.Release();
        }

        _done.Clear();
    }

    /// <summary>Leaves the queue to the connection's own thread; false, and the end of the connection, when the host has none left for it.</summary>
    private bool TryHandOver(int used)
    {
        lock (_finishedGate)
        {
            if (_thread is null)
            {
                var thread = new Thread(SendFinished, 256 << 10) { IsBackground = true, Name = "NBD replies" };
                try
                {
                    thread.Start();
                }
                catch (OutOfMemoryException e)
                {
                    Fail(e);
                    return false;
                }

                _thread = thread;
            }

            // The batch is copied, or a single request: either way it is sent by the other thread first of all.
            _pending = used;
            _handedOver = true;
            Monitor.Pulse(_finishedGate);
            return true;
        }
    }
}
