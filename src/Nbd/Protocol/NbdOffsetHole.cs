using System.Buffers.Binary;

namespace Platter.Nbd.Protocol;

/// <summary>A chunk of type <see cref="NbdChunkType.OffsetHole"/>: its header, 64-bit offset on the export, 32-bit length of the hole.</summary>
internal readonly record struct NbdOffsetHole(ulong Cookie, ulong RequestOffset, NbdChunkFlags Flags, ulong Offset, uint HoleLength)
{
    /// <summary>Bytes of the payload.</summary>
    public const int PayloadSize = 12;

    /// <summary>Bytes of the whole chunk, at most.</summary>
    public const int MaxSize = NbdChunkHeader.ExtendedSize + PayloadSize;

    /// <summary>Reads a payload of <see cref="PayloadSize"/> bytes.</summary>
    public static (ulong Offset, uint Length) ParsePayload(ReadOnlySpan<byte> payload) =>
        (BinaryPrimitives.ReadUInt64BigEndian(payload), BinaryPrimitives.ReadUInt32BigEndian(payload[8..]));

    /// <summary>Writes the chunk.</summary>
    /// <returns>Bytes written.</returns>
    public int WriteTo(Span<byte> bytes, NbdHeaderStyle style)
    {
        var head = new NbdChunkHeader(Flags, NbdChunkType.OffsetHole, Cookie, RequestOffset, PayloadSize).WriteTo(bytes, style);
        BinaryPrimitives.WriteUInt64BigEndian(bytes[head..], Offset);
        BinaryPrimitives.WriteUInt32BigEndian(bytes[(head + 8)..], HoleLength);
        return head + PayloadSize;
    }
}
