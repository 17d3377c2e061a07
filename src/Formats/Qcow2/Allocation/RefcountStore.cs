using System.Buffers.Binary;
using System.Globalization;
using Platter.Core.Errors;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Layout;
using Platter.Formats.Qcow2.Metadata;

namespace Platter.Formats.Qcow2.Allocation;

/// <summary>The refcounts of a writable image: the table in memory, blocks as they are needed.</summary>
/// <remarks>
/// Invariant: a refcount in memory is never lower than the pointers to its cluster in memory or on the disk. It is raised before a pointer is made and lowered after the
/// last trace of one is gone from the disk, so blocks may be written at any time. A new block is on the disk before the table entry that points to it, and all of a
/// moved table before the header does: <see cref="Metadata.Checkpoint"/> sees to that. Used by one caller at a time.
/// </remarks>
internal sealed class RefcountStore
{
    /// <summary>Memory for blocks, unless somebody wants less or more.</summary>
    public const long DefaultCacheBytes = 8 << 20;

    private const int MinBlocks = 4;

    private readonly Storage _storage;
    private readonly TableReader _reader;
    private readonly Qcow2Geometry _geometry;
    private readonly Dictionary<int, Block> _blocks = [];
    private readonly Queue<Block> _clock = new();
    private readonly int _maxBlocks;
    private readonly SortedSet<int> _dirtyEntries = [];
    private readonly HashSet<int> _moved = [];
    private ulong[] _table;

    // Clusters that the table at TableOffset has.
    private long _placedClusters;
    private bool _isPinned;

    private RefcountStore(Storage storage, TableReader reader, Qcow2Geometry geometry, HostOffset tableAt, ulong[] table, long cacheBytes)
    {
        _storage = storage;
        _reader = reader;
        _geometry = geometry;
        _table = table;
        TableOffset = tableAt;
        _placedClusters = TableClusters;
        _maxBlocks = (int)Math.Max(MinBlocks, cacheBytes / geometry.ClusterSize);
    }

    /// <summary>Where the refcount table is to be.</summary>
    public HostOffset TableOffset { get; private set; }

    /// <summary>Clusters of the refcount table.</summary>
    public int TableClusters => (int)(((long)_table.Length * RefcountTableEntry.Size) >> _geometry.ClusterBits);

    /// <summary>Whether the table lies elsewhere than the header on the disk says.</summary>
    public bool TableMoved { get; private set; }

    /// <summary>log2 of the refcounts in a block.</summary>
    public int BlockBits => _geometry.RefcountBlockEntryBits;

    /// <summary>Blocks that the table has room for.</summary>
    public int TableLength => _table.Length;

    /// <summary>Where the blocks are, in host clusters.</summary>
    public IEnumerable<long> BlockClusters =>
        _table.Select(e => new RefcountTableEntry(e)).Where(e => !e.IsAbsent).Select(e => e.Offset.Value >> _geometry.ClusterBits);

    /// <summary>Reads the table.</summary>
    public static async ValueTask<RefcountStore> LoadAsync(
        Storage storage, TableReader reader, Qcow2Header header, Qcow2Geometry geometry, long cacheBytes, CancellationToken cancellationToken)
    {
        var at = new HostOffset((long)header.RefcountTableOffset);
        var bytes = new byte[header.RefcountTableBytes];
        await reader.ReadAsync(at, bytes, "refcount table", -1, cancellationToken).ConfigureAwait(false);
        var table = BigEndianWords.ToHost(bytes).ToArray();
        for (var i = 0; i < table.Length; i++)
        {
            var entry = new RefcountTableEntry(table[i]);
            if ((entry.RawOffset & (ulong)geometry.ClusterMask) != 0 || entry.RawOffset > (ulong)(long.MaxValue - geometry.ClusterSize))
            {
                throw new ImageFormatException(
                    storage.Name, "refcount table", at + ((long)i * RefcountTableEntry.Size), $"entry {i}", $"0x{entry.Value:x16}", "points to no cluster");
            }
        }

        return new(storage, reader, geometry, at, table, cacheBytes);
    }

    /// <summary>Whether a cluster's refcount has a block.</summary>
    public bool HasBlock(long cluster) =>
        cluster >> BlockBits is var index && index < _table.Length && !new RefcountTableEntry(_table[index]).IsAbsent;

