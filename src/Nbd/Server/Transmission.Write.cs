using System.Diagnostics;
using System.Net.Sockets;
using Platter.Core.Errors;
using Platter.Nbd.Protocol;
using Platter.Nbd.Wire;

namespace Platter.Nbd.Server;

/// <content>What changes the disk, and every request that brings a payload.</content>
/// <remarks>Writes are done on this thread: to the page cache that costs less than waking another one. When one of them took long, a device is in the
/// way, and for a while the workers take them, so that it gets several at a time.</remarks>
internal sealed partial class Transmission
{
    private static readonly long s_slowTicks = Stopwatch.Frequency / 2000;
    private static readonly long s_slowForTicks = Stopwatch.Frequency / 100;

    // A client that sends the data of a write more slowly than this, and a while on top of it, is cut.
    private const double SlowestBytesPerSecond = 64 << 10;

    // From here on another thread writes, while this one receives what comes next: both are copying, and waking it costs little against that.
    private const int LargeWriteBytes = 256 << 10;

    private long _slowUntil;

    /// <summary>Answers a request behind whose header come bytes; takes all of them in any case.</summary>
    private void AnswerWithPayload(in NbdRequest request)
    {
        var isStatus = request.Command == NbdCommand.BlockStatus;
        if (request.Length > (ulong)_options.MaxRequestBytes)
        {
            throw new BlockException(BlockErrorKind.Protocol, $"{request.Command} with a payload of {request.Length} bytes, more than {_options.MaxRequestBytes}");
        }

        if (request.Command != NbdCommand.Write && !(isStatus && Contexts.Count > 0))
        {
            // Nobody asked for these bytes.
            Skip(request.Length);
            Fail(request, NbdError.Inval);
        }
        else if (isStatus)
        {
            AnswerStatusQuery(request);
        }
        else if (!Export.IsWritable)
        {
            Skip(request.Length);
            Fail(request, NbdError.Perm);
        }
        else
        {
            Write(request);
        }
    }

    private void Write(in NbdRequest request)
    {
        const NbdCommandFlags Allowed = NbdCommandFlags.Fua | NbdCommandFlags.PayloadLength;
        if (request.Offset > (ulong)_size || request.Length > (ulong)_size - request.Offset || request.Length == 0 || (request.Flags & ~Allowed) != 0)
        {
            Skip(request.Length);
            Check(request, Allowed, _options.MaxRequestBytes);
            return;
        }

        var length = (int)request.Length;
        var deferred = Take(length);
        deferred.Begin(request, new((long)request.Offset));
        ReceivePayload(deferred, length);
        Dispatch(deferred, MayWaitForDevice(request));
    }

    /// <summary>A change without payload.</summary>
    private void Change(in NbdRequest request, NbdCommandFlags allowed)
    {
        if (!Export.IsWritable)
        {
            Fail(request, NbdError.Perm);
        }
        else if (Check(request, allowed, long.MaxValue))
        {
            var deferred = Take(0);
            deferred.Begin(request, new((long)request.Offset));
            Dispatch(deferred, MayWaitForDevice(request));
        }
    }

    private void Flush(in NbdRequest request)
    {
        if ((request.Flags & ~NbdCommandFlags.Fua) != 0 || request.Offset != 0 || request.Length != 0)
        {
            Fail(request, NbdError.Inval);
        }
        else if (!Export.IsWritable || Export.IgnoresFlush)
        {
            Succeed(request);
        }
        else
        {
            Defer(request, default, 0);
        }
    }

