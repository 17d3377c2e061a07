using System.Buffers.Binary;
using System.Globalization;
using Platter.Core.Errors;
using Platter.Core.Units;

namespace Platter.Formats.Qcow2.Layout;

/// <summary>The types of header extensions that we know.</summary>
internal enum HeaderExtensionType : uint
{
    End = 0,
    BackingFormat = 0xe2792aca,
    FeatureNameTable = 0x6803f857,
    Bitmaps = 0x23852875,
    EncryptionHeader = 0x0537be77,
    DataFileName = 0x44415441,

    // Ours and nobody else's; see SnapshotLabelExtension.
    SnapshotLabel = 0x504c5353,
}

/// <summary>One header extension: 4 bytes type, 4 bytes length, data, padding to a multiple of 8.</summary>
/// <param name="Type">What it is; unknown types are kept.</param>
/// <param name="DataAt">Host offset of its data.</param>
/// <param name="Data">Its data without padding.</param>
/// <remarks>Spec: section "Header extensions".</remarks>
internal readonly record struct HeaderExtension(HeaderExtensionType Type, HostOffset DataAt, ReadOnlyMemory<byte> Data)
{
    public const int FixedSize = 8;

    /// <summary>Reads all extensions from the end of the header to the end marker, the backing file's name or the end of the cluster.</summary>
    /// <param name="cluster">The first cluster of the file, or as much of it as the file has.</param>
    /// <param name="header">A header whose extent has been judged.</param>
    /// <param name="file">For messages.</param>
    public static List<HeaderExtension> ParseAll(ReadOnlyMemory<byte> cluster, Qcow2Header header, string file)
    {
        var result = new List<HeaderExtension>();
        var limit = header.BackingFileOffset != 0 ? (int)header.BackingFileOffset : 1 << (int)header.ClusterBits;
        limit = Math.Min(limit, cluster.Length);
        for (var at = (int)header.HeaderLength; at + FixedSize <= limit;)
        {
            var type = (HeaderExtensionType)BinaryPrimitives.ReadUInt32BigEndian(cluster.Span[at..]);
            var length = BinaryPrimitives.ReadUInt32BigEndian(cluster.Span[(at + 4)..]);
            if (type == HeaderExtensionType.End)
            {
                break;
            }

            if (length > limit - at - FixedSize)
            {
                throw new ImageFormatException(
                    file, $"header extension 0x{(uint)type:x8}", new(at), "length", length.ToString(CultureInfo.InvariantCulture),
                    $"only {limit - at - FixedSize} bytes are left for it");
            }

            result.Add(new(type, new(at + FixedSize), cluster.Slice(at + FixedSize, (int)length)));
            at += FixedSize + (((int)length + 7) & ~7);
        }

        return result;
    }
}
