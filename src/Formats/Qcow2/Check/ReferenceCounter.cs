using Platter.Core.Units;
using Platter.Formats.Findings;

namespace Platter.Formats.Qcow2.Check;

/// <summary>Counts the references that a structure makes, and reports those that cannot be.</summary>
internal sealed class ReferenceCounter(ReferenceCounts counts, CheckTally tally, Qcow2Geometry geometry, long fileLength)
{
    // A refcount of n bits cannot say more; the reference beyond that is what is wrong.
    private readonly ulong _max = geometry.RefcountBits == 64 ? ulong.MaxValue : (1UL << geometry.RefcountBits) - 1;

    /// <summary>Receives the clusters that are counted, while it is not null.</summary>
    public List<long>? Journal { get; set; }

    /// <summary>Receives the ranges that the file does not have; null for a check.</summary>
    public MissingClusters? Missing { get; set; }

    /// <summary>What it means that the file does not have a range.</summary>
    public Remedy BeyondTheEnd { get; set; } = Remedies.BeyondTheEnd;

    /// <summary>References so far to the cluster at an offset.</summary>
    public ulong CountOf(HostOffset at) => counts.Count(at.Value >> geometry.ClusterBits);

    /// <summary>Counts one reference to each cluster of a range.</summary>
    /// <param name="offset">Host offset, any alignment; not negative.</param>
    /// <param name="length">Bytes.</param>
    /// <param name="who">Who refers to it, for messages.</param>
    public void Add(long offset, long length, in Referrer who)
    {
        if (length <= 0)
        {
            return;
        }

        // The last cluster of a file need not be complete.
        if (!Sizes.TryAdd(offset, length, out var end) || end - fileLength >= geometry.ClusterSize)
        {
            tally.Corruption(
                $"{who} refers to {length} bytes at 0x{offset:x}, beyond the end of the file at 0x{fileLength:x}", BeyondTheEnd, new(offset), who.Guest,
                who.Guest is null ? 0 : geometry.ClusterSize);
            Missing?.Add(offset, length);
            return;
        }

        for (var cluster = offset >> geometry.ClusterBits; cluster <= (end - 1) >> geometry.ClusterBits; cluster++)
        {
            if (!counts.TryAdd(cluster, _max))
            {
                tally.Corruption($"cluster at 0x{cluster << geometry.ClusterBits:x} has more references than a refcount of {geometry.RefcountBits} bits can count; {who} is one too many",
                    Remedies.TooManyReferences, new(cluster << geometry.ClusterBits));
                continue;
            }

            Journal?.Add(cluster);
        }
    }
}
