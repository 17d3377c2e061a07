using Platter.Core.Bitmaps;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Allocation;
using Platter.Formats.Qcow2.Bitmaps;
using Platter.Formats.Qcow2.Layout;
using Platter.Formats.Qcow2.Metadata;

namespace Platter.Formats.Qcow2.Writing;

// How bitmaps come to the disk. Two ways, and what a cut leaves:
// Tracked ones say "in use" on the disk from before the first write on. So their bits and their tables may be changed where they are; when all of that is durable the
// flag goes. A cut before that leaves them marked, which means inconsistent.
// Everything else (adding, removing, clearing, merging, another size) writes new tables and new bits to new clusters, and a new directory there or behind the old one, makes
// them durable, and switches the header extension: a cut leaves the old list or the new one, both whole. If only one sector of the directory differs, it is written instead.
internal sealed partial class Qcow2Writer
{
    private long _directoryCluster;

    // The directory as the disk has it, in whole clusters. In place only its flags are changed.
    private byte[] _directory = [];
    private bool _isDirectoryKnown = true;

    /// <inheritdoc/>
    public override async ValueTask StoreBitmapsAsync(CancellationToken cancellationToken = default)
    {
        if (!_areMarked)
        {
            return;
        }

        _checkpoint.ThrowIfBroken();
        var change = new BitmapChange(_bitmaps);
        var changedEntries = new List<(HostOffset At, byte[] Bytes)>();
        await PrepareAsync(
            change,
            async () =>
            {
                for (var i = 0; i < change.Next.Count; i++)
                {
                    if (change.Next[i].Changes is not null)
                    {
                        change.Next[i] = await StoreChangesAsync(change, change.Next[i], changedEntries, cancellationToken).ConfigureAwait(false);
                    }
                }
            },
            cancellationToken).ConfigureAwait(false);

        // From here on the disk may point to the new clusters.
        foreach (var (at, bytes) in changedEntries)
        {
            await _storage.WriteAsync(at, bytes, cancellationToken).ConfigureAwait(false);
        }

        if (changedEntries.Count > 0)
        {
            await FlushImageAsync().ConfigureAwait(false);
        }

        await WriteFlagsAsync(change.Next, static _ => false, CancellationToken.None).ConfigureAwait(false);
        _areMarked = false;
        TakeOver(change.Next, _directoryCluster, _directory);
        await GiveUpAsync(change.Obsolete, cancellationToken).ConfigureAwait(false);
    }

    // Makes a new list of bitmaps the current one, or leaves everything as it is.
    private async ValueTask ChangeBitmapsAsync(Func<BitmapChange, ValueTask> edit, CancellationToken cancellationToken)
    {
        await StoreBitmapsAsync(cancellationToken).ConfigureAwait(false);
        _checkpoint.ThrowIfBroken();
        var change = new BitmapChange(_bitmaps);
        await PrepareAsync(
            change,
            async () =>
            {
                await edit(change).ConfigureAwait(false);
                change.Directory = DirectoryOf(change.Next, _geometry);
                change.Place = PlaceOf(change);
                await WriteDirectoryAsync(change, cancellationToken).ConfigureAwait(false);
            },
            cancellationToken).ConfigureAwait(false);
        await SwitchAsync(change).ConfigureAwait(false);
    }

    // The disk gets its new size between the two halves of a change; meanwhile every bitmap says that it is in use, since its table has the wrong size.
    private async ValueTask ResizeWithTablesAsync(BitmapChange change, long virtualSize, long backingSize, ResizePreallocation preallocation, CancellationToken cancellationToken)
    {
        await PrepareAsync(
            change,
            async () =>
            {
                for (var i = 0; i < change.Next.Count; i++)
                {
                    var bitmap = change.Next[i];
                    change.Next[i] = await WriteTableAsync(change, bitmap, null, virtualSize, cancellationToken).ConfigureAwait(false);
                    GiveUpTable(change, bitmap, change.Next[i].Table!);
                }

                change.Directory = DirectoryOf(change.Next, _geometry);
                await WriteDirectoryAsync(change, cancellationToken).ConfigureAwait(false);
            },
            cancellationToken).ConfigureAwait(false);
        await WriteFlagsAsync(_bitmaps, static _ => true, cancellationToken).ConfigureAwait(false);
        try
        {
            await ResizeDiskAsync(virtualSize, backingSize, preallocation, cancellationToken).ConfigureAwait(false);
        }
        catch
        {
            if (_checkpoint.Broken is null)
            {
                await WriteFlagsAsync(_bitmaps, static _ => false, CancellationToken.None).ConfigureAwait(false);
                await ReleaseAsync(change.Fresh).ConfigureAwait(false);
            }

            throw;
        }

        await SwitchAsync(change).ConfigureAwait(false);
    }

