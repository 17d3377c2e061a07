using System.Buffers.Binary;

namespace Platter.Nbd.Protocol;

/// <summary>Size and flags of an export: the answer to <see cref="NbdOption.ExportName"/> and the body of <see cref="NbdInfoType.Export"/>.</summary>
/// <remarks>0: size in bytes, 8: transmission flags.</remarks>
internal readonly record struct NbdExportDetails(ulong ExportSize, NbdTransmissionFlags Flags)
{
    public const int Size = 10;

    public static NbdExportDetails Parse(ReadOnlySpan<byte> bytes) => new(
        BinaryPrimitives.ReadUInt64BigEndian(bytes), (NbdTransmissionFlags)BinaryPrimitives.ReadUInt16BigEndian(bytes[8..]));

    public void WriteTo(Span<byte> bytes)
    {
        BinaryPrimitives.WriteUInt64BigEndian(bytes, ExportSize);
        BinaryPrimitives.WriteUInt16BigEndian(bytes[8..], (ushort)Flags);
    }
}
