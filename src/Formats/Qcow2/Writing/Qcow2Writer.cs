using Platter.Core.Codecs;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Allocation;
using Platter.Formats.Qcow2.Layout;
using Platter.Formats.Qcow2.Mapping;
using Platter.Formats.Qcow2.Metadata;

namespace Platter.Formats.Qcow2.Writing;

/// <summary>The writing half of a qcow2 image. The order in which things reach the disk is <see cref="Checkpoint"/>'s, and its reasons are in the design notes ("Writing").</summary>
/// <remarks>
/// Invariants: an entry is changed in memory only after the bytes it points to were written; a cluster that lost a pointer is released only after the
/// checkpoint that took the pointer off the disk. After a cut there are leaked clusters at most.
/// </remarks>
internal sealed partial class Qcow2Writer : ImageWriter
{
    // So many clusters may wait for their release before a checkpoint is made for their sake.
    private const int MaxRetired = 65536;

    private readonly Storage _storage;
    private readonly Storage _data;
    private readonly bool _hasDataFile;
    private readonly bool _isRawDataFile;
    private readonly bool _hasBacking;
    private readonly GuestCipher? _cipher;
    private readonly Qcow2Geometry _geometry;
    private readonly TableStore _tables;
    private readonly RefcountStore _refcounts;
    private readonly ClusterAllocator _allocator;
    private readonly MetadataRegions _regions;
    private readonly HeaderSector _header;
    private readonly Checkpoint _checkpoint;
    private readonly bool _lazyRefcounts;
    private readonly CodecProvider _codecs;
    private readonly int? _compressionLevel;
    private readonly Func<CancellationToken, ValueTask<bool>> _areRefcountsTrue;

    private readonly Func<ReadOnlyMemory<byte>>? _password;

    // One change of tables or refcounts at a time; one checkpoint at a time. Taken in this order: checkpointing, changing.
    private readonly SemaphoreSlim _changing = new(1, 1);
    private readonly SemaphoreSlim _checkpointing = new(1, 1);
    private readonly bool _givesBackSpace;
    private List<(long First, long Count, bool GivesSpace)> _retired = [];
    private bool _reuseWasJudged;
    private bool _isClosing;

    // Guest data, since the last checkpoint; only the event of a flush depends on it.
    private volatile bool _wasWrittenTo;

    /// <summary>Takes over the state of an image that was opened for writing.</summary>
    public Qcow2Writer(Qcow2WriterState state)
    {
        (_storage, _cipher, _geometry, _tables, _refcounts, _regions, _header) =
            (state.Storage, state.Cipher, state.Geometry, state.Tables, state.Refcounts, state.Regions, state.Header);
        _hasDataFile = state.DataFile is not null;
        _isRawDataFile = state.IsRawDataFile;
        _hasBacking = state.HasBacking;
        _data = state.DataFile ?? state.Storage;
        _checkpoint = new(state.Storage, state.DataFile, state.Header);
        _lazyRefcounts = (state.Header.Header.Compatible & CompatibleFeatures.LazyRefcounts) != 0;
        (_codecs, _compressionLevel) = (state.Codecs, state.CompressionLevel);
        (_areRefcountsTrue, _givesBackSpace) = (state.AreRefcountsTrue, state.GivesBackSpace);
        _password = state.Password;
        VirtualSize = state.Header.Header.VirtualSize;
        _allocator = new(
            state.Storage, state.Geometry, state.Refcounts, state.End, state.Regions, Retire, _checkpoint.GiveUp, MarkCorruptAsync, state.AreRefcountsTrue);
    }

    /// <inheritdoc/>
    public override long AllocationUnit => _geometry.ClusterSize;

    /// <inheritdoc/>
    public override long ZeroUnit => _geometry.Version == 2 ? _geometry.ClusterSize : _geometry.SubclusterSize;

    /// <summary>Size of the disk in bytes, as it is now.</summary>
    public long VirtualSize { get; private set; }

    /// <summary>The run at a guest offset, changes in memory included.</summary>
    public ValueTask<ClusterRun> FindAsync(GuestOffset at, long length, CancellationToken cancellationToken) =>
        _tables.FindAsync(at, length, cancellationToken);

