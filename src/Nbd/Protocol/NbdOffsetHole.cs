using System.Buffers.Binary;

namespace Platter.Nbd.Protocol;

/// <summary>A chunk of type <see cref="NbdChunkType.OffsetHole"/>: its header, 64-bit offset on the export, 32-bit length of the hole.</summary>
internal readonly record struct NbdOffsetHole(ulong Cookie, NbdChunkFlags Flags, ulong Offset, uint HoleLength)
{
    public const int PayloadSize = 12;

    /// <summary>Bytes of the whole chunk.</summary>
    public const int Size = NbdChunkHeader.Size + PayloadSize;

    /// <summary>Reads a payload of <see cref="PayloadSize"/> bytes.</summary>
    public static (ulong Offset, uint Length) ParsePayload(ReadOnlySpan<byte> payload) =>
        (BinaryPrimitives.ReadUInt64BigEndian(payload), BinaryPrimitives.ReadUInt32BigEndian(payload[8..]));

    public void WriteTo(Span<byte> bytes)
    {
        new NbdChunkHeader(Flags, NbdChunkType.OffsetHole, Cookie, PayloadSize).WriteTo(bytes);
        BinaryPrimitives.WriteUInt64BigEndian(bytes[NbdChunkHeader.Size..], Offset);
        BinaryPrimitives.WriteUInt32BigEndian(bytes[(NbdChunkHeader.Size + 8)..], HoleLength);
    }
}
