using System.Buffers.Binary;
using System.Net.Sockets;

namespace Platter.Tests.Fuzz;

/// <summary>A server for one client that answers rightly, except where its random numbers decide otherwise. Written from the protocol's description.</summary>
internal sealed class FakeNbdServer : IDisposable
{
    private const ulong Greeting = 0x4e42444d41474943, OptionMagic = 0x49484156454F5054, ReplyMagic = 0x3e889045565a9;
    private const uint RequestMagic = 0x25609513, SimpleMagic = 0x67446698, ChunkMagic = 0x668e33ef;
    private const uint ExtendedRequestMagic = 0x21e41c71, ExtendedChunkMagic = 0x6e8a278c;
    private const ulong ReadOnlyFlags = 0x0103, WritableFlags = 0x1c6d;
    private const uint Ack = 1, Server = 2, InfoReply = 3, MetaContext = 4, ErrUnsupported = 0x8000_0001;

    /// <summary>How long a client may keep silent after something was broken: both may be waiting for the other.</summary>
    private const int PatienceMilliseconds = 30;

    private readonly Socket _listener = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
    private readonly MutatingWriter _writer;
    private readonly Random _random;
    private readonly long _size;
    private readonly Thread _thread;
    private readonly ulong _flags;
    private readonly bool _quietInside;
    private bool _structured;
    private bool _extended;
    private ulong _requestOffset;
    private int _requests;
    private bool _hasLied;

    public FakeNbdServer(string path, Random random, int oneIn, long size, int quiet = 0, bool writable = false)
    {
        _flags = writable ? WritableFlags : ReadOnlyFlags;
        _random = random;
        _size = size;
        _quietInside = oneIn == 0;
        _writer = new MutatingWriter(random, oneIn, quiet);
        _listener.Bind(new UnixDomainSocketEndPoint(path));
        _listener.Listen(8);
        _thread = new Thread(Serve) { IsBackground = true, Name = "fake NBD server" };
        _thread.Start();
    }

    /// <summary>Whether anything that was said is not true. Until then, bytes that a client read must be those of <see cref="ByteAt"/>.</summary>
    public bool HasLied => Volatile.Read(ref _hasLied);

    /// <summary>Requests that were answered, rightly or not.</summary>
    public int Requests => Volatile.Read(ref _requests);

    /// <summary>The disk's content: a third of it is zeros, in stretches of 64 KiB.</summary>
    public static byte ByteAt(long offset) => (offset >> 16) % 3 == 1 ? (byte)0 : (byte)((offset * 31) ^ (offset >> 8) | 1);

    public void Dispose()
    {
        _listener.Dispose();
        _thread.Join(TimeSpan.FromSeconds(5));
    }

