using Platter.Core.Errors;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Layout;

namespace Platter.Formats.Qcow2.Allocation;

/// <summary>Hands out host clusters, each with refcount 1, and takes them back.</summary>
/// <remarks>
/// New clusters come from the end of the file, where nothing can be; so does whatever must be contiguous. Freed clusters are used again once
/// <see cref="MayReuse"/> is set: the refcounts were compared with every pointer of the image. Used by one caller at a time.
/// Nothing is handed out, or taken back, while a table that this needs shares a cluster with other metadata or lies behind the end of the file: what was
/// written there would be lost, or would overwrite the other.
/// A device does not end where the image does: there it is behind the last cluster with a refcount that nothing can be, once the refcounts have been compared.
/// </remarks>
internal sealed class ClusterAllocator
{
    private const int MaxFreeRunsLookedAt = 64;

    private readonly Storage _storage;
    private readonly Qcow2Geometry _geometry;
    private readonly RefcountStore _refcounts;
    private readonly MetadataRegions _regions;
    private readonly Action<long, long> _retire;
    private readonly Action<BlockException> _giveUp;
    private readonly Func<string, ValueTask<BlockException>> _refuse;
    private readonly Func<CancellationToken, ValueTask<bool>> _areRefcountsTrue;

    // The first cluster that the storage cannot have.
    private readonly long _limit;
    private bool _isEndKnown;
    private bool _wasSearched;

    // Behind it lies nothing but what this opening has handed out.
    private readonly long _endBefore;

    // Runs of freed clusters: length by first cluster, and first cluster by the one behind the run, to join neighbours.
    private readonly SortedDictionary<long, long> _free = [];
    private readonly Dictionary<long, long> _freeByEnd = [];
    private readonly List<(long First, long Count)> _aside = [];
    private long _end;
    private readonly long _lostBlock = -1;

    // Compressed clusters are packed: where the last one ended, and whether more fits behind it.
    private long _packedAt = -1;

    /// <summary>An allocator for one image.</summary>
    /// <param name="storage">The file.</param>
    /// <param name="geometry">Its cluster size.</param>
    /// <param name="refcounts">Who has been handed out.</param>
    /// <param name="end">Behind the last cluster with a refcount; counts on storages that cannot change their length.</param>
    /// <param name="regions">Told of new refcount blocks and tables.</param>
    /// <param name="retire">Told of clusters (first, count) whose last pointer goes with the next checkpoint: an old refcount table.</param>
    /// <param name="giveUp">Told of an error after which refcounts must never be written again: blocks or the table are half made.</param>
    /// <param name="refuse">Marks the image corrupt, and makes the error that is thrown.</param>
    /// <param name="areRefcountsTrue">Compares the refcounts on the disk with every pointer.</param>
    public ClusterAllocator(
        Storage storage, Qcow2Geometry geometry, RefcountStore refcounts, long end, MetadataRegions regions, Action<long, long> retire, Action<BlockException> giveUp,
        Func<string, ValueTask<BlockException>> refuse, Func<CancellationToken, ValueTask<bool>> areRefcountsTrue)
    {
        (_refuse, _areRefcountsTrue) = (refuse, areRefcountsTrue);
        _retire = retire;
        _giveUp = giveUp;
        _storage = storage;
        _geometry = geometry;
        _refcounts = refcounts;
        _regions = regions;
        _isEndKnown = !storage.HasFixedLength;
        _limit = storage.HasFixedLength ? storage.Length >> geometry.ClusterBits : long.MaxValue;
        _end = storage.HasFixedLength ? end : Sizes.DivideRoundingUp(storage.Length, geometry.ClusterSize);
        foreach (var block in refcounts.BlockClusters)
        {
            _lostBlock = block >= (storage.HasFixedLength ? _limit : _end) ? block : _lostBlock;
        }

        _endBefore = _end;
    }

    /// <summary>Whether freed clusters may be handed out again.</summary>
    public bool MayReuse { get; set; }

    /// <summary>Whether there are freed clusters.</summary>
    public bool HasFree => _free.Count > 0 || _aside.Count > 0;

    /// <summary>Clusters that were taken back and are kept aside until <see cref="BringIn"/>: nobody gets them meanwhile.</summary>
    public IReadOnlyList<(long First, long Count)> Aside => _aside;

    /// <summary>Runs of free clusters that are known.</summary>
    public IEnumerable<(long First, long Count)> Free => _free.Select(run => (run.Key, run.Value));

    /// <summary>How many clusters that are.</summary>
    public long FreeInside => _free.Values.Sum();

