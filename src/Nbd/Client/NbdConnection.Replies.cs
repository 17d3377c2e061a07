using System.Buffers;
using System.Buffers.Binary;
using System.Net.Sockets;
using Platter.Core.Errors;
using Platter.Nbd.Protocol;

namespace Platter.Nbd.Client;

// The reader loop. All exceptions in here end the connection; errors of single requests are stored in them instead.
internal sealed partial class NbdConnection
{
    /// <summary>Extents of one status reply that are kept; the rest is checked and dropped, and asked for again when needed.</summary>
    public const int MaxExtentsKept = 16 * 1024;

    private const int ScratchBytes = 16 * 1024;

    // An error chunk's payload: fixed fields, a message, and room for the fields that unknown types may add.
    private const int MaxErrorPayload = NbdErrorChunk.PrefixSize + NbdProtocol.MaxStringBytes + NbdErrorChunk.OffsetSize;

    // On the connection's own thread, which nobody else has to wake.
    private void ReadReplies()
    {
        t_reader = this;
        var scratch = ArrayPool<byte>.Shared.Rent(ScratchBytes);
        try
        {
            while (true)
            {
                ReadReply(scratch);
            }
        }
        catch (NbdConnectionException e)
        {
            Kill(e);
        }
        catch (EndOfStreamException e)
        {
            Kill(new NbdConnectionException($"{_name}: the server closed the connection", isLost: true, e));
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            Kill(new NbdConnectionException($"{_name}: the connection broke: {e.Message}", isLost: true, e));
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(scratch);
            FailAll();
            _ended.SetResult();
        }
    }

    private void ReadReply(byte[] scratch)
    {
        _input.Read(scratch.AsSpan(0, NbdSimpleReply.Size));
        var magic = BinaryPrimitives.ReadUInt32BigEndian(scratch);
        if (magic == NbdProtocol.SimpleReplyMagic)
        {
            TakeSimpleReply(NbdSimpleReply.Parse(scratch));
        }
        else if (magic == (Export.Style == NbdHeaderStyle.Extended ? NbdProtocol.ExtendedReplyMagic : NbdProtocol.StructuredReplyMagic) && Export.Style != NbdHeaderStyle.Simple)
        {
            var rest = NbdChunkHeader.SizeOf(Export.Style) - NbdSimpleReply.Size;
            _input.Read(scratch.AsSpan(NbdSimpleReply.Size, rest));
            TakeChunk(NbdChunkHeader.Parse(scratch, Export.Style), scratch);
        }
        else
        {
            throw Violation(magic switch
            {
                NbdProtocol.StructuredReplyMagic => "the server sent a structured reply, which was not agreed on",
                NbdProtocol.ExtendedReplyMagic => "the server sent an extended reply, which was not agreed on",
                _ => $"a reply starts with 0x{magic:x8}",
            });
        }
    }

    private void TakeSimpleReply(NbdSimpleReply reply)
    {
        var request = Find(reply.Cookie);
        if (Export.Style == NbdHeaderStyle.Extended)
        {
            throw Violation($"the server answered {request.Command} with a simple reply though extended headers were agreed on");
        }

        if (Export.Style == NbdHeaderStyle.Structured
            && (request.Command == NbdCommand.Read || (request.Command == NbdCommand.BlockStatus && reply.Error == NbdError.None)))
        {
            throw Violation($"the server answered {request.Command} with a simple reply though structured replies were agreed on");
        }

        if (reply.Error != NbdError.None)
        {
            request.Error = RequestError(request, reply.Error, string.Empty);
        }
        else if (request.Command == NbdCommand.Read)
        {
            ReceiveData(request, 0, (int)request.Length);
        }

        Finish(request, isSimple: true);
    }

