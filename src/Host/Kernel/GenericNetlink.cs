using System.Buffers;
using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;
using Platter.Host.Native;

namespace Platter.Host.Kernel;

/// <summary>A conversation with one family of the kernel's generic netlink (netlink(7)). Everything is in the host's byte order.</summary>
/// <remarks>Not thread-safe.</remarks>
internal sealed class GenericNetlink : IDisposable
{
    private const int HeaderBytes = 16;
    private const int CommandBytes = 4;
    private const int AttributeBytes = 4;
    private const ushort ErrorType = 2;
    private const ushort RequestAndAck = 1 | 4;
    private const ushort Nested = 0x8000;
    private const ushort ControlFamily = 16;
    private const byte GetFamily = 3;
    private const ushort FamilyIdAttribute = 1;
    private const ushort FamilyNameAttribute = 2;
    private const int NetlinkGeneric = 16;

    private readonly SafeFileHandle _socket;
    private readonly byte[] _reply = new byte[32 << 10];
    private ushort _family;
    private uint _sequence;

    private GenericNetlink(SafeFileHandle socket) => _socket = socket;

    /// <summary>Finds a family; null when the kernel has none of this name, or no netlink.</summary>
    public static GenericNetlink? Open(string family)
    {
        var socket = LinuxSockets.Open(LinuxSockets.AF_NETLINK, LinuxSockets.SOCK_RAW, NetlinkGeneric);
        if (socket.IsInvalid)
        {
            socket.Dispose();
            return null;
        }

        var link = new GenericNetlink(socket);
        var name = new ArrayBufferWriter<byte>();
        AddAttribute(name, FamilyNameAttribute, [.. Encoding.ASCII.GetBytes(family), 0]);
        ushort id = 0;
        var error = link.Ask(ControlFamily, GetFamily, 2, name.WrittenSpan, (type, value) => id = type == FamilyIdAttribute && value.Length >= 2 ? MemoryMarshal.Read<ushort>(value) : id);
        if (error == 0 && id != 0)
        {
            link._family = id;
            return link;
        }

        link.Dispose();
        return null;
    }

    /// <summary>Sends a command of the family and waits for its acknowledgement.</summary>
    /// <returns>0, or an errno.</returns>
    public int Send(byte command, ReadOnlySpan<byte> attributes) => Ask(_family, command, 1, attributes, static (_, _) => { });

    /// <summary>Adds an attribute with a 32-bit number.</summary>
    public static void Add(IBufferWriter<byte> attributes, ushort type, uint value) => AddAttribute(attributes, type, MemoryMarshal.AsBytes(new ReadOnlySpan<uint>(ref value)));

    /// <summary>Adds an attribute with a 64-bit number.</summary>
    public static void Add(IBufferWriter<byte> attributes, ushort type, ulong value) => AddAttribute(attributes, type, MemoryMarshal.AsBytes(new ReadOnlySpan<ulong>(ref value)));

    /// <summary>Adds an attribute that holds attributes.</summary>
    public static void AddNested(IBufferWriter<byte> attributes, ushort type, ReadOnlySpan<byte> inner) => AddAttribute(attributes, (ushort)(type | Nested), inner);

    /// <inheritdoc/>
    public void Dispose() => _socket.Dispose();

    private static void AddAttribute(IBufferWriter<byte> attributes, ushort type, ReadOnlySpan<byte> value)
    {
        var length = AttributeBytes + value.Length;
        var bytes = attributes.GetSpan(Aligned(length))[..Aligned(length)];
        bytes.Clear();
        Write(bytes, (ushort)length);
        Write(bytes[2..], type);
        value.CopyTo(bytes[AttributeBytes..]);
        attributes.Advance(bytes.Length);
    }

    private int Ask(ushort family, byte command, byte version, ReadOnlySpan<byte> attributes, AttributeReader read)
    {
        var message = new byte[HeaderBytes + CommandBytes + attributes.Length];
        var sequence = ++_sequence;
        MemoryMarshal.Write(message, (uint)message.Length);
        Write(message.AsSpan(4), family);
        Write(message.AsSpan(6), RequestAndAck);
        MemoryMarshal.Write(message.AsSpan(8), sequence);
        message[HeaderBytes] = command;
        message[HeaderBytes + 1] = version;
        attributes.CopyTo(message.AsSpan(HeaderBytes + CommandBytes));
        if (LinuxSockets.Send(_socket, message) < 0)
        {
            return Marshal.GetLastPInvokeError();
        }

        while (true)
        {
            var count = (int)LinuxSockets.Receive(_socket, _reply);
            if (count < 0 && Marshal.GetLastPInvokeError() == LinuxCalls.EINTR)
            {
                continue;
            }

            if (count <= 0)
            {
                return count < 0 ? Marshal.GetLastPInvokeError() : LinuxCalls.EIO;
            }

            if (TakeMessages(_reply.AsSpan(0, count), sequence, read) is { } error)
            {
                return error;
            }
        }
    }

    /// <returns>The acknowledgement's errno; null when it has not come yet.</returns>
    private static int? TakeMessages(ReadOnlySpan<byte> bytes, uint sequence, AttributeReader read)
    {
        while (bytes.Length >= HeaderBytes)
        {
            var length = (int)Math.Min(MemoryMarshal.Read<uint>(bytes), (uint)bytes.Length);
            if (length < HeaderBytes)
            {
                return LinuxCalls.EIO;
            }

            var body = bytes[HeaderBytes..length];
            if (MemoryMarshal.Read<uint>(bytes[8..]) == sequence)
            {
                if (MemoryMarshal.Read<ushort>(bytes[4..]) == ErrorType)
                {
                    return body.Length >= 4 ? -MemoryMarshal.Read<int>(body) : LinuxCalls.EIO;
                }

                TakeAttributes(body.Length > CommandBytes ? body[CommandBytes..] : [], read);
            }

            bytes = bytes[Math.Min(Aligned(length), bytes.Length)..];
        }

        return null;
    }

    private static void TakeAttributes(ReadOnlySpan<byte> bytes, AttributeReader read)
    {
        while (bytes.Length >= AttributeBytes)
        {
            var length = (int)MemoryMarshal.Read<ushort>(bytes);
            if (length < AttributeBytes || length > bytes.Length)
            {
                return;
            }

            read((ushort)(MemoryMarshal.Read<ushort>(bytes[2..]) & ~Nested), bytes[AttributeBytes..length]);
            bytes = bytes[Math.Min(Aligned(length), bytes.Length)..];
        }
    }

    private static int Aligned(int length) => (length + 3) & ~3;

    private static void Write(Span<byte> bytes, ushort value) => MemoryMarshal.Write(bytes, value);

    private delegate void AttributeReader(ushort type, ReadOnlySpan<byte> value);
}