    /// <summary>Whether neighbouring clusters, too, are taken from inside the file where there is room for them.</summary>
    public bool PrefersInside { get; set; }

    /// <summary>Whether anything was handed out or taken back.</summary>
    public bool HasChanged { get; private set; }

    /// <summary>Behind the last cluster that was ever handed out, in clusters.</summary>
    public long End => _end;

    /// <summary>Refuses an image in which nothing can be allocated without harm, and has it marked corrupt.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.CorruptImage"/>: the header, the L1 table, the refcount table or a refcount block shares
    /// a cluster with other metadata, or a refcount block lies behind the end of the file.</exception>
    public async ValueTask ThrowIfUnsoundAsync()
    {
        if (_regions.FindVital() is var (cluster, one, other))
        {
            throw await _refuse($"{one} and {other} are said to be in the same cluster at {new HostOffset(cluster << _geometry.ClusterBits)}").ConfigureAwait(false);
        }

        if (_lostBlock >= 0)
        {
            throw await _refuse($"the refcount block at {new HostOffset(_lostBlock << _geometry.ClusterBits)} lies behind the end of the file").ConfigureAwait(false);
        }
    }

    /// <summary>Hands out some neighbouring clusters: at least one, at most as many as wanted.</summary>
    /// <returns>The first, how many, and whether they lie behind the old end of the file, where everything reads as zeros.</returns>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.NoSpace"/>: the format cannot address more, or the device has no more.</exception>
    public async ValueTask<(long First, int Count, bool IsNew)> AllocateAsync(int wanted, CancellationToken cancellationToken)
    {
        try
        {
            return await AllocateOnceAsync(wanted, cancellationToken).ConfigureAwait(false);
        }
        catch (BlockException e) when (e.Kind == BlockErrorKind.NoSpace && _storage.HasFixedLength && !_wasSearched && _aside.Count == 0)
        {
            // A device that is full to its end may have room inside; its refcounts were compared before anything was handed out.
            _wasSearched = true;
            await FindFreeAsync(cancellationToken).ConfigureAwait(false);
            return await AllocateOnceAsync(wanted, cancellationToken).ConfigureAwait(false);
        }
    }

    private async ValueTask<(long First, int Count, bool IsNew)> AllocateOnceAsync(int wanted, CancellationToken cancellationToken)
    {
        _storage.Announce(StorageEvent.ClusterAlloc);
        await ThrowIfUnsoundAsync().ConfigureAwait(false);
        HasChanged = true;
        if (MayReuse && TakeFree(wanted) is { Count: > 0 } free)
        {
            await ThrowIfMetadataAsync(free.First, free.Count).ConfigureAwait(false);
            await _refcounts.AddAsync(free.First, free.Count, raise: true, null, cancellationToken).ConfigureAwait(false);
            return (free.First, free.Count, false);
        }

        await KnowEndAsync(cancellationToken).ConfigureAwait(false);
        while (true)
        {
            var first = _end;
            ThrowIfBeyond(first + 1);
            if (!_refcounts.HasBlock(first))
            {
                await MakeBlocksAsync(first, 1, cancellationToken).ConfigureAwait(false);
                continue;
            }

            var count = await _refcounts.CountFreeAsync(first, (int)Math.Min(wanted, _limit - first), cancellationToken).ConfigureAwait(false);
            if (count == 0)
            {
                // Refcounts behind the end of the file: a cut before the data came. Leaks, so go past them.
                _end++;
                continue;
            }

            ThrowIfBeyond(first + count);
            await ThrowIfMetadataAsync(first, count).ConfigureAwait(false);
            await _refcounts.AddAsync(first, count, raise: true, null, cancellationToken).ConfigureAwait(false);
            _end = first + count;
            return (first, count, !_storage.HasFixedLength);
        }
    }

