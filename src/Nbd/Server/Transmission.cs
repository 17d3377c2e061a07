using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Units;
using Platter.Nbd.Protocol;

namespace Platter.Nbd.Server;

/// <summary>The transmission phase of one connection, on that connection's thread.</summary>
/// <remarks>
/// Takes as many requests as one receive brought, answers them into one buffer and sends that once. What is in memory is answered here and
/// at once; whatever would wait (a device, a decoder) becomes a <see cref="DeferredRequest"/>, so that one cold read does not hold up the
/// hot ones behind it. A read that is alone has nothing behind it and is done here in any case. Nothing is allocated per request.
/// </remarks>
internal sealed partial class Transmission : IDisposable
{
    private const int ReceiveBytes = 64 << 10;

    // How long a thread looks for the next request before it sleeps: waking it costs more than a client takes between two requests.
    private static readonly long s_spinTicks = Stopwatch.Frequency * 30 / 1_000_000;

    private readonly Socket _socket;
    private readonly NbdServer _server;
    private readonly NbdServerOptions _options;
    private readonly RequestWorkers _workers;
    private readonly Action<string> _report;
    private readonly bool _blockStatus;
    private readonly long _size;

    private readonly byte[] _in = new byte[ReceiveBytes];
    private readonly byte[] _out = new byte[PieceBytes + HeadBytes];
    private int _inStart;
    private int _inEnd;
    private int _outUsed;
    private int _fruitlessSpins;
    private bool _deviceReads;
    private volatile bool _stopping;

    // Requests elsewhere, guarded by _budget.
    private readonly object _budget = new();
    private readonly Stack<DeferredRequest> _pool = new();
    private long _inFlightBytes;
    private int _inFlight;

    public Transmission(Socket socket, ServerHandshake agreed, NbdServer server, Action<string> report)
    {
        _socket = socket;
        _server = server;
        _options = server.Options;
        _workers = server.Workers;
        _report = report;
        Node = agreed.Export!.Node;
        StructuredReplies = agreed.StructuredReplies;
        _blockStatus = agreed.BlockStatus;
        _size = Node.VirtualSize;
        _sendOtherwise = SendByReading;
        _isElsewhere = IsElsewhere(socket);
        Sender = new ReplySender(socket);
    }

    /// <summary>The disk.</summary>
    public BlockNode Node { get; }

    /// <summary>Whether replies are structured.</summary>
    public bool StructuredReplies { get; }

    /// <summary>Where replies go out.</summary>
    public ReplySender Sender { get; }

    /// <summary>Serves until the client disconnects or <see cref="Stop"/> is called.</summary>
    /// <exception cref="SocketException">The connection was lost.</exception>
    /// <exception cref="BlockException">The client broke the protocol, or bytes that were promised could not be sent.</exception>
    public void Run()
    {
        try
        {
            while (!_stopping)
            {
                while (_inEnd - _inStart >= NbdRequest.Size)
                {
                    if (!NbdRequest.TryParse(_in.AsSpan(_inStart), out var request))
                    {
                        throw new BlockException(BlockErrorKind.Protocol, "a request does not start with the magic number of requests");
                    }

                    _inStart += NbdRequest.Size;
                    _deviceReads = false;
                    if (request.Command == NbdCommand.Disconnect)
                    {
                        return;
                    }

                    Answer(request);
                }

                Flush();
                if (!Receive())
                {
                    Sender.ThrowIfFailed();
                    return;
                }
            }
        }
        finally
        {
            WaitForDeferred();
            if (!Sender.HasFailed)
            {
                Flush();
            }
        }
    }

    /// <summary>Makes <see cref="Run"/> end soon: requests that were received are still answered.</summary>
    public void Stop()
    {
        _stopping = true;
        try
        {
            _socket.Shutdown(SocketShutdown.Receive);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // Already gone.
        }
    }

    /// <summary>Gives back what a request took of the budget, and the object for the next one.</summary>
    public void Release(DeferredRequest request)
    {
        lock (_budget)
        {
            _inFlight--;
            _inFlightBytes -= request.Cost;
            _pool.Push(request);
            Monitor.Pulse(_budget);
        }
    }

    /// <summary>Tells the operator what a client only gets a number for.</summary>
    public void ReportError(in NbdRequest request, string message) =>
        _report($"{request.Command} of {request.Length} bytes at 0x{request.Offset:x}: {message}");

    /// <inheritdoc/>
    public void Dispose() => Sender.Dispose();

    private void Answer(in NbdRequest request)
    {
        switch (request.Command)
        {
            case NbdCommand.Read:
                if (Check(request, StructuredReplies ? NbdCommandFlags.DontFragment : NbdCommandFlags.None, _options.MaxRequestBytes))
                {
                    Read(request);
                }

                break;
            case NbdCommand.BlockStatus:
                if (!_blockStatus)
                {
                    Fail(request, NbdError.Inval);
                }
                else if (Check(request, NbdCommandFlags.RequestOne, long.MaxValue))
                {
                    Defer(request, new((long)request.Offset), 0);
                }

                break;
            case NbdCommand.Cache:
                if (Check(request, NbdCommandFlags.None, long.MaxValue))
                {
                    Defer(request, new((long)request.Offset), 0);
                }

                break;
            case NbdCommand.Flush:
                _outUsed += ReplyWriter.WriteSimple(Room(NbdSimpleReply.Size), NbdError.None, request.Cookie);
                break;
            case NbdCommand.Write:
                Skip(request.Length);
                Fail(request, NbdError.Perm);
                break;
            case NbdCommand.Trim or NbdCommand.WriteZeroes:
                Fail(request, NbdError.Perm);
                break;
            default:
                Fail(request, NbdError.Inval);
                break;
        }
    }

