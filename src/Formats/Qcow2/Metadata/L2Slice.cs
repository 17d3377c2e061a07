using Platter.Core.Units;

namespace Platter.Formats.Qcow2.Metadata;

/// <summary>A piece of an L2 table as the cache holds it. Immutable.</summary>
/// <remarks>
/// Most pieces say little: nothing, or a few stretches of neighbouring clusters. Such a piece is kept as runs, each with its first entry, which
/// is a tenth of the memory and needs a binary search instead of a scan. Where that does not pay (random order, compressed clusters,
/// extended entries) the entries are kept as they are.
/// </remarks>
internal sealed class L2Slice
{
    private readonly ulong[] _entries;

    // Index of the first entry of each run; null when every entry is there.
    private readonly ushort[]? _starts;
    private readonly int _entryCount;

    private L2Slice(long index, HostOffset at, ulong[] entries, ushort[]? starts, int entryCount)
    {
        Index = index;
        Offset = at;
        _entries = entries;
        _starts = starts;
        _entryCount = entryCount;
    }

    /// <summary>Number of the piece, counted from the start of the disk.</summary>
    public long Index { get; }

    /// <summary>Where it is in the file.</summary>
    public HostOffset Offset { get; }

    /// <summary>Whether it is kept as runs.</summary>
    public bool IsRuns => _starts is not null;

    /// <summary>The entries, when it is not kept as runs.</summary>
    public ReadOnlySpan<ulong> Entries => _entries;

    /// <summary>Bytes it takes, with objects and the cache's own bookkeeping.</summary>
    public int CostBytes => TableSlice.Overhead + (8 * _entries.Length) + (_starts is null ? 0 : 24 + (2 * _starts.Length));

    /// <summary>Keeps a piece.</summary>
    /// <param name="index">Its number.</param>
    /// <param name="at">Where it is in the file.</param>
    /// <param name="entries">Its words; copied.</param>
    /// <param name="runStarts">Where its runs begin, or empty to keep the words.</param>
    public static L2Slice Create(long index, HostOffset at, ReadOnlySpan<ulong> entries, ReadOnlySpan<ushort> runStarts)
    {
        if (runStarts.IsEmpty)
        {
            return new(index, at, entries.ToArray(), null, entries.Length);
        }

        var firsts = new ulong[runStarts.Length];
        for (var i = 0; i < firsts.Length; i++)
        {
            firsts[i] = entries[runStarts[i]];
        }

        return new(index, at, firsts, runStarts.ToArray(), entries.Length);
    }

    /// <summary>A view of words that may change; whoever changes and whoever reads them holds the same lock.</summary>
    /// <param name="index">Its number.</param>
    /// <param name="at">Where it is in the file.</param>
    /// <param name="entries">Its words; not copied.</param>
    public static L2Slice Over(long index, HostOffset at, ulong[] entries) => new(index, at, entries, null, entries.Length);

    /// <summary>The run that holds an entry.</summary>
    /// <param name="index">Which entry.</param>
    /// <param name="first">The first entry of the run.</param>
    /// <param name="behind">How many entries of the run come before <paramref name="index"/>.</param>
    /// <returns>How many entries of the run are left, the one at <paramref name="index"/> included.</returns>
    public int FindRun(int index, out ulong first, out int behind)
    {
        var starts = _starts!;
        var (low, high) = (0, starts.Length - 1);
        while (low < high)
        {
            var middle = (low + high + 1) >> 1;
            if (starts[middle] <= index)
            {
                low = middle;
            }
            else
            {
                high = middle - 1;
            }
        }

        first = _entries[low];
        behind = index - starts[low];
        return (low + 1 < starts.Length ? starts[low + 1] : _entryCount) - index;
    }
}