    private void TakeChunk(NbdChunkHeader chunk, byte[] scratch)
    {
        var request = Find(chunk.Cookie);
        if (Export.Style == NbdHeaderStyle.Extended && chunk.RequestOffset != (ulong)request.Offset)
        {
            throw Violation($"a reply to {request.Command} at {request.Offset} names the offset {chunk.RequestOffset}");
        }

        var isLast = (chunk.Flags & NbdChunkFlags.Done) != 0;
        switch (chunk.Type)
        {
            case NbdChunkType.None when chunk.Length == 0 && isLast:
                break;
            case NbdChunkType.OffsetData when request.Command == NbdCommand.Read && chunk.Length > NbdOffsetData.PrefixSize:
                _input.Read(scratch.AsSpan(0, NbdOffsetData.PrefixSize));
                var dataLength = (uint)Math.Min(chunk.Length - NbdOffsetData.PrefixSize, uint.MaxValue);
                var dataAt = Place(request, BinaryPrimitives.ReadUInt64BigEndian(scratch), dataLength, "data");
                ReceiveData(request, dataAt, (int)dataLength);
                break;
            case NbdChunkType.OffsetHole when request.Command == NbdCommand.Read && chunk.Length == NbdOffsetHole.PayloadSize:
                _input.Read(scratch.AsSpan(0, NbdOffsetHole.PayloadSize));
                var (holeOffset, holeLength) = NbdOffsetHole.ParsePayload(scratch);
                Clear(request, Place(request, holeOffset, holeLength, "a hole"), (int)holeLength);
                break;
            case NbdChunkType.BlockStatus when request.Command == NbdCommand.BlockStatus && Export.Style == NbdHeaderStyle.Structured:
            case NbdChunkType.BlockStatusExt when request.Command == NbdCommand.BlockStatus && Export.Style == NbdHeaderStyle.Extended:
                TakeStatus(request, chunk, scratch);
                break;
            case var type when (type & NbdChunkType.ErrorBit) != 0:
                TakeError(request, chunk, scratch);
                break;
            default:
                throw Violation($"a chunk of type {(ushort)chunk.Type}, {chunk.Length} bytes and flags {(ushort)chunk.Flags} came in reply to {request.Command}");
        }

        if (isLast)
        {
            Finish(request, isSimple: false);
        }
    }

    /// <summary>Checks where a chunk of a read wants to go.</summary>
    /// <returns>Its place in the request's buffer.</returns>
    private int Place(NbdPendingRequest request, ulong offset, uint length, string what)
    {
        var start = offset - (ulong)request.Offset;
        if (length == 0 || offset < (ulong)request.Offset || start >= (ulong)request.Length || length > (ulong)request.Length - start)
        {
            throw Violation($"{what} of {length} bytes at {offset} lies outside the {request.Length} bytes at {request.Offset} that were asked for");
        }

        return request.Coverage.Add((int)start, (int)(start + length)) is { } problem
            ? throw Violation($"{what} of {length} bytes at {offset} {problem}")
            : (int)start;
    }

    private void ReceiveData(NbdPendingRequest request, int at, int length)
    {
        if (request.Hold())
        {
            // If this throws, the connection ends, and with it the request lets go of the buffer.
            _input.Read(request.Operation.Buffer.Span.Slice(at, length));
            request.LetGo();
            return;
        }

        var scratch = ArrayPool<byte>.Shared.Rent(ScratchBytes);
        while (length > 0)
        {
            var count = Math.Min(length, scratch.Length);
            _input.Read(scratch.AsSpan(0, count));
            length -= count;
        }

        ArrayPool<byte>.Shared.Return(scratch);
    }

    private static void Clear(NbdPendingRequest request, int at, int length)
    {
        if (request.Hold())
        {
            request.Operation.Buffer.Span.Slice(at, length).Clear();
            request.LetGo();
        }
    }

    private void TakeStatus(NbdPendingRequest request, NbdChunkHeader chunk, byte[] scratch)
    {
        var prefix = NbdStatusDescriptor.PrefixSizeOf(Export.Style);
        var size = NbdStatusDescriptor.SizeOf(Export.Style);
        var length = chunk.Length;
        var count = length < (ulong)prefix ? 0 : (length - (ulong)prefix) / (ulong)size;
        if (count == 0 || count > NbdProtocol.MaxStatusDescriptors
            || length != (ulong)prefix + (count * (ulong)size))
        {
            throw Violation($"a block status of {length} bytes");
        }

        _input.Read(scratch.AsSpan(0, prefix));
        var id = BinaryPrimitives.ReadUInt32BigEndian(scratch);
        if (Export.Style == NbdHeaderStyle.Extended && BinaryPrimitives.ReadUInt32BigEndian(scratch.AsSpan(4)) != count)
        {
            throw Violation($"a block status of {length} bytes claims {BinaryPrimitives.ReadUInt32BigEndian(scratch.AsSpan(4))} extents");
        }

        var context = IndexOfContext(id);
        if (context < 0 || (request.Operation.OnlyContext ?? context) != context)
        {
            throw Violation($"a block status of context {id}, which was not {(context < 0 ? "selected" : "asked for")}");
        }

        if (request.Statuses.Length == 0)
        {
            request.Statuses = new List<NbdStatusDescriptor>?[Export.Contexts.Count];
        }

        if (request.Statuses[context] is not null)
        {
            throw Violation("two block statuses for one request");
        }

        var extents = new List<NbdStatusDescriptor>((int)Math.Min(count, (ulong)MaxExtentsKept));
        request.Statuses[context] = extents;
        var isBase = Export.Contexts[context].Name.StartsWith(NbdProtocol.BaseContextPrefix, StringComparison.Ordinal);
        var isOne = (request.Operation.Flags & NbdCommandFlags.RequestOne) != 0;
        ulong covered = 0;
        while (count > 0)
        {
            var batch = (int)Math.Min(count, (ulong)(ScratchBytes / size));
            _input.Read(scratch.AsSpan(0, batch * size));
            count -= (ulong)batch;
            for (var i = 0; i < batch; i++)
            {
                var extent = NbdStatusDescriptor.Parse(scratch.AsSpan(i * size), Export.Style);
                if (extent.Length == 0 || covered >= (ulong)request.Length || (isOne && extent.Length > (ulong)request.Length))
                {
                    throw Violation($"a block status describes {(extent.Length == 0 ? "an empty extent" : $"more than the {request.Length} bytes asked for")} at {(ulong)request.Offset + covered}");
                }

                if (isBase && extent.Status > uint.MaxValue)
                {
                    throw Violation($"a block status of 0x{extent.Status:x}, where 32 bits have a meaning");
                }

                covered = extent.Length > ulong.MaxValue - covered ? ulong.MaxValue : covered + extent.Length;
                if (extents.Count < MaxExtentsKept)
                {
                    extents.Add(extent);
                }
            }
        }
    }