    /// <summary>The refcount of a cluster.</summary>
    public async ValueTask<ulong> GetAsync(long cluster, CancellationToken cancellationToken)
    {
        if (!HasBlock(cluster))
        {
            return 0;
        }

        var block = await BlockAsync((int)(cluster >> BlockBits), cancellationToken).ConfigureAwait(false);
        return RefcountBlock.Get(block.Bytes, IndexOf(cluster), _geometry.RefcountOrder);
    }

    /// <summary>How many clusters from <paramref name="cluster"/> on have refcount 0, at most <paramref name="limit"/>; stops at the end of a block.</summary>
    public async ValueTask<int> CountFreeAsync(long cluster, int limit, CancellationToken cancellationToken)
    {
        limit = (int)Math.Min(limit, (((cluster >> BlockBits) + 1) << BlockBits) - cluster);
        if (!HasBlock(cluster))
        {
            return limit;
        }

        var block = await BlockAsync((int)(cluster >> BlockBits), cancellationToken).ConfigureAwait(false);
        var count = 0;
        while (count < limit && RefcountBlock.Get(block.Bytes, IndexOf(cluster + count), _geometry.RefcountOrder) == 0)
        {
            count++;
        }

        return count;
    }

    /// <summary>The first cluster behind the last one of those before <paramref name="limit"/> that has a refcount.</summary>
    public async ValueTask<long> FindEndAsync(long limit, CancellationToken cancellationToken)
    {
        for (var index = Math.Min(_table.Length - 1, (limit - 1) >> BlockBits); index >= 0; index--)
        {
            var first = index << BlockBits;
            if (!HasBlock(first))
            {
                continue;
            }

            var block = await BlockAsync((int)index, cancellationToken).ConfigureAwait(false);
            for (var at = (int)Math.Min(limit - first, 1L << BlockBits) - 1; at >= 0; at--)
            {
                if (RefcountBlock.Get(block.Bytes, at, _geometry.RefcountOrder) != 0)
                {
                    return first + at + 1;
                }
            }
        }

        return 0;
    }

    /// <summary>Lowers every refcount that is higher than it should be.</summary>
    /// <param name="counted">The references to a cluster, on the disk and in memory.</param>
    /// <param name="cancellationToken">Stops between blocks.</param>
    public async ValueTask LowerAsync(Func<long, ulong> counted, CancellationToken cancellationToken)
    {
        for (var index = 0; index < _table.Length; index++)
        {
            var first = (long)index << BlockBits;
            if (!HasBlock(first))
            {
                continue;
            }

            var block = await BlockAsync(index, cancellationToken).ConfigureAwait(false);
            for (var at = 0; at < 1 << BlockBits; at++)
            {
                var refcount = RefcountBlock.Get(block.Bytes, at, _geometry.RefcountOrder);
                if (refcount != 0 && counted(first + at) is var references && references < refcount)
                {
                    SetNow(block, at, references);
                }
            }
        }
    }

    /// <summary>Raises the refcounts of neighbouring clusters, all of them or (when one is at its maximum) none; or lowers them, up to the first that is 0.</summary>
    /// <param name="first">The first cluster.</param>
    /// <param name="count">How many.</param>
    /// <param name="raise">By 1 up, or by 1 down.</param>
    /// <param name="reachedZero">Told of every cluster whose refcount became 0.</param>
    /// <param name="cancellationToken">Stops before anything was changed.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.LimitExceeded"/>: a refcount is at its maximum.
    /// <see cref="ImageFormatException"/>: one is to be lowered and is 0.</exception>
    public async ValueTask AddAsync(long first, long count, bool raise, Action<long>? reachedZero, CancellationToken cancellationToken)
    {
        for (long i = 0; i < count; i++)
        {
            var cluster = first + i;
            var refcount = await GetAsync(cluster, cancellationToken).ConfigureAwait(false);
            if (raise ? refcount < RefcountBlock.Max(_geometry.RefcountOrder) && HasBlock(cluster) : refcount > 0)
            {
                await SetAsync(cluster, raise ? refcount + 1 : refcount - 1, cancellationToken).ConfigureAwait(false);
                if (!raise && refcount == 1)
                {
                    reachedZero?.Invoke(cluster);
                }

                continue;
            }

            // What was lowered stays lowered: somebody may have been told that it is free.
            for (long undo = 0; raise && undo < i; undo++)
            {
                var changed = await GetAsync(first + undo, CancellationToken.None).ConfigureAwait(false);
                await SetAsync(first + undo, changed - 1, CancellationToken.None).ConfigureAwait(false);
            }

            throw CannotAdd(cluster, refcount, raise);
        }
    }

