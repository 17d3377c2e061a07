using Platter.Core.Errors;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Allocation;
using Platter.Formats.Qcow2.Layout;

namespace Platter.Formats.Qcow2.Writing;

// L2 tables before they are written to: they must be this image's alone, and nothing else may lie in their clusters.
internal sealed partial class Qcow2Writer
{
    // Only where there are snapshots: tables whose refcount was looked at.
    private readonly HashSet<long> _soleTables = [];

    // Nothing may be written through a table that is something else as well, and nothing that it says is believed.
    private string? WhatOverlapsTable(long index) =>
        _tables.GetL1(index) is { IsAbsent: false } entry
            ? _regions.FindOther(entry.TableOffset.Value >> _geometry.ClusterBits, entry.IsCopied ? MetadataKind.L2Table : MetadataKind.SharedL2Table)
            : null;

    private async ValueTask ThrowIfTableOverlapsAsync(long index)
    {
        if (_regions.HasOverlaps && WhatOverlapsTable(index) is { } other)
        {
            throw await MarkCorruptAsync($"the L2 table of L1 entry {index} is said to be at {_tables.GetL1(index).TableOffset}, where {other} is").ConfigureAwait(false);
        }
    }

    private async ValueTask ThrowIfAnyTableOverlapsAsync()
    {
        for (var index = 0; _regions.HasOverlaps && index < _tables.L1Length; index++)
        {
            await ThrowIfTableOverlapsAsync(index).ConfigureAwait(false);
        }
    }

    // Where there are snapshots the flag is not enough: a table that is one's too must be copied first.
    private async ValueTask<bool> IsSoleOwnerAsync(L1Entry entry, CancellationToken cancellationToken)
    {
        var cluster = entry.TableOffset.Value >> _geometry.ClusterBits;
        if (_header.Header.SnapshotCount == 0 || _soleTables.Contains(cluster))
        {
            return true;
        }

        await _allocator.ThrowIfUnsoundAsync().ConfigureAwait(false);
        var isSole = await _refcounts.GetAsync(cluster, cancellationToken).ConfigureAwait(false) <= 1;
        if (isSole)
        {
            _soleTables.Add(cluster);
        }

        return isSole;
    }

    // An L2 table for a guest offset that belongs to the active L1 table alone.
    private async ValueTask OwnTableAsync(GuestOffset at, CancellationToken cancellationToken)
    {
        var index = at.Value >> _geometry.GuestBytesPerL2Bits;
        await ThrowIfTableOverlapsAsync(index).ConfigureAwait(false);
        var entry = _tables.GetL1(index);
        if (entry.IsCopied && !entry.IsAbsent && await IsSoleOwnerAsync(entry, cancellationToken).ConfigureAwait(false))
        {
            return;
        }

        if (index >= _tables.L1Length)
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, $"{_storage.Name}: guest offset {at} lies beyond the L1 table");
        }

        var (cluster, _, _) = await _allocator.AllocateAsync(1, cancellationToken).ConfigureAwait(false);
        var table = new HostOffset(cluster << _geometry.ClusterBits);
        try
        {
            _storage.Announce(StorageEvent.L2AllocWrite);
            if (!entry.IsAbsent)
            {
                await CopyTableAsync(entry.TableOffset, table, index, cancellationToken).ConfigureAwait(false);
            }
            else
            {
                // Zeros where there are zeros already, too: a full disk has to be noticed now, and not when the first entries are to be written.
                await _storage.WriteAsync(table, new byte[_geometry.ClusterSize], cancellationToken).ConfigureAwait(false);
            }

            // Pieces of it are read before all of it is written.
            await CoverAllocatedAsync(cancellationToken).ConfigureAwait(false);
        }
        catch
        {
            await _allocator.ReleaseAsync(cluster, 1).ConfigureAwait(false);
            throw;
        }

        _regions.Add(cluster, 1, MetadataKind.L2Table);
        _tables.SetL1(index, new((ulong)table.Value | L1Entry.CopiedFlag), isEmpty: entry.IsAbsent);
        if (!entry.IsAbsent)
        {
            Retire(entry.TableOffset.Value >> _geometry.ClusterBits, 1);
        }
    }

    // The file reaches to the end of every cluster that was handed out. Never shorter than where others are writing: they have their clusters already.
    private ValueTask CoverAllocatedAsync(CancellationToken cancellationToken)
    {
        var end = _allocator.End << _geometry.ClusterBits;
        return _storage.Length < end && !_storage.HasFixedLength ? _storage.SetLengthAsync(end, cancellationToken) : ValueTask.CompletedTask;
    }

    private async ValueTask CopyTableAsync(HostOffset from, HostOffset to, long index, CancellationToken cancellationToken)
    {
        if ((from.Value & _geometry.ClusterMask) != 0)
        {
            throw new ImageFormatException(
                _storage.Name, $"L1 entry {index}", _tables.L1Offset + (index * L1Entry.Size), "value", $"0x{from.Value:x}", "is not aligned to a cluster");
        }

        var bytes = new byte[_geometry.ClusterSize];
        _storage.Announce(StorageEvent.L2AllocCowRead);
        _ = await _storage.ReadAsync(from, bytes, cancellationToken).ConfigureAwait(false);
        _storage.Announce(StorageEvent.L2AllocWrite);
        await _storage.WriteAsync(to, bytes, cancellationToken).ConfigureAwait(false);
    }

    // Neither is anything written there, nor is a reference taken from it when the entry changes.
    private async ValueTask ThrowIfInMetadataAsync(L2Entry entry)
    {
        if (_hasDataFile || IsEmpty(entry))
        {
            return;
        }

        var (at, length) = entry.IsCompressed ? (entry.CompressedOffset(_geometry), (long)entry.CompressedLength(_geometry)) : (entry.Offset, 1L);
        if (IsMetadata(at, length) is >= 0 and var cluster)
        {
            throw await MarkCorruptAsync($"guest data are said to be in the cluster at {new HostOffset(cluster << _geometry.ClusterBits)}, which holds metadata").ConfigureAwait(false);
        }
    }

    // From now on the image is refused for writing, here and by the peers, until it was repaired.
    private async ValueTask<BlockException> MarkCorruptAsync(string problem)
    {
        var isMarked = false;
        if (_geometry.Version >= 3)
        {
            try
            {
                _header.Set64(Qcow2Header.IncompatibleAt, (ulong)(_header.Header.Incompatible | IncompatibleFeatures.Corrupt));
                await _checkpoint.WriteHeaderAsync(CancellationToken.None).ConfigureAwait(false);
                isMarked = true;
            }
            catch (BlockException)
            {
                // The error that led here is what the caller must see.
            }
        }

        return new(BlockErrorKind.CorruptImage, $"{_storage.Name}: {problem}; {(isMarked ? "the image is marked corrupt, " : string.Empty)}nothing was written there");
    }
}
