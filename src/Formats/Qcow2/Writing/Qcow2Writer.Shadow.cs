using System.Buffers.Binary;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Allocation;
using Platter.Formats.Qcow2.Layout;
using Platter.Formats.Qcow2.Snapshots;

namespace Platter.Formats.Qcow2.Writing;

// Offline changes that happen wholly or not at all. Everything that changes is written to new clusters: L2 tables, the L1 table, refcount blocks, the refcount table,
// the snapshot table. Then one write of the header's first sector, which holds the offsets of all of them, makes the new state the current one. Before
// that write nothing that the old state needs has been touched; after it nothing is missing. A cut before leaves clusters behind that nobody points to and
// whose refcounts, on the disk, are 0: not even leaks.
internal sealed partial class Qcow2Writer
{
    /// <summary>The snapshots after the last offline change; null when there was none.</summary>
    public IReadOnlyList<SnapshotInfo>? Snapshots { get; private set; }

    /// <summary>Makes an offline change. No other request may be under way.</summary>
    /// <param name="change">Works on a <see cref="ShadowState"/>; an exception leaves the image as it was, and this writer refuses to go on.</param>
    /// <param name="cancellationToken">Stops before the header is written.</param>
    /// <param name="givesUpSpace">Afterwards the host gets back what is free, as far as the refcounts can be believed.</param>
    internal async ValueTask ShadowAsync(Func<ShadowState, ValueTask> change, CancellationToken cancellationToken, bool givesUpSpace = false)
    {
        // The second one writes the refcounts that the first one allowed to lower.
        await CheckpointAsync(cancellationToken).ConfigureAwait(false);
        await CheckpointAsync(cancellationToken, final: true).ConfigureAwait(false);
        await _checkpointing.WaitAsync(cancellationToken).ConfigureAwait(false);
        await _changing.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            _checkpoint.ThrowIfBroken();
            await _allocator.ThrowIfUnsoundAsync().ConfigureAwait(false);
            await ThrowIfAnyTableOverlapsAsync().ConfigureAwait(false);
            await _refcounts.LoadAllAsync(cancellationToken).ConfigureAwait(false);
            _allocator.MayReuse = false;
            try
            {
                await TryShadowAsync(change, cancellationToken).ConfigureAwait(false);
            }
            catch (BlockException e) when (e.Kind == BlockErrorKind.NoSpace && _checkpoint.Broken is null)
            {
                // The file cannot grow. What is free inside will do, if that is known.
                if (!await _areRefcountsTrue(cancellationToken).ConfigureAwait(false))
                {
                    throw;
                }

                await _allocator.FindFreeAsync(cancellationToken).ConfigureAwait(false);
                (_allocator.MayReuse, _allocator.PrefersInside) = (false, true);
                await TryShadowAsync(change, cancellationToken).ConfigureAwait(false);
            }

            _allocator.PrefersInside = false;
            if (givesUpSpace)
            {
                await GiveUpFreeSpaceAsync(cancellationToken).ConfigureAwait(false);
            }
        }
        finally
        {
            _allocator.PrefersInside = false;
            _refcounts.UnpinAll();
            _changing.Release();
            _checkpointing.Release();
        }
    }

    // Once. If it fails before the switch everything is as it was, in memory too, unless the disk itself failed.
    private async ValueTask TryShadowAsync(Func<ShadowState, ValueTask> change, CancellationToken cancellationToken)
    {
        var (lengthBefore, endBefore) = (_storage.Length, _allocator.End);
        var state = new ShadowState(_storage, _geometry, _refcounts, _allocator, _header, _tables.CopyL1(), _tables.L1Offset, VirtualSize, _hasDataFile);
        try
        {
            await change(state).ConfigureAwait(false);
            await state.SwitchAsync(cancellationToken).ConfigureAwait(false);
        }
        catch (Exception e)
        {
            if (!state.MayHaveSwitched)
            {
                await CutToAsync(lengthBefore).ConfigureAwait(false);
                if (e is BlockException { Kind: BlockErrorKind.NoSpace } && await TryGoBackAsync(endBefore).ConfigureAwait(false))
                {
                    throw;
                }
            }

            // What is in memory is neither the old state nor the new one.
            _checkpoint.GiveUp(e as BlockException ?? new BlockException(BlockErrorKind.InvalidRequest, $"{_storage.Name}: the operation was stopped", e));
            throw;
        }

        _tables.ReplaceL1(state.L1Offset, state.L1);
        VirtualSize = state.VirtualSize;
        _regions.Clear();
        _soleTables.Clear();
        _allocator.Forget();
        _reuseWasJudged = false;
        var metadata = await Qcow2Opening.ReadForCheckAsync(_storage, CancellationToken.None).ConfigureAwait(false);
        Qcow2WritableOpening.AddRegions(_regions, metadata, _refcounts, state.L1);
        Qcow2WritableOpening.AddBitmapRegions(_regions, metadata, _storage.Name);
        foreach (var bitmap in _bitmaps)
        {
            bitmap.AddTo(_regions, _geometry);
        }

        Snapshots = [.. metadata.Snapshots.Select(s => SnapshotTable.ToInfo(s, VirtualSize))];
    }

    private async ValueTask<bool> TryGoBackAsync(long end)
    {
        try
        {
            await _header.ReloadAsync(CancellationToken.None).ConfigureAwait(false);
            var header = _header.Header;
            await _refcounts.ReloadAsync(new((long)header.RefcountTableOffset), header.RefcountTableBytes, CancellationToken.None).ConfigureAwait(false);
            _allocator.Forget();
            _allocator.CutTo(end);
            return true;
        }
        catch (BlockException)
        {
            return false;
        }
    }

    // What was appended for a change that has not happened is nobody's. The error that led here is the one to tell.
    private async ValueTask CutToAsync(long length)
    {
        try
        {
            if (_storage.Length > length && !_storage.HasFixedLength)
            {
                await _storage.SetLengthAsync(length, CancellationToken.None).ConfigureAwait(false);
            }
        }
        catch (BlockException)
        {
            // Nobody knows of the bytes behind the end; they cost space and nothing else.
        }
    }
}

