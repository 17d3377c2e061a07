using System.Buffers.Binary;

namespace Platter.Nbd.Protocol;

/// <summary>One extent of a chunk of type <see cref="NbdChunkType.BlockStatus"/> or <see cref="NbdChunkType.BlockStatusExt"/>.</summary>
/// <remarks>Length in bytes, then the status, which means what its context says: 32 bits each, with extended headers 64.</remarks>
internal readonly record struct NbdStatusDescriptor(ulong Length, ulong Status)
{
    /// <summary>Bytes of a descriptor.</summary>
    public static int SizeOf(NbdHeaderStyle style) => style == NbdHeaderStyle.Extended ? 16 : 8;

    /// <summary>Bytes of the payload before the first descriptor: the context's id and, with extended headers, how many there are.</summary>
    public static int PrefixSizeOf(NbdHeaderStyle style) => style == NbdHeaderStyle.Extended ? 8 : 4;

    /// <summary>Bytes of the chunk before the first descriptor.</summary>
    public static int HeadSizeOf(NbdHeaderStyle style) => NbdChunkHeader.SizeOf(style) + PrefixSizeOf(style);

    /// <summary>Reads a descriptor.</summary>
    public static NbdStatusDescriptor Parse(ReadOnlySpan<byte> bytes, NbdHeaderStyle style) => style == NbdHeaderStyle.Extended
        ? new(BinaryPrimitives.ReadUInt64BigEndian(bytes), BinaryPrimitives.ReadUInt64BigEndian(bytes[8..]))
        : new(BinaryPrimitives.ReadUInt32BigEndian(bytes), BinaryPrimitives.ReadUInt32BigEndian(bytes[4..]));

    /// <summary>Writes a descriptor, whose values must fit the style.</summary>
    public void WriteTo(Span<byte> bytes, NbdHeaderStyle style)
    {
        if (style == NbdHeaderStyle.Extended)
        {
            BinaryPrimitives.WriteUInt64BigEndian(bytes, Length);
            BinaryPrimitives.WriteUInt64BigEndian(bytes[8..], Status);
        }
        else
        {
            BinaryPrimitives.WriteUInt32BigEndian(bytes, (uint)Length);
            BinaryPrimitives.WriteUInt32BigEndian(bytes[4..], (uint)Status);
        }
    }

    /// <summary>Writes a chunk's head in front of descriptors that are already behind it.</summary>
    public static void WriteHead(Span<byte> bytes, NbdHeaderStyle style, in NbdRequest request, NbdChunkFlags flags, uint contextId, int descriptors)
    {
        var length = PrefixSizeOf(style) + (descriptors * SizeOf(style));
        var type = style == NbdHeaderStyle.Extended ? NbdChunkType.BlockStatusExt : NbdChunkType.BlockStatus;
        var head = new NbdChunkHeader(flags, type, request.Cookie, request.Offset, (ulong)length).WriteTo(bytes, style);
        BinaryPrimitives.WriteUInt32BigEndian(bytes[head..], contextId);
        if (style == NbdHeaderStyle.Extended)
        {
            BinaryPrimitives.WriteUInt32BigEndian(bytes[(head + 4)..], (uint)descriptors);
        }
    }
}