    /// <summary>Judges a request that reads; answers it when it is wrong.</summary>
    private bool Check(in NbdRequest request, NbdCommandFlags allowed, long maxLength)
    {
        var isLegal = request.Offset <= (ulong)_size && request.Length <= (ulong)_size - request.Offset && request.Length > 0
            && (request.Flags & ~allowed) == 0;
        if (isLegal && request.Length <= maxLength)
        {
            return true;
        }

        // Only clients that know structured replies can be expected to know the newer number.
        Fail(request, isLegal && StructuredReplies ? NbdError.Overflow : NbdError.Inval);
        return false;
    }

    private void Fail(in NbdRequest request, NbdError error) =>
        _outUsed += ReplyWriter.WriteError(Room(ReplyWriter.MaxErrorBytes), request, error, StructuredReplies);

    /// <summary>Has the rest of a request answered where it may take its time.</summary>
    private void Defer(in NbdRequest request, GuestOffset from, int bytes)
    {
        // When nobody waits for anything else, a change of thread would only cost time.
        var alone = IsAlone();
        bool mustWait;
        DeferredRequest? deferred;
        lock (_budget)
        {
            mustWait = MustWait(bytes);
        }

        if (alone || mustWait)
        {
            // What is ready does not wait with it.
            Flush();
        }

        lock (_budget)
        {
            while (MustWait(bytes))
            {
                Monitor.Wait(_budget);
            }

            _inFlight++;
            _inFlightBytes += bytes;
            if (!_pool.TryPop(out deferred))
            {
                deferred = new DeferredRequest(this);
            }
        }

        deferred.Begin(request, from, bytes);
        if (!alone)
        {
            _workers.Add(deferred, _deviceReads);
        }
        else if (deferred.TryFinishNow())
        {
            try
            {
                Sender.Send(deferred.Reply);
            }
            finally
            {
                deferred.Release();
            }
        }
    }

    /// <summary>Whether the request at hand is the only one that this client waits for, as far as we know.</summary>
    private bool IsAlone()
    {
        lock (_budget)
        {
            return _inFlight == 0 && _inEnd - _inStart < NbdRequest.Size;
        }
    }

    private bool MustWait(int bytes) =>
        _inFlight > 0 && (_inFlight >= _options.MaxInFlightRequests || _inFlightBytes + bytes > _options.MaxInFlightBytes);

    private void WaitForDeferred()
    {
        lock (_budget)
        {
            while (_inFlight > 0)
            {
                Monitor.Wait(_budget);
            }
        }
    }

    /// <summary>Whether the client runs on another host, as far as addresses tell.</summary>
    private static bool IsElsewhere(Socket socket) =>
        socket.RemoteEndPoint is IPEndPoint client && !IPAddress.IsLoopback(client.Address)
        && !(socket.LocalEndPoint is IPEndPoint here && here.Address.Equals(client.Address));

    /// <summary>Room for so many bytes behind the replies that wait to be sent; the caller counts them.</summary>
    private Span<byte> Room(int bytes)
    {
        if (_out.Length - _outUsed < bytes)
        {
            Flush();
        }

        return _out.AsSpan(_outUsed);
    }

    private void Flush()
    {
        if (_outUsed > 0)
        {
            var used = _outUsed;
            _outUsed = 0;
            Sender.Send(_out.AsSpan(0, used));
        }
    }

    /// <summary>Waits for at least one more byte; false when the client has closed.</summary>
    private bool Receive()
    {
        var left = _inEnd - _inStart;
        _in.AsSpan(_inStart, left).CopyTo(_in);
        (_inStart, _inEnd) = (0, left);
        Spin();
        var count = _socket.Receive(_in.AsSpan(left));
        _inEnd += count;
        return count > 0;
    }

    private void Spin()
    {
        // A client that never comes back in time is not waited for again until it has pipelined something: two cores are soon spun away.
        const int GiveUpAfter = 64;
        if (_fruitlessSpins >= GiveUpAfter)
        {
            _fruitlessSpins += _fruitlessSpins < 16 * GiveUpAfter ? 1 : -_fruitlessSpins;
            return;
        }

        var start = Stopwatch.GetTimestamp();
        do
        {
            if (_socket.Available > 0)
            {
                _fruitlessSpins = 0;
                return;
            }
        }
        while (Stopwatch.GetTimestamp() - start < s_spinTicks);
        _fruitlessSpins++;
    }

    /// <summary>Drops the payload of a request that is refused.</summary>
    private void Skip(uint length)
    {
        long rest = length;
        while (true)
        {
            var here = (int)Math.Min(rest, _inEnd - _inStart);
            _inStart += here;
            rest -= here;
            if (rest == 0)
            {
                return;
            }

            Flush();
            if (!Receive())
            {
                throw new BlockException(BlockErrorKind.Protocol, "the client closed inside the data of a write");
            }
        }
    }
}
