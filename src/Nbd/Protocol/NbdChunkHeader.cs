using System.Buffers.Binary;

namespace Platter.Nbd.Protocol;

/// <summary>Header of one chunk of a structured reply (proto.md, "Structured reply chunk message").</summary>
/// <remarks>0: magic, 4: flags, 6: type, 8: cookie, 16: length of the payload in bytes.</remarks>
internal readonly record struct NbdChunkHeader(NbdChunkFlags Flags, NbdChunkType Type, ulong Cookie, uint Length)
{
    public const int Size = 20;

    /// <summary>Parses what follows a magic that was already recognised.</summary>
    public static NbdChunkHeader Parse(ReadOnlySpan<byte> bytes) => new(
        (NbdChunkFlags)BinaryPrimitives.ReadUInt16BigEndian(bytes[4..]),
        (NbdChunkType)BinaryPrimitives.ReadUInt16BigEndian(bytes[6..]),
        BinaryPrimitives.ReadUInt64BigEndian(bytes[8..]),
        BinaryPrimitives.ReadUInt32BigEndian(bytes[16..]));

    public void WriteTo(Span<byte> bytes)
    {
        BinaryPrimitives.WriteUInt32BigEndian(bytes, NbdProtocol.StructuredReplyMagic);
        BinaryPrimitives.WriteUInt16BigEndian(bytes[4..], (ushort)Flags);
        BinaryPrimitives.WriteUInt16BigEndian(bytes[6..], (ushort)Type);
        BinaryPrimitives.WriteUInt64BigEndian(bytes[8..], Cookie);
        BinaryPrimitives.WriteUInt32BigEndian(bytes[16..], Length);
    }
}
