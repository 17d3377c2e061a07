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
        Assert.True(NbdOptionHeader.TryParse(await ReceiveAsync(NbdOptionHeader.Size), out var header));
        return (header.Option, await ReceiveAsync((int)header.Length));
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
    public async Task EnterAsync(ulong size, bool structured = true, bool context = true, byte[]? blockSizes = null)
    {
        await GreetAsync();
        while (true)
        {
            var (option, _) = await ReadOptionAsync();
            switch (option)
            {
                case NbdOption.StructuredReply when structured:
                    break;
                case NbdOption.SetMetaContext when context:
                    await ReplyAsync(option, NbdOptionReplyType.MetaContext, ContextReply(ContextId, "base:allocation"));
                    break;
                case NbdOption.Go:
                    await ReplyAsync(option, NbdOptionReplyType.Info, ExportInfo(size));
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
        Assert.True(NbdRequest.TryParse(await ReceiveAsync(NbdRequest.CompactSize), NbdHeaderStyle.Structured, out var request));
        return request.Command == NbdCommand.Disconnect ? throw new EndOfStreamException() : request;
    }

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
        var bytes = new byte[NbdChunkHeader.StructuredSize + payload.Length];
        new NbdChunkHeader(done ? NbdChunkFlags.Done : NbdChunkFlags.None, type, cookie, 0, claimed).WriteTo(bytes, NbdHeaderStyle.Structured);
        payload.CopyTo(bytes, NbdChunkHeader.StructuredSize);
        return SendAsync(bytes);
    }

    public Task DataAsync(ulong cookie, ulong offset, byte[] data, bool done = true) =>
        ChunkAsync(cookie, NbdChunkType.OffsetData, done, [.. BigEndian(offset), .. data]);

    public Task HoleAsync(ulong cookie, ulong offset, uint length, bool done = true) =>
        ChunkAsync(cookie, NbdChunkType.OffsetHole, done, [.. BigEndian(offset), .. BigEndian(length)]);

    public Task StatusAsync(ulong cookie, params (uint Length, uint State)[] extents) =>
        ChunkAsync(cookie, NbdChunkType.BlockStatus, true, Status(ContextId, extents));

    public Task ErrorAsync(ulong cookie, NbdError error, string message, bool done = true) =>
        ChunkAsync(cookie, NbdChunkType.Error, done, Error(error, message));

    public static byte[] Status(uint context, params (uint Length, uint State)[] extents) =>
        [.. BigEndian(context), .. extents.SelectMany(e => (byte[])[.. BigEndian(e.Length), .. BigEndian(e.State)])];

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