    private int IndexOfContext(uint id)
    {
        for (var i = 0; i < Export.Contexts.Count; i++)
        {
            if (Export.Contexts[i].Id == id)
            {
                return i;
            }
        }

        return -1;
    }

    private void TakeError(NbdPendingRequest request, NbdChunkHeader chunk, byte[] scratch)
    {
        if (chunk.Length > MaxErrorPayload)
        {
            throw Violation($"an error chunk of {chunk.Length} bytes, more than {MaxErrorPayload}");
        }

        var payload = scratch.AsSpan(0, (int)chunk.Length);
        _input.Read(payload);
        if (!NbdErrorChunk.TryParse(payload, chunk.Type, out var error))
        {
            throw Violation("an error chunk contradicts itself");
        }

        if (chunk.Type == NbdChunkType.ErrorOffset)
        {
            var offset = BinaryPrimitives.ReadUInt64BigEndian(payload[^NbdErrorChunk.OffsetSize..]);
            if (offset < (ulong)request.Offset || offset - (ulong)request.Offset >= (ulong)request.Length)
            {
                throw Violation($"an error at {offset} lies outside the {request.Length} bytes at {request.Offset} that were asked for");
            }
        }

        request.Error ??= RequestError(request, error.Error, error.Message);
    }

    private void Finish(NbdPendingRequest request, bool isSimple)
    {
        if (request.Error is null && !isSimple)
        {
            if (request.Command == NbdCommand.Read && !request.Coverage.Covers((int)request.Length))
            {
                throw Violation($"the reply to the read of {request.Length} bytes at {request.Offset} ended with bytes missing");
            }

            if (request.Command == NbdCommand.BlockStatus && (request.Statuses.Length == 0
                || (request.Operation.OnlyContext is { } only ? request.Statuses[only] is null : Array.Exists(request.Statuses, status => status is null))))
            {
                throw Violation("a block status reply without a status");
            }
        }

        lock (_gate)
        {
            _pending[SlotOf(request.Cookie)] = null;
        }

        CountAnswer(request);
        _slots.Release();

        // Last of all: who waits may go on right here.
        if (request.Error is { } error)
        {
            request.Fail(error);
        }
        else
        {
            request.Succeed();
        }
    }

    private NbdPendingRequest Find(ulong cookie)
    {
        lock (_gate)
        {
            var slot = SlotOf(cookie);
            return slot < MaxInFlight && _pending[slot] is { } request && request.Cookie == cookie
                ? request
                : throw Violation($"a reply has the cookie 0x{cookie:x}, which belongs to no request in flight");
        }
    }

    private void FailAll()
    {
        NbdPendingRequest?[] left;
        NbdConnectionException failure;
        lock (_gate)
        {
            _loopEnded = true;
            failure = _failure ??= new NbdConnectionException($"{_name}: the connection is closed", isLost: true);
            left = [.. _pending];
            Array.Clear(_pending);
        }

        foreach (var request in left)
        {
            if (request is not null)
            {
                request.Fail(failure.Again());
                _slots.Release();
            }
        }
    }

    private static int SlotOf(ulong cookie) => (int)(cookie & ((1u << SlotBits) - 1));

    private BlockException RequestError(NbdPendingRequest request, NbdError error, string message)
    {
        var said = message.Length == 0 ? string.Empty : $" ({SafeText.Clean(message, 512)})";
        return new(NbdErrors.FromWire(error), $"{_name}: the server could not {request.Operation.Describe()}: {NbdErrors.Describe(error)}{said}");
    }

    private NbdConnectionException Violation(string what) => new($"{_name}: protocol violation: {what}", isLost: false);
}
