using System.Buffers.Binary;
using Platter.Core.Errors;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Layout;

namespace Platter.Formats.Qcow2.Check;

/// <summary>Makes the refcounts of a repaired image: blocks that are right stay where they are, the others and the table are written anew.</summary>
/// <remarks>
/// A new block changes refcounts itself: its old cluster loses a reference, its new one has one. So blocks are placed until no more change; what they
/// hold is computed from the references when all places are known. Nothing that is on the disk is touched.
/// </remarks>
internal sealed class RefcountRebuilder
{
    private readonly Storage _storage;
    private readonly Qcow2Geometry _geometry;
    private readonly ReferenceCounts _counts;
    private readonly RefcountChecker _old;
    private readonly bool _lowersOnly;
    private readonly RepairSpace _space;
    private readonly RefcountSurvey _survey;
    private readonly ulong _max;

    // The clusters from here on are new: what refcounts say of them is garbage.
    private readonly long _firstNew;
    private readonly Dictionary<long, long> _places = [];
    private readonly Dictionary<long, long> _oldPlaces = [];
    private readonly HashSet<long> _dirty = [];
    private readonly HashSet<long> _placed = [];
    private readonly Stack<long> _pending = new();
    private bool[] _isUsable = [];
    private HashSet<long> _becameOwned = [];

    /// <summary>Plans with what is there.</summary>
    /// <param name="storage">The image.</param>
    /// <param name="geometry">Cluster size, refcount width.</param>
    /// <param name="counts">Every reference.</param>
    /// <param name="old">The stored refcounts.</param>
    /// <param name="survey">The old table and blocks.</param>
    /// <param name="lowersOnly">Refcounts that are too low stay (<c>-r leaks</c>).</param>
    /// <param name="space">Where to write.</param>
    /// <param name="firstNew">The first cluster behind the end of the file.</param>
    public RefcountRebuilder(
        Storage storage, Qcow2Geometry geometry, ReferenceCounts counts, RefcountChecker old, RefcountSurvey survey, bool lowersOnly, RepairSpace space,
        long firstNew)
    {
        _storage = storage;
        _geometry = geometry;
        _counts = counts;
        _old = old;
        _lowersOnly = lowersOnly;
        _space = space;
        _firstNew = firstNew;
        _survey = survey;
        StoredFrom = firstNew;
        _max = RefcountBlock.Max(_geometry.RefcountOrder);
        foreach (var index in survey.Differing)
        {
            Mark(index);
        }

        GiveUpOldTable();
        _becameOwned.Clear();
    }

    /// <summary>Clusters from here on are judged by the refcounts that are stored: no reference to them is counted, since the file does not have them and will not.</summary>
    public long StoredFrom { get; set; }

    /// <summary>Where the table is to be.</summary>
    public HostOffset TableOffset { get; private set; }

    /// <summary>Its clusters.</summary>
    public long TableClusters { get; private set; }

    private int BlockBits => _geometry.RefcountBlockEntryBits;

    /// <summary>Counts a reference more, as far as a refcount can.</summary>
    public void Add(long cluster)
    {
        _ = _counts.TryAdd(cluster, _max);
        Mark(cluster >> BlockBits);
    }

    /// <summary>Counts a reference less.</summary>
    public void Remove(long cluster)
    {
        _counts.Remove(cluster);
        if (_counts.IsOne(cluster))
        {
            _becameOwned.Add(cluster);
        }

        Mark(cluster >> BlockBits);
    }

    /// <summary>Clusters that are left with one reference since the last call, because a table that was in the same place has moved.</summary>
    public IReadOnlySet<long> TakeBecameOwned()
    {
        var result = _becameOwned;
        _becameOwned = [];
        return result;
    }

    /// <summary>Whether the refcount of a cluster will be exactly 1.</summary>
    public bool IsOne(long cluster) => _counts.IsOne(cluster);

    /// <summary>Whether the refcount of a cluster from <see cref="StoredFrom"/> on is 1, and stays so.</summary>
    public async ValueTask<bool> IsOneBeyondTheEndAsync(long cluster, CancellationToken cancellationToken) =>
        cluster >> BlockBits < _survey.Length && _isUsable[cluster >> BlockBits]
        && await _old.GetBeyondTheEndAsync(cluster, cancellationToken).ConfigureAwait(false) == StoredRefcount.One;