    /// <summary>Hands out clusters that are all neighbours, at the end of the file.</summary>
    public async ValueTask<long> AllocateContiguousAsync(long count, CancellationToken cancellationToken)
    {
        await ThrowIfUnsoundAsync().ConfigureAwait(false);
        await KnowEndAsync(cancellationToken).ConfigureAwait(false);
        HasChanged = true;
        if (PrefersInside && TakeNeighbours(count) is >= 0 and var inside)
        {
            await ThrowIfMetadataAsync(inside, count).ConfigureAwait(false);
            await _refcounts.AddAsync(inside, count, raise: true, null, cancellationToken).ConfigureAwait(false);
            return inside;
        }

        var first = await MakeBlocksAsync(_end, count, cancellationToken).ConfigureAwait(false);
        ThrowIfBeyond(first + count);
        for (var at = first; at < first + count;)
        {
            var free = await _refcounts.CountFreeAsync(at, (int)Math.Min(int.MaxValue, first + count - at), cancellationToken).ConfigureAwait(false);
            if (free == 0)
            {
                _end = at + 1;
                return await AllocateContiguousAsync(count, cancellationToken).ConfigureAwait(false);
            }

            at += free;
        }

        await ThrowIfMetadataAsync(first, count).ConfigureAwait(false);
        await _refcounts.AddAsync(first, count, raise: true, null, cancellationToken).ConfigureAwait(false);
        _end = first + count;
        return first;
    }

    /// <summary>Finds a place for compressed bytes, packed behind the last ones where that is possible.</summary>
    /// <param name="length">Bytes; less than a cluster.</param>
    /// <param name="cancellationToken">Stops reading tables.</param>
    /// <returns>Any byte of the file; every cluster that the bytes touch has been given one more reference.</returns>
    public async ValueTask<HostOffset> AllocateBytesAsync(int length, CancellationToken cancellationToken)
    {
        _storage.Announce(StorageEvent.ClusterAllocBytes);
        var clusterSize = (long)_geometry.ClusterSize;
        var inCluster = _packedAt & _geometry.ClusterMask;
        if (_packedAt >= 0 && inCluster != 0)
        {
            var cluster = _packedAt >> _geometry.ClusterBits;
            var refcount = await _refcounts.GetAsync(cluster, cancellationToken).ConfigureAwait(false);
            if (refcount != 0 && refcount < RefcountBlock.Max(_geometry.RefcountOrder))
            {
                var fits = inCluster + length <= clusterSize;
                if (fits || _end == cluster + 1)
                {
                    var next = fits ? default : await AllocateAsync(1, cancellationToken).ConfigureAwait(false);
                    if (fits || next.First == cluster + 1)
                    {
                        await _refcounts.AddAsync(cluster, 1, raise: true, null, cancellationToken).ConfigureAwait(false);
                        var at = _packedAt;
                        _packedAt += length;
                        return new(at);
                    }

                    _packedAt = (next.First << _geometry.ClusterBits) + length;
                    return new(next.First << _geometry.ClusterBits);
                }
            }
        }

        var fresh = await AllocateAsync(1, cancellationToken).ConfigureAwait(false);
        _packedAt = (fresh.First << _geometry.ClusterBits) + length;
        return new(fresh.First << _geometry.ClusterBits);
    }

    /// <summary>Forgets what it knows of free clusters and of compressed bytes: the refcounts were changed without it.</summary>
    public void Forget()
    {
        _free.Clear();
        _freeByEnd.Clear();
        _aside.Clear();
        _packedAt = -1;
        MayReuse = false;
    }

    /// <summary>New clusters come from here on again.</summary>
    public void CutTo(long end) => _end = end;

    /// <summary>Takes back what nobody has at the end of the file: new clusters come from there on, and the file may be cut there.</summary>
    /// <returns>The first cluster that is free, with all behind it; never within what was there before this opening, unless the refcounts are known to be true.</returns>
    public async ValueTask<long> CutAsync(CancellationToken cancellationToken)
    {
        if (_aside.Count > 0)
        {
            // Somebody is making holes of them; they are not to be handed out as new meanwhile.
            return _end;
        }

        var end = Math.Max(MayReuse ? 0 : Math.Min(_end, _endBefore), await _refcounts.FindEndAsync(_end, cancellationToken).ConfigureAwait(false));
        foreach (var (first, count) in _free.Where(run => run.Key + run.Value > end).ToList())
        {
            _free.Remove(first);
            _freeByEnd.Remove(first + count);
            if (first < end)
            {
                InsertFree(first, end - first);
            }
        }

        return _end = end;
    }

    /// <summary>Looks for free clusters inside the file, to be handed out before the file grows. Only where the refcounts were compared with every pointer.</summary>
    public async ValueTask FindFreeAsync(CancellationToken cancellationToken)
    {
        Forget();
        for (long first = 0; first < _end;)
        {
            var count = await _refcounts.CountFreeAsync(first, (int)Math.Min(int.MaxValue, _end - first), cancellationToken).ConfigureAwait(false);
            if (count > 0)
            {
                AddFree(first, count);
            }

            first += Math.Max(count, 1);
        }

        (MayReuse, HasChanged) = (true, true);
    }

