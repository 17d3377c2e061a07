using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Units;
using Platter.Nbd.Protocol;
using Platter.Nbd.Wire;

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

    private readonly NbdWire _wire;
    private readonly NbdServer _server;
    private readonly NbdServerOptions _options;
    private readonly RequestWorkers _workers;
    private readonly RequestWorkers.Line _line = new();
    private readonly Action<string> _report;
    private readonly long _size;
    private readonly int _requestSize;

    private readonly byte[] _in = new byte[ReceiveBytes];
    private readonly byte[] _out = new byte[PieceBytes + HeadBytes];
    private int _inStart;
    private int _inEnd;
    private int _outUsed;
    private int _fruitlessSpins;
    private bool _deviceReads;
    private volatile bool _stopping;
    private volatile bool _ended;
    private volatile bool _gone;

    // Requests elsewhere, guarded by _budget.
    private readonly object _budget = new();
    private readonly Stack<DeferredRequest> _pool = new();
    private long _inFlightBytes;
    private int _ownBytes;
    private int _inFlight;

    public Transmission(NbdWire wire, ServerHandshake agreed, NbdServer server, Action<string> report)
    {
        _wire = wire;
        _server = server;
        _options = server.Options;
        _workers = server.Workers;
        _report = report;
        Export = agreed.Export!;
        Style = agreed.Style;
        Contexts = agreed.Contexts;
        _size = Node.VirtualSize;
        _requestSize = NbdRequest.SizeOf(Style);
        _sendOtherwise = SendByReading;
        _cannotSendFiles = wire.Descriptor is null;
        _isElsewhere = IsElsewhere(wire);
        Sender = new ReplySender(wire);
    }

    /// <summary>What is served.</summary>
    public NbdExport Export { get; }

    /// <summary>The disk.</summary>
    public BlockNode Node => Export.Node;

    /// <summary>How requests and replies look.</summary>
    public NbdHeaderStyle Style { get; }

    /// <summary>Ids of the metadata contexts that a block status tells of.</summary>
    public IReadOnlyList<uint> Contexts { get; }

    /// <summary>Where replies go out.</summary>
    public ReplySender Sender { get; }

    /// <summary>Where larger buffers come from.</summary>
    public RequestMemory Memory => _server.Memory;

    /// <summary>Whether nobody waits for answers any more, as far as can be told: what takes long may be left undone.</summary>
    public bool IsGone => _gone || Sender.HasFailed || (!_ended && _wire.PeerHasClosed);

    /// <summary>Serves until the client disconnects or <see cref="Stop"/> is called.</summary>
    /// <exception cref="SocketException">The connection was lost.</exception>
    /// <exception cref="BlockException">The client broke the protocol, or bytes that were promised could not be sent.</exception>
    public void Run()
    {
        try
        {
            while (!_stopping)
            {
                while (_inEnd - _inStart >= _requestSize)
                {
                    if (!NbdRequest.TryParse(_in.AsSpan(_inStart), Style, out var request))
                    {
                        throw new BlockException(BlockErrorKind.Protocol, "a request does not start with the magic number of requests");
                    }

                    _inStart += _requestSize;
                    _deviceReads = false;
                    if (request.Command == NbdCommand.Disconnect)
                    {
                        _ended = true;
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
            _gone |= !_ended && !_stopping;
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
        _wire.StopReceiving();
    }

    /// <summary>Makes requests that take long end soon: their answers cannot be sent any more.</summary>
    public void Abandon() => _gone = true;

    /// <summary>Gives back what a request took of the budget, and the object for the next one.</summary>
    public void Release(DeferredRequest request)
    {
        var borrowed = request.IsBorrowed ? request.Cost : 0;
        lock (_budget)
        {
            _inFlight--;
            _inFlightBytes -= request.Cost;
            _ownBytes -= request.Cost - borrowed;
            _pool.Push(request);
            Monitor.Pulse(_budget);
        }

        if (borrowed > 0)
        {
            Memory.Release(borrowed);
        }
    }

    /// <summary>Tells the operator what a client only gets a number for.</summary>
    public void ReportError(in NbdRequest request, string message) =>
        _report($"{request.Command} of {request.Length} bytes at 0x{request.Offset:x}: {message}");

    /// <inheritdoc/>
    public void Dispose() => Sender.Dispose();

    private void Answer(in NbdRequest request)
    {
        if (request.HasPayload(Style))
        {
            AnswerWithPayload(request);
            return;
        }

        switch (request.Command)
        {
            case NbdCommand.Read:
                if (Check(request, NbdCommandFlags.Fua | (Style == NbdHeaderStyle.Simple ? NbdCommandFlags.None : NbdCommandFlags.DontFragment), _options.MaxRequestBytes))
                {
                    Read(request);
                }

                break;
            case NbdCommand.BlockStatus:
                if (Contexts.Count == 0)
                {
                    Fail(request, NbdError.Inval);
                }
                else if (Check(request, NbdCommandFlags.Fua | NbdCommandFlags.RequestOne, long.MaxValue))
                {
                    Defer(request, new((long)request.Offset), StatusReply.MaxBytes(request, Contexts.Count));
                }

                break;
            case NbdCommand.Cache:
                if (Check(request, NbdCommandFlags.Fua, long.MaxValue))
                {
                    Defer(request, new((long)request.Offset), 0);
                }

                break;
            case NbdCommand.Flush:
                Flush(request);
                break;
            case NbdCommand.Trim:
                Change(request, NbdCommandFlags.Fua);
                break;
            case NbdCommand.WriteZeroes:
                Change(request, NbdCommandFlags.Fua | NbdCommandFlags.NoHole | NbdCommandFlags.FastZero);
                break;
            default:
                Fail(request, NbdError.Inval);
                break;
        }
    }

    /// <summary>Judges a request for a range; answers it when it is wrong.</summary>
    private bool Check(in NbdRequest request, NbdCommandFlags allowed, long maxLength)
    {
        var isInside = request.Offset <= (ulong)_size && request.Length <= (ulong)_size - request.Offset;
        var isLegal = isInside && request.Length > 0 && (request.Flags & ~allowed) == 0;
        if (isLegal && request.Length <= (ulong)maxLength)
        {
            return true;
        }

        // Writes beyond the end have an error of their own. Only clients that know chunks can be expected to know the newer number.
        Fail(request, isLegal && Style != NbdHeaderStyle.Simple ? NbdError.Overflow
            : !isInside && Export.IsWritable && request.Command is NbdCommand.Write or NbdCommand.WriteZeroes ? NbdError.NoSpc
            : NbdError.Inval);
        return false;
    }

    private void Fail(in NbdRequest request, NbdError error) =>
        _outUsed += ReplyWriter.WriteError(Room(ReplyWriter.MaxErrorBytes), request, error, Style);

    private void Succeed(in NbdRequest request) =>
        _outUsed += ReplyWriter.WriteSuccess(Room(ReplyWriter.MaxErrorBytes), request, Style);

    /// <summary>Has the rest of a request answered where it may take its time.</summary>
    private void Defer(in NbdRequest request, GuestOffset from, int bytes, IReadOnlyList<uint>? contexts = null)
    {
        // When nobody waits for anything else, a change of thread would only cost time.
        var alone = IsAlone();
        if (alone)
        {
            // What is ready does not wait with it.
            Flush();
        }

        var deferred = Take(bytes);
        deferred.Begin(request, from, contexts);
        if (alone)
        {
            FinishHere(deferred);
        }
        else
        {
            _workers.Add(_line, deferred, _deviceReads);
        }
    }

    /// <summary>Waits until the client's budget has room, and what all clients share if it takes more than its own; and takes it.</summary>
    private DeferredRequest Take(int bytes)
    {
        bool mustWait, borrows;
        lock (_budget)
        {
            mustWait = MustWait(bytes);
        }

        if (mustWait)
        {
            Flush();
        }

        lock (_budget)
        {
            while (MustWait(bytes))
            {
                Monitor.Wait(_budget);
            }

            borrows = bytes > RequestMemory.OwnBytes - _ownBytes;
        }

        if (borrows && !Memory.TryTake(bytes))
        {
            Flush();
            Memory.Take(bytes);
        }

        // Counted only now, so that nothing is left to give back when the client has gone before. Nobody but this thread takes any of the budget.
        lock (_budget)
        {
            _inFlight++;
            _inFlightBytes += bytes;
            _ownBytes += borrows ? 0 : bytes;
            var deferred = _pool.TryPop(out var pooled) ? pooled : new DeferredRequest(this);
            deferred.Take(bytes, borrows);
            return deferred;
        }
    }

    /// <summary>Answers on this thread, unless something really suspends.</summary>
    private void FinishHere(DeferredRequest deferred)
    {
        if (!deferred.TryFinishNow())
        {
            return;
        }

        try
        {
            var reply = deferred.Reply;
            if (reply.Length <= HeadBytes)
            {
                reply.CopyTo(Room(reply.Length));
                _outUsed += reply.Length;
            }
            else
            {
                Flush();
                Sender.Send(reply);
            }
        }
        finally
        {
            deferred.Release();
        }
    }

    /// <summary>Whether the request at hand is the only one that this client waits for, as far as we know.</summary>
    private bool IsAlone()
    {
        lock (_budget)
        {
            return _inFlight == 0 && _inEnd - _inStart < _requestSize;
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
    private static bool IsElsewhere(NbdWire wire) =>
        wire.Remote is IPEndPoint client && !IPAddress.IsLoopback(client.Address)
        && !(wire.Local is IPEndPoint here && here.Address.Equals(client.Address));

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
        var count = _wire.Receive(_in.AsSpan(left));
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
            if (_wire.HasArrived)
            {
                _fruitlessSpins = 0;
                return;
            }
        }
        while (Stopwatch.GetTimestamp() - start < s_spinTicks);
        _fruitlessSpins++;
    }

    /// <summary>Drops the payload of a request that is refused.</summary>
    private void Skip(ulong length)
    {
        var rest = (long)length;
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
