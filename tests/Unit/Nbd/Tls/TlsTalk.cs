using System.Buffers.Binary;
using System.Net.Sockets;
using Platter.Nbd.Protocol;
using Platter.Nbd.Tls;
using Platter.Nbd.Wire;
using Platter.Tests.Unit.Nbd.Server;

namespace Platter.Tests.Unit.Nbd.Tls;

/// <summary>A client that has said STARTTLS, and talks on encrypted.</summary>
internal sealed class TlsTalk(Func<ReadOnlyMemory<byte>, Task> send, Func<Memory<byte>, Task<int>> receive, IDisposable connection) : IDisposable
{
    /// <summary>Over one of our wires.</summary>
    public static TlsTalk Over(NbdWire wire) => new(
        async bytes => await wire.SendAsync(bytes, CancellationToken.None), async bytes => await wire.ReceiveAsync(bytes, CancellationToken.None), wire);

    /// <summary>Over a stream.</summary>
    public static TlsTalk Over(Stream stream) => new(async bytes => await stream.WriteAsync(bytes), async bytes => await stream.ReadAsync(bytes), stream);

    /// <summary>Connects and encrypts with our client.</summary>
    public static async Task<TlsTalk> OpenAsync(ServerFixture server, NbdClientTls tls, string? host = "localhost") =>
        Over(await tls.ConnectAsync(new SocketWire(StartTls(server).Socket), host, CancellationToken.None));

    /// <summary>Connects and has STARTTLS accepted.</summary>
    public static RawClient StartTls(ServerFixture server, params ReadOnlySpan<NbdOption> before)
    {
        var client = server.Connect();
        client.Greet();
        foreach (var option in before)
        {
            client.SendOption(option, []);
            client.ReceiveOptionReplies();
        }

        client.SendOption(NbdOption.StartTls, []);
        return client.ReceiveOptionReplies() is [NbdOptionReplyType.Ack] ? client : throw new InvalidOperationException("STARTTLS was refused");
    }

    public Task SendAsync(ReadOnlyMemory<byte> bytes) => send(bytes);

    public async Task<List<(NbdOptionReplyType Type, byte[] Body)>> AskAsync(NbdOption option, byte[] data)
    {
        var bytes = new byte[NbdOptionHeader.Size + data.Length];
        new NbdOptionHeader(option, (uint)data.Length).WriteTo(bytes);
        data.CopyTo(bytes, NbdOptionHeader.Size);
        await send(bytes);
        var replies = new List<(NbdOptionReplyType, byte[])>();
        while (true)
        {
            NbdOptionReplyHeader.TryParse(await ReceiveAsync(NbdOptionReplyHeader.Size), out var header);
            replies.Add((header.Type, await ReceiveAsync((int)header.Length)));
            if (header.IsError || header.Type == NbdOptionReplyType.Ack)
            {
                return replies;
            }
        }
    }

    /// <summary>Enters the transmission phase.</summary>
    /// <returns>The export's flags.</returns>
    public async Task<NbdTransmissionFlags> GoAsync()
    {
        var replies = await AskAsync(NbdOption.Go, new NbdExportQuery(string.Empty, 0).ToArray());
        return replies[^1].Type == NbdOptionReplyType.Ack
            ? (NbdTransmissionFlags)BinaryPrimitives.ReadUInt16BigEndian(replies[0].Body.AsSpan(10))
            : throw new InvalidOperationException($"GO was refused: {replies[^1].Type}");
    }

    public async Task<byte[]> ReadAsync(ulong offset, uint length)
    {
        await send(RawClient.Request(NbdCommand.Read, offset, length));
        var reply = NbdSimpleReply.Parse(await ReceiveAsync(NbdSimpleReply.Size));
        return reply.Error == NbdError.None ? await ReceiveAsync((int)length) : throw new InvalidOperationException($"{reply}");
    }

    public async Task<byte[]> ReceiveAsync(int count)
    {
        var bytes = new byte[count];
        for (var done = 0; done < count;)
        {
            var got = await receive(bytes.AsMemory(done));
            done += got > 0 ? got : throw new EndOfStreamException($"closed after {done} of {count} bytes");
        }

        return bytes;
    }

    /// <summary>Waits until the server sends nothing more.</summary>
    public async Task<bool> IsClosedAsync()
    {
        try
        {
            while (await receive(new byte[4096]) > 0)
            {
            }

            return true;
        }
        catch (Exception e) when (e is SocketException or IOException)
        {
            return true;
        }
    }

    public void Dispose() => connection.Dispose();
}
