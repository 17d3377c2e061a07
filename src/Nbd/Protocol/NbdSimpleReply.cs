using System.Buffers.Binary;

namespace Platter.Nbd.Protocol;

/// <summary>A simple reply; the data of a successful read follow it (proto.md, "Simple reply message").</summary>
/// <remarks>0: magic, 4: error, 8: cookie.</remarks>
internal readonly record struct NbdSimpleReply(NbdError Error, ulong Cookie)
{
    public const int Size = 16;

    /// <summary>Parses what follows a magic that was already recognised.</summary>
    public static NbdSimpleReply Parse(ReadOnlySpan<byte> bytes) => new(
        (NbdError)BinaryPrimitives.ReadUInt32BigEndian(bytes[4..]), BinaryPrimitives.ReadUInt64BigEndian(bytes[8..]));

    public void WriteTo(Span<byte> bytes)
    {
        BinaryPrimitives.WriteUInt32BigEndian(bytes, NbdProtocol.SimpleReplyMagic);
        BinaryPrimitives.WriteUInt32BigEndian(bytes[4..], (uint)Error);
        BinaryPrimitives.WriteUInt64BigEndian(bytes[8..], Cookie);
    }
}