    /// <inheritdoc/>
    public override bool TryPlanInPlace(GuestOffset at, long length, out WritePlan plan)
    {
        plan = default;
        if (_regions.HasOverlaps && WhatOverlapsTable(at.Value >> _geometry.GuestBytesPerL2Bits) is not null)
        {
            return false;
        }

        if (!_tables.TryGetEntry(at, out var entry, out _) || !IsOwn(entry) || !_tables.TryFind(at, length, out var run)
            || run.Kind != ClusterKind.Data || _checkpoint.Broken is not null)
        {
            return false;
        }

        // The run's later entries must be this image's own as well.
        var planned = Math.Min(run.Length, _geometry.ClusterSize - (at.Value & _geometry.ClusterMask));
        while (planned < run.Length && _tables.TryGetEntry(at + planned, out entry, out _) && IsOwn(entry))
        {
            planned = Math.Min(run.Length, planned + _geometry.ClusterSize);
        }

        if (IsMetadata(run.HostOffset, planned) >= 0)
        {
            return false;
        }

        _wasWrittenTo = true;
        plan = new() { Offset = at, Length = planned, Storage = _data, HostOffset = run.HostOffset, NeedsEncoding = _cipher is not null };
        return true;
    }

    /// <inheritdoc/>
    public override async ValueTask<WritePlan> ReserveAsync(GuestOffset at, long length, CancellationToken cancellationToken = default)
    {
        await _changing.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            _checkpoint.ThrowIfBroken();
            _wasWrittenTo = true;
            await OwnTableAsync(at, cancellationToken).ConfigureAwait(false);
            var (entry, bitmap) = await _tables.GetEntryAsync(at, cancellationToken).ConfigureAwait(false);
            return IsOwn(entry)
                ? await PlanInOwnAsync(at, length, entry, bitmap, cancellationToken).ConfigureAwait(false)
                : await PlanInNewAsync(at, length, cancellationToken).ConfigureAwait(false);
        }
        catch (BlockException e) when (e.Kind == BlockErrorKind.NoSpace && _checkpoint.Broken is null)
        {
            await CutBehindAsync().ConfigureAwait(false);
            throw;
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
            var start = plan.Offset.Value - plan.FillBefore;
            var end = plan.Offset.Value + plan.Length + plan.FillAfter;
            for (var i = 0; i < reserved.Count; i++)
            {
                var cluster = reserved.FirstCluster + ((long)i << _geometry.ClusterBits);
                var (old, oldBitmap) = await _tables.GetEntryAsync(cluster, cancellationToken).ConfigureAwait(false);
                var host = reserved.Host + ((long)i << _geometry.ClusterBits);
                var written = Subclusters(Math.Max(start - cluster.Value, 0), Math.Min(end - cluster.Value, _geometry.ClusterSize));
                var keeps = !HasHost(old) || reserved.IsOwn;
                var bitmap = new SubclusterBitmap(
                    ((keeps ? oldBitmap.Allocated : 0) | (ulong)written) | ((ulong)(keeps ? oldBitmap.Zero & ~written : 0) << 32));
                await _tables.SetEntryAsync(cluster, new(L2Entry.CopiedFlag | (ulong)host.Value), bitmap, cancellationToken).ConfigureAwait(false);
                if (!reserved.IsOwn)
                {
                    RetireEntry(old);
                }
            }
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
        if (plan.Token is Reservation { IsOwn: false } reserved && !_hasDataFile)
        {
            await _changing.WaitAsync().ConfigureAwait(false);
            try
            {
                await _allocator.ReleaseAsync(reserved.Host.Value >> _geometry.ClusterBits, reserved.Count).ConfigureAwait(false);
                await CutBehindAsync().ConfigureAwait(false);
            }
            finally
            {
                _changing.Release();
            }
        }
    }

    /// <inheritdoc/>
    public override void Encode(GuestOffset at, HostOffset host, Span<byte> bytes) => _cipher!.Encrypt(at, host, bytes);

    /// <inheritdoc/>
    public override ValueTask FlushAsync(CancellationToken cancellationToken = default) => CheckpointAsync(cancellationToken);