    /// <summary>Takes references away. Only when the last pointer is gone from the disk, or never was made.</summary>
    public async ValueTask ReleaseAsync(long first, long count, Action<long>? reachedZero = null, bool putsAside = false)
    {
        _storage.Announce(StorageEvent.ClusterFree);
        await ThrowIfUnsoundAsync().ConfigureAwait(false);
        HasChanged = true;
        await _refcounts.AddAsync(
            first, count, raise: false,
            cluster =>
            {
                if (!putsAside)
                {
                    AddFree(cluster);
                }
                else if (_aside.Count > 0 && _aside[^1] is var last && last.First + last.Count == cluster)
                {
                    _aside[^1] = (last.First, last.Count + 1);
                }
                else
                {
                    _aside.Add((cluster, 1));
                }

                reachedZero?.Invoke(cluster);
                if (_packedAt >= 0 && _packedAt >> _geometry.ClusterBits == cluster)
                {
                    _packedAt = -1;
                }
            },
            CancellationToken.None).ConfigureAwait(false);
    }

    /// <summary>What was kept aside may be handed out.</summary>
    public void BringIn()
    {
        foreach (var (first, count) in _aside)
        {
            AddFree(first, count);
        }

        _aside.Clear();
    }

    // Where nobody but the refcounts tells what is free, they are compared with all that they count before the first cluster is handed out.
    private async ValueTask KnowEndAsync(CancellationToken cancellationToken)
    {
        if (!_isEndKnown && !await _areRefcountsTrue(cancellationToken).ConfigureAwait(false))
        {
            throw new BlockException(
                BlockErrorKind.CorruptImage,
                $"{_storage.Name}: its refcounts do not agree with what refers to its clusters, so that no free ones can be found on a device; 'check -r all' repairs it");
        }

        _isEndKnown = true;
    }

    // Blocks for all clusters from `at` on for `count` of them, the blocks themselves first. Returns the first cluster behind the blocks.
    private async ValueTask<long> MakeBlocksAsync(long at, long count, CancellationToken cancellationToken)
    {
        // Skip what cannot be free: refcounts behind the end of the file.
        while (await _refcounts.CountFreeAsync(at, 1, cancellationToken).ConfigureAwait(false) == 0)
        {
            at++;
        }

        _end = at;
        var missing = 0L;
        while (true)
        {
            var needed = CountMissing(at, missing + count);
            if (needed == missing)
            {
                break;
            }

            missing = needed;
        }

        if (missing == 0)
        {
            return at;
        }

        _storage.Announce(StorageEvent.RefblockAlloc);
        var places = missing;
        ThrowIfBeyond(at + missing + count);
        await ThrowIfMetadataAsync(at, missing).ConfigureAwait(false);
        var last = (at + missing + count - 1) >> _refcounts.BlockBits;
        var oldTable = (First: _refcounts.TableOffset.Value >> _geometry.ClusterBits, Count: _refcounts.TableClusters);
        var grows = last >= _refcounts.TableLength;
        if (grows)
        {
            _storage.Announce(StorageEvent.ReftableGrow);
            var table = NewTableLength(last + 1);
            var clusters = table * RefcountTableEntry.Size >> _geometry.ClusterBits;
            places += clusters + (clusters >> _refcounts.BlockBits) + 2;
            ThrowIfBeyond(at + places + count);
            await GiveSpaceAsync(at, places, cancellationToken).ConfigureAwait(false);
            _refcounts.GrowTable(table);
        }

        else
        {
            await GiveSpaceAsync(at, places, cancellationToken).ConfigureAwait(false);
        }

        try
        {
            await PlaceBlocksAsync(at, last).ConfigureAwait(false);
            if (grows)
            {
                // The longer table needs a place, and that place blocks, for which GrowTable left room.
                var clusters = _refcounts.TableClusters;
                var table = await AllocateContiguousAsync(clusters, CancellationToken.None).ConfigureAwait(false);
                _regions.Add(table, clusters, MetadataKind.RefcountTable);
                _refcounts.MoveTable(table);
                _retire(oldTable.First, oldTable.Count);
            }
        }
        catch (BlockException e)
        {
            // Blocks that nothing counts, or entries for which the old table has no room: a checkpoint would write them over something else.
            _giveUp(e);
            throw;
        }

        return grows ? await MakeBlocksAsync(_end, count, cancellationToken).ConfigureAwait(false) : _end;
    }

