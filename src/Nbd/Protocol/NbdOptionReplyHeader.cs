using System.Buffers.Binary;

namespace Platter.Nbd.Protocol;

/// <summary>Header of a reply to an option (proto.md, "Fixed newstyle negotiation").</summary>
/// <remarks>0: magic, 8: the option, 12: reply type, 16: length of the data that follows, in bytes.</remarks>
internal readonly record struct NbdOptionReplyHeader(NbdOption Option, NbdOptionReplyType Type, uint Length)
{
    public const int Size = 20;

    public bool IsError => (Type & NbdOptionReplyType.ErrorBit) != 0;

    public static bool TryParse(ReadOnlySpan<byte> bytes, out NbdOptionReplyHeader header)
    {
        header = new(
            (NbdOption)BinaryPrimitives.ReadUInt32BigEndian(bytes[8..]),
            (NbdOptionReplyType)BinaryPrimitives.ReadUInt32BigEndian(bytes[12..]),
            BinaryPrimitives.ReadUInt32BigEndian(bytes[16..]));
        return BinaryPrimitives.ReadUInt64BigEndian(bytes) == NbdProtocol.OptionReplyMagic;
    }

    public void WriteTo(Span<byte> bytes)
    {
        BinaryPrimitives.WriteUInt64BigEndian(bytes, NbdProtocol.OptionReplyMagic);
        BinaryPrimitives.WriteUInt32BigEndian(bytes[8..], (uint)Option);
        BinaryPrimitives.WriteUInt32BigEndian(bytes[12..], (uint)Type);
        BinaryPrimitives.WriteUInt32BigEndian(bytes[16..], Length);
    }
}
