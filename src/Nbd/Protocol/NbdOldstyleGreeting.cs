using System.Buffers.Binary;

namespace Platter.Nbd.Protocol;

/// <summary>What an oldstyle server says first and last (proto.md, "Oldstyle negotiation"); we only ever read it.</summary>
/// <remarks>0: NBDMAGIC, 8: cliserv magic, 16: export size in bytes, 24: 32 bits of which the low 16 are transmission flags, 28: 124 zeros.</remarks>
internal readonly record struct NbdOldstyleGreeting(ulong ExportSize, NbdTransmissionFlags Flags)
{
    public const int Size = 152;

    public static bool TryParse(ReadOnlySpan<byte> bytes, out NbdOldstyleGreeting greeting)
    {
        greeting = new(
            BinaryPrimitives.ReadUInt64BigEndian(bytes[16..]), (NbdTransmissionFlags)(ushort)BinaryPrimitives.ReadUInt32BigEndian(bytes[24..]));
        return BinaryPrimitives.ReadUInt64BigEndian(bytes) == NbdProtocol.InitMagic
            && BinaryPrimitives.ReadUInt64BigEndian(bytes[8..]) == NbdProtocol.OldstyleMagic;
    }
}
