using System.Buffers.Binary;
using Platter.Core.Errors;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Layout;
using Platter.Formats.Qcow2.Mapping;

namespace Platter.Formats.Qcow2.Metadata;

/// <summary>The L1 and L2 tables of a writable image: all of the L1 table, and the pieces of L2 tables in use, with what was changed in memory.</summary>
/// <remarks>
/// Look-ups may come from many threads. Changes come from one caller at a time (the writer's). The gate is held for look-ups and changes, never across I/O.
/// A changed piece stays in memory until a checkpoint has written it.
/// </remarks>
internal sealed class TableStore
{
    /// <summary>Memory for pieces, unless somebody wants less or more: 1024 of 16 KiB map 128 GiB of a disk with clusters of 64 KiB.</summary>
    public const long DefaultCacheBytes = 16 << 20;

    private const int MinSlices = 4;
    private const int MaxSliceLoads = 64;

    private readonly TableReader _reader;
    private readonly Qcow2Geometry _geometry;
    private readonly L2Scanner _scanner;
    private readonly Lock _gate = new();
    private readonly Dictionary<long, Slice> _slices = [];
    private readonly Queue<Slice> _clock = new();

    // Pieces of new tables that nobody has looked at: they need not be read to know that they are empty.
    private readonly HashSet<long> _empty = [];
    private readonly SortedSet<int> _dirtyL1Sectors = [];
    private readonly int _maxSlices;
    private ulong[] _l1;
    private int _dirtySlices;
    private long _drops;

    public TableStore(TableReader reader, Qcow2Geometry geometry, bool hasDataFile, HostOffset l1At, ulong[] l1, long cacheBytes = DefaultCacheBytes)
    {
        _reader = reader;
        _geometry = geometry;
        _scanner = new(reader.FileName, geometry, hasDataFile);
        _l1 = l1;
        L1Offset = l1At;
        _maxSlices = (int)Math.Max(MinSlices, cacheBytes / geometry.SliceBytes);
    }

    /// <summary>Where the L1 table is.</summary>
    public HostOffset L1Offset { get; private set; }

    /// <summary>Entries in the L1 table.</summary>
    public int L1Length => _l1.Length;

    /// <summary>So much was changed that a checkpoint is due, or memory would grow.</summary>
    public bool IsFull => Volatile.Read(ref _dirtySlices) > _maxSlices / 2;

    /// <summary>The L1 entry of an L2 table.</summary>
    public L1Entry GetL1(long index)
    {
        lock (_gate)
        {
            return index < _l1.Length ? new(_l1[index]) : default;
        }
    }

    /// <summary>All L1 entries; a copy.</summary>
    public ulong[] CopyL1()
    {
        lock (_gate)
        {
            return [.. _l1];
        }
    }

    /// <summary>Points an L1 entry to another L2 table whose content is on its way to the disk or there already, and forgets the pieces of the old one.</summary>
    /// <param name="index">Which entry.</param>
    /// <param name="entry">What it says from now on.</param>
    /// <param name="isEmpty">The table is new and all zeros.</param>
    public void SetL1(long index, L1Entry entry, bool isEmpty = false)
    {
        lock (_gate)
        {
            _l1[index] = entry.Value;
            _dirtyL1Sectors.Add((int)(index * L1Entry.Size / Sizes.SectorBytes));
            var perTable = 1L << (_geometry.GuestBytesPerL2Bits - _geometry.GuestBytesPerSliceBits);
            for (long i = 0; i < perTable; i++)
            {
                if (_slices.Remove((index * perTable) + i, out var slice))
                {
                    slice.Gone = true;
                    _dirtySlices -= slice.IsDirty ? 1 : 0;
                    slice.MarkClean();
                }

                _ = isEmpty ? _empty.Add((index * perTable) + i) : _empty.Remove((index * perTable) + i);
            }

            _drops++;
        }
    }

    /// <summary>Finds the run at a guest offset without waiting; false when its piece is not in memory.</summary>
    public bool TryFind(GuestOffset at, long length, out ClusterRun run)
    {
        lock (_gate)
        {
            return TryFindLocked(at, length, out run);
        }
    }

