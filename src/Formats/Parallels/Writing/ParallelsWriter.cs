using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Parallels.Layout;
using Platter.Formats.Parallels.Mapping;
using Platter.Formats.Parallels.Metadata;

namespace Platter.Formats.Parallels.Writing;

/// <summary>The writing half of a Parallels image. The order in which things reach the disk, and why, is in the design notes ("Writing Parallels images").</summary>
/// <remarks>
/// Invariants: nothing is changed before the header says "Ynot" on the disk; a BAT entry is changed in memory only after the bytes it points to were written, and on
/// the disk only after they are durable; a cluster that lost its entry becomes a hole of the file, and is handed out again, only after the checkpoint that took the entry
/// off the disk. After a cut there are leaked clusters at most.
/// </remarks>
internal sealed partial class ParallelsWriter : ImageWriter
{
    // So many clusters may wait for their release before a checkpoint is made for their sake.
    private const int MaxRetired = 65536;

    private readonly Storage _storage;
    private readonly BatStore _bat;
    private readonly HostClusters _clusters;
    private readonly long _gridStart;
    private readonly long _limit;
    private readonly long _preallocation;
    private readonly bool _reserves;
    private readonly bool _givesBackSpace;

    // One change of the BAT or of what is in use at a time; one checkpoint at a time. Taken in this order: marking, checkpointing, changing.
    private readonly SemaphoreSlim _changing = new(1, 1);
    private readonly SemaphoreSlim _checkpointing = new(1, 1);
    private ParallelsGeometry _geometry;
    private ParallelsHeader _header;
    private List<(long First, long Count)> _retired = [];
    private long _allocated;
    private long _length;

    // Until the node says otherwise: what shows through must not be exposed.
    private bool _hasBacking = true;

    /// <summary>Takes over the state of an image that was opened for writing.</summary>
    public ParallelsWriter(ParallelsWriterState state)
    {
        (_storage, _header, _geometry, _bat, _clusters) = (state.Storage, state.Header, state.Geometry, state.Bat, state.Clusters);
        (_extension, _hasForgottenEntries) = (state.Extension, state.HasForgottenEntries);
        (_preallocation, _reserves, _givesBackSpace, _allocated) = (state.Preallocation, state.Reserves, state.GivesBackSpace, state.AllocatedClusters);
        (_gridStart, _length) = (_geometry.DataOffset, _storage.Length);
        _limit = (((long)uint.MaxValue * _geometry.EntryUnitBytes) - _gridStart) / ClusterSize;
        if (_storage.HasFixedLength)
        {
            _limit = Math.Min(_limit, Math.Max(0, _length - _gridStart) / ClusterSize);
        }

        // Nobody closed it: that is made up for.
        _isTouched = _header.IsDirty;
    }

    /// <inheritdoc/>
    public override long AllocationUnit => ClusterSize;

    /// <summary>Size of the disk in bytes, as it is now.</summary>
    public long VirtualSize => Volatile.Read(ref _geometry).VirtualSize;

    private long ClusterSize => _geometry.ClusterSizeBytes;

    /// <inheritdoc/>
    public override void SetHasBacking(bool hasBacking) => _hasBacking = hasBacking;

    /// <summary>What a guest range is, changes in memory included.</summary>
    public ValueTask<Extent> MapAsync(GuestOffset at, long length, CancellationToken cancellationToken)
    {
        var geometry = Volatile.Read(ref _geometry);
        var wanted = Math.Min(length, geometry.VirtualSize - at.Value);
        return _bat.TryGetPage(at.Value / geometry.ClusterSizeBytes, out var page)
            ? new(ClusterMapper.Lookup(page, geometry, _storage, at, wanted))
            : AwaitedAsync();

        async ValueTask<Extent> AwaitedAsync() =>
            ClusterMapper.Lookup(await _bat.GetPageAsync(at.Value / geometry.ClusterSizeBytes, cancellationToken).ConfigureAwait(false), geometry, _storage, at, wanted);
    }

    /// <inheritdoc/>
    public override bool TryPlanInPlace(GuestOffset at, long length, out WritePlan plan)
    {
        plan = default;
        if (!_isMarked || _broken is not null || !_bat.TryGetPage(at.Value / ClusterSize, out var page) || page.Slots[page.Index] == 0)
        {
            return false;
        }

        var extent = ClusterMapper.Lookup(page, _geometry, _storage, at, length);
        plan = new() { Offset = at, Length = extent.Length, Storage = _storage, HostOffset = extent.HostOffset };
        return extent.Kind == ExtentKind.Data;
    }

