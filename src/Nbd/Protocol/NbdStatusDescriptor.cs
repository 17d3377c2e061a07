using System.Buffers.Binary;

namespace Platter.Nbd.Protocol;

/// <summary>One extent of a <see cref="NbdChunkType.BlockStatus"/> chunk, whose payload is a 32-bit context id followed by these.</summary>
/// <remarks>0: length in bytes, 4: status.</remarks>
internal readonly record struct NbdStatusDescriptor(uint Length, NbdBlockState State)
{
    public const int Size = 8;

    /// <summary>Bytes of the payload before the first descriptor.</summary>
    public const int ContextIdSize = 4;

    /// <summary>Bytes of the chunk before the first descriptor.</summary>
    public const int HeadSize = NbdChunkHeader.Size + ContextIdSize;

    public static NbdStatusDescriptor Parse(ReadOnlySpan<byte> bytes) => new(
        BinaryPrimitives.ReadUInt32BigEndian(bytes), (NbdBlockState)BinaryPrimitives.ReadUInt32BigEndian(bytes[4..]));

    public void WriteTo(Span<byte> bytes)
    {
        BinaryPrimitives.WriteUInt32BigEndian(bytes, Length);
        BinaryPrimitives.WriteUInt32BigEndian(bytes[4..], (uint)State);
    }

    /// <summary>Writes a final chunk's header and context id in front of descriptors that are already at <see cref="HeadSize"/>.</summary>
    public static void WriteFinalHead(Span<byte> bytes, ulong cookie, uint contextId, int descriptors)
    {
        new NbdChunkHeader(NbdChunkFlags.Done, NbdChunkType.BlockStatus, cookie, (uint)(ContextIdSize + (descriptors * Size))).WriteTo(bytes);
        BinaryPrimitives.WriteUInt32BigEndian(bytes[NbdChunkHeader.Size..], contextId);
    }
}
