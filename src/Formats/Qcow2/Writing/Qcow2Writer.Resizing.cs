using System.Buffers.Binary;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Allocation;
using Platter.Formats.Qcow2.Layout;

namespace Platter.Formats.Qcow2.Writing;

// Changing the size of the disk. The header's size is written last: a cut before that leaves the old size, growing or shrinking can be done again.
internal sealed partial class Qcow2Writer
{
    /// <inheritdoc/>
    public override ValueTask ResizeAsync(long virtualSize, long backingSize, CancellationToken cancellationToken = default) =>
        ResizeAsync(virtualSize, backingSize, ResizePreallocation.Off, cancellationToken);

    private async ValueTask ResizeDiskAsync(long virtualSize, long backingSize, ResizePreallocation preallocation, CancellationToken cancellationToken)
    {
        if (virtualSize < 0 || virtualSize % Sizes.SectorBytes != 0)
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, $"{_storage.Name}: {virtualSize} is no size for a disk: it must be a multiple of {Sizes.SectorBytes}");
        }

        var entries = _geometry.L1EntriesFor(virtualSize);
        if (entries * L1Entry.Size > Qcow2Header.MaxL1Bytes)
        {
            throw new BlockException(
                BlockErrorKind.LimitExceeded, $"{_storage.Name}: a disk of {virtualSize} bytes needs an L1 table of more than {Qcow2Header.MaxL1Bytes >> 20} MiB");
        }

        if (_geometry.Version == 2 && _header.Header.SnapshotCount > 0)
        {
            throw new BlockException(BlockErrorKind.Unsupported, $"{_storage.Name}: an image of version 2 that has snapshots cannot change its size");
        }

        var old = VirtualSize;
        if (virtualSize < old)
        {
            await CutOffAsync(virtualSize, cancellationToken).ConfigureAwait(false);
        }
        else
        {
            // A data file that has to be a raw image at any time has a place for everything.
            preallocation = _isRawDataFile && preallocation == ResizePreallocation.Off ? ResizePreallocation.Metadata : preallocation;
            await GrowL1Async(entries, cancellationToken).ConfigureAwait(false);
            if (preallocation == ResizePreallocation.Off)
            {
                await HideBeyondAsync(old, virtualSize, backingSize, cancellationToken).ConfigureAwait(false);
            }
            else
            {
                await PreallocateAsync(old, virtualSize, preallocation, cancellationToken).ConfigureAwait(false);
            }
        }

        await CheckpointAsync(cancellationToken).ConfigureAwait(false);
        await _changing.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            _header.Set64(Qcow2Header.SizeAt, (ulong)virtualSize);
            await _checkpoint.SwitchHeaderAsync().ConfigureAwait(false);
            VirtualSize = virtualSize;
        }
        finally
        {
            _changing.Release();
        }
    }

    // Clusters behind the new end, whole L2 tables where nothing else is in them. What is left of the last cluster is hidden when the disk grows again.
    private async ValueTask CutOffAsync(long virtualSize, CancellationToken cancellationToken)
    {
        var start = Sizes.TryAlignUp(virtualSize, _geometry.ClusterSize, out var aligned) ? aligned : virtualSize;
        await ThrowIfAnyTableOverlapsAsync().ConfigureAwait(false);
        await ForEachClusterAsync(start, VirtualSize, create: false, static (_, _, _) => (default, default, true), cancellationToken).ConfigureAwait(false);

        // Their entries must be gone from the disk before the tables are.
        await CheckpointAsync(cancellationToken).ConfigureAwait(false);
        await _changing.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            _storage.Announce(StorageEvent.L1ShrinkFreeL2Clusters);
            for (var index = _geometry.L1EntriesFor(virtualSize); index < _tables.L1Length; index++)
            {
                var entry = _tables.GetL1(index);
                if (!entry.IsAbsent)
                {
                    _tables.SetL1(index, default);
                    Retire(entry.TableOffset.Value >> _geometry.ClusterBits, 1, givesSpace: true);
                }
            }
        }
        finally
        {
            _changing.Release();
        }
    }

    private async ValueTask GrowL1Async(long entries, CancellationToken cancellationToken)
    {
        if (entries <= _tables.L1Length)
        {
            return;
        }

        await CheckpointAsync(cancellationToken).ConfigureAwait(false);
        await _changing.WaitAsync(cancellationToken).ConfigureAwait(false);
        HostOffset place;
        try
        {
            _storage.Announce(StorageEvent.L1GrowAllocTable);
            var clusters = Sizes.DivideRoundingUp(entries * L1Entry.Size, _geometry.ClusterSize);
            var first = await _allocator.AllocateContiguousAsync(clusters, cancellationToken).ConfigureAwait(false);
            place = new(first << _geometry.ClusterBits);
            var bytes = new byte[clusters << _geometry.ClusterBits];
            var l1 = _tables.CopyL1();
            for (var i = 0; i < l1.Length; i++)
            {
                BinaryPrimitives.WriteUInt64BigEndian(bytes.AsSpan(i * L1Entry.Size), l1[i]);
            }

            _storage.Announce(StorageEvent.L1GrowWriteTable);
            try
            {
                await _storage.WriteAsync(place, bytes, cancellationToken).ConfigureAwait(false);
            }
            catch
            {
                await _allocator.ReleaseAsync(first, clusters).ConfigureAwait(false);
                throw;
            }

            _regions.Add(first, clusters, MetadataKind.L1Table);
        }
        finally
        {
            _changing.Release();
        }

        // The new table and its refcounts are durable before the header points there.
        await CheckpointAsync(cancellationToken).ConfigureAwait(false);
        await _changing.WaitAsync(CancellationToken.None).ConfigureAwait(false);
        try
        {
            var oldClusters = Sizes.DivideRoundingUp((long)_tables.L1Length * L1Entry.Size, _geometry.ClusterSize);
            var oldFirst = _tables.L1Offset.Value >> _geometry.ClusterBits;
            _storage.Announce(StorageEvent.L1GrowActivateTable);
            _header.Set64(Qcow2Header.L1TableOffsetAt, (ulong)place.Value);
            _header.Set32(Qcow2Header.L1SizeAt, (uint)entries);
            await _checkpoint.SwitchHeaderAsync().ConfigureAwait(false);
            var l1 = _tables.CopyL1();
            Array.Resize(ref l1, (int)entries);
            _tables.ReplaceL1(place, l1);
            if (oldClusters > 0)
            {
                Retire(oldFirst, oldClusters);
            }
        }
        finally
        {
            _changing.Release();
        }
    }

    /// <inheritdoc/>
    public override async ValueTask<bool> HasPlaceAsync(GuestOffset at, CancellationToken cancellationToken = default) =>
        !_tables.GetL1(at.Value >> _geometry.GuestBytesPerL2Bits).IsAbsent
        && HasHost((await _tables.GetEntryAsync(at, cancellationToken).ConfigureAwait(false)).Entry);

    // New clusters read as zeros, whatever the backing file has there. The rest of the last old one was overwritten by the caller.
    private async ValueTask HideBeyondAsync(long old, long virtualSize, long backingSize, CancellationToken cancellationToken)
    {
        var lastClusterEnd = (old + _geometry.ClusterMask) & ~_geometry.ClusterMask;
        var hidden = Math.Min(virtualSize, backingSize);
        if (lastClusterEnd < hidden)
        {
            if (_geometry.Version == 2)
            {
                throw new BlockException(
                    BlockErrorKind.Unsupported,
                    $"{_storage.Name}: the backing file is longer than the disk and would show through; an image of version 2 cannot prevent that without writing zeros");
            }

            var end = Math.Min(virtualSize, (hidden + _geometry.ClusterMask) & ~_geometry.ClusterMask);
            await ForEachClusterAsync(
                lastClusterEnd, end, create: true,
                (_, _, _) => (_geometry.HasExtendedL2 ? default : new(L2Entry.ZeroFlag), _geometry.HasExtendedL2 ? new(0xffff_ffff_0000_0000) : default, true),
                cancellationToken).ConfigureAwait(false);
        }
    }
}
