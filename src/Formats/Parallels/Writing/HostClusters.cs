using System.Numerics;
using Platter.Core.Units;

namespace Platter.Formats.Parallels.Writing;

/// <summary>Which clusters of the file are in use, counted from where the data area began when the image was opened. Not thread-safe.</summary>
internal sealed class HostClusters
{
    private ulong[] _used = new ulong[64];

    // No free cluster below it.
    private long _lowestFree;

    /// <summary>The first cluster that was not there when the image was opened and has never been handed out since: from there on the file reads as zeros.</summary>
    public long Fresh { get; private set; }

    /// <summary>Behind the last cluster in use.</summary>
    public long End
    {
        get
        {
            for (var word = _used.Length - 1; word >= 0; word--)
            {
                if (_used[word] != 0)
                {
                    return (word * 64L) + 64 - BitOperations.LeadingZeroCount(_used[word]);
                }
            }

            return 0;
        }
    }

    /// <summary>Says that the file holds unknown bytes up to a cluster.</summary>
    public void ExistUpTo(long cluster) => Fresh = Math.Max(Fresh, cluster);

    /// <summary>Says that the file was cut before a cluster, from which on nothing is in use.</summary>
    public void CutAt(long cluster) => Fresh = Math.Min(Fresh, Math.Max(0, cluster));

    /// <summary>Takes a cluster; false when somebody has it.</summary>
    public bool TryTake(long cluster)
    {
        if (IsUsed(cluster))
        {
            return false;
        }

        if (cluster / 64 >= _used.Length)
        {
            Array.Resize(ref _used, (int)Math.Max(_used.Length * 2L, (cluster / 64) + 1));
        }

        _used[cluster / 64] |= 1UL << (int)(cluster % 64);
        return true;
    }

    /// <summary>Hands out clusters that lie side by side, the lowest that are free.</summary>
    /// <param name="wanted">At most so many.</param>
    /// <param name="limit">Clusters from here on cannot be named.</param>
    /// <returns>How many there are is at least 1, or 0 when everything below the limit is in use; all of them are fresh, or none.</returns>
    public (long First, int Count, bool IsFresh) Allocate(int wanted, long limit)
    {
        var first = FirstFree(_lowestFree);
        _lowestFree = first;
        var isFresh = first >= Fresh;
        var count = 0;
        while (count < wanted && first + count < limit && (isFresh || first + count < Fresh) && TryTake(first + count))
        {
            count++;
        }

        _lowestFree += count;
        if (count > 0)
        {
            ExistUpTo(first + count);
        }

        return (first, count, isFresh);
    }

    /// <summary>Gives clusters back.</summary>
    public void Free(long first, long count)
    {
        for (var cluster = first; cluster < first + count; cluster++)
        {
            _used[cluster / 64] &= ~(1UL << (int)(cluster % 64));
        }

        _lowestFree = Math.Min(_lowestFree, first);
    }

    private bool IsUsed(long cluster) => cluster / 64 < _used.Length && (_used[cluster / 64] >> (int)(cluster % 64) & 1) != 0;

    private long FirstFree(long from)
    {
        if (!IsUsed(from))
        {
            return from;
        }

        for (var word = from / 64; word < _used.Length; word++)
        {
            var free = ~_used[word] & (word == from / 64 ? ulong.MaxValue << (int)(from % 64) : ulong.MaxValue);
            if (free != 0)
            {
                return (word * 64) + BitOperations.TrailingZeroCount(free);
            }
        }

        return _used.Length * 64L;
    }
}