/// <summary>The state that an offline change builds beside the one on the disk.</summary>
internal sealed class ShadowState
{
    private readonly Core.Storages.Storage _storage;
    private readonly Qcow2Geometry _geometry;
    private readonly RefcountStore _refcounts;
    private readonly ClusterAllocator _allocator;
    private readonly Metadata.HeaderSector _header;
    private readonly bool _hasDataFile;

    public ShadowState(
        Core.Storages.Storage storage, Qcow2Geometry geometry, RefcountStore refcounts, ClusterAllocator allocator, Metadata.HeaderSector header,
        ulong[] l1, HostOffset l1At, long virtualSize, bool hasDataFile)
    {
        _hasDataFile = hasDataFile;
        (_storage, _geometry, _refcounts, _allocator, _header) = (storage, geometry, refcounts, allocator, header);
        (L1, L1Offset, VirtualSize) = (l1, l1At, virtualSize);
    }

    /// <summary>The active L1 table as it will be; set another array for another length.</summary>
    public ulong[] L1 { get; set; }

    /// <summary>Where the active L1 table is, and after the switch will be.</summary>
    public HostOffset L1Offset { get; private set; }

    /// <summary>Size of the disk as it will be, in bytes.</summary>
    public long VirtualSize { get; set; }

    /// <summary>The header's other fields: changes go to the disk with the switch.</summary>
    public Metadata.HeaderSector Header => _header;

    /// <summary>Whether the disk may have the new state already.</summary>
    public bool MayHaveSwitched { get; private set; }

    /// <summary>Whether guest data are in a file of their own.</summary>
    public bool HasDataFile => _hasDataFile;

    /// <summary>The file.</summary>
    public Core.Storages.Storage Storage => _storage;

    /// <summary>Its geometry.</summary>
    public Qcow2Geometry Geometry => _geometry;