    private BlockException CannotAdd(long cluster, ulong refcount, bool raise)
    {
        var at = new HostOffset(cluster << _geometry.ClusterBits);
        return raise
            ? new BlockException(
                BlockErrorKind.LimitExceeded,
                $"{_storage.Name}: the refcount of the cluster at {at} cannot grow beyond {RefcountBlock.Max(_geometry.RefcountOrder)}; wider refcounts (refcount_bits) are needed")
            : new ImageFormatException(
                _storage.Name, "refcount", at, string.Empty, refcount.ToString(CultureInfo.InvariantCulture), "is to be lowered: it is less than the references to its cluster");
    }

    /// <summary>Makes a block for a range of clusters that has none.</summary>
    /// <param name="index">Which block.</param>
    /// <param name="cluster">Where it is to be; free.</param>
    public void CreateBlock(int index, long cluster)
    {
        var block = new Block(index, new(cluster << _geometry.ClusterBits), new byte[_geometry.ClusterSize]);
        block.IsNew = true;
        block.MarkDirty(0, _geometry.ClusterSize);
        Insert(block);
        _table[index] = (ulong)block.At.Value;
        _dirtyEntries.Add(index);
    }

    /// <summary>Makes room in the table, in memory; the caller then finds clusters for it and says where by <see cref="MoveTable"/>.</summary>
    /// <param name="entries">Fill whole clusters.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.NoSpace"/>: more than a table may have.</exception>
    public void GrowTable(long entries)
    {
        if (entries * RefcountTableEntry.Size > Qcow2Header.MaxRefcountTableBytes)
        {
            throw new BlockException(
                BlockErrorKind.NoSpace, $"{_storage.Name}: its refcount table cannot grow beyond {Qcow2Header.MaxRefcountTableBytes >> 20} MiB: the image is as large as it can be");
        }

        Array.Resize(ref _table, (int)entries);
    }

    /// <summary>Says where the grown table is to be.</summary>
    public void MoveTable(long cluster)
    {
        TableOffset = new(cluster << _geometry.ClusterBits);
        _placedClusters = TableClusters;
        TableMoved = true;
    }

    /// <summary>Copies what has to be written, and takes it as written from now on.</summary>
    public RefcountChanges Take()
    {
        var changes = new RefcountChanges { TableMoved = TableMoved, TableOffset = TableOffset, TableClusters = TableClusters };
        foreach (var block in _blocks.Values)
        {
            if (block.IsDirty)
            {
                changes.Pieces.Add((block.At + block.DirtyLow, block.Bytes.AsSpan(block.DirtyLow, block.DirtyHigh - block.DirtyLow).ToArray(), block.Index, block.DirtyLow));
                block.MarkClean();
                block.Busy = true;
            }
        }

        if (TableMoved)
        {
            changes.Entries.Add((TableOffset, Swapped(_table), 0));
        }
        else
        {
            const int EntriesPerSector = Sizes.SectorBytes / RefcountTableEntry.Size;
            foreach (var sector in _dirtyEntries.Select(i => i / EntriesPerSector).Distinct())
            {
                var first = sector * EntriesPerSector;
                changes.Entries.Add((TableOffset + ((long)first * RefcountTableEntry.Size), Swapped(_table.AsSpan(first, EntriesPerSector)), first));
            }
        }

        changes.DirtyEntries.AddRange(_dirtyEntries);
        _dirtyEntries.Clear();
        TableMoved = false;
        return changes;
    }

    /// <summary>The changes have been written: their blocks may be dropped from memory again.</summary>
    public void Done(RefcountChanges changes)
    {
        foreach (var (_, _, index, _) in changes.Pieces)
        {
            _blocks[index].Busy = false;
        }
    }

    /// <summary>The changes could not be written after all: they are to be taken again.</summary>
    public void PutBack(RefcountChanges changes)
    {
        Done(changes);
        foreach (var (_, bytes, index, low) in changes.Pieces)
        {
            _blocks[index].MarkDirty(low, low + bytes.Length);
        }

        _dirtyEntries.UnionWith(changes.DirtyEntries);
        TableMoved |= changes.TableMoved;
    }

    /// <summary>Loads every block and keeps them all in memory, unwritten, until <see cref="UnpinAll"/>: for a change that moves what it touches.</summary>
    public async ValueTask LoadAllAsync(CancellationToken cancellationToken)
    {
        _isPinned = true;
        for (var index = 0; index < _table.Length; index++)
        {
            if (!new RefcountTableEntry(_table[index]).IsAbsent)
            {
                (await BlockAsync(index, cancellationToken).ConfigureAwait(false)).IsNew = false;
            }
        }
    }

