using Platter.Core.Units;

namespace Platter.Formats.Qcow2.Mapping;

/// <summary>What a guest cluster or subcluster is.</summary>
internal enum ClusterKind : byte
{
    /// <summary>The backing file shows through; no host cluster.</summary>
    Unallocated,

    /// <summary>The backing file shows through, though the subcluster has its place in an allocated host cluster.</summary>
    UnallocatedInCluster,

    /// <summary>Reads as zeros; no host cluster.</summary>
    ZeroPlain,

    /// <summary>Reads as zeros; a host cluster is kept for it.</summary>
    ZeroAllocated,

    /// <summary>Stored at a host offset, perhaps encrypted.</summary>
    Data,

    /// <summary>Stored compressed.</summary>
    Compressed,
}

/// <summary>Guest bytes of one kind with contiguous host offsets.</summary>
/// <param name="Kind">What they are.</param>
/// <param name="Length">Guest bytes.</param>
/// <param name="HostOffset">Where the first of them is; for a compressed cluster, where its compressed bytes begin.</param>
/// <param name="CompressedLength">Bytes that a compressed cluster occupies at most; 0 otherwise.</param>
internal readonly record struct ClusterRun(ClusterKind Kind, long Length, HostOffset HostOffset, int CompressedLength)
{
    /// <summary>Whether <see cref="HostOffset"/> means something.</summary>
    public bool HasHostOffset => Kind is ClusterKind.Data or ClusterKind.ZeroAllocated or ClusterKind.UnallocatedInCluster or ClusterKind.Compressed;

    /// <summary>Whether <paramref name="next"/>, which starts where this ends, is more of the same.</summary>
    public bool Continues(in ClusterRun next) =>
        next.Kind == Kind && Kind != ClusterKind.Compressed && (!HasHostOffset || next.HostOffset == HostOffset + Length);
}
