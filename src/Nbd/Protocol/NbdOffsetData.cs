using System.Buffers.Binary;

namespace Platter.Nbd.Protocol;

/// <summary>A chunk of type <see cref="NbdChunkType.OffsetData"/>: its header, the 64-bit offset on the export, then the data.</summary>
internal readonly record struct NbdOffsetData(ulong Cookie, NbdChunkFlags Flags, ulong Offset, uint DataLength)
{
    /// <summary>Bytes of the payload before the data.</summary>
    public const int PrefixSize = 8;

    /// <summary>Bytes of the chunk before the data.</summary>
    public const int HeadSize = NbdChunkHeader.Size + PrefixSize;

    /// <summary>Writes everything before the data.</summary>
    public void WriteTo(Span<byte> bytes)
    {
        new NbdChunkHeader(Flags, NbdChunkType.OffsetData, Cookie, PrefixSize + DataLength).WriteTo(bytes);
        BinaryPrimitives.WriteUInt64BigEndian(bytes[NbdChunkHeader.Size..], Offset);
    }
}
