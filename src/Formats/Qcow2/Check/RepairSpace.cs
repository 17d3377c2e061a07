using Platter.Core.Errors;
using Platter.Core.Storages;
using Platter.Core.Units;

namespace Platter.Formats.Qcow2.Check;

/// <summary>New clusters for a repair, one behind the other behind the end of the file, and what was written to them.</summary>
/// <param name="storage">The image.</param>
/// <param name="geometry">Cluster size.</param>
/// <param name="first">The first cluster to hand out.</param>
/// <param name="limit">The first that is not free any more.</param>
internal sealed class RepairSpace(Storage storage, Qcow2Geometry geometry, long first, long limit)
{
    private readonly SortedList<long, long> _written = [];

    /// <summary>The first cluster that it hands out.</summary>
    public long First { get; } = first;

    /// <summary>The next cluster.</summary>
    public long Next { get; private set; } = first;

    /// <summary>The first cluster that it never hands out.</summary>
    public long Limit => limit;

    /// <summary>What was written: offset and length in bytes, in order.</summary>
    public IReadOnlyList<(long Offset, long Length)> Written => [.. _written.Select(range => (range.Key, range.Value))];

    /// <summary>Takes neighbouring clusters.</summary>
    /// <returns>The first.</returns>
    public long Take(long count)
    {
        if (Next + count > limit)
        {
            throw new BlockException(BlockErrorKind.LimitExceeded, $"{storage.Name}: the repair needs more new clusters than it should; nothing was changed");
        }

        var taken = Next;
        Next += count;
        return taken;
    }

    /// <summary>Fills clusters that were taken; what is left of the last one becomes zero.</summary>
    public async ValueTask WriteAsync(long cluster, ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken)
    {
        var at = cluster << geometry.ClusterBits;
        var whole = (bytes.Length + geometry.ClusterMask) & ~geometry.ClusterMask;
        await storage.WriteAsync(new(at), bytes, cancellationToken).ConfigureAwait(false);
        if (whole > bytes.Length)
        {
            await storage.WriteAsync(new(at + bytes.Length), new byte[whole - bytes.Length], cancellationToken).ConfigureAwait(false);
        }

        // Mostly one grows behind the last, so that there are few.
        if (_written.Count > 0 && _written.GetKeyAtIndex(_written.Count - 1) is var last && last + _written[last] == at)
        {
            _written[last] += whole;
        }
        else
        {
            _written.Add(at, whole);
        }
    }
}
