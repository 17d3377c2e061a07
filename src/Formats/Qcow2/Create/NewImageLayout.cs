using Platter.Core.Errors;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Layout;

namespace Platter.Formats.Qcow2.Create;

/// <summary>Where everything in a new image goes: header, refcount table, refcount blocks, L1 table, LUKS header and, if preallocated, all L2 tables and
/// the data, in this order, without a gap. Every cluster from the first to the last has refcount 1.</summary>
internal sealed record NewImageLayout
{
    /// <summary>Size of the disk, whole sectors, in bytes.</summary>
    public required long VirtualSize { get; init; }

    /// <summary>Cluster size in bytes.</summary>
    public required long ClusterSize { get; init; }

    /// <summary>Clusters of the refcount table, which starts in the second cluster.</summary>
    public required long RefcountTableClusters { get; init; }

    /// <summary>Refcount blocks, a cluster each, behind the table.</summary>
    public required long RefcountBlocks { get; init; }

    /// <summary>Entries of the L1 table, behind the blocks.</summary>
    public required long L1Entries { get; init; }

    /// <summary>Bytes of the LUKS header with its key material, behind the L1 table; 0 for none.</summary>
    public required long LuksBytes { get; init; }

    /// <summary>L2 tables, a cluster each, behind that; 0 unless preallocated.</summary>
    public required long L2Tables { get; init; }

    /// <summary>Clusters of the disk, if preallocated; with a data file they are there and not here.</summary>
    public required long GuestClusters { get; init; }

    /// <summary>Whether guest data is in a file of its own.</summary>
    public required bool HasDataFile { get; init; }

    public HostOffset RefcountTable => new(ClusterSize);

    public HostOffset FirstRefcountBlock => new((1 + RefcountTableClusters) * ClusterSize);

    public HostOffset L1Table => FirstRefcountBlock + (RefcountBlocks * ClusterSize);

    public HostOffset LuksHeader => L1Table + AlignUp(L1Entries * L1Entry.Size);

    public HostOffset FirstL2Table => LuksHeader + AlignUp(LuksBytes);

    /// <summary>Where the disk's first cluster is: here, or in the data file.</summary>
    public HostOffset Data => HasDataFile ? HostOffset.Zero : FirstL2Table + (L2Tables * ClusterSize);

    /// <summary>All clusters of the image's file.</summary>
    public long TotalClusters => (FirstL2Table.Value / ClusterSize) + L2Tables + (HasDataFile ? 0 : GuestClusters);

    /// <summary>Length of the file. Without anything behind it the L1 table ends the file, inside a cluster, as it does with the peers.</summary>
    public long FileLength => LuksBytes == 0 && L2Tables == 0 ? L1Table.Value + (L1Entries * L1Entry.Size) : TotalClusters * ClusterSize;

    /// <summary>Length of the data file, or of what it shows of the disk.</summary>
    public long DataFileLength => GuestClusters > 0 ? GuestClusters * ClusterSize : VirtualSize;

    /// <summary>Finds a place for everything.</summary>
    /// <param name="virtualSize">Bytes of the disk, not negative; rounded up to whole sectors.</param>
    /// <param name="settings">Cluster size and the like.</param>
    /// <param name="luksBytes">Bytes of the LUKS header, or 0.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.LimitExceeded"/>: the tables would be larger than the format allows.</exception>
    public static NewImageLayout Compute(long virtualSize, Qcow2CreateSettings settings, long luksBytes)
    {
        var cluster = settings.ClusterSize;
        if (!Sizes.TryAlignUp(virtualSize, Sizes.SectorBytes, out var size) || size > long.MaxValue - (2L << Qcow2Geometry.MaxClusterBits))
        {
            throw TooLarge();
        }

        var guestClusters = Sizes.DivideRoundingUp(size, cluster);
        var l2Tables = Sizes.DivideRoundingUp(guestClusters, cluster / settings.L2EntryBytes);
        if (l2Tables > Qcow2Header.MaxL1Bytes / L1Entry.Size)
        {
            throw TooLarge();
        }

        var preallocated = settings.Preallocation != Preallocation.Off;
        var others = 1 + Sizes.DivideRoundingUp(l2Tables * L1Entry.Size, cluster) + Sizes.DivideRoundingUp(luksBytes, cluster)
            + (preallocated ? l2Tables + (settings.DataFile is null ? guestClusters : 0) : 0);
        var (blocks, table) = RefcountClusters(others, cluster, settings.RefcountBits);
        if (table * cluster > Qcow2Header.MaxRefcountTableBytes)
        {
            throw TooLarge();
        }

        return new NewImageLayout
        {
            VirtualSize = size,
            ClusterSize = cluster,
            RefcountTableClusters = table,
            RefcountBlocks = blocks,
            L1Entries = l2Tables,
            LuksBytes = luksBytes,
            L2Tables = preallocated ? l2Tables : 0,
            GuestClusters = preallocated ? guestClusters : 0,
            HasDataFile = settings.DataFile is not null,
        };
    }

    /// <summary>How many refcount blocks and clusters of refcount table count everything, themselves among it.</summary>
    public static (long Blocks, long TableClusters) RefcountClusters(long otherClusters, long clusterSize, int refcountBits)
    {
        var perBlock = clusterSize * 8 / refcountBits;
        long blocks = 0, table = 0, before;
        do
        {
            before = blocks + table;
            blocks = Sizes.DivideRoundingUp(otherClusters + before, perBlock);
            table = Sizes.DivideRoundingUp(blocks * RefcountTableEntry.Size, clusterSize);
        }
        while (blocks + table != before);
        return (blocks, table);
    }

    private long AlignUp(long bytes) => Sizes.DivideRoundingUp(bytes, ClusterSize) * ClusterSize;

    private static BlockException TooLarge() =>
        new(BlockErrorKind.LimitExceeded, "The image size is too large for file format 'qcow2' (try using a larger cluster size)");
}