    // Runs what writes to new clusters, and makes it durable together with the refcounts of these. After an error nothing has happened.
    private async ValueTask PrepareAsync(BitmapChange change, Func<ValueTask> write, CancellationToken cancellationToken)
    {
        try
        {
            await write().ConfigureAwait(false);
            await CheckpointAsync(cancellationToken, final: true).ConfigureAwait(false);
        }
        catch
        {
            await ReleaseAsync(change.Fresh).ConfigureAwait(false);
            throw;
        }
    }

    // Most changes need no new clusters for the directory: an entry is added, the last one goes, or one changes inside a sector.
    private DirectoryPlace PlaceOf(BitmapChange change)
    {
        if (!_isDirectoryKnown || change.Next.Count == 0 || _bitmaps.Count == 0 || change.Directory.Length != _directory.Length)
        {
            return DirectoryPlace.New;
        }

        var (oldSize, newSize) = (SizeOf(_bitmaps), SizeOf(change.Next));
        var first = change.Directory.AsSpan().CommonPrefixLength(_directory);
        if (first >= Math.Min(oldSize, newSize) && oldSize != newSize)
        {
            return DirectoryPlace.Tail;
        }

        var last = change.Directory.Length - 1;
        while (last > first && change.Directory[last] == _directory[last])
        {
            last--;
        }

        return oldSize == newSize && change.Next.Count == _bitmaps.Count && first / Sizes.SectorBytes == last / Sizes.SectorBytes ? DirectoryPlace.Same : DirectoryPlace.New;
    }

    private async ValueTask WriteDirectoryAsync(BitmapChange change, CancellationToken cancellationToken)
    {
        if (SizeOf(change.Next) > BitmapsExtension.MaxDirectoryBytes)
        {
            throw Refuse(BlockErrorKind.LimitExceeded, $"the list of bitmaps would have more than {BitmapsExtension.MaxDirectoryBytes >> 20} MiB");
        }

        if (change.Place == DirectoryPlace.New && change.Directory.Length > 0)
        {
            change.DirectoryCluster = await AllocateForBitmapsAsync(change, change.Directory.Length >> _geometry.ClusterBits, cancellationToken).ConfigureAwait(false);
            await _storage.WriteAsync(new(change.DirectoryCluster << _geometry.ClusterBits), change.Directory, cancellationToken).ConfigureAwait(false);
            return;
        }

        change.DirectoryCluster = _directoryCluster;
        if (change.Place == DirectoryPlace.Tail && SizeOf(change.Next) > SizeOf(_bitmaps))
        {
            // The sector in which the old one ends is written as it was, but for what is new in it.
            var from = (int)SizeOf(_bitmaps) & ~(Sizes.SectorBytes - 1);
            var to = (int)(SizeOf(change.Next) + Sizes.SectorBytes - 1) & ~(Sizes.SectorBytes - 1);
            await _storage.WriteAsync(
                new((_directoryCluster << _geometry.ClusterBits) + from), change.Directory.AsMemory(from, to - from), cancellationToken).ConfigureAwait(false);
        }
    }

