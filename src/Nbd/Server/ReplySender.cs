using System.Net.Sockets;
using Platter.Core.Errors;
using Platter.Core.Storages;
using Platter.Core.Units;

namespace Platter.Nbd.Server;

/// <summary>The sending half of a connection: whole replies, one after the other, from whichever thread has one.</summary>
/// <remarks>Requests that were handed to a worker come back here and are sent by a thread of this connection's own, so that a client
/// that does not read keeps no worker. Lock order: <see cref="_gate"/> and <see cref="_finishedGate"/> are never held together.</remarks>
internal sealed class ReplySender(Socket socket) : IDisposable
{
    private const int BatchBytes = 128 << 10;

    private readonly Lock _gate = new();
    private readonly object _finishedGate = new();
    private readonly Queue<DeferredRequest> _finished = new();
    private Thread? _thread;
    private bool _stopped;
    private volatile bool _failed;
    private volatile Exception? _failure;

    /// <summary>Whether nothing can be sent any more.</summary>
    public bool HasFailed => _failed;

    /// <summary>Throws what a thread that sent replies met.</summary>
    /// <exception cref="BlockException">Nothing can be sent any more.</exception>
    public void ThrowIfFailed()
    {
        if (_failure is { } failure)
        {
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
            var sent = storage.TrySendTo(socket.SafeHandle, at, length);
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
    public void Post(DeferredRequest request)
    {
        lock (_finishedGate)
        {
            _finished.Enqueue(request);
            if (_thread is null)
            {
                _thread = new Thread(SendFinished, 256 << 10) { IsBackground = true, Name = "NBD replies" };
                _thread.Start();
            }
            else
            {
                Monitor.Pulse(_finishedGate);
            }
        }
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
            while (bytes.Length > 0)
            {
                bytes = bytes[socket.Send(bytes)..];
            }
        }
        catch
        {
            _failed = true;
            throw;
        }
    }

    private void SendFinished()
    {
        var batch = new byte[BatchBytes];
        var done = new List<DeferredRequest>();
        while (true)
        {
            var used = 0;
            lock (_finishedGate)
            {
                while (_finished.Count == 0 && !_stopped)
                {
                    Monitor.Wait(_finishedGate);
                }

                if (_finished.Count == 0)
                {
                    return;
                }

                // Small replies that are ready together travel together.
                while (_finished.TryPeek(out var next) && (done.Count == 0 || used + next.Reply.Length <= BatchBytes))
                {
                    done.Add(_finished.Dequeue());
                    if (next.Reply.Length > BatchBytes)
                    {
                        break;
                    }

                    next.Reply.CopyTo(batch.AsSpan(used));
                    used += next.Reply.Length;
                }
            }

            try
            {
                if (!_failed)
                {
                    Send(used > 0 ? batch.AsSpan(0, used) : done[0].Reply);
                }
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException)
            {
                // Wakes the thread that waits for requests; it reports.
                _failure = e;
                Hangup();
            }

            foreach (var request in done)
            {
                request.Release();
            }

            done.Clear();
        }
    }

    private void Hangup()
    {
        try
        {
            socket.Shutdown(SocketShutdown.Both);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // Already gone: that is what was wanted.
        }
    }
}
