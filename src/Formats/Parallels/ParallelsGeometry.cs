using Platter.Core.Units;
using Platter.Formats.Parallels.Layout;

namespace Platter.Formats.Parallels;

/// <summary>Every number that follows from a valid header, computed once.</summary>
internal sealed class ParallelsGeometry
{
    /// <summary>Computes the numbers.</summary>
    /// <param name="header">Validated against the same <paramref name="storageLength"/>.</param>
    /// <param name="storageLength">Bytes of the file.</param>
    public ParallelsGeometry(in ParallelsHeader header, long storageLength)
    {
        ClusterSizeBytes = (long)header.ClusterSizeSectors * Sizes.SectorBytes;
        EntryUnitBytes = header.IsExtended ? ClusterSizeBytes : Sizes.SectorBytes;
        BatEntryCount = header.BatEntryCount;
        VirtualSize = (long)header.DiskSizeSectors * Sizes.SectorBytes;
        BatCoverage = BatEntryCount * ClusterSizeBytes;
        BatEnd = BatEntry.PositionOf(BatEntryCount);

        // The smallest legal data_off: the end of the BAT, rounded up to a sector, in v2 to a cluster.
        var alignment = header.IsExtended ? ClusterSizeBytes : Sizes.SectorBytes;
        LowestDataOffset = Sizes.DivideRoundingUp(BatEnd, alignment) * alignment;

        var stored = (long)header.DataOffsetSectors * Sizes.SectorBytes;
        DataOffsetIsValid = stored == 0
            ? !header.IsExtended
            : stored >= LowestDataOffset && stored <= storageLength && (!header.IsExtended || stored % ClusterSizeBytes == 0);
        DataOffset = stored != 0 && DataOffsetIsValid ? stored : LowestDataOffset;
    }

    /// <summary>Cluster size in bytes: a multiple of 512, not always a power of two.</summary>
    public long ClusterSizeBytes { get; }

    /// <summary>What a BAT entry counts, in bytes: sectors (v1) or clusters (v2).</summary>
    public long EntryUnitBytes { get; }

    /// <summary>Entries of the BAT.</summary>
    public long BatEntryCount { get; }

    /// <summary>Size of the disk in bytes.</summary>
    public long VirtualSize { get; }

    /// <summary>Guest bytes that the BAT has entries for. Can be smaller than the disk in a bad image, and larger in a good one.</summary>
    public long BatCoverage { get; }

    /// <summary>Host offset of the byte after the BAT.</summary>
    public long BatEnd { get; }

    /// <summary>The smallest legal data offset, in bytes.</summary>
    public long LowestDataOffset { get; }

    /// <summary>Whether the header's data_off obeys the rules; if not, <see cref="DataOffset"/> is a guess.</summary>
    public bool DataOffsetIsValid { get; }

    /// <summary>Where the data area begins, in bytes.</summary>
    public long DataOffset { get; }

    /// <summary>Where clusters may begin at the earliest, in bytes. With a data_off that cannot be true, wherever the BAT leaves room.</summary>
    public long LowestClusterOffset => DataOffsetIsValid ? DataOffset : BatEnd;

    /// <summary>Host offset of an allocated cluster, in bytes; fits easily: 32 bits times at most 2 GiB.</summary>
    public long HostOffsetOf(BatEntry entry) => entry.Value * EntryUnitBytes;

    /// <summary>Why a host offset cannot be that of a cluster, or null when it can.</summary>
    /// <param name="hostOffset">Bytes.</param>
    /// <param name="storageLength">Bytes of the file.</param>
    public string? ProblemOf(long hostOffset, long storageLength)
    {
        if (hostOffset < LowestClusterOffset)
        {
            return $"lies before the data area at 0x{LowestClusterOffset:x}";
        }

        if (hostOffset >= storageLength)
        {
            return $"lies beyond the end of the file at 0x{storageLength:x}";
        }

        // Relative to a data area that nobody knows, nothing can be aligned.
        return DataOffsetIsValid && (hostOffset - DataOffset) % ClusterSizeBytes != 0
            ? $"is not a whole number of clusters (0x{ClusterSizeBytes:x} bytes) behind the data area's start at 0x{DataOffset:x}"
            : null;
    }
}
