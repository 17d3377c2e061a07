using System.Buffers.Binary;

namespace Platter.Nbd.Protocol;

/// <summary>A chunk of type <see cref="NbdChunkType.OffsetData"/>: its header, the 64-bit offset on the export, then the data.</summary>
internal readonly record struct NbdOffsetData(ulong Cookie, ulong RequestOffset, NbdChunkFlags Flags, ulong Offset, uint DataLength)
{
    /// <summary>Bytes of the payload before the data.</summary>
    public const int PrefixSize = 8;

    /// <summary>Bytes of the chunk before the data, at most.</summary>
    public const int MaxHeadSize = NbdChunkHeader.ExtendedSize + PrefixSize;

    /// <summary>Bytes of the chunk before the data.</summary>
    public static int HeadSizeOf(NbdHeaderStyle style) => NbdChunkHeader.SizeOf(style) + PrefixSize;

    /// <summary>Writes everything before the data.</summary>
    /// <returns>Bytes written.</returns>
    public int WriteTo(Span<byte> bytes, NbdHeaderStyle style)
    {
        var head = new NbdChunkHeader(Flags, NbdChunkType.OffsetData, Cookie, RequestOffset, (ulong)PrefixSize + DataLength).WriteTo(bytes, style);
        BinaryPrimitives.WriteUInt64BigEndian(bytes[head..], Offset);
        return head + PrefixSize;
    }
}