    private async ValueTask SwitchAsync(BitmapChange change)
    {
        await _checkpointing.WaitAsync().ConfigureAwait(false);
        try
        {
            if (change.Place == DirectoryPlace.Same)
            {
                await WriteFlagsAsync(change.Next, static _ => false, CancellationToken.None).ConfigureAwait(false);
            }
            else
            {
                BitmapsExtension? extension = change.Next.Count == 0
                    ? null
                    : new((uint)change.Next.Count, (ulong)SizeOf(change.Next), (ulong)(change.DirectoryCluster << _geometry.ClusterBits));
                await BitmapExtensionSwitch.RunAsync(_storage, _header, _checkpoint, extension).ConfigureAwait(false);
            }
        }
        catch (BlockException e)
        {
            // Which list the disk has now is not known.
            _checkpoint.GiveUp(e);
            throw;
        }
        finally
        {
            _checkpointing.Release();
        }

        if (_directory.Length > 0 && change.Place == DirectoryPlace.New)
        {
            change.Obsolete.Add((_directoryCluster, _directory.Length >> _geometry.ClusterBits));
        }

        _isDirectoryKnown = true;
        TakeOver(change.Next, change.DirectoryCluster, change.Directory);
        await GiveUpAsync(change.Obsolete, CancellationToken.None).ConfigureAwait(false);
    }

    private void TakeOver(IReadOnlyList<StoredBitmap> bitmaps, long directoryCluster, byte[] directory)
    {
        _bitmaps = [.. bitmaps.Select(b => b with { Changes = b.IsTracked ? new DirtyBits(VirtualSize, b.Entry.GranularityBits) : null })];
        _tracked = [.. _bitmaps.Where(b => b.Changes is not null)];
        (_directoryCluster, _directory) = (directoryCluster, directory);
    }

    // Entries are aligned to 8 bytes, so a flag lies in one sector, and each is right for itself however the write is torn.
    private async ValueTask WriteFlagsAsync(IReadOnlyList<StoredBitmap> bitmaps, Func<StoredBitmap, bool> isInUse, CancellationToken cancellationToken)
    {
        var wanted = DirectoryOf(
            [.. bitmaps.Select(b => isInUse(b) ? b with { Entry = b.Entry.WithFlags(b.Entry.Flags | BitmapFlags.InUse) } : b)], _geometry);
        var first = _isDirectoryKnown ? wanted.AsSpan().CommonPrefixLength(_directory) : 0;
        if (first == wanted.Length)
        {
            return;
        }

        var last = wanted.Length - 1;
        while (_isDirectoryKnown && wanted[last] == _directory[last])
        {
            last--;
        }

        var from = first & ~(Sizes.SectorBytes - 1);
        var to = (last | (Sizes.SectorBytes - 1)) + 1;
        var at = new HostOffset((_directoryCluster << _geometry.ClusterBits) + from);
        _isDirectoryKnown = false;
        await _storage.WriteAsync(at, wanted.AsMemory(from, to - from), cancellationToken).ConfigureAwait(false);
        await FlushImageAsync().ConfigureAwait(false);
        (_directory, _isDirectoryKnown) = (wanted, true);
    }

    // The changes of a tracked bitmap go where its bits are, or to new clusters where there were none.
    private async ValueTask<StoredBitmap> StoreChangesAsync(
        BitmapChange change, StoredBitmap bitmap, List<(HostOffset At, byte[] Bytes)> changedEntries, CancellationToken cancellationToken)
    {
        var table = (ulong[])bitmap.Table!.Clone();
        var bitsPerCluster = _geometry.ClusterSize * 8L;
        for (var i = 0; i < table.Length; i++)
        {
            var entry = new BitmapTableEntry(table[i]);
            if (!bitmap.Changes!.Any(i * bitsPerCluster, (i + 1) * bitsPerCluster) || (entry.IsUnallocated && entry.IsAllOnes))
            {
                continue;
            }

            var bits = await ReadBitsAsync(bitmap, i, entry, cancellationToken).ConfigureAwait(false);
            bitmap.Changes.OrInto(i * bitsPerCluster, bits);
            var cluster = entry.Offset.Value >> _geometry.ClusterBits;
            if (entry.IsUnallocated || await RefcountOfAsync(cluster, cancellationToken).ConfigureAwait(false) != 1)
            {
                if (!entry.IsUnallocated)
                {
                    change.Obsolete.Add((cluster, 1));
                }

                cluster = await AllocateForBitmapsAsync(change, 1, cancellationToken).ConfigureAwait(false);
                table[i] = (ulong)(cluster << _geometry.ClusterBits);
            }

            await _storage.WriteAsync(new(cluster << _geometry.ClusterBits), bits, cancellationToken).ConfigureAwait(false);
        }

        // Whole sectors of the table, neighbouring ones together.
        const int PerSector = Sizes.SectorBytes / BitmapTableEntry.Size;
        for (var i = 0; i < table.Length; i += PerSector)
        {
            var count = Math.Min(PerSector, table.Length - i);
            if (!table.AsSpan(i, count).SequenceEqual(bitmap.Table.AsSpan(i, count)))
            {
                changedEntries.Add((new((long)bitmap.Entry.TableOffset + (i * (long)BitmapTableEntry.Size)), ShadowState.Bytes(table[i..(i + count)])));
            }
        }

        return bitmap with { Table = table };
    }

