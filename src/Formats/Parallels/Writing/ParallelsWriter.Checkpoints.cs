using Platter.Core.Errors;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Parallels.Layout;

namespace Platter.Formats.Parallels.Writing;

// The way to the disk: the header's mark before the first change, checkpoints, and closing.
// Each step is flushed before the next one begins; the header's fields lie in one sector and change together.
internal sealed partial class ParallelsWriter
{
    private readonly SemaphoreSlim _marking = new(1, 1);
    private readonly bool _hasForgottenEntries;

    // The header says "Ynot" on the disk.
    private volatile bool _isMarked;

    // Something was changed since the image was opened: it has to be closed as it should be.
    private bool _isTouched;

    // Writing the header failed, so that it may be this one or that one: it is written again before anything else.
    private bool _isUncertain;
    private volatile BlockException? _broken;

    /// <inheritdoc/>
    public override async ValueTask CloseAsync(CancellationToken cancellationToken = default)
    {
        if (_broken is not null || !_isTouched)
        {
            return;
        }

        if (_isMarked || _isUncertain || _header.IsDirty)
        {
            if (await FinishAsync(closes: true, cancellationToken).ConfigureAwait(false) is { } lost)
            {
                throw new BlockException(lost.Kind, $"{_storage.Name}: its dirty bitmaps could not be stored and are lost: {lost.Message}", lost);
            }

            return;
        }

        // Closed already, but for the space ahead.
        await CutAsync(cancellationToken).ConfigureAwait(false);
        await FlushStorageAsync(cancellationToken).ConfigureAwait(false);
    }

    private ValueTask EnsureInUseAsync(CancellationToken cancellationToken) => _isMarked ? ValueTask.CompletedTask : MarkAsync(cancellationToken);

