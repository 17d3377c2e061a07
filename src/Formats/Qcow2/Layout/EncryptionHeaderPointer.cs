using System.Buffers.Binary;
using System.Globalization;
using Platter.Core.Errors;

namespace Platter.Formats.Qcow2.Layout;

/// <summary>The data of the full disk encryption header extension: where the LUKS header is.</summary>
/// <remarks>Spec: section "Full disk encryption header pointer".</remarks>
internal readonly record struct EncryptionHeaderPointer(ulong Offset, ulong Length)
{
    public const int Size = 16;

    private const int OffsetAt = 0, LengthAt = 8;
    private const string Structure = "encryption header pointer";

    public static EncryptionHeaderPointer Parse(HeaderExtension extension, Qcow2Geometry geometry, string file)
    {
        var bytes = extension.Data.Span;
        if (bytes.Length != Size)
        {
            throw new ImageFormatException(
                file, Structure, extension.DataAt + -4, "length", bytes.Length.ToString(CultureInfo.InvariantCulture), $"must be {Size}");
        }

        var result = new EncryptionHeaderPointer(
            BinaryPrimitives.ReadUInt64BigEndian(bytes[OffsetAt..]), BinaryPrimitives.ReadUInt64BigEndian(bytes[LengthAt..]));
        if ((result.Offset & (ulong)geometry.ClusterMask) != 0 || result.Offset > long.MaxValue)
        {
            throw new ImageFormatException(
                file, Structure, extension.DataAt + OffsetAt, "offset", $"0x{result.Offset:x}", "is not the offset of a cluster");
        }

        if (result.Length > (ulong)long.MaxValue - result.Offset)
        {
            throw new ImageFormatException(
                file, Structure, extension.DataAt + LengthAt, "length", result.Length.ToString(CultureInfo.InvariantCulture), "reaches beyond any possible file");
        }

        return result;
    }

    /// <summary>The extension's data.</summary>
    public byte[] ToBytes()
    {
        var bytes = new byte[Size];
        BinaryPrimitives.WriteUInt64BigEndian(bytes.AsSpan(OffsetAt), Offset);
        BinaryPrimitives.WriteUInt64BigEndian(bytes.AsSpan(LengthAt), Length);
        return bytes;
    }
}