    /// <summary>Writes a bitmap's table to new clusters, and those clusters of bits that are not as they were.</summary>
    /// <param name="change">Told of the new clusters; what the old table has beyond the new one is the caller's to give up.</param>
    /// <param name="bitmap">With its table.</param>
    /// <param name="more">Bits to set, or null.</param>
    /// <param name="virtualSize">The size of disk that the new table is for; old bits beyond it or beyond the old size are left out.</param>
    /// <param name="cancellationToken">Stops between clusters.</param>
    private async ValueTask<StoredBitmap> WriteTableAsync(
        BitmapChange change, StoredBitmap bitmap, DirtyBits? more, long virtualSize, CancellationToken cancellationToken)
    {
        var oldBits = Sizes.DivideRoundingUp(Math.Min(virtualSize, VirtualSize), bitmap.Entry.Granularity);
        var bitsPerCluster = _geometry.ClusterSize * 8L;

        var table = new ulong[StoredBitmap.EntriesFor(virtualSize, bitmap.Entry.GranularityBits, _geometry)];
        for (var i = 0; i < table.Length; i++)
        {
            var entry = new BitmapTableEntry(i < bitmap.Table!.Length ? bitmap.Table[i] : 0);
            var firstBit = i * bitsPerCluster;
            var isCut = virtualSize != VirtualSize && oldBits - firstBit < bitsPerCluster && (!entry.IsUnallocated || entry.IsAllOnes);
            if (!isCut && more?.Any(firstBit, firstBit + bitsPerCluster) != true)
            {
                table[i] = entry.Value;
                continue;
            }

            var bits = await ReadBitsAsync(bitmap, i, entry, cancellationToken).ConfigureAwait(false);
            ClearFrom(bits, oldBits - firstBit);
            more?.OrInto(firstBit, bits);
            if (bits.AsSpan().ContainsAnyExcept((byte)0))
            {
                var cluster = await AllocateForBitmapsAsync(change, 1, cancellationToken).ConfigureAwait(false);
                await _storage.WriteAsync(new(cluster << _geometry.ClusterBits), bits, cancellationToken).ConfigureAwait(false);
                table[i] = (ulong)(cluster << _geometry.ClusterBits);
            }
        }

        var tableBytes = new byte[Sizes.DivideRoundingUp(table.Length * (long)BitmapTableEntry.Size, _geometry.ClusterSize) << _geometry.ClusterBits];
        ShadowState.Bytes(table).CopyTo(tableBytes, 0);
        var first = await AllocateForBitmapsAsync(change, tableBytes.Length >> _geometry.ClusterBits, cancellationToken).ConfigureAwait(false);
        await _storage.WriteAsync(new(first << _geometry.ClusterBits), tableBytes, cancellationToken).ConfigureAwait(false);
        return bitmap with { Entry = bitmap.Entry.WithTable(new(first << _geometry.ClusterBits), table.Length), Table = table };
    }

    // What an old table has and a new one does not.
    private void GiveUpTable(BitmapChange change, StoredBitmap bitmap, ulong[] kept)
    {
        change.Obsolete.Add((
            (long)bitmap.Entry.TableOffset >> _geometry.ClusterBits,
            Sizes.DivideRoundingUp(bitmap.Entry.TableSize * (long)BitmapTableEntry.Size, _geometry.ClusterSize)));
        for (var i = 0; i < bitmap.Table!.Length; i++)
        {
            if (new BitmapTableEntry(bitmap.Table[i]) is { IsUnallocated: false } entry && (i >= kept.Length || kept[i] != entry.Value))
            {
                change.Obsolete.Add((entry.Offset.Value >> _geometry.ClusterBits, 1));
            }
        }
    }

