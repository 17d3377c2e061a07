using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Nbd.Protocol;

namespace Platter.Nbd.Server;

/// <content>READ from memory: what the host has at hand goes straight into the output, or from file to socket.</content>
/// <remarks>Copying through a buffer that stays in the processor's cache costs more here than <c>sendfile</c> does, but a single connection on
/// the same host then gets its data in large pieces out of that cache: both together, copying takes two thirds of the time. For clients
/// elsewhere, and for several connections at once, <c>sendfile</c> wins (docs/design/nbd-server.md has the numbers).</remarks>
internal sealed partial class Transmission
{
    // Below this a copy into the batch is cheaper than the system calls that sending from the file takes.
    private const int SendFileFrom = 128 << 10;

    // The output buffer: together with what the kernel copies it to and from, it should fit the cache.
    private const int PieceBytes = 256 << 10;

    // Longer reads keep a worker busy with copying alone.
    private const int PrefetchUpTo = 64 << 10;

    // Room in the output buffer besides a piece of data.
    private const int HeadBytes = 4 << 10;

    private readonly Action<Storage, HostOffset, long> _sendOtherwise;
    private readonly bool _isElsewhere;
    private bool _cannotSendFiles;

    private void Read(in NbdRequest request)
    {
        if (Style != NbdHeaderStyle.Simple && (request.Flags & NbdCommandFlags.DontFragment) == 0)
        {
            ReadInChunks(request);
        }
        else
        {
            ReadWhole(request);
        }
    }

    /// <summary>One chunk per extent or piece of it; from the first one that would wait on, a worker answers the rest as one chunk.</summary>
    private void ReadInChunks(in NbdRequest request)
    {
        var at = (long)request.Offset;
        var end = at + (long)request.Length;
        while (at < end)
        {
            var answered = TryMap(at, end - at, out var extent) ? TryAnswerExtent(request, extent, end) : 0;
            if (answered == 0)
            {
                Defer(request, new(at), (int)(end - at));
                return;
            }

            at += answered;
        }
    }

    /// <summary>Answers with one chunk if that takes no waiting.</summary>
    /// <returns>Bytes of the disk answered; 0 if a worker must do it.</returns>
    private int TryAnswerExtent(in NbdRequest request, in Extent extent, long end)
    {
        var at = extent.Offset.Value;
        var length = (int)Math.Min(extent.Length, end - at);
        if (extent.ReadsZero)
        {
            var flags = at + length == end ? NbdChunkFlags.Done : NbdChunkFlags.None;
            _outUsed += new NbdOffsetHole(request.Cookie, request.Offset, flags, (ulong)at, (uint)length).WriteTo(Room(NbdOffsetHole.MaxSize), Style);
            return length;
        }

        if (extent.Kind != ExtentKind.Data)
        {
            return 0;
        }

        var sendsFile = MaySendFile(extent, length);
        length = sendsFile ? length : Math.Min(length, PieceBytes);
        var head = NbdOffsetData.HeadSizeOf(Style);
        var room = Room(head + (sendsFile ? 0 : length));
        if (!sendsFile && !TryReadNow(extent, room.Slice(head, length)))
        {
            return 0;
        }

        _outUsed += new NbdOffsetData(
            request.Cookie, request.Offset, at + length == end ? NbdChunkFlags.Done : NbdChunkFlags.None, (ulong)at, (uint)length).WriteTo(room, Style);
        if (sendsFile)
        {
            SendFile(extent, length);
        }
        else
        {
            _outUsed += length;
        }

        return length;
    }

    /// <summary>One header and all the bytes behind it (simple replies, and chunks that must not be fragmented).</summary>
    private void ReadWhole(in NbdRequest request)
    {
        var at = (long)request.Offset;
        var length = (int)request.Length;
        if (TryMap(at, length, out var extent) && extent.Length >= length && extent.Kind == ExtentKind.Data && MaySendFile(extent, length))
        {
            WriteHead(request);
            SendFile(extent, length);
        }
        else if (length > PieceBytes || !TryReadWhole(request))
        {
            Defer(request, new(at), length);
        }
    }

