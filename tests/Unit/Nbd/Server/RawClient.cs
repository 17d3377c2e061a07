using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using Platter.Nbd.Protocol;

namespace Platter.Tests.Unit.Nbd.Server;

/// <summary>A client that says what it is told to, byte by byte, right or wrong.</summary>
internal sealed class RawClient : IDisposable
{
    public RawClient(EndPoint server)
    {
        Socket = new Socket(server.AddressFamily, SocketType.Stream, server is IPEndPoint ? ProtocolType.Tcp : ProtocolType.Unspecified)
        {
            // No test waits for ever.
            ReceiveTimeout = 30_000,
            SendTimeout = 30_000,
        };
        Socket.Connect(server);
    }

    public Socket Socket { get; }

    /// <summary>How it writes requests and reads replies.</summary>
    public NbdHeaderStyle Style { get; private set; } = NbdHeaderStyle.Structured;

    /// <summary>Connects and shakes hands, any style of headers and any contexts.</summary>
    public static RawClient Open(EndPoint server, NbdHeaderStyle style, params string[] contexts)
    {
        var client = new RawClient(server) { Style = style };
        client.Greet();
        if (style != NbdHeaderStyle.Simple)
        {
            client.SendOption(style == NbdHeaderStyle.Extended ? NbdOption.ExtendedHeaders : NbdOption.StructuredReply, []);
            client.ReceiveOptionReplies();
        }

        if (contexts.Length > 0)
        {
            client.SendOption(NbdOption.SetMetaContext, new NbdMetaContextQuery(string.Empty, contexts).ToArray());
            client.ReceiveOptionReplies();
        }

        client.SendOption(NbdOption.Go, new NbdExportQuery(string.Empty, 0).ToArray());
        return client.ReceiveOptionReplies()[^1] == NbdOptionReplyType.Ack ? client : throw new InvalidOperationException("GO was refused");
    }

    /// <summary>Connects and shakes hands.</summary>
    public static RawClient Open(EndPoint server, bool structured, bool contexts = false, string name = "")
    {
        var client = new RawClient(server);
        client.Greet();
        if (structured)
        {
            client.SendOption(NbdOption.StructuredReply, []);
            client.ReceiveOptionReplies();
        }

        if (contexts)
        {
            client.SendOption(NbdOption.SetMetaContext, new NbdMetaContextQuery(name, [NbdProtocol.AllocationContext]).ToArray());
            client.ReceiveOptionReplies();
        }

        client.SendOption(NbdOption.Go, new NbdExportQuery(name, 0).ToArray());
        if (client.ReceiveOptionReplies()[^1] != NbdOptionReplyType.Ack)
        {
            throw new InvalidOperationException("GO was refused");
        }

        return client;
    }

    public void Greet(uint flags = 3)
    {
        Receive(NbdGreeting.Size);
        var bytes = new byte[4];
        BinaryPrimitives.WriteUInt32BigEndian(bytes, flags);
        Socket.Send(bytes);
    }

    public void SendOption(NbdOption option, byte[] data)
    {
        var bytes = new byte[NbdOptionHeader.Size + data.Length];
        new NbdOptionHeader(option, (uint)data.Length).WriteTo(bytes);
        data.CopyTo(bytes, NbdOptionHeader.Size);
        Socket.Send(bytes);
    }

    /// <summary>Receives the replies to one option, up to the final one.</summary>
    public List<NbdOptionReplyType> ReceiveOptionReplies()
    {
        var types = new List<NbdOptionReplyType>();
        while (true)
        {
            NbdOptionReplyHeader.TryParse(Receive(NbdOptionReplyHeader.Size), out var header);
            Receive((int)header.Length);
            types.Add(header.Type);
            if (header.IsError || header.Type == NbdOptionReplyType.Ack)
            {
                return types;
            }
        }
    }

    public void Send(NbdCommand command, ulong offset, uint length, ulong cookie = 1, NbdCommandFlags flags = 0) =>
        Socket.Send(Request(command, offset, length, cookie, flags));

    public static byte[] Request(NbdCommand command, ulong offset, uint length, ulong cookie = 1, NbdCommandFlags flags = 0)
    {
        var bytes = new byte[NbdRequest.CompactSize];
        new NbdRequest(flags, command, cookie, offset, length).WriteTo(bytes, NbdHeaderStyle.Structured);
        return bytes;
    }

    public NbdSimpleReply ReceiveSimple()
    {
        var bytes = Receive(NbdSimpleReply.Size);
        if (BinaryPrimitives.ReadUInt32BigEndian(bytes) != NbdProtocol.SimpleReplyMagic)
        {
            throw new InvalidOperationException($"no simple reply: {Convert.ToHexString(bytes)}");
        }

        return NbdSimpleReply.Parse(bytes);
    }

    public (NbdChunkHeader Header, byte[] Payload) ReceiveChunk()
    {
        var bytes = Receive(NbdChunkHeader.StructuredSize);
        if (BinaryPrimitives.ReadUInt32BigEndian(bytes) != NbdProtocol.StructuredReplyMagic)
        {
            throw new InvalidOperationException($"no chunk: {Convert.ToHexString(bytes)}");
        }

        var header = NbdChunkHeader.Parse(bytes, NbdHeaderStyle.Structured);
        return (header, Receive((int)header.Length));
    }

