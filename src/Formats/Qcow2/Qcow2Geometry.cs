using Platter.Core.Units;

namespace Platter.Formats.Qcow2;

/// <summary>Every shift, mask and count that follows from cluster_bits, refcount_order and the entry format; computed once.</summary>
/// <remarks>Made from a validated header only, so that no shift here can overflow: cluster_bits is 9 to 21, refcount_order 0 to 6.</remarks>
internal sealed class Qcow2Geometry
{
    public const int MinClusterBits = 9;
    public const int MaxClusterBits = 21;
    public const int MinExtendedClusterBits = 14;
    public const int MaxRefcountOrder = 6;
    public const int SubclustersPerCluster = 32;

    /// <summary>Largest piece of an L2 table that is read and cached at once, in bytes.</summary>
    private const int MaxSliceBytes = 16 * 1024;

    public Qcow2Geometry(int clusterBits, int refcountOrder, bool extendedL2, int version)
    {
        Version = version;
        ClusterBits = clusterBits;
        RefcountOrder = refcountOrder;
        HasExtendedL2 = extendedL2;
        ClusterSize = 1 << clusterBits;
        ClusterMask = ClusterSize - 1;
        L2EntryWords = extendedL2 ? 2 : 1;
        L2EntryBits = clusterBits - (extendedL2 ? 4 : 3);
        SubclusterSize = extendedL2 ? ClusterSize / SubclustersPerCluster : ClusterSize;
        GuestBytesPerL2Bits = clusterBits + L2EntryBits;
        SliceBytes = Math.Min(ClusterSize, MaxSliceBytes);
        SliceEntryBits = L2EntryBits - (clusterBits - int.Log2(SliceBytes));
        GuestBytesPerSliceBits = clusterBits + SliceEntryBits;
        RefcountBits = 1 << refcountOrder;
        RefcountBlockEntryBits = clusterBits + 3 - refcountOrder;
        CompressedOffsetBits = 62 - (clusterBits - 8);
    }

    /// <summary>2 or 3.</summary>
    public int Version { get; }

    /// <summary>log2 of <see cref="ClusterSize"/>.</summary>
    public int ClusterBits { get; }

    /// <summary>Bytes in a cluster, guest or host.</summary>
    public int ClusterSize { get; }

    /// <summary>The bits of an offset inside its cluster.</summary>
    public long ClusterMask { get; }

    /// <summary>log2 of <see cref="RefcountBits"/>.</summary>
    public int RefcountOrder { get; }

    /// <summary>Width of a refcount: 1, 2, 4 … 64 bits.</summary>
    public int RefcountBits { get; }

    /// <summary>log2 of the refcounts in one refcount block.</summary>
    public int RefcountBlockEntryBits { get; }

    /// <summary>Whether L2 entries are 16 bytes long and hold a subcluster bitmap.</summary>
    public bool HasExtendedL2 { get; }

    /// <summary>64-bit words in an L2 entry: 1 or 2.</summary>
    public int L2EntryWords { get; }

    /// <summary>log2 of the entries in an L2 table.</summary>
    public int L2EntryBits { get; }

    /// <summary>Bytes of a subcluster; the cluster size without extended L2 entries.</summary>
    public int SubclusterSize { get; }

    /// <summary>log2 of the guest bytes that one L1 entry maps.</summary>
    public int GuestBytesPerL2Bits { get; }

    /// <summary>Bytes of an L2 table that are read and cached together.</summary>
    public int SliceBytes { get; }

    /// <summary>log2 of the L2 entries in a slice.</summary>
    public int SliceEntryBits { get; }

    /// <summary>log2 of the guest bytes that a slice maps.</summary>
    public int GuestBytesPerSliceBits { get; }

    /// <summary>Bits of a compressed cluster descriptor that hold the host offset ("x" in the specification).</summary>
    public int CompressedOffsetBits { get; }

    /// <summary>L1 entries that a disk of <paramref name="virtualSize"/> bytes needs.</summary>
    public long L1EntriesFor(long virtualSize) => Sizes.DivideRoundingUp(virtualSize, 1L << GuestBytesPerL2Bits);
}