    private void AnswerStatusQuery(in NbdRequest request)
    {
        if (request.Length > (ulong)NbdStatusQuery.SizeOf(Contexts.Count))
        {
            // Some id would have to come twice, or not exist.
            Skip(request.Length);
            Fail(request, NbdError.Inval);
            return;
        }

        Span<byte> payload = stackalloc byte[(int)request.Length];
        Receive(payload);
        var range = NbdStatusQuery.TryParse(payload, out var query) && query.ContextIds.Count > 0 && query.ContextIds.All(Contexts.Contains)
            ? request with { Length = query.EffectLength, Flags = request.Flags & ~NbdCommandFlags.PayloadLength }
            : request with { Length = 0 };
        if (Check(range, NbdCommandFlags.Fua | NbdCommandFlags.RequestOne, long.MaxValue))
        {
            Defer(range, new((long)range.Offset), StatusReply.MaxBytes(range, query.ContextIds.Count), query.ContextIds);
        }
    }

    private bool MayWaitForDevice(in NbdRequest request) =>
        ((request.Flags & NbdCommandFlags.Fua) != 0 || Export.WritesThrough) && !Export.IgnoresFlush;

    /// <summary>Has a change made, here or by a worker.</summary>
    private void Dispatch(DeferredRequest deferred, bool waits)
    {
        var start = Stopwatch.GetTimestamp();
        if ((waits || start < _slowUntil || deferred.Cost >= LargeWriteBytes) && !IsLast())
        {
            _workers.Add(_line, deferred, started: false);
            return;
        }

        if (waits)
        {
            FlushBefore(deferred);
        }

        FinishHere(deferred);
        var end = Stopwatch.GetTimestamp();
        if (end - start > s_slowTicks)
        {
            _slowUntil = end + s_slowForTicks;
        }
    }

    /// <summary>Sends what is ready; gives back what a request took when that fails, or the connection would wait for it for ever.</summary>
    private void FlushBefore(DeferredRequest taken)
    {
        try
        {
            Flush();
        }
        catch
        {
            taken.Release();
            throw;
        }
    }

    /// <summary>Whether no other request is under way, but for the one just taken, and none has arrived.</summary>
    private bool IsLast()
    {
        lock (_budget)
        {
            return _inFlight <= 1 && _inEnd - _inStart < _requestSize;
        }
    }

    private void ReceivePayload(DeferredRequest deferred, int length)
    {
        try
        {
            Receive(deferred.RentPayload(length));
        }
        catch
        {
            deferred.Release();
            throw;
        }
    }

    /// <summary>Takes bytes that follow a header: what has arrived already, then the rest straight into its place.</summary>
    private void Receive(Span<byte> into)
    {
        var here = Math.Min(into.Length, _inEnd - _inStart);
        _in.AsSpan(_inStart, here).CopyTo(into);
        _inStart += here;
        if (here == into.Length)
        {
            return;
        }

        Flush();
        try
        {
            // Memory is kept for these bytes, and others may want it.
            _wire.LimitReceiving(_options.ReceiveTimeout);
            ReceiveInTime(into[here..]);
            _wire.LimitReceiving(Timeout.InfiniteTimeSpan);
        }
        catch (SocketException e) when (e.SocketErrorCode is SocketError.TimedOut or SocketError.WouldBlock)
        {
            throw new BlockException(BlockErrorKind.Protocol, $"the data of a write of {into.Length} bytes came too slowly", e);
        }
    }

    private void ReceiveInTime(Span<byte> into)
    {
        var deadline = new Deadline(_options.ReceiveTimeout + TimeSpan.FromSeconds(into.Length / SlowestBytesPerSecond));
        while (true)
        {
            // Small payloads are taken together with the headers behind them.
            var count = into.Length < _in.Length / 2 ? ReceiveThrough(into) : _wire.Receive(into);
            if (count == 0)
            {
                throw new BlockException(BlockErrorKind.Protocol, "the client closed inside the data of a request");
            }

            into = into[count..];
            if (into.Length == 0)
            {
                return;
            }

            _ = deadline.Left();
        }
    }

    private int ReceiveThrough(Span<byte> into)
    {
        _inStart = 0;
        _inEnd = _wire.Receive(_in);
        var count = Math.Min(into.Length, _inEnd);
        _in.AsSpan(0, count).CopyTo(into);
        _inStart = count;
        return count;
    }
}