    private void Serve()
    {
        try
        {
            // Clients may come back: each connection is another conversation with the same dice.
            for (var connection = 0; connection < 4; connection++)
            {
                using var socket = _listener.Accept();
                try
                {
                    (_structured, _extended) = (false, false);
                    Handshake(socket);
                }
                catch (EndOfStreamException)
                {
                }
                catch (SocketException)
                {
                    // The client went away, or fell silent after something was broken.
                }
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // The test is over.
        }
    }

    private void Handshake(Socket socket)
    {
        Send(socket, _writer.U64(Greeting).U64(OptionMagic).U16(3));
        Receive(socket, 4);
        while (true)
        {
            var header = Receive(socket, 16);
            var option = BinaryPrimitives.ReadUInt32BigEndian(header.AsSpan(8));
            var length = BinaryPrimitives.ReadUInt32BigEndian(header.AsSpan(12));
            if (length > 1 << 20)
            {
                return;
            }

            Receive(socket, (int)length);
            switch (option)
            {
                case 1:
                    Send(socket, _writer.U64((ulong)_size).U16(_flags));
                    Transmission(socket);
                    return;
                case 2:
                    Reply(option, Ack, []);
                    Send(socket, _writer);
                    return;
                case 3:
                    Reply(option, Server, Counted(_writer.Text("disk"u8)));
                    Reply(option, Ack, []);
                    break;
                case 6 or 7:
                    Information(option);
                    break;
                case 8:
                    _structured = _random.Next(3) != 0;
                    Reply(option, _structured ? Ack : ErrUnsupported, []);
                    break;
                case 11:
                    _extended = _structured = _random.Next(2) == 0;
                    Reply(option, _extended ? Ack : ErrUnsupported, []);
                    break;
                case 9 or 10:
                    Reply(option, MetaContext, [0, 0, 0, 7, .. _writer.Text("base:allocation"u8)]);
                    Reply(option, Ack, []);
                    break;
                default:
                    Reply(option, ErrUnsupported, _writer.Text("no"u8));
                    break;
            }

            Send(socket, _writer);
            if (option == 7)
            {
                Transmission(socket);
                return;
            }
        }
    }

    private void Information(uint option)
    {
        var inner = Inner(4);
        Reply(option, InfoReply, inner.U16(0).U64((ulong)_size).U16(_flags).Take());
        if (_random.Next(2) == 0)
        {
            Reply(option, InfoReply, inner.U16(3).U32(1).U32(4096).U32(32 << 20).Take());
        }

        if (_random.Next(4) == 0)
        {
            Reply(option, InfoReply, [0, 2, .. _writer.Text("a disk"u8)]);
        }

        Volatile.Write(ref _hasLied, HasLied | inner.HasBroken);

        Reply(option, Ack, []);
    }

    private void Transmission(Socket socket)
    {
        for (var count = 0; count < 200; count++)
        {
            var request = Receive(socket, _extended ? 32 : 28);
            var flags = BinaryPrimitives.ReadUInt16BigEndian(request.AsSpan(4));
            var type = BinaryPrimitives.ReadUInt16BigEndian(request.AsSpan(6));
            var cookie = BinaryPrimitives.ReadUInt64BigEndian(request.AsSpan(8));
            var offset = _requestOffset = BinaryPrimitives.ReadUInt64BigEndian(request.AsSpan(16));
            var length = _extended
                ? (uint)Math.Min(BinaryPrimitives.ReadUInt64BigEndian(request.AsSpan(24)), uint.MaxValue) : BinaryPrimitives.ReadUInt32BigEndian(request.AsSpan(24));
            if (BinaryPrimitives.ReadUInt32BigEndian(request) != (_extended ? ExtendedRequestMagic : RequestMagic) || type == 2 || (length > 64 << 20 && type is 0 or 1))
            {
                return;
            }

            if (type == 1)
            {
                if (_extended != ((flags & 0x20) != 0))
                {
                    throw new FuzzException($"a write came with the flags {flags}, where headers are {(_extended ? "extended" : "compact")}");
                }

                Receive(socket, (int)length);
            }

            // What is written is forgotten.
            if (type is 1 or 4 or 6)
            {
                Volatile.Write(ref _hasLied, true);
            }

            if (_structured)
            {
                Structured(type, cookie, offset, length);
            }
            else
            {
                var error = _random.Next(10) == 0 ? 5u : 0;
                _writer.U32(SimpleMagic).U32(error).U64(cookie).Raw(type == 0 && error == 0 ? Content(offset, length) : []);
            }

            Send(socket, _writer);
            Interlocked.Increment(ref _requests);
        }
    }

    private void Structured(int type, ulong cookie, ulong offset, uint length)
    {
        var kind = _random.Next(12);
        if (kind == 0)
        {
            Chunk(1, 0x8001, cookie, [0, 0, 0, 5, .. Short(_writer.Text("broken"u8))]);
        }
        else if (type == 7)
        {
            var inner = Inner(3);
            inner.U32(7);
            if (_extended)
            {
                inner.U32((ulong)(((long)offset + length - 1) >> 16) - (offset >> 16) + 1);
            }

            for (long at = (long)offset, end = at + length; at < end;)
            {
                var part = Math.Min(end, (at | 0xffff) + 1) - at;
                var status = ByteAt(at) == 0 ? 3u : 0;
                _ = _extended ? inner.U64((ulong)part).U64(status) : inner.U32((ulong)part).U32(status);
                at += part;
            }

            Volatile.Write(ref _hasLied, HasLied | inner.HasBroken);
            Chunk(1, _extended ? 6u : 5, cookie, inner.Take());
        }
        else if (type != 0)
        {
            Chunk(1, 0, cookie, []);
        }
        else if (kind < 6)
        {
            // In pieces, zeros as holes, in any order.
            var pieces = new List<(ulong At, uint Length)>();
            for (ulong at = offset, end = offset + length; at < end;)
            {
                var part = Math.Min(end, (at | 0xffff) + 1) - at;
                pieces.Add((at, (uint)part));
                at += part;
            }

            var order = pieces.ToArray();
            _random.Shuffle(order);
            for (var i = 0; i < order.Length; i++)
            {
                var (at, part) = order[i];
                var last = i == order.Length - 1 ? 1u : 0;
                if (ByteAt((long)at) == 0)
                {
                    Chunk(last, 2, cookie, Inner(3).U64(at).U32(part), null);
                }
                else
                {
                    Chunk(last, 1, cookie, Inner(3).U64(at), Content(at, part));
                }
            }
        }
        else
        {
            Chunk(1, 1, cookie, [.. Big(offset), .. Content(offset, length)]);
        }
    }

    private static byte[] Content(ulong offset, uint length)
    {
        var bytes = new byte[length];
        for (var i = 0; i < bytes.Length; i++)
        {
            bytes[i] = ByteAt(unchecked((long)offset + i));
        }

        return bytes;
    }

    private MutatingWriter Inner(int oneIn) => new(_random, HasLied || _random.Next(8) != 0 ? 0 : oneIn * (_quietInside ? 0 : 1));

    private void Chunk(ulong flags, ulong type, ulong cookie, MutatingWriter head, byte[]? content)
    {
        Volatile.Write(ref _hasLied, HasLied | head.HasBroken);
        Chunk(flags, type, cookie, [.. head.Take(), .. content ?? []]);
    }

    private void Chunk(ulong flags, ulong type, ulong cookie, byte[] payload)
    {
        _writer.U32(_extended ? ExtendedChunkMagic : ChunkMagic).U16(flags).U16(type).U64(cookie);
        _ = _extended ? _writer.U64(_requestOffset).U64((ulong)payload.Length).Raw(payload) : _writer.Counted(payload);
    }

    private void Reply(uint option, uint type, byte[] data) => _writer.U64(ReplyMagic).U32(option).U32(type).Counted(data);

    private static byte[] Counted(byte[] bytes) => [.. Big((ulong)bytes.Length).AsSpan(4), .. bytes];

    private static byte[] Short(byte[] bytes) => [(byte)(bytes.Length >> 8), (byte)bytes.Length, .. bytes];

    private static byte[] Big(ulong value)
    {
        var bytes = new byte[8];
        BinaryPrimitives.WriteUInt64BigEndian(bytes, value);
        return bytes;
    }

    private void Send(Socket socket, MutatingWriter writer)
    {
        var bytes = writer.Take();
        Volatile.Write(ref _hasLied, HasLied | writer.HasBroken);
        if (writer.HasBroken)
        {
            socket.ReceiveTimeout = PatienceMilliseconds;
        }

        for (var sent = 0; sent < bytes.Length;)
        {
            sent += socket.Send(bytes.AsSpan(sent));
        }
    }

    private static byte[] Receive(Socket socket, int count)
    {
        var bytes = new byte[count];
        for (var done = 0; done < count;)
        {
            var read = socket.Receive(bytes.AsSpan(done));
            done += read > 0 ? read : throw new EndOfStreamException();
        }

        return bytes;
    }
}