    private async ValueTask<byte[]> ReadBitsAsync(StoredBitmap bitmap, int index, BitmapTableEntry entry, CancellationToken cancellationToken)
    {
        var bits = new byte[_geometry.ClusterSize];
        if (!entry.IsUnallocated)
        {
            await new TableReader(_storage, _geometry).ReadAsync(
                entry.Offset, bits, $"data of bitmap '{bitmap.SafeName}', cluster", index, cancellationToken).ConfigureAwait(false);
        }
        else if (entry.IsAllOnes)
        {
            bits.AsSpan().Fill(0xff);
        }

        return bits;
    }

    // By the spec what is left of the last cluster is zeros.
    private static void ClearFrom(byte[] bits, long bit)
    {
        if (bit >= bits.Length * 8L)
        {
            return;
        }

        bit = Math.Max(bit, 0);
        if (bit % 8 != 0)
        {
            bits[bit / 8] &= (byte)((1 << (int)(bit % 8)) - 1);
        }

        bits.AsSpan((int)Sizes.DivideRoundingUp(bit, 8)).Clear();
    }

    private async ValueTask<long> AllocateForBitmapsAsync(BitmapChange change, long count, CancellationToken cancellationToken)
    {
        await _changing.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            var first = count == 1
                ? (await _allocator.AllocateAsync(1, cancellationToken).ConfigureAwait(false)).First
                : await _allocator.AllocateContiguousAsync(count, cancellationToken).ConfigureAwait(false);
            _regions.Add(first, count, MetadataKind.BitmapTable);
            change.Fresh.Add((first, count));
            return first;
        }
        finally
        {
            _changing.Release();
        }
    }

    private async ValueTask<ulong> RefcountOfAsync(long cluster, CancellationToken cancellationToken)
    {
        await _changing.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            return await _refcounts.GetAsync(cluster, cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            _changing.Release();
        }
    }

    // Clusters that nothing on the disk points to.
    private async ValueTask ReleaseAsync(List<(long First, long Count)> clusters)
    {
        await _changing.WaitAsync().ConfigureAwait(false);
        try
        {
            foreach (var (first, count) in clusters)
            {
                await _allocator.ReleaseAsync(first, count, cluster => _regions.Remove(cluster)).ConfigureAwait(false);
            }
        }
        finally
        {
            _changing.Release();
        }
    }

    // Clusters that nothing on the disk points to any more; whoever gets them next finds them free from the checkpoint on.
    private async ValueTask GiveUpAsync(List<(long First, long Count)> clusters, CancellationToken cancellationToken)
    {
        if (clusters.Count == 0)
        {
            return;
        }

        await _changing.WaitAsync(cancellationToken).ConfigureAwait(false);
        foreach (var (first, count) in clusters)
        {
            Retire(first, count, givesSpace: true);
        }

        _changing.Release();
        await CheckpointAsync(cancellationToken, final: true).ConfigureAwait(false);
    }

    private async ValueTask FlushImageAsync()
    {
        try
        {
            await _storage.FlushAsync(CancellationToken.None).ConfigureAwait(false);
        }
        catch (BlockException e)
        {
            _checkpoint.GiveUp(e);
            throw;
        }
    }

    private static long SizeOf(IReadOnlyList<StoredBitmap> bitmaps) => bitmaps.Sum(b => (long)b.Entry.Raw.Length);

    private static byte[] DirectoryOf(IReadOnlyList<StoredBitmap> bitmaps, Qcow2Geometry geometry)
    {
        var size = SizeOf(bitmaps);
        var result = new byte[Sizes.DivideRoundingUp(size, geometry.ClusterSize) << geometry.ClusterBits];
        var at = 0;
        foreach (var bitmap in bitmaps)
        {
            bitmap.Entry.Raw.Span.CopyTo(result.AsSpan(at));
            at += bitmap.Entry.Raw.Length;
        }

        return result;
    }
}
