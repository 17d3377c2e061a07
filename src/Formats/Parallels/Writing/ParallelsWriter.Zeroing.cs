using Platter.Core.Units;
using Platter.Formats.Parallels.Layout;

namespace Platter.Formats.Parallels.Writing;

// Requests that write no guest data. The format cannot say "zero": a cluster without entry shows what is below. So entries are taken away only where nothing is.
internal sealed partial class ParallelsWriter
{
    // Clusters that are looked at with the lock held.
    private const int BatchClusters = 4096;

    /// <inheritdoc/>
    /// <remarks>Always done. Where something shows through, a new cluster that reads as zeros gets its place.</remarks>
    public override async ValueTask<bool> TryWriteZeroesAsync(GuestOffset at, long length, bool mayUnmap, CancellationToken cancellationToken = default)
    {
        await ZeroAsync(at, length, mayUnmap, fastOnly: false, cancellationToken).ConfigureAwait(false);
        return true;
    }

    /// <inheritdoc/>
    public override async ValueTask<bool> TryZeroFastAsync(GuestOffset at, long length, bool mayUnmap, CancellationToken cancellationToken = default)
    {
        try
        {
            await ZeroAsync(at, length, mayUnmap, fastOnly: true, cancellationToken).ConfigureAwait(false);
            return true;
        }
        catch (NotFastException)
        {
            return false;
        }
    }

    private async ValueTask ZeroAsync(GuestOffset at, long length, bool mayUnmap, bool fastOnly, CancellationToken cancellationToken)
    {
        await EnsureInUseAsync(cancellationToken).ConfigureAwait(false);
        var end = Sizes.DivideRoundingUp(at.Value + length, ClusterSize);
        for (var cluster = at.Value / ClusterSize; cluster < end;)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var batch = Math.Min(end, cluster + BatchClusters);
            await ZeroBatchAsync(cluster, batch, mayUnmap, fastOnly, cancellationToken).ConfigureAwait(false);
            await CheckpointIfFullAsync(cancellationToken).ConfigureAwait(false);
            cluster = batch;
        }
    }

    /// <inheritdoc/>
    /// <remarks>Nothing where something shows through, as for the peers.</remarks>
    public override async ValueTask DiscardAsync(GuestOffset at, long length, CancellationToken cancellationToken = default)
    {
        if (!_hasBacking)
        {
            _ = await TryWriteZeroesAsync(at, length, mayUnmap: true, cancellationToken).ConfigureAwait(false);
        }
    }

    private async ValueTask ZeroBatchAsync(long first, long end, bool mayUnmap, bool fastOnly, CancellationToken cancellationToken)
    {
        List<(long Host, long Count)> stored = [];
        List<(Reservation New, bool IsFresh)> reserved = [];
        try
        {
            await _changing.WaitAsync(cancellationToken).ConfigureAwait(false);
            try
            {
                ThrowIfBroken();
                await SortAsync(first, end, mayUnmap, stored, reserved, cancellationToken).ConfigureAwait(false);
            }
            finally
            {
                _changing.Release();
            }

            foreach (var (host, count) in stored)
            {
                await ZeroStoredAsync(host, count, mayUnmap, fastOnly, cancellationToken).ConfigureAwait(false);
            }

            foreach (var (place, isFresh) in reserved)
            {
                if (!isFresh)
                {
                    await ZeroStoredAsync(place.Host, place.Count, mayUnmap: true, fastOnly, cancellationToken).ConfigureAwait(false);
                }
            }
        }
        catch
        {
            await _changing.WaitAsync(CancellationToken.None).ConfigureAwait(false);
            foreach (var (place, _) in reserved)
            {
                _clusters.Free(place.Host, place.Count);
            }

            _changing.Release();
            throw;
        }

        if (reserved.Count > 0)
        {
            await _changing.WaitAsync(CancellationToken.None).ConfigureAwait(false);
            try
            {
                foreach (var (place, _) in reserved)
                {
                    await PublishAsync(place, CancellationToken.None).ConfigureAwait(false);
                }
            }
            finally
            {
                _changing.Release();
            }
        }
    }

    private async ValueTask ZeroStoredAsync(long host, long count, bool mayUnmap, bool fastOnly, CancellationToken cancellationToken)
    {
        if (!fastOnly)
        {
            await _storage.WriteZeroesAsync(PlaceOf(host), count * ClusterSize, mayUnmap, cancellationToken).ConfigureAwait(false);
        }
        else if (!await _storage.TryZeroFastAsync(PlaceOf(host), count * ClusterSize, mayUnmap, cancellationToken).ConfigureAwait(false))
        {
            throw new NotFastException();
        }
    }

    // What loses its entry does so here; what has a place that it keeps is listed, and so are new places for what shows something else.
    private async ValueTask SortAsync(
        long first, long end, bool mayUnmap, List<(long Host, long Count)> stored, List<(Reservation New, bool IsFresh)> reserved, CancellationToken cancellationToken)
    {
        for (var cluster = first; cluster < end;)
        {
            var page = await _bat.GetPageAsync(cluster, cancellationToken).ConfigureAwait(false);
            var entry = new BatEntry(page.Slots[page.Index]);
            var run = 1;
            if (entry.IsUnallocated)
            {
                var most = (int)Math.Min(end - cluster, page.End - page.Index);
                while (run < most && page.Slots[page.Index + run] == 0)
                {
                    run++;
                }

                if (_hasBacking)
                {
                    (var host, run, var isFresh) = await AllocateAsync(run, cancellationToken).ConfigureAwait(false);
                    reserved.Add((new(cluster, host, run), isFresh));
                }
            }
            else if (mayUnmap && !_hasBacking)
            {
                await UnmapAsync(cluster, entry, cancellationToken).ConfigureAwait(false);
            }
            else if (HostClusterOf(entry) is var host && stored.Count > 0 && stored[^1] is var last && last.Host + last.Count == host)
            {
                stored[^1] = (last.Host, last.Count + 1);
            }
            else
            {
                stored.Add((host, 1));
            }

            cluster += run;
        }
    }

    private async ValueTask UnmapAsync(long cluster, BatEntry entry, CancellationToken cancellationToken)
    {
        await _bat.SetAsync(cluster, default, cancellationToken).ConfigureAwait(false);
        Retire(HostClusterOf(entry), 1);
        _allocated--;
    }

    /// <summary>Undoes a batch that would have to be written as bytes.</summary>
    private sealed class NotFastException : Exception;
}