    /// <summary>The run of one kind that begins at a guest offset; see <see cref="ClusterMapper.FindAsync"/>.</summary>
    public ValueTask<ClusterRun> FindAsync(GuestOffset at, long length, CancellationToken cancellationToken) =>
        TryFind(at, length, out var run) && (run.Length == length || !EndsSlice(at, run))
            ? new(run)
            : FindSlowlyAsync(at, length, cancellationToken);

    /// <summary>An L2 entry and its bitmap.</summary>
    /// <param name="at">Any byte of the guest cluster. Its L2 table must exist.</param>
    /// <param name="cancellationToken">Stops reading the table.</param>
    public async ValueTask<(L2Entry Entry, SubclusterBitmap Bitmap)> GetEntryAsync(GuestOffset at, CancellationToken cancellationToken)
    {
        var slice = await LoadAsync(at.Value >> _geometry.GuestBytesPerSliceBits, cancellationToken).ConfigureAwait(false);
        lock (_gate)
        {
            var word = WordOf(at);
            return (new(slice.Words[word]), new(_geometry.HasExtendedL2 ? slice.Words[word + 1] : 0));
        }
    }

    /// <summary>Whether the entry of a guest cluster can be had without waiting.</summary>
    public bool TryGetEntry(GuestOffset at, out L2Entry entry, out SubclusterBitmap bitmap)
    {
        lock (_gate)
        {
            if (_slices.TryGetValue(at.Value >> _geometry.GuestBytesPerSliceBits, out var slice))
            {
                var word = WordOf(at);
                (entry, bitmap) = (new(slice.Words[word]), new(_geometry.HasExtendedL2 ? slice.Words[word + 1] : 0));
                return true;
            }
        }

        (entry, bitmap) = default((L2Entry, SubclusterBitmap));
        return false;
    }

    /// <summary>Changes an L2 entry in memory. Its L2 table must belong to this image alone.</summary>
    public async ValueTask SetEntryAsync(GuestOffset at, L2Entry entry, SubclusterBitmap bitmap, CancellationToken cancellationToken)
    {
        while (true)
        {
            var slice = await LoadAsync(at.Value >> _geometry.GuestBytesPerSliceBits, cancellationToken).ConfigureAwait(false);
            lock (_gate)
            {
                // Somebody who looked for another piece may have dropped this one, clean as it was, meanwhile: a change of it would be lost.
                if (slice.Gone)
                {
                    continue;
                }

                var word = WordOf(at);
                slice.Words[word] = entry.Value;
                if (_geometry.HasExtendedL2)
                {
                    slice.Words[word + 1] = bitmap.Value;
                }

                _dirtySlices += slice.IsDirty ? 0 : 1;
                slice.MarkDirty(word * 8, (word + _geometry.L2EntryWords) * 8);
                return;
            }
        }
    }

    /// <summary>Copies what has to be written, and takes it as written from now on.</summary>
    public TableChanges Take()
    {
        var changes = new TableChanges();
        lock (_gate)
        {
            foreach (var slice in _slices.Values)
            {
                if (slice.IsDirty)
                {
                    changes.Slices.Add((slice.At + slice.DirtyLow, Swapped(slice.Words, slice.DirtyLow / 8, slice.DirtyHigh / 8), slice, slice.DirtyLow));
                    slice.MarkClean();
                    slice.Busy = true;
                }
            }

            foreach (var sector in _dirtyL1Sectors)
            {
                var first = sector * (Sizes.SectorBytes / L1Entry.Size);
                var count = Math.Min(Sizes.SectorBytes / L1Entry.Size, _l1.Length - first);
                changes.L1.Add((L1Offset + ((long)sector * Sizes.SectorBytes), Swapped(_l1, first, first + count), sector));
            }

            _dirtyL1Sectors.Clear();
            _dirtySlices = 0;
        }

        return changes;
    }

    /// <summary>The changes have been written.</summary>
    public void Done(TableChanges changes)
    {
        lock (_gate)
        {
            foreach (var (_, _, slice, _) in changes.Slices)
            {
                slice.Busy = false;
            }
        }
    }

