using Platter.Core.Errors;
using Platter.Core.Storages;
using Platter.Core.Units;

namespace Platter.Formats.Qcow2.Check;

/// <summary>References to what a file does not have. A repair makes the file longer, and must not put its new tables where somebody believes to have data.</summary>
internal sealed class MissingClusters
{
    // References farther behind the end are out of a repair's reach: it never needs so much space.
    private const long Window = 1 << 24;
    private const int MaxStraddling = 1 << 16;

    private readonly ReferenceCounts _counts;
    private readonly List<(long Offset, long Length)> _straddling = [];
    private readonly string _file;
    private readonly int _clusterBits;

    public MissingClusters(Storage storage, Qcow2Geometry geometry)
    {
        _file = storage.Name;
        _counts = new(storage.Name);
        _clusterBits = geometry.ClusterBits;
        End = Sizes.DivideRoundingUp(storage.Length, geometry.ClusterSize);
    }

    /// <summary>The first cluster behind the end of the file.</summary>
    public long End { get; }

    /// <summary>Notes a range of bytes; nothing of it is behind <see cref="long.MaxValue"/>, or it is ignored.</summary>
    public void Add(long offset, long length)
    {
        if (!Sizes.TryAdd(offset, length, out var end))
        {
            return;
        }

        var last = Math.Min((end - 1) >> _clusterBits, End + Window - 1);
        for (var cluster = Math.Max(offset >> _clusterBits, End); cluster <= last; cluster++)
        {
            _counts.TryAdd(cluster, ulong.MaxValue);
        }

        if (offset >> _clusterBits < End)
        {
            if (_straddling.Count >= MaxStraddling)
            {
                throw new BlockException(BlockErrorKind.LimitExceeded, $"{_file}: too much of it is referred to and missing; it cannot be repaired");
            }

            _straddling.Add((offset, length));
        }
    }

    /// <summary>Finds the first place behind the end with enough clusters that nobody refers to.</summary>
    /// <param name="counted">References that were counted: one may be just behind the end.</param>
    /// <param name="needed">Clusters needed at a place.</param>
    public long FindRoom(ReferenceCounts counted, Func<long, long> needed)
    {
        var at = counted.Count(End) == 0 ? End : End + 1;
        foreach (var page in _counts.PagesIn(0, long.MaxValue >> ReferenceCounts.PageBits))
        {
            var first = page << ReferenceCounts.PageBits;
            for (var cluster = first; cluster < first + (1 << ReferenceCounts.PageBits); cluster++)
            {
                if (_counts.Count(cluster) != 0)
                {
                    if (cluster - at >= needed(at))
                    {
                        return at;
                    }

                    at = Math.Max(at, cluster + 1);
                }
            }
        }

        return at + needed(at) <= End + Window
            ? at
            : throw new BlockException(BlockErrorKind.LimitExceeded, $"{_file}: there is no room for new tables between what is referred to behind its end; it cannot be repaired");
    }

    /// <summary>Gives the references to clusters before <paramref name="end"/>: a file that reaches there has them, as zeros.</summary>
    public IEnumerable<long> Before(long end)
    {
        foreach (var page in _counts.PagesIn(0, end >> ReferenceCounts.PageBits))
        {
            var first = page << ReferenceCounts.PageBits;
            for (var cluster = first; cluster < Math.Min(end, first + (1 << ReferenceCounts.PageBits)); cluster++)
            {
                for (var count = _counts.Count(cluster); count > 0; count--)
                {
                    yield return cluster;
                }
            }
        }

        foreach (var (offset, length) in _straddling)
        {
            foreach (var cluster in Before(end, offset, length).TakeWhile(cluster => cluster < End))
            {
                yield return cluster;
            }
        }
    }

    /// <summary>Those of them that one range made.</summary>
    public IEnumerable<long> Before(long end, long offset, long length)
    {
        if (!Sizes.TryAdd(offset, length, out var rangeEnd))
        {
            yield break;
        }

        var last = (rangeEnd - 1) >> _clusterBits;
        for (var cluster = last < end ? offset >> _clusterBits : Math.Max(offset >> _clusterBits, End); cluster <= last && cluster < end; cluster++)
        {
            yield return cluster;
        }
    }
}
