namespace Platter.TestKit;

/// <summary>A contiguous piece of a qcow2 file that must be placed somewhere: a table, a data cluster, an area of compressed streams.</summary>
/// <param name="clusters">Host clusters it takes.</param>
internal class Qcow2Part(long clusters)
{
    /// <summary>Host clusters it takes.</summary>
    public long Clusters { get; } = clusters;

    /// <summary>Host offset in bytes, once it is placed.</summary>
    public long At { get; set; }

    /// <summary>Guest data rather than metadata.</summary>
    public bool IsData { get; init; }

    /// <summary>Nothing refers to it: garbage, or a hole if it is large.</summary>
    public bool IsFree { get; init; }
}

/// <summary>An L2 table.</summary>
internal sealed class Qcow2L2Part(long l1Index, IReadOnlyList<(long GuestCluster, Qcow2Cluster Cluster)> entries) : Qcow2Part(1)
{
    public long L1Index { get; } = l1Index;

    public IReadOnlyList<(long GuestCluster, Qcow2Cluster Cluster)> Entries { get; } = entries;

    /// <summary>Reachable from the active L1 table, so that its COPIED bits count.</summary>
    public bool IsActive { get; set; }
}

/// <summary>The mapping of one state of the disk: the active one or a snapshot.</summary>
internal sealed record Qcow2Mapping(Qcow2Part? L1, long L1Size, IReadOnlyList<Qcow2L2Part> Tables);

/// <summary>Where a compressed stream lies in its part.</summary>
internal sealed record Qcow2StreamPlace(Qcow2Part Part, long Offset, int ExtraSectors);