    /// <inheritdoc/>
    public override async ValueTask CloseAsync(CancellationToken cancellationToken = default)
    {
        if (_checkpoint.Broken is not null)
        {
            return;
        }

        _isClosing = true;
        BlockException? lost = null;
        try
        {
            await StoreBitmapsAsync(cancellationToken).ConfigureAwait(false);
        }
        catch (BlockException e) when (_checkpoint.Broken is null)
        {
            // They say so themselves; everything else is closed as it should be.
            lost = e;
        }

        // The second one writes the refcounts that the first one allowed to lower.
        await CheckpointAsync(cancellationToken).ConfigureAwait(false);
        await CheckpointAsync(cancellationToken, final: true).ConfigureAwait(false);
        if (_allocator.Aside.Count > 0)
        {
            await JudgeReuseAsync(cancellationToken).ConfigureAwait(false);
            await GiveBackAsync(cancellationToken).ConfigureAwait(false);
        }

        await CutBehindAsync().ConfigureAwait(false);
        if (lost is not null)
        {
            throw new BlockException(lost.Kind, $"{_storage.Name}: its dirty bitmaps could not be stored and are inconsistent now: {lost.Message}", lost);
        }
    }

    private bool IsEmpty(L2Entry entry) => (entry.Value & (L2Entry.OffsetMask | L2Entry.CompressedFlag)) == 0 && !(_hasDataFile && entry.IsCopied);

    // A host cluster, shared or not, or compressed bytes.
    private bool HasHost(L2Entry entry) => !IsEmpty(entry);

    private bool IsOwn(L2Entry entry) => entry.IsCopied && !entry.IsCompressed && !IsEmpty(entry);

    private uint Subclusters(long start, long end)
    {
        if (!_geometry.HasExtendedL2 || start >= end)
        {
            return 0;
        }

        var first = (int)(start / _geometry.SubclusterSize);
        var behind = (int)Sizes.DivideRoundingUp(end, _geometry.SubclusterSize);
        return (uint)(((1UL << behind) - 1) & ~((1UL << first) - 1));
    }

    private long IsMetadata(HostOffset at, long length) => _hasDataFile
        ? -1
        : _regions.Find(at.Value >> _geometry.ClusterBits, ((at.Value + length - 1) >> _geometry.ClusterBits) - (at.Value >> _geometry.ClusterBits) + 1);

    // The clusters are there and nobody else's: parts that are stored are overwritten where they are, others come into being in their place.
    private async ValueTask<WritePlan> PlanInOwnAsync(
        GuestOffset at, long length, L2Entry entry, SubclusterBitmap bitmap, CancellationToken cancellationToken)
    {
        ThrowIfMisaligned(entry, at);
        var inCluster = at.Value & _geometry.ClusterMask;
        var host = entry.Offset + inCluster;
        length = Math.Min(length, _geometry.ClusterSize - inCluster);
        await ThrowIfInMetadataAsync(entry).ConfigureAwait(false);
        var wanted = Subclusters(inCluster, inCluster + length);
        var isStored = _geometry.HasExtendedL2 ? (wanted & ~bitmap.Allocated) == 0 : !entry.IsZero;
        var plan = new WritePlan { Offset = at, Length = length, Storage = _data, HostOffset = host, NeedsEncoding = _cipher is not null };
        if (isStored)
        {
            return plan;
        }

        if (_geometry.HasExtendedL2 && bitmap.IsContradictory)
        {
            throw Corrupt(at, entry, $"has the subcluster bitmap 0x{bitmap.Value:x}: a subcluster cannot be both allocated and zero");
        }

        // The edges: a subcluster that is not stored yet is written whole.
        var unit = _geometry.SubclusterSize;
        var first = (int)(inCluster / unit);
        var last = (int)((inCluster + length - 1) / unit);
        bool IsStored(int subcluster) => _geometry.HasExtendedL2 && (bitmap.Allocated >> subcluster & 1) != 0;
        return plan with
        {
            FillBefore = IsStored(first) ? 0 : inCluster - ((long)first * unit),
            FillAfter = IsStored(last) ? 0 : ((last + 1L) * unit) - inCluster - length,
            Token = new Reservation(new(at.Value - inCluster), 1, entry.Offset, IsOwn: true),
        };
    }

