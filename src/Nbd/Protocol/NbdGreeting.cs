using System.Buffers.Binary;

namespace Platter.Nbd.Protocol;

/// <summary>What a newstyle server says first (proto.md, "Newstyle negotiation").</summary>
/// <remarks>0: NBDMAGIC, 8: IHAVEOPT, 16: handshake flags.</remarks>
internal readonly record struct NbdGreeting(NbdHandshakeFlags Flags)
{
    public const int Size = 18;

    /// <summary>Bytes of the client's answer: its flags, 32 bits.</summary>
    public const int ClientFlagsSize = 4;

    public static bool TryParse(ReadOnlySpan<byte> bytes, out NbdGreeting greeting)
    {
        greeting = new((NbdHandshakeFlags)BinaryPrimitives.ReadUInt16BigEndian(bytes[16..]));
        return BinaryPrimitives.ReadUInt64BigEndian(bytes) == NbdProtocol.InitMagic
            && BinaryPrimitives.ReadUInt64BigEndian(bytes[8..]) == NbdProtocol.OptionMagic;
    }

    public void WriteTo(Span<byte> bytes)
    {
        BinaryPrimitives.WriteUInt64BigEndian(bytes, NbdProtocol.InitMagic);
        BinaryPrimitives.WriteUInt64BigEndian(bytes[8..], NbdProtocol.OptionMagic);
        BinaryPrimitives.WriteUInt16BigEndian(bytes[16..], (ushort)Flags);
    }
}
