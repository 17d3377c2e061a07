using System.Buffers.Binary;

namespace Platter.Nbd.Protocol;

/// <summary>Header of an option (proto.md, "Newstyle negotiation").</summary>
/// <remarks>0: IHAVEOPT, 8: option, 12: length of the data that follows, in bytes.</remarks>
internal readonly record struct NbdOptionHeader(NbdOption Option, uint Length)
{
    public const int Size = 16;

    public static bool TryParse(ReadOnlySpan<byte> bytes, out NbdOptionHeader header)
    {
        header = new((NbdOption)BinaryPrimitives.ReadUInt32BigEndian(bytes[8..]), BinaryPrimitives.ReadUInt32BigEndian(bytes[12..]));
        return BinaryPrimitives.ReadUInt64BigEndian(bytes) == NbdProtocol.OptionMagic;
    }

    public void WriteTo(Span<byte> bytes)
    {
        BinaryPrimitives.WriteUInt64BigEndian(bytes, NbdProtocol.OptionMagic);
        BinaryPrimitives.WriteUInt32BigEndian(bytes[8..], (uint)Option);
        BinaryPrimitives.WriteUInt32BigEndian(bytes[12..], Length);
    }
}