    // New clusters, as many as the request spans and can be had side by side.
    private async ValueTask<WritePlan> PlanInNewAsync(GuestOffset at, long length, CancellationToken cancellationToken)
    {
        var inCluster = at.Value & _geometry.ClusterMask;
        var firstCluster = new GuestOffset(at.Value - inCluster);
        var inTable = (1L << _geometry.GuestBytesPerL2Bits) - (firstCluster.Value & ((1L << _geometry.GuestBytesPerL2Bits) - 1));
        var wanted = (int)Math.Min(Sizes.DivideRoundingUp(inCluster + length, _geometry.ClusterSize), inTable >> _geometry.ClusterBits);
        var count = 0;
        var hosts = new List<bool>();
        for (; count < wanted; count++)
        {
            var (entry, _) = await _tables.GetEntryAsync(firstCluster + ((long)count << _geometry.ClusterBits), cancellationToken).ConfigureAwait(false);
            if (IsOwn(entry))
            {
                break;
            }

            await ThrowIfInMetadataAsync(entry).ConfigureAwait(false);
            hosts.Add(HasHost(entry));
        }

        var (host, got, isNew) = await AllocateDataAsync(firstCluster, count, cancellationToken).ConfigureAwait(false);
        length = Math.Min(length, ((long)got << _geometry.ClusterBits) - inCluster);
        var endInLast = (int)((inCluster + length - 1) & _geometry.ClusterMask) + 1;

        // A cluster that had other bytes before is copied whole; otherwise what is stored grows by subclusters.
        var unitFirst = hosts[0] ? _geometry.ClusterSize : _geometry.SubclusterSize;
        var unitLast = hosts[got - 1] ? _geometry.ClusterSize : _geometry.SubclusterSize;
        return new()
        {
            Offset = at,
            Length = length,
            Storage = _data,
            HostOffset = host + inCluster,
            FillBefore = inCluster % unitFirst,
            FillAfter = -endInLast & (unitLast - 1),
            HostReadsZero = isNew,
            NeedsEncoding = _cipher is not null,
            Token = new Reservation(firstCluster, got, host, IsOwn: false),
        };
    }

    private async ValueTask<(HostOffset Host, int Count, bool IsNew)> AllocateDataAsync(GuestOffset cluster, int count, CancellationToken cancellationToken)
    {
        if (_hasDataFile)
        {
            // In a data file everything has its place already, and nobody knows what is there.
            return (new(cluster.Value), count, false);
        }

        var (first, got, isNew) = await _allocator.AllocateAsync(count, cancellationToken).ConfigureAwait(false);
        var host = new HostOffset(first << _geometry.ClusterBits);
        return (host, got, isNew);
    }

    private void Retire(long first, long count) => Retire(first, count, false);

    // What is given up for good gives its space to the host; what makes room for something else is likely to be used again soon.
    private void Retire(long first, long count, bool givesSpace)
    {
        if (_retired.Count > 0 && _retired[^1] is var last && last.First + last.Count == first && last.GivesSpace == givesSpace)
        {
            _retired[^1] = (last.First, last.Count + count, givesSpace);
            return;
        }

        _retired.Add((first, count, givesSpace));
    }

    // What an entry points to loses a reference with the next checkpoint.
    private void RetireEntry(L2Entry entry, bool givesSpace = false)
    {
        if (_hasDataFile || IsEmpty(entry))
        {
            return;
        }

        if (!entry.IsCompressed)
        {
            Retire(entry.Offset.Value >> _geometry.ClusterBits, 1, givesSpace);
            return;
        }

        var first = entry.CompressedOffset(_geometry).Value >> _geometry.ClusterBits;
        var last = (entry.CompressedOffset(_geometry).Value + entry.CompressedLength(_geometry) - 1) >> _geometry.ClusterBits;
        Retire(first, last - first + 1, givesSpace);
    }

