using System.Buffers.Binary;
using System.Net.Sockets;
using System.Text;
using Platter.Nbd.Protocol;
using Xunit;

namespace Platter.Tests.Unit.Nbd.Client;

/// <summary>The server's end of one connection, in the words of the protocol.</summary>
internal sealed class ScriptedPeer(Socket socket, CancellationToken stop)
{
    public const uint ContextId = 7;

    private readonly Dictionary<ulong, ulong> _offsets = [];

    /// <summary>Whether EXTENDED_HEADERS is an option that the script sees; otherwise it is refused before.</summary>
    public bool KnowsExtendedHeaders { get; set; }

    /// <summary>How requests and replies look.</summary>
    public NbdHeaderStyle Style { get; set; } = NbdHeaderStyle.Structured;

    public async Task SendAsync(params byte[] bytes)
    {
        ReadOnlyMemory<byte> rest = bytes;
        while (rest.Length > 0)
        {
            rest = rest[await socket.SendAsync(rest, stop)..];
        }
    }

    public async Task<byte[]> ReceiveAsync(int count)
    {
        var bytes = new byte[count];
        for (var done = 0; done < count;)
        {
            var received = await socket.ReceiveAsync(bytes.AsMemory(done), stop);
            done += received > 0 ? received : throw new EndOfStreamException();
        }

        return bytes;
    }

    /// <summary>Waits for the client to hang up, or the end of the test.</summary>
    public async Task WaitForEndAsync()
    {
        while (true)
        {
            await ReceiveAsync(1);
        }
    }

    public Task WaitForeverAsync() => Task.Delay(Timeout.Infinite, stop);

    public async Task<uint> GreetAsync(NbdHandshakeFlags flags = NbdHandshakeFlags.FixedNewstyle | NbdHandshakeFlags.NoZeroes)
    {
        var bytes = new byte[NbdGreeting.Size];
        new NbdGreeting(flags).WriteTo(bytes);
        await SendAsync(bytes);
        return BinaryPrimitives.ReadUInt32BigEndian(await ReceiveAsync(NbdGreeting.ClientFlagsSize));
    }

    public async Task<(NbdOption Option, byte[] Data)> ReadOptionAsync()
    {
        while (true)
        {
            Assert.True(NbdOptionHeader.TryParse(await ReceiveAsync(NbdOptionHeader.Size), out var header));
            var data = await ReceiveAsync((int)header.Length);
            if (header.Option != NbdOption.ExtendedHeaders || KnowsExtendedHeaders)
            {
                return (header.Option, data);
            }

            await ReplyAsync(header.Option, NbdOptionReplyType.ErrUnsup);
        }
    }

    public Task ReplyAsync(NbdOption option, NbdOptionReplyType type, params byte[] data) => ReplyAsync(option, type, (uint)data.Length, data);

    public Task ReplyAsync(NbdOption option, NbdOptionReplyType type, uint claimed, byte[] data)
    {
        var bytes = new byte[NbdOptionReplyHeader.Size + data.Length];
        new NbdOptionReplyHeader(option, type, claimed).WriteTo(bytes);
        data.CopyTo(bytes, NbdOptionReplyHeader.Size);
        return SendAsync(bytes);
    }

    public static byte[] ExportInfo(ulong size, NbdTransmissionFlags flags = NbdTransmissionFlags.HasFlags | NbdTransmissionFlags.ReadOnly)
    {
        var bytes = new byte[2 + NbdExportDetails.Size];
        new NbdExportDetails(size, flags).WriteTo(bytes.AsSpan(2));
        return bytes;
    }

    public static byte[] BlockSizeInfo(uint minimum, uint preferred, uint maximum)
    {
        var bytes = new byte[2 + 12];
        bytes[1] = (byte)NbdInfoType.BlockSize;
        new NbdBlockSizes(minimum, preferred, maximum).WriteTo(bytes.AsSpan(2));
        return bytes;
    }

    public static byte[] ContextReply(uint id, string name) => [.. BigEndian(id), .. Encoding.UTF8.GetBytes(name)];

    /// <summary>Haggles like a good server, up to and with the acknowledgement of GO.</summary>
    public async Task EnterAsync(
        ulong size, bool structured = true, bool context = true, byte[]? blockSizes = null, bool extended = false,
        NbdTransmissionFlags flags = NbdTransmissionFlags.HasFlags | NbdTransmissionFlags.ReadOnly, string? secondContext = null)
    {
        KnowsExtendedHeaders = extended;
        Style = structured ? NbdHeaderStyle.Structured : NbdHeaderStyle.Simple;
        await GreetAsync();
        while (true)
        {
            var (option, _) = await ReadOptionAsync();
            switch (option)
            {
                case NbdOption.ExtendedHeaders:
                    Style = NbdHeaderStyle.Extended;
                    break;
                case NbdOption.StructuredReply when structured:
                    break;
                case NbdOption.SetMetaContext when context:
                    await ReplyAsync(option, NbdOptionReplyType.MetaContext, ContextReply(ContextId, "base:allocation"));
                    if (secondContext is not null)
                    {
                        await ReplyAsync(option, NbdOptionReplyType.MetaContext, ContextReply(ContextId + 1, secondContext));
                    }

                    break;
                case NbdOption.Go:
                    await ReplyAsync(option, NbdOptionReplyType.Info, ExportInfo(size, flags));
                    if (blockSizes is not null)
                    {
                        await ReplyAsync(option, NbdOptionReplyType.Info, blockSizes);
                    }

                    await ReplyAsync(option, NbdOptionReplyType.Ack);
                    return;
                default:
                    await ReplyAsync(option, NbdOptionReplyType.ErrUnsup);
                    continue;
            }

            await ReplyAsync(option, NbdOptionReplyType.Ack);
        }
    }