    /// <summary>Every block is to be written, and so moved by <see cref="MoveAsync"/>; while all are in memory.</summary>
    public void MarkAll()
    {
        foreach (var block in _blocks.Values)
        {
            block.MarkDirty(0, block.Bytes.Length);
        }
    }

    /// <summary>Forgets all changes that were not written: the disk's table and blocks are the truth. All blocks are in memory afterwards, as before.</summary>
    public async ValueTask ReloadAsync(HostOffset tableOffset, long tableBytes, CancellationToken cancellationToken)
    {
        var bytes = new byte[tableBytes];
        await _reader.ReadAsync(tableOffset, bytes, "refcount table", -1, cancellationToken).ConfigureAwait(false);
        _table = BigEndianWords.ToHost(bytes).ToArray();
        (TableOffset, _placedClusters, TableMoved) = (tableOffset, TableClusters, false);
        _blocks.Clear();
        _clock.Clear();
        _dirtyEntries.Clear();
        _moved.Clear();
        await LoadAllAsync(cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Blocks may be dropped from memory again.</summary>
    public void UnpinAll() => _isPinned = false;

    /// <summary>The refcount of a cluster, while all blocks are in memory.</summary>
    public ulong GetNow(long cluster) =>
        HasBlock(cluster) ? RefcountBlock.Get(_blocks[(int)(cluster >> BlockBits)].Bytes, IndexOf(cluster), _geometry.RefcountOrder) : 0;

    /// <summary>Raises or lowers refcounts, while all blocks are in memory. An exception leaves some of them changed.</summary>
    public void AddNow(long first, long count, bool raise)
    {
        for (var cluster = first; cluster < first + count; cluster++)
        {
            var refcount = GetNow(cluster);
            if (raise ? refcount >= RefcountBlock.Max(_geometry.RefcountOrder) || !HasBlock(cluster) : refcount == 0)
            {
                throw CannotAdd(cluster, refcount, raise);
            }

            SetNow(_blocks[(int)(cluster >> BlockBits)], IndexOf(cluster), raise ? refcount + 1 : refcount - 1);
        }
    }

    /// <summary>Gives every changed block, and the table, a new place: what the disk has stays as it is.</summary>
    public async ValueTask MoveAsync(ClusterAllocator allocator, CancellationToken cancellationToken)
    {
        _moved.Clear();
        var tableClusters = 0;
        var table = 0L;
        while (true)
        {
            // Finding places changes refcounts, so it goes on until nothing else has changed.
            if (_blocks.Values.FirstOrDefault(b => b.IsDirty && !_moved.Contains(b.Index)) is { } block)
            {
                _moved.Add(block.Index);
                if (block.IsNew)
                {
                    continue;
                }

                var old = block.At.Value >> _geometry.ClusterBits;
                var place = await allocator.AllocateContiguousAsync(1, cancellationToken).ConfigureAwait(false);
                block.At = new(place << _geometry.ClusterBits);
                _table[block.Index] = (ulong)block.At.Value;
                AddNow(old, 1, raise: false);
                continue;
            }

            if (tableClusters == TableClusters)
            {
                break;
            }

            AddNow(tableClusters == 0 ? TableOffset.Value >> _geometry.ClusterBits : table, tableClusters == 0 ? _placedClusters : tableClusters, raise: false);
            tableClusters = TableClusters;
            table = await allocator.AllocateContiguousAsync(tableClusters, cancellationToken).ConfigureAwait(false);
        }

        TableOffset = new(table << _geometry.ClusterBits);
    }

    /// <summary>The moved blocks and the table, where they are to be written; taken as written from now on.</summary>
    public List<(HostOffset At, byte[] Bytes)> TakeMoved()
    {
        var result = new List<(HostOffset At, byte[] Bytes)>();
        foreach (var index in _moved)
        {
            var block = _blocks[index];
            block.MarkClean();
            block.IsNew = false;
            result.Add((block.At, block.Bytes));
        }

        result.Add((TableOffset, Swapped(_table)));
        _moved.Clear();
        _dirtyEntries.Clear();
        TableMoved = false;
        _placedClusters = TableClusters;
        return result;
    }

    private static byte[] Swapped(ReadOnlySpan<ulong> words)
    {
        var bytes = new byte[words.Length * 8];
        for (var i = 0; i < words.Length; i++)
        {
            BinaryPrimitives.WriteUInt64BigEndian(bytes.AsSpan(i * 8), words[i]);
        }

        return bytes;
    }

    private int IndexOf(long cluster) => (int)(cluster & ((1L << BlockBits) - 1));

    private async ValueTask SetAsync(long cluster, ulong value, CancellationToken cancellationToken)
    {
        SetNow(await BlockAsync((int)(cluster >> BlockBits), cancellationToken).ConfigureAwait(false), IndexOf(cluster), value);
    }

    private void SetNow(Block block, int index, ulong value)
    {
        RefcountBlock.Set(block.Bytes, index, _geometry.RefcountOrder, value);
        var at = RefcountBlock.ByteOf(index, _geometry.RefcountOrder);
        block.MarkDirty(at, at + Math.Max(1, _geometry.RefcountBits / 8));
    }

    private async ValueTask<Block> BlockAsync(int index, CancellationToken cancellationToken)
    {
        if (_blocks.TryGetValue(index, out var block))
        {
            block.Referenced = true;
            return block;
        }

        var at = new RefcountTableEntry(_table[index]).Offset;
        var bytes = new byte[_geometry.ClusterSize];
        await _reader.ReadAsync(at, bytes, "refcount block", index, cancellationToken).ConfigureAwait(false);
        block = new Block(index, at, bytes);
        await MakeRoomAsync(cancellationToken).ConfigureAwait(false);
        Insert(block);
        return block;
    }

    private void Insert(Block block)
    {
        _blocks[block.Index] = block;
        _clock.Enqueue(block);
    }

    private async ValueTask MakeRoomAsync(CancellationToken cancellationToken)
    {
        if (_isPinned)
        {
            return;
        }

        for (var looked = 0; _blocks.Count >= _maxBlocks && looked < 2 * _clock.Count; looked++)
        {
            var candidate = _clock.Dequeue();
            if (candidate.Referenced || candidate.Busy)
            {
                candidate.Referenced = false;
                _clock.Enqueue(candidate);
                continue;
            }

            if (candidate.IsDirty)
            {
                _storage.Announce(StorageEvent.RefblockUpdate);
                _clock.Enqueue(candidate);

                // Its turn comes again when it is clean. Writing it early is harmless; the next checkpoint's first flush is due anyway, since what made it dirty is in memory still.
                await _storage.WriteAsync(
                    candidate.At + candidate.DirtyLow, candidate.Bytes.AsMemory(candidate.DirtyLow, candidate.DirtyHigh - candidate.DirtyLow), cancellationToken).ConfigureAwait(false);
                candidate.MarkClean();
                continue;
            }

            _blocks.Remove(candidate.Index);
        }
    }

    private sealed class Block(int index, HostOffset at, byte[] bytes)
    {
        public int Index { get; } = index;

        public HostOffset At { get; set; } = at;

        /// <summary>No table entry on the disk points to it yet.</summary>
        public bool IsNew { get; set; }

        public byte[] Bytes { get; } = bytes;

        public bool Referenced { get; set; } = true;

        // A checkpoint is writing a copy: until that is on the disk, what would be read from there is old.
        public bool Busy { get; set; }

        public int DirtyLow { get; private set; }

        public int DirtyHigh { get; private set; }

        public bool IsDirty => DirtyLow < DirtyHigh;

        // In whole sectors: that is what a disk writes.
        public void MarkDirty(int low, int high)
        {
            low &= ~(Sizes.SectorBytes - 1);
            high = (high + Sizes.SectorBytes - 1) & ~(Sizes.SectorBytes - 1);
            (DirtyLow, DirtyHigh) = IsDirty ? (Math.Min(DirtyLow, low), Math.Max(DirtyHigh, high)) : (low, high);
        }

        public void MarkClean() => (DirtyLow, DirtyHigh) = (0, 0);
    }
}

/// <summary>Refcounts that a checkpoint writes: copies, so that others may go on.</summary>
internal sealed class RefcountChanges
{
    /// <summary>Parts of blocks: where, what, of which block, from which byte.</summary>
    public List<(HostOffset At, byte[] Bytes, int Index, int Low)> Pieces { get; } = [];

    /// <summary>Parts of the table, or all of a moved one: where, what, the first entry.</summary>
    public List<(HostOffset At, byte[] Bytes, int First)> Entries { get; } = [];

    /// <summary>Numbers of the changed entries.</summary>
    public List<int> DirtyEntries { get; } = [];

    public bool TableMoved { get; init; }

    public HostOffset TableOffset { get; init; }

    public int TableClusters { get; init; }

    public bool IsEmpty => Pieces.Count == 0 && Entries.Count == 0;
}
