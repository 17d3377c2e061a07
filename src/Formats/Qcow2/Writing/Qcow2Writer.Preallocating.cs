using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Layout;

namespace Platter.Formats.Qcow2.Writing;

// Giving new clusters of a growing disk their place. They lie behind the old end of the file, where everything reads as zeros (in a data file they are made to), so they hide a longer
// backing file as well.
// The disk's size comes after them: until then nobody can see them, and when something fails they are given back.
internal sealed partial class Qcow2Writer
{
    private const long MaxPreallocatedRunClusters = 1 << 16;

    private async ValueTask PreallocateAsync(long old, long virtualSize, ResizePreallocation mode, CancellationToken cancellationToken)
    {
        if (_cipher is not null && _geometry.Version == 2)
        {
            throw new BlockException(
                BlockErrorKind.Unsupported, $"{_storage.Name}: an encrypted image of version 2 cannot be preallocated: zeros have to be written to it as data");
        }

        var start = (old + _geometry.ClusterMask) & ~_geometry.ClusterMask;
        var end = Sizes.TryAlignUp(virtualSize, _geometry.ClusterSize, out var aligned) ? aligned : virtualSize;
        var (unused, unusedClusters) = (default(HostOffset), 0L);
        try
        {
            for (var at = start; at < end;)
            {
                cancellationToken.ThrowIfCancellationRequested();
                var clusters = Math.Min((end - at) >> _geometry.ClusterBits, MaxPreallocatedRunClusters);
                var host = await NewPlaceAsync(at, clusters, cancellationToken).ConfigureAwait(false);
                (unused, unusedClusters) = (host, clusters);
                await SpaceForAsync(host, Math.Min(clusters << _geometry.ClusterBits, _hasDataFile ? virtualSize - at : long.MaxValue), mode, cancellationToken).ConfigureAwait(false);
                var from = at;
                await ForEachClusterAsync(
                    at, at + (clusters << _geometry.ClusterBits), create: true,
                    (cluster, _, _) =>
                    {
                        (unused, unusedClusters) = (unused + _geometry.ClusterSize, unusedClusters - 1);
                        return Preallocated(host + (cluster.Value - from));
                    },
                    cancellationToken).ConfigureAwait(false);
                at += clusters << _geometry.ClusterBits;
            }
        }
        catch (Exception e) when (_checkpoint.Broken is null && e is not BlockException { Kind: BlockErrorKind.CorruptImage })
        {
            await ReturnPlaceAsync(unused, unusedClusters).ConfigureAwait(false);
            await ForEachClusterAsync(start, end, create: false, static (_, _, _) => (default, default, true), CancellationToken.None).ConfigureAwait(false);
            throw;
        }
    }

    private async ValueTask<HostOffset> NewPlaceAsync(long at, long clusters, CancellationToken cancellationToken)
    {
        if (_hasDataFile)
        {
            return new(at);
        }

        await _changing.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            return new(await _allocator.AllocateContiguousAsync(clusters, cancellationToken).ConfigureAwait(false) << _geometry.ClusterBits);
        }
        finally
        {
            _changing.Release();
        }
    }

    // Nothing points there yet. The space on the host goes first: what has to be written now may need it.
    private async ValueTask ReturnPlaceAsync(HostOffset host, long clusters)
    {
        if (_hasDataFile || clusters == 0)
        {
            return;
        }

        await _changing.WaitAsync().ConfigureAwait(false);
        try
        {
            await _allocator.ReleaseAsync(host.Value >> _geometry.ClusterBits, clusters).ConfigureAwait(false);
            await CutBehindAsync().ConfigureAwait(false);
        }
        finally
        {
            _changing.Release();
        }
    }

    private async ValueTask SpaceForAsync(HostOffset host, long length, ResizePreallocation mode, CancellationToken cancellationToken)
    {
        var inside = Math.Min(_data.Length - host.Value, length);
        if (_hasDataFile && !_data.HasFixedLength && inside > 0)
        {
            // A data file is not cut when the disk shrinks, and may have been longer from the beginning.
            await _data.WriteZeroesAsync(host, inside, mayUnmap: true, cancellationToken).ConfigureAwait(false);
        }

        if (!_data.HasFixedLength && _data.Length < host.Value + length)
        {
            await _data.SetLengthAsync(host.Value + length, cancellationToken).ConfigureAwait(false);
        }

        if (mode != ResizePreallocation.Metadata || _data.HasFixedLength)
        {
            // Nobody knows what a device has there.
            var mayReserve = mode == ResizePreallocation.Falloc && !_data.HasFixedLength;
            await _data.GiveSpaceAsync(host, length, mayReserve, cancellationToken).ConfigureAwait(false);
        }
    }

    // Zeros of the file are not zeros of an encrypted disk, so there the entry says that the cluster is zero.
    private (L2Entry Entry, SubclusterBitmap Bitmap, bool Retires) Preallocated(HostOffset host)
    {
        var isZero = _cipher is not null;
        var entry = (ulong)host.Value | L2Entry.CopiedFlag;
        return _geometry.HasExtendedL2
            ? (new(entry), new(isZero ? 0xffff_ffff_0000_0000 : 0x0000_0000_ffff_ffff), true)
            : (new(isZero ? entry | L2Entry.ZeroFlag : entry), default, true);
    }
}