    // "Ynot" before anything else. The extension does not count from then on, its bitmaps are in memory; nobody shall find it and take it for true.
    private async ValueTask MarkAsync(CancellationToken cancellationToken)
    {
        await _marking.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            if (_isMarked)
            {
                return;
            }

            ThrowIfBroken();
            _isTouched = true;
            var marked = _header with { InUse = ParallelsHeader.InUseOpen, ExtensionOffsetSectors = 0 };
            if ((_header.Flags & ParallelsHeader.EmptyImage) != 0 && _hasForgottenEntries)
            {
                // What the BAT says comes to light when the image is no longer said to be empty.
                await WriteHeaderAsync(marked, cancellationToken).ConfigureAwait(false);
                await _storage.WriteZeroesAsync(
                    new(BatEntry.PositionOf(0)), _bat.Count * BatEntry.Size, mayUnmap: false, cancellationToken).ConfigureAwait(false);
                await FlushStorageAsync(cancellationToken).ConfigureAwait(false);
            }

            await WriteHeaderAsync(marked with { Flags = marked.Flags & ~ParallelsHeader.EmptyImage }, cancellationToken).ConfigureAwait(false);
            await _changing.WaitAsync(CancellationToken.None).ConfigureAwait(false);
            FreeExtension();
            var end = PlaceOf(_clusters.End).Value;
            _changing.Release();
            if (_length < end && !_storage.HasFixedLength)
            {
                // Its last cluster is whole from now on.
                await _storage.SetLengthAsync(end, cancellationToken).ConfigureAwait(false);
                _length = end;
            }

            _isMarked = true;
        }
        finally
        {
            _marking.Release();
        }
    }

    private ValueTask CheckpointIfFullAsync(CancellationToken cancellationToken) =>
        _bat.IsFull || _retired.Count > MaxRetired ? CheckpointAsync(cancellationToken) : ValueTask.CompletedTask;

    // Guest data are durable before an entry points to them; entries are, before a cluster that lost its own is used again.
    private async ValueTask CheckpointAsync(CancellationToken cancellationToken)
    {
        await _checkpointing.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            List<(HostOffset At, byte[] Bytes)> pieces;
            List<(long First, long Count)> retired;
            await _changing.WaitAsync(cancellationToken).ConfigureAwait(false);
            try
            {
                ThrowIfBroken();
                pieces = _bat.Take();
                (retired, _retired) = (_retired, []);
            }
            finally
            {
                _changing.Release();
            }

            try
            {
                _storage.Announce(StorageEvent.FlushToOs);
                await FlushStorageAsync(cancellationToken).ConfigureAwait(false);
                foreach (var (at, bytes) in pieces)
                {
                    _storage.Announce(StorageEvent.L2Update);
                    await _storage.WriteAsync(at, bytes, cancellationToken).ConfigureAwait(false);
                }

                if (pieces.Count > 0)
                {
                    await FlushStorageAsync(cancellationToken).ConfigureAwait(false);
                }
            }
            catch
            {
                await _changing.WaitAsync(CancellationToken.None).ConfigureAwait(false);
                _bat.PutBack();
                _retired.AddRange(retired);
                _changing.Release();
                throw;
            }

            // Nothing on the disk points to them any more, and nobody is handed them before they are free.
            await GiveBackAsync(retired).ConfigureAwait(false);
            await _changing.WaitAsync(CancellationToken.None).ConfigureAwait(false);
            _bat.Done();
            foreach (var (first, count) in retired)
            {
                _storage.Announce(StorageEvent.ClusterFree);
                _clusters.Free(first, count);
            }

            _changing.Release();
        }
        finally
        {
            _checkpointing.Release();
        }
    }

    // As holes of the file, in order, neighbours together: a disk that was discarded at random still makes few requests.
    private async ValueTask GiveBackAsync(List<(long First, long Count)> runs)
    {
        if (!_givesBackSpace)
        {
            return;
        }

        runs.Sort();
        for (var i = 0; i < runs.Count;)
        {
            var (first, end) = (runs[i].First, runs[i].First + runs[i].Count);
            while (++i < runs.Count && runs[i].First == end)
            {
                end += runs[i].Count;
            }

            try
            {
                await _storage.DiscardAsync(PlaceOf(first), (end - first) * ClusterSize, CancellationToken.None).ConfigureAwait(false);
            }
            catch (BlockException)
            {
                // The host keeps it; the clusters are free all the same.
            }
        }
    }

    // Brings the image into the state of one that was closed, with the bitmaps as they are now. No request is under way. Returns the error for which there are none,
    // when it closes: everything else is then closed as it should be.
    private async ValueTask<BlockException?> FinishAsync(bool closes, CancellationToken cancellationToken)
    {
        await CheckpointAsync(cancellationToken).ConfigureAwait(false);
        BlockException? lost = null;
        (HostOffset Place, List<long> Clusters) stored = (default, []);
        try
        {
            stored = await WriteExtensionAsync(cancellationToken).ConfigureAwait(false);
        }
        catch (BlockException e) when (closes && _broken is null)
        {
            lost = e;
        }

        try
        {
            if (closes)
            {
                await CutAsync(cancellationToken).ConfigureAwait(false);
            }

            await FlushStorageAsync(cancellationToken).ConfigureAwait(false);
            await WriteHeaderAsync(
                _header with
                {
                    InUse = stored.Place.Value == 0 ? 0 : ParallelsHeader.InUseClosed,
                    ExtensionOffsetSectors = (ulong)(stored.Place.Value / Sizes.SectorBytes),
                },
                cancellationToken).ConfigureAwait(false);
        }
        catch
        {
            // Nobody knows what the header says now, so they stay until it was written again.
            _doubtful.AddRange(stored.Clusters);
            throw;
        }

        FreeExtension();
        _extensionClusters = stored.Clusters;
        (_isMarked, _isTouched) = (false, true);
        return lost;
    }

    // What the file has behind its last used cluster was there ahead of need, or leaked.
    private async ValueTask CutAsync(CancellationToken cancellationToken)
    {
        if (_storage.HasFixedLength)
        {
            return;
        }

        var end = Math.Max(PlaceOf(_clusters.End).Value, _geometry.DataOffset);
        if (end != _length)
        {
            await _storage.SetLengthAsync(end, cancellationToken).ConfigureAwait(false);
            _length = end;
            _clusters.CutAt((end - _gridStart) / ClusterSize);
        }
    }

    // All fields in one sector, with a flush behind. What comes before was flushed by the caller.
    private async ValueTask WriteHeaderAsync(ParallelsHeader header, CancellationToken cancellationToken)
    {
        ThrowIfBroken();
        var bytes = new byte[ParallelsHeader.Size];
        header.WriteTo(bytes);
        _isUncertain = true;
        try
        {
            await _storage.WriteAsync(HostOffset.Zero, bytes, cancellationToken).ConfigureAwait(false);
            await FlushStorageAsync(cancellationToken).ConfigureAwait(false);
        }
        catch
        {
            _isMarked = false;
            throw;
        }

        (_header, _isUncertain) = (header, false);
    }

    private async ValueTask FlushStorageAsync(CancellationToken cancellationToken)
    {
        ThrowIfBroken();
        try
        {
            _storage.Announce(StorageEvent.FlushToDisk);
            await _storage.FlushAsync(cancellationToken).ConfigureAwait(false);
        }
        catch (BlockException e)
        {
            _broken = e;
            throw;
        }
    }

    private void ThrowIfBroken()
    {
        if (_broken is { } reason)
        {
            throw new BlockException(
                BlockErrorKind.Io, $"{_storage.Name}: an earlier error leaves nothing to go on from, so nothing more is written: {reason.Message}", reason);
        }
    }
}
