using System.Buffers.Binary;

namespace Platter.Nbd.Protocol;

/// <summary>A request of the transmission phase (proto.md, "Request message").</summary>
/// <remarks>0: magic, 4: flags, 6: command, 8: cookie, 16: offset in bytes, 24: length in bytes, of 32 bits or (extended) 64.</remarks>
internal readonly record struct NbdRequest(NbdCommandFlags Flags, NbdCommand Command, ulong Cookie, ulong Offset, ulong Length)
{
    /// <summary>Bytes of a compact request.</summary>
    public const int CompactSize = 28;

    /// <summary>Bytes of an extended request.</summary>
    public const int ExtendedSize = 32;

    /// <summary>Whether <see cref="Length"/> bytes of payload follow the header: always those of a WRITE, else what the flag of an extended header says.</summary>
    /// <remarks>The protocol demands the flag of an extended WRITE, too, but QEMU (10.0) sends the data without it.</remarks>
    public bool HasPayload(NbdHeaderStyle style) =>
        Command == NbdCommand.Write || (style == NbdHeaderStyle.Extended && (Flags & NbdCommandFlags.PayloadLength) != 0);

    /// <summary>Bytes of a request's header.</summary>
    public static int SizeOf(NbdHeaderStyle style) => style == NbdHeaderStyle.Extended ? ExtendedSize : CompactSize;

    /// <summary>Parses a header; false if it does not start with the magic number of this style.</summary>
    public static bool TryParse(ReadOnlySpan<byte> bytes, NbdHeaderStyle style, out NbdRequest request)
    {
        var extended = style == NbdHeaderStyle.Extended;
        request = new(
            (NbdCommandFlags)BinaryPrimitives.ReadUInt16BigEndian(bytes[4..]),
            (NbdCommand)BinaryPrimitives.ReadUInt16BigEndian(bytes[6..]),
            BinaryPrimitives.ReadUInt64BigEndian(bytes[8..]),
            BinaryPrimitives.ReadUInt64BigEndian(bytes[16..]),
            extended ? BinaryPrimitives.ReadUInt64BigEndian(bytes[24..]) : BinaryPrimitives.ReadUInt32BigEndian(bytes[24..]));
        return BinaryPrimitives.ReadUInt32BigEndian(bytes) == (extended ? NbdProtocol.ExtendedRequestMagic : NbdProtocol.RequestMagic);
    }

    /// <summary>Writes the header.</summary>
    /// <returns>Bytes written. A compact one carries the low 32 bits of <see cref="Length"/>.</returns>
    public int WriteTo(Span<byte> bytes, NbdHeaderStyle style)
    {
        var extended = style == NbdHeaderStyle.Extended;
        BinaryPrimitives.WriteUInt32BigEndian(bytes, extended ? NbdProtocol.ExtendedRequestMagic : NbdProtocol.RequestMagic);
        BinaryPrimitives.WriteUInt16BigEndian(bytes[4..], (ushort)Flags);
        BinaryPrimitives.WriteUInt16BigEndian(bytes[6..], (ushort)Command);
        BinaryPrimitives.WriteUInt64BigEndian(bytes[8..], Cookie);
        BinaryPrimitives.WriteUInt64BigEndian(bytes[16..], Offset);
        if (extended)
        {
            BinaryPrimitives.WriteUInt64BigEndian(bytes[24..], Length);
            return ExtendedSize;
        }

        BinaryPrimitives.WriteUInt32BigEndian(bytes[24..], (uint)Length);
        return CompactSize;
    }
}
