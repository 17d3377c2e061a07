using Platter.Formats.Qcow2.Layout;

namespace Platter.Formats.Qcow2.Check;

/// <summary>What a repair has to know of the refcount structures that are there: which blocks can stay, and which differ from the references.</summary>
internal sealed class RefcountSurvey(ReferenceCounts counts)
{
    private readonly List<long> _one = [];
    private ulong[] _table = [];
    private long[] _places = [];
    private int _index = -1;

    /// <summary>Clusters of the table that were counted as such.</summary>
    public List<long> TableClusters { get; } = [];

    /// <summary>Numbers of blocks whose refcounts are not what they should be.</summary>
    public HashSet<long> Differing { get; } = [];

    /// <summary>Entries of the table.</summary>
    public int Length => _table.Length;

    /// <summary>Whether an entry leads to no block, or to one that something else uses too.</summary>
    public bool HasBrokenEntries
    {
        get
        {
            for (var i = 0; i < Length; i++)
            {
                if (IsUsed(i) && !IsUsable(i))
                {
                    return true;
                }
            }

            return false;
        }
    }

    /// <summary>The table as it is.</summary>
    public void Begin(ulong[] table)
    {
        _table = table;
        _places = new long[table.Length];
        Array.Fill(_places, -1);
    }

    /// <summary>Where the cluster of a block is to be noted if it can be counted.</summary>
    public List<long> JournalFor(int index)
    {
        Note();
        _index = index;
        return _one;
    }

    /// <summary>The cluster that was counted for a block, or -1.</summary>
    public long Place(int index)
    {
        Note();
        return _places[index];
    }

    /// <summary>Whether the table has an entry there.</summary>
    public bool IsUsed(int index) => _table[index] != 0;

    /// <summary>Whether a block is there and nothing else is.</summary>
    public bool IsUsable(int index) => Place(index) is >= 0 and var place && counts.IsOne(place) && !new RefcountTableEntry(_table[index]).IsAbsent;

    private void Note()
    {
        if (_one.Count > 0)
        {
            _places[_index] = _one[0];
            _one.Clear();
        }
    }
}