    // A full disk has to be noticed here, where nothing is lost: a checkpoint then writes to places that have their space.
    private ValueTask GiveSpaceAsync(long first, long count, CancellationToken cancellationToken) =>
        _storage.GiveSpaceAsync(new(first << _geometry.ClusterBits), count << _geometry.ClusterBits, mayReserve: false, cancellationToken);

    // Nothing stops between the first block and the last: they count each other.
    private async ValueTask PlaceBlocksAsync(long at, long last)
    {
        var place = at;
        for (var index = at >> _refcounts.BlockBits; index <= last; index++)
        {
            if (!_refcounts.HasBlock(index << _refcounts.BlockBits))
            {
                _refcounts.CreateBlock((int)index, place++);
            }
        }

        _regions.Add(at, place - at, MetadataKind.RefcountBlock);
        await _refcounts.AddAsync(at, place - at, raise: true, null, CancellationToken.None).ConfigureAwait(false);
        _end = place;
    }

    // Half as much again, so that a growing image moves its table rarely, and room for the blocks of the new table's own clusters.
    private long NewTableLength(long needed)
    {
        var perCluster = _geometry.ClusterSize / RefcountTableEntry.Size;
        var most = Qcow2Header.MaxRefcountTableBytes / RefcountTableEntry.Size;
        var wanted = Math.Max(needed, _refcounts.TableLength) * 3 / 2;
        wanted += 4 + Sizes.DivideRoundingUp(wanted / perCluster, 1L << _refcounts.BlockBits);
        return Sizes.DivideRoundingUp(Math.Max(Math.Min(wanted, most), needed), perCluster) * perCluster;
    }

    private long CountMissing(long at, long clusters)
    {
        var missing = 0L;
        for (var index = at >> _refcounts.BlockBits; index <= (at + clusters - 1) >> _refcounts.BlockBits; index++)
        {
            missing += _refcounts.HasBlock(index << _refcounts.BlockBits) ? 0 : 1;
        }

        return missing;
    }

    // The first run that is long enough; of the runs that a short search finds, the longest one otherwise.
    private (long First, int Count) TakeFree(int wanted)
    {
        (long First, long Count) best = default;
        var looked = 0;
        foreach (var (first, count) in _free)
        {
            best = count > best.Count ? (first, count) : best;
            if (best.Count >= wanted || ++looked == MaxFreeRunsLookedAt)
            {
                break;
            }
        }

        if (best.Count == 0)
        {
            return default;
        }

        var taken = (int)Math.Min(wanted, best.Count);
        _free.Remove(best.First);
        _freeByEnd.Remove(best.First + best.Count);
        if (taken < best.Count)
        {
            InsertFree(best.First + taken, best.Count - taken);
        }

        return (best.First, taken);
    }

    // The first run that has room for all of them; -1 for none.
    private long TakeNeighbours(long count)
    {
        foreach (var (first, length) in _free)
        {
            if (length >= count)
            {
                _free.Remove(first);
                _freeByEnd.Remove(first + length);
                if (count < length)
                {
                    InsertFree(first + count, length - count);
                }

                return first;
            }
        }

        return -1;
    }

    private void AddFree(long cluster, long count = 1)
    {
        var first = cluster;
        var behind = cluster + count;
        if (_freeByEnd.Remove(first, out var left))
        {
            count += first - left;
            first = left;
            _free.Remove(first);
        }

        if (_free.Remove(behind, out var right))
        {
            _freeByEnd.Remove(behind + right);
            count += right;
        }

        InsertFree(first, count);
    }

    private void InsertFree(long first, long count)
    {
        _free.Add(first, count);
        _freeByEnd.Add(first + count, first);
    }

    private async ValueTask ThrowIfMetadataAsync(long first, long count)
    {
        if (_regions.Find(first, count) is >= 0 and var taken)
        {
            throw await _refuse($"the refcounts say that the cluster at {new HostOffset(taken << _geometry.ClusterBits)} is free, and it holds metadata").ConfigureAwait(false);
        }
    }

    private void ThrowIfBeyond(long endCluster)
    {
        if (endCluster > _limit)
        {
            throw new BlockException(BlockErrorKind.NoSpace, $"{_storage.Name}: Could not allocate the cluster at {new HostOffset((endCluster - 1) << _geometry.ClusterBits)}: No space left on device: all of its {_limit} clusters are in use");
        }

        // Offsets in L1, L2 and refcount table entries have 56 bits.
        if (endCluster > 1L << (56 - _geometry.ClusterBits))
        {
            throw new BlockException(BlockErrorKind.NoSpace, $"{_storage.Name}: the format cannot address a file of more than 64 PiB");
        }
    }
}
