using Platter.Core.Errors;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Layout;
using Platter.Formats.Qcow2.Mapping;

namespace Platter.Formats.Qcow2.Writing;

// Requests that change what entries say and write no guest data.
internal sealed partial class Qcow2Writer
{
    /// <inheritdoc/>
    /// <remarks>Version 2 cannot say zero. The host cluster is kept unless it may be given up or belongs to others as well.</remarks>
    public override async ValueTask<bool> TryWriteZeroesAsync(GuestOffset at, long length, bool mayUnmap, CancellationToken cancellationToken = default)
    {
        if (_geometry.Version == 2 || _isRawDataFile)
        {
            return false;
        }

        // A part of a cluster can be said to be zero in extended entries only, and not when it is compressed: that is looked at first.
        var end = at.Value + length;
        foreach (var edge in new[] { at.Value, end - 1 })
        {
            if (!IsWhole(edge, at.Value, end) && await IsCompressedAsync(new(edge), cancellationToken).ConfigureAwait(false))
            {
                return false;
            }
        }

        await ForEachClusterAsync(
            at.Value, end, create: true,
            (cluster, entry, bitmap) =>
            {
                var zeroed = Subclusters(Math.Max(at.Value - cluster.Value, 0), Math.Min(end - cluster.Value, _geometry.ClusterSize));
                var whole = !_geometry.HasExtendedL2 || zeroed == uint.MaxValue || IsWhole(cluster.Value, at.Value, end);
                zeroed = whole ? uint.MaxValue : zeroed;
                var keeps = HasHost(entry) && !entry.IsCompressed && (!whole || (IsOwn(entry) && !mayUnmap));
                if (!_geometry.HasExtendedL2)
                {
                    return (new(keeps ? entry.Value | L2Entry.ZeroFlag : L2Entry.ZeroFlag), default, !keeps);
                }

                var zero = (whole ? 0 : bitmap.Zero) | zeroed;
                return (new(keeps ? entry.Value : 0), new(((ulong)zero << 32) | (keeps ? bitmap.Allocated & ~zeroed : 0)), !keeps);
            },
            cancellationToken).ConfigureAwait(false);
        return true;
    }

    /// <inheritdoc/>
    /// <remarks>As QEMU does: version 3 reads zeros afterwards. Version 2 becomes unallocated where there is no backing file, and stays as it is where there is one.</remarks>
    public override async ValueTask DiscardAsync(GuestOffset at, long length, CancellationToken cancellationToken = default)
    {
        if ((_geometry.Version == 2 && _hasBacking) || _isRawDataFile)
        {
            return;
        }

        await ForEachClusterAsync(
            at.Value, at.Value + length, create: _hasBacking,
            (_, entry, bitmap) =>
            {
                var isNothing = !HasHost(entry) && !entry.IsZero && bitmap.Value == 0;
                if (_geometry.Version == 2 || (isNothing && !_hasBacking))
                {
                    return (default, default, true);
                }

                return _geometry.HasExtendedL2 ? (default, new(0xffff_ffff_0000_0000), true) : (new(L2Entry.ZeroFlag), default, true);
            },
            cancellationToken).ConfigureAwait(false);
    }

    // Whether the cluster of an offset lies in a range wholly; the disk may end inside its last one.
    private bool IsWhole(long offset, long start, long end)
    {
        var cluster = offset & ~_geometry.ClusterMask;
        return cluster >= start && (cluster + _geometry.ClusterSize <= end || end == VirtualSize);
    }

    private async ValueTask<bool> IsCompressedAsync(GuestOffset at, CancellationToken cancellationToken) =>
        (await _tables.FindAsync(at, 1, cancellationToken).ConfigureAwait(false)).Kind == ClusterKind.Compressed;

    // Changes entries one by one. Requests of any length stay bounded in memory: a full store is checkpointed on the way.
    private async ValueTask ForEachClusterAsync(
        long start, long end, bool create, Func<GuestOffset, L2Entry, SubclusterBitmap, (L2Entry Entry, SubclusterBitmap Bitmap, bool Retires)> change,
        CancellationToken cancellationToken)
    {
        for (var at = start & ~_geometry.ClusterMask; at < end;)
        {
            await _changing.WaitAsync(cancellationToken).ConfigureAwait(false);
            try
            {
                _checkpoint.ThrowIfBroken();
                if (!create && _tables.GetL1(at >> _geometry.GuestBytesPerL2Bits).IsAbsent)
                {
                    // Nothing in the whole table.
                    at = ((at >> _geometry.GuestBytesPerL2Bits) + 1) << _geometry.GuestBytesPerL2Bits;
                    continue;
                }

                await _allocator.ThrowIfUnsoundAsync().ConfigureAwait(false);
                await OwnTableAsync(new(at), cancellationToken).ConfigureAwait(false);
                var sliceEnd = Math.Min(end, ((at >> _geometry.GuestBytesPerSliceBits) + 1) << _geometry.GuestBytesPerSliceBits);
                for (; at < sliceEnd; at += _geometry.ClusterSize)
                {
                    var cluster = new GuestOffset(at);
                    var (entry, bitmap) = await _tables.GetEntryAsync(cluster, cancellationToken).ConfigureAwait(false);
                    if (!entry.IsCompressed && HasHost(entry))
                    {
                        ThrowIfMisaligned(entry, cluster);
                    }

                    var (newEntry, newBitmap, retires) = change(cluster, entry, bitmap);
                    if (newEntry == entry && newBitmap == bitmap)
                    {
                        continue;
                    }

                    await ThrowIfInMetadataAsync(entry).ConfigureAwait(false);
                    await _tables.SetEntryAsync(cluster, newEntry, newBitmap, cancellationToken).ConfigureAwait(false);
                    if (retires)
                    {
                        RetireEntry(entry, givesSpace: true);
                    }
                }
            }
            finally
            {
                _changing.Release();
            }

            await CheckpointIfFullAsync(cancellationToken).ConfigureAwait(false);
        }
    }
}