    /// <summary>Reads, with structured replies, and puts the chunks together.</summary>
    public byte[] ReadStructured(ulong offset, uint length, NbdCommandFlags flags = 0)
    {
        Send(NbdCommand.Read, offset, length, 99, flags);
        var result = new byte[length];
        Array.Fill(result, (byte)0xee);
        while (true)
        {
            var (header, payload) = ReceiveChunk();
            var at = payload.Length >= 8 ? (int)(BinaryPrimitives.ReadUInt64BigEndian(payload) - offset) : 0;
            switch (header.Type)
            {
                case NbdChunkType.OffsetData:
                    payload.AsSpan(8).CopyTo(result.AsSpan(at));
                    break;
                case NbdChunkType.OffsetHole:
                    result.AsSpan(at, (int)BinaryPrimitives.ReadUInt32BigEndian(payload.AsSpan(8))).Clear();
                    break;
                default:
                    throw new InvalidOperationException($"chunk {header}");
            }

            if ((header.Flags & NbdChunkFlags.Done) != 0)
            {
                return result;
            }
        }
    }

    public byte[] ReadSimple(ulong offset, uint length)
    {
        Send(NbdCommand.Read, offset, length, 98);
        var reply = ReceiveSimple();
        return reply.Error == NbdError.None ? Receive((int)length) : throw new InvalidOperationException($"{reply}");
    }

    public byte[] Receive(int count)
    {
        var bytes = new byte[count];
        for (var done = 0; done < count;)
        {
            var got = Socket.Receive(bytes.AsSpan(done));
            done += got > 0 ? got : throw new EndOfStreamException($"closed after {done} of {count} bytes");
        }

        return bytes;
    }

    /// <summary>Whether the server has closed (or closes now); waits for that.</summary>
    public bool IsClosed()
    {
        try
        {
            var waste = new byte[65536];
            while (Socket.Receive(waste) > 0)
            {
            }

            return true;
        }
        catch (SocketException e)
        {
            return e.SocketErrorCode is not (SocketError.TimedOut or SocketError.WouldBlock);
        }
    }

    /// <summary>Sends a request, with a payload if one is given, and takes its reply, which brings no data.</summary>
    public NbdError Do(NbdCommand command, ulong offset, ulong length, NbdCommandFlags flags = 0, byte[]? payload = null)
    {
        const ulong Cookie = 77;
        flags |= payload is not null && Style == NbdHeaderStyle.Extended ? NbdCommandFlags.PayloadLength : 0;
        var bytes = new byte[NbdRequest.SizeOf(Style)];
        new NbdRequest(flags, command, Cookie, offset, length).WriteTo(bytes, Style);
        Socket.Send([.. bytes, .. payload ?? []]);
        if (Style != NbdHeaderStyle.Extended)
        {
            var reply = ReceiveSimple();
            return reply.Cookie == Cookie ? reply.Error : throw new InvalidOperationException($"{reply}");
        }

        var (header, body) = ReceiveExtendedChunk();
        return (header.Cookie, header.RequestOffset, header.Flags) != (Cookie, offset, NbdChunkFlags.Done) ? throw new InvalidOperationException($"{header}")
            : header.Type == NbdChunkType.None ? NbdError.None
            : (NbdError)BinaryPrimitives.ReadUInt32BigEndian(body);
    }

    /// <summary>Reads, in any style.</summary>
    public byte[] Read(ulong offset, uint length)
    {
        if (Style == NbdHeaderStyle.Simple)
        {
            return ReadSimple(offset, length);
        }

        if (Style == NbdHeaderStyle.Structured)
        {
            return ReadStructured(offset, length);
        }

        var bytes = new byte[NbdRequest.ExtendedSize];
        new NbdRequest(NbdCommandFlags.None, NbdCommand.Read, 5, offset, length).WriteTo(bytes, Style);
        Socket.Send(bytes);
        var result = new byte[length];
        while (true)
        {
            var (header, payload) = ReceiveExtendedChunk();
            if (header.RequestOffset != offset || header.Cookie != 5)
            {
                throw new InvalidOperationException($"chunk {header}");
            }

            var at = (int)(BinaryPrimitives.ReadUInt64BigEndian(payload) - offset);
            if (header.Type == NbdChunkType.OffsetData)
            {
                payload.AsSpan(8).CopyTo(result.AsSpan(at));
            }

            if ((header.Flags & NbdChunkFlags.Done) != 0)
            {
                return result;
            }
        }
    }

    public (NbdChunkHeader Header, byte[] Payload) ReceiveExtendedChunk()
    {
        var bytes = Receive(NbdChunkHeader.ExtendedSize);
        if (BinaryPrimitives.ReadUInt32BigEndian(bytes) != NbdProtocol.ExtendedReplyMagic)
        {
            throw new InvalidOperationException($"no extended chunk: {Convert.ToHexString(bytes)}");
        }

        var header = NbdChunkHeader.Parse(bytes, NbdHeaderStyle.Extended);
        return (header, Receive((int)header.Length));
    }

    public void Dispose() => Socket.Dispose();
}
