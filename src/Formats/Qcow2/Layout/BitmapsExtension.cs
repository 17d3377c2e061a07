using System.Buffers.Binary;
using System.Globalization;
using Platter.Core.Errors;
using Platter.Core.Units;

namespace Platter.Formats.Qcow2.Layout;

/// <summary>The data of the bitmaps header extension: where the bitmap directory is.</summary>
/// <remarks>Spec: section "Bitmaps extension".</remarks>
internal readonly record struct BitmapsExtension(uint BitmapCount, ulong DirectorySize, ulong DirectoryOffset)
{
    public const int Size = 24;
    public const int MaxBitmaps = 65535;

    /// <summary>Names become strings of twice their size: 65535 names of 200 characters fit, 65535 of the longest legal ones do not.</summary>
    public const long MaxDirectoryBytes = 16 << 20;

    private const string Structure = "bitmaps extension";
    private const int CountAt = 0, ReservedAt = 4, DirectorySizeAt = 8, DirectoryOffsetAt = 16;

    public static BitmapsExtension Parse(HeaderExtension extension, string file)
    {
        var bytes = extension.Data.Span;
        if (bytes.Length != Size)
        {
            throw new ImageFormatException(
                file, Structure, extension.DataAt + -4, "length", bytes.Length.ToString(CultureInfo.InvariantCulture), $"must be {Size}");
        }

        if (BinaryPrimitives.ReadUInt32BigEndian(bytes[ReservedAt..]) is var reserved and not 0)
        {
            throw new ImageFormatException(file, Structure, extension.DataAt + ReservedAt, "reserved", $"0x{reserved:x}", "must be 0");
        }

        return new(
            BinaryPrimitives.ReadUInt32BigEndian(bytes[CountAt..]),
            BinaryPrimitives.ReadUInt64BigEndian(bytes[DirectorySizeAt..]),
            BinaryPrimitives.ReadUInt64BigEndian(bytes[DirectoryOffsetAt..]));
    }

    /// <summary>The extension's data.</summary>
    public byte[] ToBytes()
    {
        var bytes = new byte[Size];
        BinaryPrimitives.WriteUInt32BigEndian(bytes.AsSpan(CountAt), BitmapCount);
        BinaryPrimitives.WriteUInt64BigEndian(bytes.AsSpan(DirectorySizeAt), DirectorySize);
        BinaryPrimitives.WriteUInt64BigEndian(bytes.AsSpan(DirectoryOffsetAt), DirectoryOffset);
        return bytes;
    }

    /// <summary>Judges the values.</summary>
    /// <param name="geometry">Cluster size.</param>
    /// <param name="file">For messages.</param>
    /// <param name="at">Host offset of the extension's data.</param>
    public void Validate(Qcow2Geometry geometry, string file, HostOffset at)
    {
        if (BitmapCount is 0 or > MaxBitmaps)
        {
            throw new ImageFormatException(
                file, Structure, at + CountAt, "nb_bitmaps", BitmapCount.ToString(CultureInfo.InvariantCulture), $"must be between 1 and {MaxBitmaps}",
                BitmapCount == 0 ? BlockErrorKind.CorruptImage : BlockErrorKind.LimitExceeded);
        }

        if (DirectorySize is 0 or > (ulong)MaxDirectoryBytes)
        {
            throw new ImageFormatException(
                file, Structure, at + DirectorySizeAt, "bitmap_directory_size", DirectorySize.ToString(CultureInfo.InvariantCulture),
                $"must be between 1 and {MaxDirectoryBytes}", DirectorySize == 0 ? BlockErrorKind.CorruptImage : BlockErrorKind.LimitExceeded);
        }

        if ((DirectoryOffset & (ulong)geometry.ClusterMask) != 0 || DirectoryOffset > (ulong)(long.MaxValue - MaxDirectoryBytes))
        {
            throw new ImageFormatException(
                file, Structure, at + DirectoryOffsetAt, "bitmap_directory_offset", $"0x{DirectoryOffset:x}", "is not the offset of a cluster");
        }
    }
}