    public async Task<NbdRequest> ReadRequestAsync()
    {
        Assert.True(NbdRequest.TryParse(await ReceiveAsync(NbdRequest.SizeOf(Style)), Style, out var request));
        _offsets[request.Cookie] = request.Offset;
        return request.Command == NbdCommand.Disconnect ? throw new EndOfStreamException() : request;
    }

    /// <summary>The data behind a request's header.</summary>
    public Task<byte[]> ReadPayloadAsync(NbdRequest request) => ReceiveAsync(request.HasPayload(Style) ? (int)request.Length : 0);

    public Task SimpleAsync(ulong cookie, NbdError error, params byte[] data)
    {
        var bytes = new byte[NbdSimpleReply.Size + data.Length];
        new NbdSimpleReply(error, cookie).WriteTo(bytes);
        data.CopyTo(bytes, NbdSimpleReply.Size);
        return SendAsync(bytes);
    }

    public Task ChunkAsync(ulong cookie, NbdChunkType type, bool done, params byte[] payload) =>
        ChunkAsync(cookie, type, done, (uint)payload.Length, payload);

    public Task ChunkAsync(ulong cookie, NbdChunkType type, bool done, uint claimed, byte[] payload)
    {
        // Scripts for servers without structured replies send such a chunk all the same.
        var style = Style == NbdHeaderStyle.Extended ? Style : NbdHeaderStyle.Structured;
        var bytes = new byte[NbdChunkHeader.SizeOf(style) + payload.Length];
        var offset = _offsets.GetValueOrDefault(cookie);
        new NbdChunkHeader(done ? NbdChunkFlags.Done : NbdChunkFlags.None, type, cookie, offset, claimed).WriteTo(bytes, style);
        payload.CopyTo(bytes, NbdChunkHeader.SizeOf(style));
        return SendAsync(bytes);
    }

    public Task DataAsync(ulong cookie, ulong offset, byte[] data, bool done = true) =>
        ChunkAsync(cookie, NbdChunkType.OffsetData, done, [.. BigEndian(offset), .. data]);

    public Task HoleAsync(ulong cookie, ulong offset, uint length, bool done = true) =>
        ChunkAsync(cookie, NbdChunkType.OffsetHole, done, [.. BigEndian(offset), .. BigEndian(length)]);

    public Task StatusAsync(ulong cookie, params (ulong Length, ulong State)[] extents) => Style == NbdHeaderStyle.Extended
        ? ChunkAsync(cookie, NbdChunkType.BlockStatusExt, true, ExtendedStatus(ContextId, (uint)extents.Length, extents))
        : ChunkAsync(cookie, NbdChunkType.BlockStatus, true, Status(ContextId, extents));

    /// <summary>A reply without data to anything but a read: the style's shortest.</summary>
    public Task DoneAsync(ulong cookie) => Style == NbdHeaderStyle.Extended ? ChunkAsync(cookie, NbdChunkType.None, true) : SimpleAsync(cookie, NbdError.None);

    public Task ErrorAsync(ulong cookie, NbdError error, string message, bool done = true) =>
        ChunkAsync(cookie, NbdChunkType.Error, done, Error(error, message));

    public static byte[] Status(uint context, params (ulong Length, ulong State)[] extents) =>
        [.. BigEndian(context), .. extents.SelectMany(e => (byte[])[.. BigEndian((uint)e.Length), .. BigEndian((uint)e.State)])];

    public static byte[] ExtendedStatus(uint context, uint count, params (ulong Length, ulong State)[] extents) =>
        [.. BigEndian(context), .. BigEndian(count), .. extents.SelectMany(e => (byte[])[.. BigEndian(e.Length), .. BigEndian(e.State)])];

    public static byte[] Error(NbdError error, string message)
    {
        var text = Encoding.UTF8.GetBytes(message);
        return [.. BigEndian((uint)error), (byte)(text.Length >> 8), (byte)text.Length, .. text];
    }

    public static byte[] BigEndian(uint value)
    {
        var bytes = new byte[4];
        BinaryPrimitives.WriteUInt32BigEndian(bytes, value);
        return bytes;
    }

    public static byte[] BigEndian(ulong value)
    {
        var bytes = new byte[8];
        BinaryPrimitives.WriteUInt64BigEndian(bytes, value);
        return bytes;
    }
}
