using System.Buffers;
using System.Runtime.InteropServices;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Findings;
using Platter.Formats.Qcow2.Layout;

namespace Platter.Formats.Qcow2.Check;

/// <summary>Reads the stored refcounts twice: for their kind before anything is counted, and in full to compare them afterwards.</summary>
internal sealed class RefcountChecker(
    Storage storage, Qcow2Metadata metadata, ReferenceCounts counts, ReferenceCounter references, CheckTally tally)
{
    private const string RefcountTable = "the refcount table";

    private readonly Qcow2Geometry _geometry = metadata.Geometry;
    private readonly long _clusterCount = Sizes.DivideRoundingUp(storage.Length, metadata.Geometry.ClusterSize);
    private ulong[] _table = [];
    private byte[] _lastBlock = [];
    private long _lastBlockIndex = -1;
    private bool _hasUnreadableBlocks;
    private bool _looksForLeaks;

    /// <summary>What a repair has to know of the old refcounts; null for a check.</summary>
    public RefcountSurvey? Survey { get; init; }

    // A structure may begin in the cluster after the file's last one, by less than a cluster: that cluster then counts as one of the file's.
    private long CountedClusters => counts.Count(_clusterCount) == 0 ? _clusterCount : _clusterCount + 1;

    private int BlockEntries => 1 << _geometry.RefcountBlockEntryBits;

    /// <summary>Whether a cluster starts beyond the end of the file: its refcount is not loaded.</summary>
    public bool IsBeyondTheEnd(long cluster) => cluster >= _clusterCount;

    /// <summary>The kind of the stored refcount of a cluster of the file.</summary>
    public StoredRefcount Stored(long cluster) =>
        _hasUnreadableBlocks && IsUnreadable(cluster >> _geometry.RefcountBlockEntryBits) ? StoredRefcount.Unknown : counts.Stored(cluster);

    /// <summary>The kind of the stored refcount of a cluster that the file does not have.</summary>
    public async ValueTask<StoredRefcount> GetBeyondTheEndAsync(long cluster, CancellationToken cancellationToken)
    {
        var index = cluster >> _geometry.RefcountBlockEntryBits;
        if (index >= _table.Length)
        {
            return StoredRefcount.Zero;
        }

        if (index != _lastBlockIndex)
        {
            _lastBlockIndex = -1;
            _lastBlock = _lastBlock.Length == 0 ? new byte[_geometry.ClusterSize] : _lastBlock;
            switch (await ReadBlockAsync((int)index, _lastBlock, cancellationToken).ConfigureAwait(false))
            {
                case BlockState.Absent:
                    return StoredRefcount.Zero;
                case BlockState.Unreadable:
                    return StoredRefcount.Unknown;
            }

            _lastBlockIndex = index;
        }

        return RefcountBlock.Get(_lastBlock, (int)(cluster & (BlockEntries - 1)), _geometry.RefcountOrder) switch
        {
            0 => StoredRefcount.Zero,
            1 => StoredRefcount.One,
            _ => StoredRefcount.Many,
        };
    }

    /// <summary>Loads the table, and from the blocks what COPIED flags are judged by.</summary>
    public async ValueTask LoadStoredAsync(CancellationToken cancellationToken)
    {
        await LoadTableAsync(cancellationToken).ConfigureAwait(false);
        var block = ArrayPool<byte>.Shared.Rent(_geometry.ClusterSize);
        try
        {
            for (var index = 0; index < _table.Length && (long)index << _geometry.RefcountBlockEntryBits < _clusterCount; index++)
            {
                if (await ReadBlockAsync(index, block, cancellationToken).ConfigureAwait(false) == BlockState.Read)
                {
                    LoadStored(block.AsSpan(0, _geometry.ClusterSize), (long)index << _geometry.RefcountBlockEntryBits);
                }
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(block);
        }
    }

    /// <summary>Counts the references that table and blocks make, and judges the table's entries.</summary>
    public void CheckTable()
    {
        // A repair never keeps the table where it is, so that nothing of it is missed.
        references.Journal = Survey?.TableClusters;
        (references.Missing, references.BeyondTheEnd) = (null, Remedies.RefcountStructure);
        references.Add((long)metadata.Header.RefcountTableOffset, metadata.Header.RefcountTableBytes, Referrer.Structure(RefcountTable));
        references.Journal = null;
        Survey?.Begin(_table);
        for (var index = 0; index < _table.Length; index++)
        {
            var entry = new RefcountTableEntry(_table[index]);
            if (entry.Value == 0)
            {
                continue;
            }

            var who = Referrer.Entry(RefcountTable, index);
            if (entry.ReservedBits != 0)
            {
                tally.Corruption($"{who} is 0x{entry.Value:x16}: reserved bits 0x{entry.ReservedBits:x} are set", Remedies.RefcountStructure);
            }
            else if ((entry.RawOffset & (ulong)_geometry.ClusterMask) != 0)
            {
                tally.Corruption($"{who} points to 0x{entry.RawOffset:x}, which is not aligned to a cluster", Remedies.RefcountStructure);
            }
            else if (entry.RawOffset >> _geometry.ClusterBits >= (ulong)CountedClusters)
            {
                tally.Corruption($"{who} points to 0x{entry.RawOffset:x}, beyond the end of the file", Remedies.RefcountStructure);
            }
            else
            {
                references.Journal = Survey?.JournalFor(index);
                references.Add(entry.Offset.Value, _geometry.ClusterSize, who);
                references.Journal = null;
                if (counts.Count(entry.Offset.Value >> _geometry.ClusterBits) is var count and not 1)
                {
                    tally.Corruption($"{who}: the refcount block at 0x{entry.RawOffset:x} is used for something else as well ({count} references)",
                        Remedies.RefcountStructure, entry.Offset);
                }
            }
        }
    }

    /// <summary>Compares stored with counted refcounts.</summary>
    /// <param name="lookForLeaks">Whether every structure was examined, so that what nothing refers to is leaked.</param>
    /// <param name="cancellationToken">Stops.</param>
    /// <returns>Host offset of the end of the last used cluster.</returns>
    public async ValueTask<long> CompareAsync(bool lookForLeaks, CancellationToken cancellationToken)
    {
        _looksForLeaks = lookForLeaks;
        // The header's cluster is always used.
        long last = 0;
        var covered = Math.Min((long)_table.Length << _geometry.RefcountBlockEntryBits, CountedClusters);
        var block = ArrayPool<byte>.Shared.Rent(_geometry.ClusterSize);
        try
        {
            for (var index = 0; (long)index << _geometry.RefcountBlockEntryBits < covered; index++)
            {
                var first = (long)index << _geometry.RefcountBlockEntryBits;
                var end = Math.Min(first + BlockEntries, covered);
                switch (await ReadBlockAsync(index, block, cancellationToken).ConfigureAwait(false))
                {
                    case BlockState.Read:
                        last = CompareBlock(block.AsSpan(0, _geometry.ClusterSize), first, end, last);
                        break;
                    case BlockState.Unreadable:
                        for (var cluster = first; cluster < end && Survey is null; cluster++)
                        {
                            tally.Error(
                                $"the refcount of the cluster at 0x{cluster << _geometry.ClusterBits:x} cannot be read",
                                new(cluster << _geometry.ClusterBits));
                        }

                        break;
                    default:
                        last = CompareUncovered(first, end, last);
                        break;
                }
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(block);
        }

        last = CompareUncovered(covered, long.MaxValue, last);
        return (last + 1) << _geometry.ClusterBits;
    }

    // As far as blocks can matter: beyond the end of the file only the table's entries are judged.
    private async ValueTask LoadTableAsync(CancellationToken cancellationToken)
    {
        var bytes = new byte[metadata.Header.RefcountTableBytes];
        _ = await storage.ReadAsync(new((long)metadata.Header.RefcountTableOffset), bytes, cancellationToken).ConfigureAwait(false);
        _table = BigEndianWords.ToHost(bytes).ToArray();

        for (var index = 0; index < _table.Length; index++)
        {
            _hasUnreadableBlocks |= IsUnreadable(index);
        }
    }

    // An offset where no block can be. One that is merely beyond the end of the file reads as zeros.
    private bool IsUnreadable(long index)
    {
        if (index >= _table.Length)
        {
            return false;
        }

        var offset = new RefcountTableEntry(_table[index]).RawOffset;
        return (offset & (ulong)_geometry.ClusterMask) != 0 || offset > (ulong)(long.MaxValue - _geometry.ClusterSize);
    }

    private async ValueTask<BlockState> ReadBlockAsync(int index, byte[] block, CancellationToken cancellationToken)
    {
        var entry = new RefcountTableEntry(_table[index]);
        if (entry.IsAbsent)
        {
            return BlockState.Absent;
        }

        if (IsUnreadable(index))
        {
            return BlockState.Unreadable;
        }

        if (entry.RawOffset >= (ulong)storage.Length)
        {
            // Beyond the end all is zero.
            return BlockState.Absent;
        }

        var read = await storage.ReadAsync(entry.Offset, block.AsMemory(0, _geometry.ClusterSize), cancellationToken).ConfigureAwait(false);
        block.AsSpan(read).Clear();
        return BlockState.Read;
    }

    private void LoadStored(ReadOnlySpan<byte> block, long first)
    {
        var count = (int)Math.Min(BlockEntries, _clusterCount - first);
        if (_geometry.RefcountOrder == 4)
        {
            counts.SetStored(first, MemoryMarshal.Cast<byte, ushort>(block)[..count]);
            return;
        }

        for (var i = 0; i < count; i++)
        {
            if (RefcountBlock.Get(block, i, _geometry.RefcountOrder) is var refcount and not 0)
            {
                counts.SetStored(first + i, refcount == 1 ? StoredRefcount.One : StoredRefcount.Many);
            }
        }
    }

    private long CompareBlock(ReadOnlySpan<byte> block, long first, long end, long last)
    {
        for (var cluster = first; cluster < end;)
        {
            // One look-up per page of counts; a page that does not exist holds nothing but zeros.
            var pageEnd = Math.Min(((cluster >> ReferenceCounts.PageBits) + 1) << ReferenceCounts.PageBits, end);
            counts.TryGetPage(cluster >> ReferenceCounts.PageBits, out var page);
            if (_geometry.RefcountOrder == 4 && page is not null)
            {
                // The usual width, and nearly always no difference: millions of times in a large image.
                var refcounts = MemoryMarshal.Cast<byte, ushort>(block)[(int)(cluster - first)..(int)(pageEnd - first)];
                var entries = page.AsSpan((int)(cluster & ((1 << ReferenceCounts.PageBits) - 1)), refcounts.Length);
                var same = ReferenceCounts.CommonPrefix(entries, refcounts, out var lastUsed);
                last = lastUsed < 0 ? last : cluster + lastUsed;
                cluster += same;
            }

            for (; cluster < pageEnd; cluster++)
            {
                var counted = page is null ? 0 : counts.CountOf(page[cluster & ((1 << ReferenceCounts.PageBits) - 1)], cluster);
                var stored = RefcountBlock.Get(block, (int)(cluster - first), _geometry.RefcountOrder);
                if ((stored | counted) != 0)
                {
                    last = Math.Max(last, cluster);
                    if (stored != counted)
                    {
                        Differs(cluster, stored, counted);
                    }
                }
            }
        }

        return last;
    }

    // Clusters without a refcount block: the stored refcount is 0.
    private long CompareUncovered(long first, long end, long last)
    {
        foreach (var pageIndex in counts.PagesIn(first >> ReferenceCounts.PageBits, (end - 1) >> ReferenceCounts.PageBits))
        {
            counts.TryGetPage(pageIndex, out var page);
            var pageFirst = pageIndex << ReferenceCounts.PageBits;
            for (var cluster = Math.Max(first, pageFirst); cluster < Math.Min(end, pageFirst + (1 << ReferenceCounts.PageBits)); cluster++)
            {
                if (counts.CountOf(page![cluster & ((1 << ReferenceCounts.PageBits) - 1)], cluster) is var counted and not 0)
                {
                    last = Math.Max(last, cluster);
                    Differs(cluster, 0, counted);
                }
            }
        }

        return last;
    }

    private void Differs(long cluster, ulong stored, ulong counted)
    {
        var at = new HostOffset(cluster << _geometry.ClusterBits);
        if (stored < counted)
        {
            Survey?.Differing.Add(cluster >> _geometry.RefcountBlockEntryBits);
            tally.Corruption($"cluster at {at} has refcount {stored} and {counted} references", Remedies.RefcountTooLow, at);
        }
        else if (_looksForLeaks)
        {
            Survey?.Differing.Add(cluster >> _geometry.RefcountBlockEntryBits);
            tally.Leak($"cluster at {at} has refcount {stored} and {counted} references", counted == 0 ? Remedies.Leak : Remedies.RefcountTooHigh, at);
        }
    }

    private enum BlockState
    {
        Absent,
        Read,
        Unreadable,
    }
}