    /// <summary>Finds places for every block that changes, and for the table, and writes them. All other references are final.</summary>
    public async ValueTask WriteAsync(CancellationToken cancellationToken)
    {
        var table = -1L;
        while (true)
        {
            PlaceBlocks();
            var entries = _places.Count == 0 ? 1 : _places.Keys.Max() + 1;
            var clusters = Sizes.DivideRoundingUp(entries * RefcountTableEntry.Size, _geometry.ClusterSize);
            if (table >= 0 && clusters <= TableClusters)
            {
                break;
            }

            for (var i = 0; i < TableClusters; i++)
            {
                Remove(table + i);
            }

            // Room for itself and for blocks that it makes necessary.
            var end = (_space.Next >> BlockBits) + clusters + 8;
            TableClusters = Math.Max(clusters, Sizes.DivideRoundingUp((end + 1) * RefcountTableEntry.Size, _geometry.ClusterSize));
            if (TableClusters << _geometry.ClusterBits > Qcow2Header.MaxRefcountTableBytes)
            {
                throw new BlockException(
                    BlockErrorKind.NoSpace, $"{_storage.Name}: its refcount table would be larger than {Qcow2Header.MaxRefcountTableBytes >> 20} MiB; nothing was changed");
            }

            table = _space.Take(TableClusters);
            for (var i = 0; i < TableClusters; i++)
            {
                Add(table + i);
            }
        }

        TableOffset = new(table << _geometry.ClusterBits);
        foreach (var index in _placed.Where(_places.ContainsKey).OrderBy(i => _places[i]))
        {
            await _space.WriteAsync(_places[index], await MakeBlockAsync(index, cancellationToken).ConfigureAwait(false), cancellationToken).ConfigureAwait(false);
        }

        var bytes = new byte[TableClusters << _geometry.ClusterBits];
        foreach (var (index, cluster) in _places)
        {
            BinaryPrimitives.WriteUInt64BigEndian(bytes.AsSpan((int)index * RefcountTableEntry.Size), (ulong)cluster << _geometry.ClusterBits);
        }

        await _space.WriteAsync(table, bytes, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Says that the file ends elsewhere now: what refcounts say of the clusters up to there has to be true.</summary>
    public void MarkThrough(long end)
    {
        for (var index = _firstNew >> BlockBits; index <= (end - 1) >> BlockBits; index++)
        {
            Mark(index);
        }
    }

    // The old table is given up, and with it the blocks that cannot stay.
    private void GiveUpOldTable()
    {
        var survey = _survey;
        var usable = _isUsable = new bool[survey.Length];
        for (var index = 0; index < survey.Length; index++)
        {
            usable[index] = survey.IsUsable(index);
        }

        for (var index = 0; index < survey.Length; index++)
        {
            if (usable[index])
            {
                _places[index] = survey.Place(index);
            }
            else if (survey.Place(index) >= 0)
            {
                Remove(survey.Place(index));
            }

            if (!usable[index] && survey.IsUsed(index))
            {
                Mark(index);
            }
        }

        foreach (var cluster in survey.TableClusters)
        {
            Remove(cluster);
        }
    }

    private void Mark(long index)
    {
        if (_dirty.Add(index))
        {
            _pending.Push(index);
        }
    }

    private void PlaceBlocks()
    {
        while (_pending.TryPop(out var index))
        {
            if (_placed.Contains(index))
            {
                continue;
            }

            var has = _places.TryGetValue(index, out var old);
            // What is stored beyond all that the file will have stays.
            var reachesBeyond = (index + 1) << BlockBits > _space.Limit;
            if (!HasReferences(index) && (!has || !reachesBeyond))
            {
                // No block says the same as a block of zeros. Something may come to be in its range still.
                _dirty.Remove(index);
                if (has)
                {
                    _places.Remove(index);
                    Remove(old);
                }

                continue;
            }

            if (has && (_lowersOnly || reachesBeyond))
            {
                _oldPlaces[index] = old;
            }

            _placed.Add(index);
            _places[index] = _space.Take(1);
            Add(_places[index]);
            if (has)
            {
                Remove(old);
            }
        }
    }

    private bool HasReferences(long index)
    {
        foreach (var (page, from, count, _) in Pieces(index))
        {
            foreach (var entry in page.AsSpan(from, count))
            {
                if (ReferenceCounts.IsCounted(entry))
                {
                    return true;
                }
            }
        }

        return false;
    }

    private async ValueTask<byte[]> MakeBlockAsync(long index, CancellationToken cancellationToken)
    {
        var block = new byte[_geometry.ClusterSize];
        if (_oldPlaces.TryGetValue(index, out var old))
        {
            _ = await _storage.ReadAsync(new(old << _geometry.ClusterBits), block, cancellationToken).ConfigureAwait(false);
            Adjust(block, index);
        }

        var blockFirst = index << BlockBits;
        foreach (var (page, from, count, first) in Pieces(index))
        {
            for (var i = 0; i < count; i++)
            {
                if (!ReferenceCounts.IsCounted(page[from + i]))
                {
                    continue;
                }

                var (at, counted) = ((int)(first + i - blockFirst), _counts.CountOf(page[from + i], first + i));
                if (first + i < _firstNew && _lowersOnly)
                {
                    counted = Math.Min(RefcountBlock.Get(block, at, _geometry.RefcountOrder), counted);
                }

                RefcountBlock.Set(block, at, _geometry.RefcountOrder, counted);
            }
        }

        return block;
    }

    // What nobody refers to is free.
    private void Adjust(byte[] block, long index)
    {
        for (var i = 0; i < 1 << BlockBits; i++)
        {
            var cluster = (index << BlockBits) + i;
            if (cluster < _space.Limit && _counts.Count(cluster) == 0)
            {
                RefcountBlock.Set(block, i, _geometry.RefcountOrder, 0);
            }
        }
    }

    // The parts of pages that a block's range covers: page, first index in it, how many, and the cluster of the first.
    private IEnumerable<(ushort[] Page, int From, int Count, long First)> Pieces(long index)
    {
        const int PageSize = 1 << ReferenceCounts.PageBits;
        var end = (index + 1) << BlockBits;
        for (var cluster = index << BlockBits; cluster < end;)
        {
            var from = (int)(cluster & (PageSize - 1));
            var count = (int)Math.Min(PageSize - from, end - cluster);
            if (_counts.TryGetPage(cluster >> ReferenceCounts.PageBits, out var page))
            {
                yield return (page, from, count, cluster);
            }

            cluster += count;
        }
    }
}
