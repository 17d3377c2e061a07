using Platter.Core.Bitmaps;
using Platter.Core.Errors;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Parallels.Layout;

namespace Platter.Formats.Parallels.Writing;

// How bitmaps come to the disk: their bits in clusters of their own, then the cluster of the extension, all of them in places that nothing on the disk refers to.
internal sealed partial class ParallelsWriter
{
    private const int StorePieceBytes = 256 * 1024;

    // The cluster of the extension has to be read whole, here and by others.
    private const long MaxExtensionBytes = 64 * Sizes.MiB;

    // Host clusters that the header's extension has, and those that it may have since writing the header failed.
    private List<long> _extensionClusters = [];
    private readonly List<long> _doubtful = [];

    private void FreeExtension()
    {
        FreeClusters(_extensionClusters);
        FreeClusters(_doubtful);
        _extensionClusters = [];
        _doubtful.Clear();
    }

    private void FreeClusters(List<long> clusters)
    {
        foreach (var cluster in clusters)
        {
            _clusters.Free(cluster, 1);
        }
    }

    // Writes it, without flush. Place 0 when there is nothing to keep.
    private async ValueTask<(HostOffset Place, List<long> Clusters)> WriteExtensionAsync(CancellationToken cancellationToken)
    {
        if (_bitmaps.Count == 0 && _extension.Kept.Count == 0)
        {
            return (default, []);
        }

        List<long> clusters = [];
        await _changing.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            List<(ulong Magic, ulong Flags, byte[] Data)> features = [.. _extension.Kept];
            foreach (var bitmap in _bitmaps)
            {
                var l1 = await WriteBitsAsync(bitmap.Bits, clusters, cancellationToken).ConfigureAwait(false);
                var feature = new DirtyBitmapFeature(
                    (ulong)(VirtualSize / Sizes.SectorBytes), bitmap.Id, (uint)(bitmap.Granularity / Sizes.SectorBytes), l1);
                features.Add((ExtensionFeature.DirtyBitmapMagic, bitmap.Flags, feature.ToBytes()));
            }

            var (place, _) = await AllocateForExtensionAsync(clusters, cancellationToken).ConfigureAwait(false);
            await _storage.WriteAsync(place, FormatExtension.Build((int)ClusterSize, features), cancellationToken).ConfigureAwait(false);
            return (place, clusters);
        }
        catch
        {
            FreeClusters(clusters);
            throw;
        }
        finally
        {
            _changing.Release();
        }
    }

    private async ValueTask<ulong[]> WriteBitsAsync(DirtyBits bits, List<long> clusters, CancellationToken cancellationToken)
    {
        var perCluster = ClusterSize * 8;
        var l1 = new ulong[Sizes.DivideRoundingUp(bits.Count, perCluster)];
        for (var i = 0; i < l1.Length; i++)
        {
            var (first, end) = (i * perCluster, Math.Min(bits.Count, (i + 1) * perCluster));
            if (!bits.Any(first, end))
            {
                l1[i] = DirtyBitmapFeature.AllClear;
            }
            else if (bits.All(first, end))
            {
                l1[i] = DirtyBitmapFeature.AllSet;
            }
            else
            {
                var (place, isFresh) = await AllocateForExtensionAsync(clusters, cancellationToken).ConfigureAwait(false);
                await WriteClusterOfBitsAsync(bits, first, place, isFresh, cancellationToken).ConfigureAwait(false);
                l1[i] = (ulong)(place.Value / Sizes.SectorBytes);
            }
        }

        return l1;
    }

    private async ValueTask WriteClusterOfBitsAsync(DirtyBits bits, long first, HostOffset place, bool isFresh, CancellationToken cancellationToken)
    {
        var buffer = new byte[(int)Math.Min(StorePieceBytes, ClusterSize)];
        for (long done = 0; done < ClusterSize; done += buffer.Length)
        {
            var piece = buffer.AsMemory(0, (int)Math.Min(buffer.Length, ClusterSize - done));
            piece.Span.Clear();
            bits.OrInto(first + (done * 8), piece.Span);
            if (!isFresh || piece.Span.ContainsAnyExcept((byte)0))
            {
                await _storage.WriteAsync(place + done, piece, cancellationToken).ConfigureAwait(false);
            }
        }
    }

    private async ValueTask<(HostOffset Place, bool IsFresh)> AllocateForExtensionAsync(List<long> clusters, CancellationToken cancellationToken)
    {
        while (true)
        {
            var (cluster, _, isFresh) = await AllocateAsync(1, cancellationToken).ConfigureAwait(false);
            clusters.Add(cluster);

            // In a tiny image a cluster begins in sector 1, which an L1 entry cannot name: 1 means that all bits are set. The cluster waits with the others.
            if (PlaceOf(cluster).Value / Sizes.SectorBytes != (long)DirtyBitmapFeature.AllSet)
            {
                return (PlaceOf(cluster), isFresh);
            }
        }
    }

    // The extension is one cluster, and has the L1 tables of all bitmaps in it.
    private void ThrowIfBitmapsDoNotFit(IEnumerable<int> granularities, long virtualSize)
    {
        List<long> counts = [.. granularities.Select(bits => Sizes.DivideRoundingUp(virtualSize, 1L << bits))];
        if (counts.Count == 0)
        {
            return;
        }

        if (ClusterSize > MaxExtensionBytes)
        {
            throw Refuse(
                BlockErrorKind.LimitExceeded,
                $"an image with clusters of {ClusterSize} bytes cannot have bitmaps: the Format Extension would be larger than {MaxExtensionBytes} bytes");
        }

        var needed = FormatExtension.SizeFor(
            counts.Select(count => DirtyBitmapFeature.SizeFor(Sizes.DivideRoundingUp(count, ClusterSize * 8))).Concat(_extension.Kept.Select(kept => (long)kept.Data.Length)));
        if (needed > ClusterSize || counts.Sum() > MaxTrackedBits)
        {
            throw Refuse(
                BlockErrorKind.LimitExceeded,
                $"the bitmaps of a disk of {virtualSize} bytes would be too large: the Format Extension is one cluster of {ClusterSize} bytes, {needed} are needed. Use larger granularity");
        }
    }
}