    /// <summary>Writes bytes to new, neighbouring clusters with refcount 1.</summary>
    /// <param name="bytes">What is left of the last cluster is filled with zeros.</param>
    /// <param name="cancellationToken">Stops before anything was written.</param>
    public async ValueTask<HostOffset> WriteNewAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken)
    {
        var clusters = Sizes.DivideRoundingUp(bytes.Length, _geometry.ClusterSize);
        var first = await _allocator.AllocateContiguousAsync(clusters, cancellationToken).ConfigureAwait(false);
        var at = new HostOffset(first << _geometry.ClusterBits);
        await _storage.WriteAsync(at, bytes, cancellationToken).ConfigureAwait(false);
        var end = at.Value + (clusters << _geometry.ClusterBits);
        if (at.Value + bytes.Length < end)
        {
            await _storage.WriteAsync(at + bytes.Length, new byte[end - at.Value - bytes.Length], cancellationToken).ConfigureAwait(false);
        }

        return at;
    }

    /// <summary>Changes the refcounts of the clusters that a range of bytes touches.</summary>
    public void Count(long at, long length, bool raise)
    {
        if (length > 0)
        {
            var first = at >> _geometry.ClusterBits;
            _refcounts.AddNow(first, ((at + length - 1) >> _geometry.ClusterBits) - first + 1, raise);
        }
    }

    /// <summary>Changes the refcounts of everything that an L1 table leads to: L2 tables, clusters, compressed bytes.</summary>
    public async ValueTask CountTreeAsync(ulong[] l1, bool raise, CancellationToken cancellationToken)
    {
        var words = new ulong[_geometry.ClusterSize / 8];
        for (var i = 0; i < l1.Length; i++)
        {
            var entry = new L1Entry(l1[i]);
            if (entry.IsAbsent)
            {
                continue;
            }

            await ReadTableAsync(entry, i, words, cancellationToken).ConfigureAwait(false);
            Count(entry.TableOffset.Value, _geometry.ClusterSize, raise);
            for (var word = 0; word < words.Length; word += _geometry.L2EntryWords)
            {
                CountEntry(new(words[word]), raise);
            }
        }
    }

    /// <summary>Reads an L2 table as the disk has it.</summary>
    public async ValueTask ReadTableAsync(L1Entry entry, long index, ulong[] words, CancellationToken cancellationToken)
    {
        if ((entry.TableOffset.Value & _geometry.ClusterMask) != 0)
        {
            throw new ImageFormatException(
                _storage.Name, $"L1 entry {index}", default, "value", $"0x{entry.Value:x16}", $"points to {entry.TableOffset}, which is not aligned to a cluster");
        }

        var bytes = new byte[_geometry.ClusterSize];
        _ = await _storage.ReadAsync(entry.TableOffset, bytes, cancellationToken).ConfigureAwait(false);
        BigEndianWords.ToHost(bytes).CopyTo(words);
    }

    /// <summary>Makes the new state the current one. Everything that it consists of has been written.</summary>
    public async ValueTask SwitchAsync(CancellationToken cancellationToken)
    {
        await CorrectFlagsAsync(cancellationToken).ConfigureAwait(false);
        var oldL1 = _header.Header;
        Count((long)oldL1.L1TableOffset, (long)oldL1.L1Size * L1Entry.Size, raise: false);
        _storage.Announce(StorageEvent.L1Update);
        L1Offset = L1.Length == 0 ? default : await WriteNewAsync(Bytes(L1), cancellationToken).ConfigureAwait(false);
        await _refcounts.MoveAsync(_allocator, cancellationToken).ConfigureAwait(false);
        foreach (var (at, bytes) in _refcounts.TakeMoved())
        {
            _storage.Announce(StorageEvent.RefblockUpdate);
            await _storage.WriteAsync(at, bytes, cancellationToken).ConfigureAwait(false);
        }

        await _storage.FlushAsync(cancellationToken).ConfigureAwait(false);
        _header.Set64(Qcow2Header.L1TableOffsetAt, (ulong)L1Offset.Value);
        _header.Set32(Qcow2Header.L1SizeAt, (uint)L1.Length);
        _header.Set64(Qcow2Header.SizeAt, (ulong)VirtualSize);
        _header.Set64(Qcow2Header.RefcountTableOffsetAt, (ulong)_refcounts.TableOffset.Value);
        _header.Set32(Qcow2Header.RefcountTableClustersAt, (uint)_refcounts.TableClusters);
        MayHaveSwitched = true;
        await _header.WriteAsync(CancellationToken.None).ConfigureAwait(false);
        _storage.Announce(StorageEvent.FlushToDisk);
        await _storage.FlushAsync(CancellationToken.None).ConfigureAwait(false);
    }

    // COPIED says that a refcount is exactly 1. Where that changed, the table is written anew: the old one is still the current state's.
    private async ValueTask CorrectFlagsAsync(CancellationToken cancellationToken)
    {
        var words = new ulong[_geometry.ClusterSize / 8];
        L1 = [.. L1];
        for (var i = 0; i < L1.Length; i++)
        {
            var entry = new L1Entry(L1[i]);
            if (entry.IsAbsent)
            {
                continue;
            }

            await ReadTableAsync(entry, i, words, cancellationToken).ConfigureAwait(false);
            var table = entry.TableOffset;
            if (!_hasDataFile && CorrectFlags(words))
            {
                Count(table.Value, _geometry.ClusterSize, raise: false);
                table = await WriteNewAsync(Bytes(words), cancellationToken).ConfigureAwait(false);
            }

            var own = _refcounts.GetNow(table.Value >> _geometry.ClusterBits) == 1;
            L1[i] = (ulong)table.Value | (own ? L1Entry.CopiedFlag : 0);
        }
    }

    private bool CorrectFlags(ulong[] words)
    {
        var changed = false;
        for (var word = 0; word < words.Length; word += _geometry.L2EntryWords)
        {
            var entry = new L2Entry(words[word]);
            if (entry.IsCompressed || (entry.Value & L2Entry.OffsetMask) == 0)
            {
                continue;
            }

            var right = _refcounts.GetNow(entry.Offset.Value >> _geometry.ClusterBits) == 1;
            if (right != entry.IsCopied)
            {
                words[word] = entry.Value ^ L2Entry.CopiedFlag;
                changed = true;
            }
        }

        return changed;
    }

    private void CountEntry(L2Entry entry, bool raise)
    {
        if (_hasDataFile)
        {
            return;
        }

        if (entry.IsCompressed)
        {
            Count(entry.CompressedOffset(_geometry).Value, entry.CompressedLength(_geometry), raise);
        }
        else if ((entry.Value & L2Entry.OffsetMask) != 0)
        {
            Count(entry.Offset.Value, 1, raise);
        }
    }

    /// <summary>Words as a table on the disk has them.</summary>
    public static byte[] Bytes(ulong[] words)
    {
        var bytes = new byte[words.Length * 8];
        for (var i = 0; i < words.Length; i++)
        {
            BinaryPrimitives.WriteUInt64BigEndian(bytes.AsSpan(i * 8), words[i]);
        }

        return bytes;
    }
}