    private ValueTask CheckpointIfFullAsync(CancellationToken cancellationToken) =>
        _tables.IsFull || _retired.Count > MaxRetired ? CheckpointAsync(cancellationToken) : ValueTask.CompletedTask;

    private async ValueTask CheckpointAsync(CancellationToken cancellationToken, bool final = false)
    {
        await _checkpointing.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            TableChanges tables;
            var refcounts = new RefcountChanges();
            List<(long First, long Count, bool GivesSpace)> retired;
            bool defers;
            await _changing.WaitAsync(cancellationToken).ConfigureAwait(false);
            try
            {
                _checkpoint.ThrowIfBroken();
                tables = _tables.Take();

                // The clusters of a table that was moved are handed out again after this: by then the header must have the new place.
                defers = _lazyRefcounts && !final && !_refcounts.TableMoved;
                refcounts = defers ? refcounts : _refcounts.Take();
                (retired, _retired) = (_retired, []);
            }
            finally
            {
                _changing.Release();
            }

            try
            {
                if (defers && !tables.IsEmpty)
                {
                    await SetDirtyBitAsync(true, cancellationToken).ConfigureAwait(false);
                }

                var wasWrittenTo = _wasWrittenTo || !tables.IsEmpty || !refcounts.IsEmpty;
                _wasWrittenTo = false;
                await _checkpoint.RunAsync(refcounts, tables, defers, wasWrittenTo, cancellationToken).ConfigureAwait(false);
            }
            catch
            {
                await _changing.WaitAsync(CancellationToken.None).ConfigureAwait(false);
                _tables.PutBack(tables);
                _refcounts.PutBack(refcounts);
                _retired.AddRange(retired);
                _changing.Release();
                throw;
            }

            await _changing.WaitAsync(CancellationToken.None).ConfigureAwait(false);
            try
            {
                _tables.Done(tables);
                _refcounts.Done(refcounts);
                foreach (var (first, count, givesSpace) in retired)
                {
                    await _allocator.ReleaseAsync(first, count, cluster => _regions.Remove(cluster), givesSpace && _givesBackSpace).ConfigureAwait(false);
                }
            }
            finally
            {
                _changing.Release();
            }

            if (!final && !_isClosing)
            {
                await JudgeReuseAsync(cancellationToken).ConfigureAwait(false);
                await GiveBackAsync(cancellationToken).ConfigureAwait(false);
            }
            else if (_lazyRefcounts && final)
            {
                await SetDirtyBitAsync(false, cancellationToken).ConfigureAwait(false);
            }
        }
        finally
        {
            _checkpointing.Release();
        }
    }

    // Once there is something to use again: may the refcounts be believed?
    private async ValueTask JudgeReuseAsync(CancellationToken cancellationToken)
    {
        if (_reuseWasJudged || !_allocator.HasFree)
        {
            return;
        }

        _reuseWasJudged = true;
        var isTrue = await _areRefcountsTrue(cancellationToken).ConfigureAwait(false);
        await _changing.WaitAsync(CancellationToken.None).ConfigureAwait(false);
        _allocator.MayReuse = isTrue;
        _changing.Release();
    }

    private async ValueTask SetDirtyBitAsync(bool dirty, CancellationToken cancellationToken)
    {
        var flags = _header.Header.Incompatible;
        _header.Set64(Qcow2Header.IncompatibleAt, (ulong)(dirty ? flags | IncompatibleFeatures.Dirty : flags & ~IncompatibleFeatures.Dirty));
        await _checkpoint.WriteHeaderAsync(cancellationToken).ConfigureAwait(false);
    }

    private void ThrowIfMisaligned(L2Entry entry, GuestOffset at)
    {
        if ((entry.Offset.Value & _geometry.ClusterMask) != 0)
        {
            throw Corrupt(at, entry, $"points to {entry.Offset}, which is not aligned to a cluster");
        }
    }

    private ImageFormatException Corrupt(GuestOffset at, L2Entry entry, string problem) => new(
        _storage.Name, $"L2 entry of guest offset 0x{at.Value & ~_geometry.ClusterMask:x}", default, "value", $"0x{entry.Value:x16}", problem);
}