    /// <inheritdoc/>
    public override async ValueTask<WritePlan> ReserveAsync(GuestOffset at, long length, CancellationToken cancellationToken = default)
    {
        await EnsureInUseAsync(cancellationToken).ConfigureAwait(false);
        await _changing.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            ThrowIfBroken();
            var cluster = at.Value / ClusterSize;
            var inCluster = at.Value - (cluster * ClusterSize);
            var page = await _bat.GetPageAsync(cluster, cancellationToken).ConfigureAwait(false);
            if (page.Slots[page.Index] != 0)
            {
                var extent = ClusterMapper.Lookup(page, _geometry, _storage, at, length);
                return new() { Offset = at, Length = extent.Length, Storage = _storage, HostOffset = extent.HostOffset };
            }

            // As many new clusters as the request spans and can be had side by side; those of one page of the BAT will do.
            var wanted = (int)Math.Min(Sizes.DivideRoundingUp(inCluster + length, ClusterSize), page.End - page.Index);
            var count = 1;
            while (count < wanted && page.Slots[page.Index + count] == 0)
            {
                count++;
            }

            (var first, count, var isFresh) = await AllocateAsync(count, cancellationToken).ConfigureAwait(false);
            length = Math.Min(length, (count * ClusterSize) - inCluster);
            return new()
            {
                Offset = at,
                Length = length,
                Storage = _storage,
                HostOffset = PlaceOf(first) + inCluster,
                FillBefore = inCluster,
                FillAfter = (count * ClusterSize) - inCluster - length,
                HostReadsZero = isFresh,
                Token = new Reservation(cluster, first, count),
            };
        }
        finally
        {
            _changing.Release();
        }
    }

    /// <inheritdoc/>
    public override async ValueTask CommitAsync(WritePlan plan, CancellationToken cancellationToken = default)
    {
        if (plan.Token is not Reservation reserved)
        {
            return;
        }

        await _changing.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            await PublishAsync(reserved, cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            _changing.Release();
        }

        await CheckpointIfFullAsync(cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public override async ValueTask AbandonAsync(WritePlan plan)
    {
        if (plan.Token is Reservation reserved)
        {
            await _changing.WaitAsync().ConfigureAwait(false);
            _clusters.Free(reserved.Host, reserved.Count);
            _changing.Release();
        }
    }

    /// <inheritdoc/>
    public override ValueTask FlushAsync(CancellationToken cancellationToken = default) => CheckpointAsync(cancellationToken);

    /// <inheritdoc/>
    public override async ValueTask<bool> HasPlaceAsync(GuestOffset at, CancellationToken cancellationToken = default) =>
        at.Value / ClusterSize < _bat.Count && !(await _bat.GetAsync(at.Value / ClusterSize, cancellationToken).ConfigureAwait(false)).IsUnallocated;

    private HostOffset PlaceOf(long hostCluster) => new(_gridStart + (hostCluster * ClusterSize));

    private long HostClusterOf(BatEntry entry) => (_geometry.HostOffsetOf(entry) - _gridStart) / ClusterSize;

    private BatEntry EntryFor(long hostCluster) => new((uint)(PlaceOf(hostCluster).Value / _geometry.EntryUnitBytes));

    // Entries for clusters whose bytes are written. Their pages were read when the clusters were reserved, and may have been dropped since.
    private async ValueTask PublishAsync(Reservation reserved, CancellationToken cancellationToken)
    {
        for (var i = 0; i < reserved.Count; i++)
        {
            await _bat.SetAsync(reserved.FirstCluster + i, EntryFor(reserved.Host + i), cancellationToken).ConfigureAwait(false);
        }

        _allocated += reserved.Count;
    }

    private async ValueTask<(long First, int Count, bool IsFresh)> AllocateAsync(int wanted, CancellationToken cancellationToken)
    {
        _storage.Announce(StorageEvent.ClusterAlloc);
        var (first, count, isFresh) = _clusters.Allocate(wanted, _limit);
        if (count == 0)
        {
            throw new BlockException(
                BlockErrorKind.NoSpace,
                _storage.HasFixedLength ? $"{_storage.Name}: there is no room for another cluster" : $"{_storage.Name}: another cluster would lie beyond what BAT entries can say");
        }

        try
        {
            await CoverAsync(PlaceOf(first + count).Value, cancellationToken).ConfigureAwait(false);
            return (first, count, isFresh);
        }
        catch
        {
            _clusters.Free(first, count);
            throw;
        }
    }

    // The file reaches to the end of every cluster that was handed out, and some way further, but not further than the whole disk would need.
    private async ValueTask CoverAsync(long end, CancellationToken cancellationToken)
    {
        if (end <= _length)
        {
            return;
        }

        var missing = Math.Max(0, Sizes.DivideRoundingUp(VirtualSize, ClusterSize) - _allocated) * ClusterSize;
        var ahead = end + Math.Min(missing, _preallocation);
        if (_reserves)
        {
            try
            {
                if (_storage.TryReserve(new(_length), ahead - _length))
                {
                    _length = Math.Max(ahead, _storage.Length);
                    return;
                }
            }
            catch (BlockException e) when (e.Kind == BlockErrorKind.NoSpace)
            {
                // There may be enough for what is needed now.
                ahead = end;
            }
        }

        await _storage.SetLengthAsync(ahead, cancellationToken).ConfigureAwait(false);
        _length = ahead;
    }

    private void Retire(long first, long count)
    {
        if (_retired.Count > 0 && _retired[^1] is var last && last.First + last.Count == first)
        {
            _retired[^1] = (last.First, last.Count + count);
            return;
        }

        _retired.Add((first, count));
    }
}