    /// <summary>The changes could not be written after all: they are to be taken again.</summary>
    public void PutBack(TableChanges changes)
    {
        lock (_gate)
        {
            foreach (var (_, bytes, slice, low) in changes.Slices)
            {
                slice.Busy = false;
                if (!slice.Gone)
                {
                    _dirtySlices += slice.IsDirty ? 0 : 1;
                    slice.MarkDirty(low, low + bytes.Length);
                }
            }

            foreach (var (_, _, sector) in changes.L1)
            {
                _dirtyL1Sectors.Add(sector);
            }
        }
    }

    /// <summary>Replaces the whole L1 table, after a checkpoint left nothing to write: it was moved, or another state of the disk becomes the active one.</summary>
    public void ReplaceL1(HostOffset at, ulong[] l1)
    {
        lock (_gate)
        {
            foreach (var slice in _slices.Values)
            {
                slice.Gone = true;
            }

            _slices.Clear();
            _empty.Clear();
            _clock.Clear();
            _drops++;
            _l1 = l1;
            L1Offset = at;
        }
    }

    private static byte[] Swapped(ulong[] words, int first, int end)
    {
        var bytes = new byte[(end - first) * 8];
        for (var i = first; i < end; i++)
        {
            BinaryPrimitives.WriteUInt64BigEndian(bytes.AsSpan((i - first) * 8), words[i]);
        }

        return bytes;
    }

    private int WordOf(GuestOffset at) =>
        ((int)(at.Value >> _geometry.ClusterBits) & ((1 << _geometry.SliceEntryBits) - 1)) * _geometry.L2EntryWords;

    private bool EndsSlice(GuestOffset at, in ClusterRun run) =>
        ((at.Value + run.Length) & ((1L << _geometry.GuestBytesPerSliceBits) - 1)) == 0;

    private bool TryFindLocked(GuestOffset at, long length, out ClusterRun run)
    {
        if (_slices.TryGetValue(at.Value >> _geometry.GuestBytesPerSliceBits, out var slice))
        {
            slice.Referenced = true;
            run = _scanner.Scan(slice.View, at, length);
            return true;
        }

        var l1Index = at.Value >> _geometry.GuestBytesPerL2Bits;
        if (l1Index < _l1.Length && !new L1Entry(_l1[l1Index]).IsAbsent)
        {
            run = default;
            return false;
        }

        // No table: nothing up to the next one.
        var tables = ((at.Value + length - 1) >> _geometry.GuestBytesPerL2Bits) - l1Index + 1;
        var absent = 1L;
        while (absent < tables && (l1Index + absent >= _l1.Length || new L1Entry(_l1[l1Index + absent]).IsAbsent))
        {
            absent++;
        }

        var inTable = at.Value & ((1L << _geometry.GuestBytesPerL2Bits) - 1);
        run = new(ClusterKind.Unallocated, absent == tables ? length : (absent << _geometry.GuestBytesPerL2Bits) - inTable, default, 0);
        return true;
    }

    private async ValueTask<ClusterRun> FindSlowlyAsync(GuestOffset at, long length, CancellationToken cancellationToken)
    {
        var run = await FindOneAsync(at, length, cancellationToken).ConfigureAwait(false);
        for (var loads = 0; run.Length < length && run.Kind != ClusterKind.Compressed && loads < MaxSliceLoads && EndsSlice(at, run); loads++)
        {
            ClusterRun next;
            try
            {
                next = await FindOneAsync(at + run.Length, length - run.Length, cancellationToken).ConfigureAwait(false);
            }
            catch (BlockException)
            {
                // The request that starts there reports it.
                break;
            }

            if (!run.Continues(next))
            {
                break;
            }

            run = run with { Length = run.Length + next.Length };
        }

        return run;
    }

    private async ValueTask<ClusterRun> FindOneAsync(GuestOffset at, long length, CancellationToken cancellationToken)
    {
        while (true)
        {
            if (TryFind(at, length, out var run))
            {
                return run;
            }

            await LoadAsync(at.Value >> _geometry.GuestBytesPerSliceBits, cancellationToken).ConfigureAwait(false);
        }
    }

