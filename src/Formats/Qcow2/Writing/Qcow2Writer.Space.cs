using Platter.Core.Errors;

namespace Platter.Formats.Qcow2.Writing;

// What goes back to the host: holes where clusters were given up, and the end of the file.
internal sealed partial class Qcow2Writer
{
    // What nobody has at the end of the file goes back to the host. Nothing on the disk points there: all of it was handed out and taken back by this opening,
    // or the refcounts are known to be true.
    private async ValueTask CutBehindAsync()
    {
        if (!_allocator.HasChanged)
        {
            return;
        }

        var end = await _allocator.CutAsync(CancellationToken.None).ConfigureAwait(false) << _geometry.ClusterBits;
        if (_storage.Length > end && !_storage.HasFixedLength)
        {
            await _storage.SetLengthAsync(end, CancellationToken.None).ConfigureAwait(false);
        }
    }

    // Nothing on the disk points to what is aside, and nobody is handed it before this is done: it becomes holes of the file. Only where the refcounts are known to be
    // true: a lie must not cost data. Checkpoints come one at a time, so does this.
    private async ValueTask GiveBackAsync(CancellationToken cancellationToken)
    {
        if (_allocator.Aside.Count == 0)
        {
            return;
        }

        if (_allocator.MayReuse)
        {
            // Only checkpoints add to it.
            await DiscardRunsAsync(_allocator.Aside, cancellationToken).ConfigureAwait(false);
        }

        await _changing.WaitAsync(CancellationToken.None).ConfigureAwait(false);
        _allocator.BringIn();
        _changing.Release();
    }

    // In order, neighbours together: a disk that was discarded at random still makes few requests.
    private async ValueTask DiscardRunsAsync(IEnumerable<(long First, long Count)> runs, CancellationToken cancellationToken)
    {
        var (start, end) = (0L, 0L);
        foreach (var (first, count) in runs.OrderBy(run => run.First).Append((-1, 0)))
        {
            if (first == end)
            {
                end += count;
                continue;
            }

            if (end > start)
            {
                try
                {
                    await _storage.DiscardAsync(new(start << _geometry.ClusterBits), (end - start) << _geometry.ClusterBits, cancellationToken).ConfigureAwait(false);
                }
                catch (BlockException)
                {
                    // The host keeps it; the clusters are free all the same.
                }
            }

            (start, end) = (first, first + count);
        }
    }

    // A lie in the refcounts must not cost data, so every pointer is counted first. The switch is durable by now.
    private async ValueTask GiveUpFreeSpaceAsync(CancellationToken cancellationToken)
    {
        if (!await _areRefcountsTrue(cancellationToken).ConfigureAwait(false))
        {
            return;
        }

        await _allocator.FindFreeAsync(cancellationToken).ConfigureAwait(false);
        if (_allocator.FreeInside > _allocator.End / 2 && !_storage.HasFixedLength)
        {
            // The new tables are what lies at the end: once more, to the front.
            _allocator.PrefersInside = true;
            _refcounts.MarkAll();
            try
            {
                await TryShadowAsync(static _ => ValueTask.CompletedTask, cancellationToken).ConfigureAwait(false);
            }
            catch (BlockException e) when (e.Kind == BlockErrorKind.NoSpace && _checkpoint.Broken is null)
            {
                // What was asked for has happened; the file stays longer than it could be.
            }

            await _allocator.FindFreeAsync(cancellationToken).ConfigureAwait(false);
        }

        _reuseWasJudged = true;
        await CutBehindAsync().ConfigureAwait(false);
        if (_givesBackSpace)
        {
            await DiscardRunsAsync(_allocator.Free, cancellationToken).ConfigureAwait(false);
        }
    }
}