    private bool TryReadWhole(in NbdRequest request)
    {
        var length = (int)request.Length;
        var room = Room(NbdOffsetData.MaxHeadSize + length);
        var before = _outUsed;
        WriteHead(request);
        var data = room.Slice(_outUsed - before, length);
        var at = (long)request.Offset;
        while (data.Length > 0)
        {
            if (!TryMap(at, data.Length, out var extent))
            {
                _outUsed = before;
                return false;
            }

            var part = data[..(int)Math.Min(extent.Length, data.Length)];
            if (extent.ReadsZero)
            {
                part.Clear();
            }
            else if (extent.Kind != ExtentKind.Data || !TryReadNow(extent, part))
            {
                _outUsed = before;
                return false;
            }

            at += part.Length;
            data = data[part.Length..];
        }

        _outUsed += length;
        return true;
    }

    private void WriteHead(in NbdRequest request)
    {
        var room = Room(NbdOffsetData.MaxHeadSize);
        if (Style == NbdHeaderStyle.Simple)
        {
            new NbdSimpleReply(NbdError.None, request.Cookie).WriteTo(room);
            _outUsed += NbdSimpleReply.Size;
        }
        else
        {
            _outUsed += new NbdOffsetData(request.Cookie, request.Offset, NbdChunkFlags.Done, request.Offset, (uint)request.Length).WriteTo(room, Style);
        }
    }

    /// <summary>Asks for the mapping; false when the answer is not at once to be had, or is an error, which a worker will meet again and report.</summary>
    private bool TryMap(long at, long length, out Extent extent)
    {
        extent = default;
        try
        {
            var answer = Node.MapAsync(new(at), length);
            if (answer.IsCompletedSuccessfully)
            {
                extent = answer.Result;
                return true;
            }

            _ = ForgetAsync(answer);
        }
        catch (BlockException)
        {
        }

        return false;

        static async Task ForgetAsync(ValueTask<Extent> answer)
        {
            try
            {
                await answer.ConfigureAwait(false);
            }
            catch (BlockException)
            {
                // The worker asks again and reports it.
            }
        }
    }

    private bool TryReadNow(in Extent extent, Span<byte> bytes)
    {
        if (!extent.Storage!.TryReadNow(extent.HostOffset, bytes, out var read))
        {
            if (bytes.Length <= PrefetchUpTo && !IsAlone())
            {
                // The device begins now, whenever a worker comes to wait for it; on some kernels the attempt itself had that effect.
                _deviceReads = extent.Storage.Prefetch(extent.HostOffset, bytes.Length);
            }

            return false;
        }

        // Images may end inside their last cluster: what the storage does not have reads as zeros.
        bytes[read..].Clear();
        return true;
    }

    /// <summary>Whether the file can go to the socket: long enough, and both ends in memory. A read that must wait for the device belongs to
    /// a worker, and the end of the storage inside the extent must be filled up with zeros, which only reading does.</summary>
    private bool MaySendFile(in Extent extent, int length)
    {
        if (length < SendFileFrom || _cannotSendFiles || !(_options.SendFiles ?? (_isElsewhere || _server.Clients > 1)))
        {
            return false;
        }

        Span<byte> probe = stackalloc byte[1];
        var storage = extent.Storage!;
        return storage.TryReadNow(extent.HostOffset + (length - 1), probe, out var last) && last == 1
            && storage.TryReadNow(extent.HostOffset, probe, out _);
    }

    private void SendFile(in Extent extent, int length)
    {
        var used = _outUsed;
        _outUsed = 0;
        if (!Sender.TrySendFrom(_out.AsSpan(0, used), extent.Storage!, extent.HostOffset, length, _sendOtherwise))
        {
            _cannotSendFiles = true;
        }
    }

    // The first time that a storage turns out not to send itself, its header is out already.
    private void SendByReading(Storage storage, HostOffset at, long length)
    {
        while (length > 0)
        {
            var part = _out.AsSpan(0, (int)Math.Min(length, PieceBytes));
            if (!storage.TryReadNow(at, part, out var read) || read < part.Length)
            {
                throw new BlockException(BlockErrorKind.Io, $"{storage.Name}: {length} bytes at {at} could not be sent after all");
            }

            Sender.SendMore(part);
            at += part.Length;
            length -= part.Length;
        }
    }
}