    private async ValueTask<Slice> LoadAsync(long index, CancellationToken cancellationToken)
    {
        while (true)
        {
            HostOffset at;
            long drops;
            lock (_gate)
            {
                if (_slices.TryGetValue(index, out var known))
                {
                    known.Referenced = true;
                    return known;
                }

                at = PlaceOf(index);
                if (_empty.Remove(index))
                {
                    return Add(index, at, new ulong[_geometry.SliceBytes / 8]);
                }

                drops = _drops;
            }

            var bytes = new byte[_geometry.SliceBytes];
            await _reader.ReadAsync(at, bytes, "L2 table", index >> (_geometry.GuestBytesPerL2Bits - _geometry.GuestBytesPerSliceBits), cancellationToken).ConfigureAwait(false);
            var words = BigEndianWords.ToHost(bytes).ToArray();
            lock (_gate)
            {
                if (_slices.TryGetValue(index, out var known))
                {
                    return known;
                }

                // What was read may be old if the piece was changed, written and dropped in between.
                if (drops == _drops)
                {
                    return Add(index, at, words);
                }
            }
        }
    }

    private Slice Add(long index, HostOffset at, ulong[] words)
    {
        MakeRoom();
        var slice = new Slice(index, at, words);
        _slices.Add(index, slice);
        _clock.Enqueue(slice);
        return slice;
    }

    private HostOffset PlaceOf(long index)
    {
        var slicesPerTableBits = _geometry.GuestBytesPerL2Bits - _geometry.GuestBytesPerSliceBits;
        var l1Index = index >> slicesPerTableBits;
        var entry = new L1Entry(_l1[l1Index]);
        if ((entry.TableOffset.Value & _geometry.ClusterMask) != 0)
        {
            throw new ImageFormatException(
                _reader.FileName, $"L1 entry {l1Index}", L1Offset + (l1Index * L1Entry.Size), "value", $"0x{entry.Value:x16}",
                $"points to {entry.TableOffset}, which is not aligned to a cluster");
        }

        return entry.TableOffset + ((index & ((1L << slicesPerTableBits) - 1)) * _geometry.SliceBytes);
    }

    private void MakeRoom()
    {
        for (var looked = 0; _slices.Count >= _maxSlices && looked < 2 * _clock.Count; looked++)
        {
            var candidate = _clock.Dequeue();
            if (candidate.Gone)
            {
                continue;
            }

            if (candidate.Referenced || candidate.IsDirty || candidate.Busy)
            {
                candidate.Referenced = false;
                _clock.Enqueue(candidate);
                continue;
            }

            _drops += candidate.WasChanged ? 1 : 0;
            candidate.Gone = true;
            _slices.Remove(candidate.View.Index);
        }
    }

    /// <summary>A piece of an L2 table.</summary>
    internal sealed class Slice(long index, HostOffset at, ulong[] words)
    {
        public L2Slice View { get; } = L2Slice.Over(index, at, words);

        public ulong[] Words { get; } = words;

        public HostOffset At { get; } = at;

        public bool Referenced { get; set; } = true;

        public bool WasChanged { get; private set; }

        /// <summary>A checkpoint is writing a copy of it.</summary>
        public bool Busy { get; set; }

        /// <summary>No longer the piece at its index.</summary>
        public bool Gone { get; set; }

        public int DirtyLow { get; private set; }

        public int DirtyHigh { get; private set; }

        public bool IsDirty => DirtyLow < DirtyHigh;

        // In whole sectors: that is what a disk writes.
        public void MarkDirty(int low, int high)
        {
            low &= ~(Sizes.SectorBytes - 1);
            high = (high + Sizes.SectorBytes - 1) & ~(Sizes.SectorBytes - 1);
            (DirtyLow, DirtyHigh) = IsDirty ? (Math.Min(DirtyLow, low), Math.Max(DirtyHigh, high)) : (low, high);
            WasChanged = true;
        }

        public void MarkClean() => (DirtyLow, DirtyHigh) = (0, 0);
    }
}

/// <summary>Tables that a checkpoint writes: copies, so that others may go on.</summary>
internal sealed class TableChanges
{
    /// <summary>Parts of L2 tables: where, what, of which piece, from which byte.</summary>
    public List<(HostOffset At, byte[] Bytes, TableStore.Slice Slice, int Low)> Slices { get; } = [];

    /// <summary>Sectors of the L1 table: where, what, which.</summary>
    public List<(HostOffset At, byte[] Bytes, int Sector)> L1 { get; } = [];

    public bool IsEmpty => Slices.Count == 0 && L1.Count == 0;
}
