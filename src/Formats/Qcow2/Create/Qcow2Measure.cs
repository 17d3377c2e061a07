using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Layout;

namespace Platter.Formats.Qcow2.Create;

/// <summary>How large an image with given options would be.</summary>
/// <remarks>Header, one L1 table, all L2 tables, refcount table and blocks for everything including themselves, and the clusters that hold data.
/// What the source reads as zero costs nothing. L2 tables are counted in full: the figure is an upper bound that cannot be overrun.
/// Over a backing file even zeros may have to be stored, so everything counts, as with QEMU.</remarks>
internal static class Qcow2Measure
{
    /// <summary>LUKS header and eight key slots with 4000 stripes, in bytes.</summary>
    private const long LuksHeaderBytes = 0x1f9000;

    public static async ValueTask<MeasureResult> RunAsync(
        BlockNode? source, long virtualSize, Qcow2CreateSettings options, CancellationToken cancellationToken)
    {
        var cluster = options.ClusterSize;
        var disk = AlignUp(virtualSize, cluster);
        if (disk / cluster / (cluster / options.L2EntryBytes) > Qcow2Header.MaxL1Bytes / L1Entry.Size)
        {
            throw new BlockException(BlockErrorKind.LimitExceeded, "The image size is too large (try using a larger cluster size)");
        }

        var luks = options.Luks ? AlignUp(LuksHeaderBytes, cluster) : 0;
        var total = MetadataBytes(disk, options) + disk + luks;
        var data = options.FullyAllocated || (!string.IsNullOrEmpty(options.BackingFile) && source is not null)
            ? disk
            : source is null ? 0 : await DataBytesAsync(source, cluster, cancellationToken).ConfigureAwait(false);
        var required = total - disk + data;
        return new MeasureResult(required, total, options.Version3 && source is not null ? BitmapBytes(source, cluster) : null);
    }

    private static long MetadataBytes(long disk, Qcow2CreateSettings options)
    {
        var cluster = options.ClusterSize;
        var l2 = AlignUp(disk / cluster * options.L2EntryBytes, cluster);
        var l1 = AlignUp(l2 / cluster * 8, cluster);
        var others = cluster + l1 + l2;
        var (blocks, table) = NewImageLayout.RefcountClusters((others + disk) / cluster, cluster, options.RefcountBits);
        return others + ((blocks + table) * cluster);
    }

    /// <summary>Bytes of the clusters that hold anything but zeros.</summary>
    private static async ValueTask<long> DataBytesAsync(BlockNode source, long cluster, CancellationToken cancellationToken)
    {
        long bytes = 0;
        for (var at = GuestOffset.Zero; at.Value < source.VirtualSize;)
        {
            var extent = await source.MapAsync(at, source.VirtualSize - at.Value, MapDetail.StorageHoles, cancellationToken).ConfigureAwait(false);
            if (extent.ReadsZero)
            {
                at = extent.End;
                continue;
            }

            // A cluster that is touched anywhere is a cluster of data; go on behind it.
            var end = AlignUp(extent.End.Value, cluster);
            bytes += end - Sizes.AlignDown(at.Value, cluster);
            at = new GuestOffset(end);
        }

        return bytes;
    }

    private static long? BitmapBytes(BlockNode source, long cluster)
    {
        const int DirectoryEntryBytes = 24;
        if (source.Bitmaps.Count == 0)
        {
            // None to copy is not the same as none possible: the peers print a 0 for the one and nothing for the other.
            return source is ImageNode { Driver: Qcow2Image { CanHaveBitmaps: true } } ? 0 : null;
        }

        long bytes = 0, directory = 0;
        foreach (var bitmap in source.Bitmaps)
        {
            var bits = Sizes.DivideRoundingUp(source.VirtualSize, bitmap.Granularity);
            var clusters = Sizes.DivideRoundingUp(Sizes.DivideRoundingUp(bits, 8), cluster);
            bytes += (clusters * cluster) + AlignUp(clusters * 8, cluster);
            directory += AlignUp(DirectoryEntryBytes + System.Text.Encoding.UTF8.GetByteCount(bitmap.Name), 8);
        }

        return bytes + AlignUp(directory, cluster);
    }

    // Disks end far below 2^63 (2 EiB at most): see Qcow2Format.MeasureAsync.
    private static long AlignUp(long value, long alignment) => Sizes.DivideRoundingUp(value, alignment) * alignment;
}
