using System.Buffers.Binary;

namespace Platter.Nbd.Protocol;

/// <summary>Header of one chunk of a structured or extended reply (proto.md, "Structured reply chunk message", "Extended reply chunk message").</summary>
/// <remarks>Structured: 0: magic, 4: flags, 6: type, 8: cookie, 16: 32-bit length of the payload in bytes.
/// Extended: 16: offset of the request, 24: 64-bit length of the payload in bytes.</remarks>
/// <param name="Flags">Whether it is the last one.</param>
/// <param name="Type">What the payload is.</param>
/// <param name="Cookie">Of the request.</param>
/// <param name="RequestOffset">Of the request, in bytes; only extended headers carry it.</param>
/// <param name="Length">Bytes of payload.</param>
internal readonly record struct NbdChunkHeader(NbdChunkFlags Flags, NbdChunkType Type, ulong Cookie, ulong RequestOffset, ulong Length)
{
    /// <summary>Bytes of a structured header.</summary>
    public const int StructuredSize = 20;

    /// <summary>Bytes of an extended header, the longest there is.</summary>
    public const int ExtendedSize = 32;

    /// <summary>Bytes of a header.</summary>
    public static int SizeOf(NbdHeaderStyle style) => style == NbdHeaderStyle.Extended ? ExtendedSize : StructuredSize;

    /// <summary>Parses what follows a magic that was already recognised.</summary>
    public static NbdChunkHeader Parse(ReadOnlySpan<byte> bytes, NbdHeaderStyle style)
    {
        var extended = style == NbdHeaderStyle.Extended;
        return new(
            (NbdChunkFlags)BinaryPrimitives.ReadUInt16BigEndian(bytes[4..]),
            (NbdChunkType)BinaryPrimitives.ReadUInt16BigEndian(bytes[6..]),
            BinaryPrimitives.ReadUInt64BigEndian(bytes[8..]),
            extended ? BinaryPrimitives.ReadUInt64BigEndian(bytes[16..]) : 0,
            extended ? BinaryPrimitives.ReadUInt64BigEndian(bytes[24..]) : BinaryPrimitives.ReadUInt32BigEndian(bytes[16..]));
    }

    /// <summary>Writes the header.</summary>
    /// <returns>Bytes written.</returns>
    public int WriteTo(Span<byte> bytes, NbdHeaderStyle style)
    {
        var extended = style == NbdHeaderStyle.Extended;
        BinaryPrimitives.WriteUInt32BigEndian(bytes, extended ? NbdProtocol.ExtendedReplyMagic : NbdProtocol.StructuredReplyMagic);
        BinaryPrimitives.WriteUInt16BigEndian(bytes[4..], (ushort)Flags);
        BinaryPrimitives.WriteUInt16BigEndian(bytes[6..], (ushort)Type);
        BinaryPrimitives.WriteUInt64BigEndian(bytes[8..], Cookie);
        if (extended)
        {
            BinaryPrimitives.WriteUInt64BigEndian(bytes[16..], RequestOffset);
            BinaryPrimitives.WriteUInt64BigEndian(bytes[24..], Length);
            return ExtendedSize;
        }

        BinaryPrimitives.WriteUInt32BigEndian(bytes[16..], (uint)Length);
        return StructuredSize;
    }
}
