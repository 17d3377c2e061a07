using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Findings;
using Platter.Formats.Qcow2.Layout;

namespace Platter.Formats.Qcow2.Check;

/// <summary>Verifies an image without changing it: counts every reference to every host cluster and compares with the refcounts.</summary>
/// <remarks>
/// What counts as what follows QEMU's <c>check</c>, so that both tools give the same numbers. The order of steps matters for them:
/// <list type="number">
/// <item>The kind of every stored refcount is loaded (the blocks are small beside the L2 tables).</item>
/// <item>Header, active L1 and L2 tables, snapshots, encryption header, bitmaps, refcount table and blocks are walked, each reference counted.</item>
/// <item>Stored and counted refcounts are compared: too low is a corruption, too high a leak.</item>
/// </list>
/// Tables are read straight from the file with large reads, a table at a time; the cache is left alone. Written against Layout only.
/// </remarks>
internal sealed class Qcow2Check
{
    private readonly Storage _storage;
    private readonly Qcow2Metadata _metadata;
    private readonly RepairMode? _repair;
    private readonly Qcow2Geometry _geometry;
    private readonly CheckTally _tally;
    private readonly ReferenceCounts _counts;
    private readonly ReferenceCounter _references;
    private readonly IProgress<double>? _progress;
    private RefcountChecker? _refcounts;
    private bool _isPartial;

    /// <summary>A check; or, with <paramref name="repair"/>, what a repair has to know first.</summary>
    public Qcow2Check(Storage storage, Qcow2Metadata metadata, Action<CheckFinding> report, IProgress<double>? progress, RepairMode? repair = null)
    {
        _storage = storage;
        _metadata = metadata;
        _repair = repair;
        _geometry = metadata.Geometry;
        _tally = new(report, repair);
        _counts = new(storage.Name);
        Missing = repair is null ? null : new(storage, _geometry);
        Survey = repair is null ? null : new(_counts);
        _references = new(_counts, _tally, _geometry, storage.Length) { Missing = Missing };
        _progress = progress;
    }

    /// <summary>The findings so far.</summary>
    public CheckTally Tally => _tally;

    /// <summary>References to every cluster; those of the refcount structures among them at the end.</summary>
    public ReferenceCounts Counts => _counts;

    /// <summary>For a repair: what is referred to and not in the file.</summary>
    public MissingClusters? Missing { get; }

    /// <summary>For a repair: the old refcount structures.</summary>
    public RefcountSurvey? Survey { get; }

    /// <summary>The stored refcounts, once the check has run.</summary>
    public RefcountChecker Refcounts => _refcounts!;

    /// <summary>L2 tables that were read.</summary>
    public long TablesRead { get; private set; }

    /// <summary>Whether tables of snapshots have something to mend.</summary>
    public bool HasSnapshotRepairs { get; private set; }

    /// <summary>Whether every structure was examined, so that all references are known.</summary>
    public bool IsComplete => _metadata.Problems.Count == 0 && !_isPartial;

    public async ValueTask<CheckReport> RunAsync(CancellationToken cancellationToken)
    {
        var header = _metadata.Header;
        foreach (var problem in _metadata.Problems)
        {
            _tally.Error($"{problem.Message[(problem.File.Length + 2)..]}; it is not examined, and leaks are not looked for", problem.Offset);
        }

        var refcounts = _refcounts = new RefcountChecker(_storage, _metadata, _counts, _references, _tally) { Survey = Survey };
        await refcounts.LoadStoredAsync(cancellationToken).ConfigureAwait(false);

        _references.Add(0, _geometry.ClusterSize, Referrer.Structure("the header"));
        var tables = new TableChecker(_storage, _metadata, _counts, _references, refcounts, _tally, _progress) { Repair = _repair };
        await tables.CheckAsync(
            new((long)header.L1TableOffset), header.L1Size, "the L1 table", isActive: true, cancellationToken).ConfigureAwait(false);
        await CheckSnapshotsAsync(tables, cancellationToken).ConfigureAwait(false);
        CheckEncryptionHeader();
        await new BitmapChecker(_storage, _metadata, _references, _tally).CheckAsync(cancellationToken).ConfigureAwait(false);
        (TablesRead, HasSnapshotRepairs) = (tables.TablesRead, tables.HasSnapshotRepairs);
        refcounts.CheckTable();
        var imageEnd = await refcounts.CompareAsync(IsComplete, cancellationToken).ConfigureAwait(false);
        if (_repair is null)
        {
            _tally.Finish();
        }

        _progress?.Report(1);
        return new()
        {
            Corruptions = _tally.Corruptions,
            Leaks = _tally.Leaks,
            Errors = _tally.Errors,
            ImageEndOffset = imageEnd,
            TotalClusters = Sizes.DivideRoundingUp(header.VirtualSize, _geometry.ClusterSize),
            AllocatedClusters = _tally.AllocatedClusters,
            FragmentedClusters = _tally.FragmentedClusters,
            CompressedClusters = _tally.CompressedClusters,
        };
    }

    private async ValueTask CheckSnapshotsAsync(TableChecker tables, CancellationToken cancellationToken)
    {
        long tableBytes = 0, l1Bytes = 0;
        foreach (var snapshot in _metadata.Snapshots)
        {
            tableBytes += snapshot.EntrySize;
            if (_isPartial)
            {
                continue;
            }

            // Not for each of 65536 snapshots of nothing.
            var name = _tally.WantsTexts || snapshot.L1Size > 0 ? $"snapshot {SafeText.Clean(snapshot.Id, 32)} ('{SafeText.Clean(snapshot.Name, 64)}')" : string.Empty;
            if (snapshot.ExtraSize > SnapshotTableEntry.MaxExtraBytes)
            {
                // A check does not come this far: only a repair reads such entries.
                _tally.Corruption($"{name}: its entry has {snapshot.ExtraSize} bytes of extra data, the limit is {SnapshotTableEntry.MaxExtraBytes}", Remedies.SnapshotTooLong);
            }

            if (_geometry.Version >= 3 && snapshot.ExtraSize < SnapshotTableEntry.MinExtraBytesV3)
            {
                _tally.Corruption(
                    $"{name}: its entry has {snapshot.ExtraSize} bytes of extra data, version 3 demands {SnapshotTableEntry.MinExtraBytesV3}", Remedies.SnapshotIncomplete);
            }

            if ((snapshot.L1TableOffset & (ulong)_geometry.ClusterMask) != 0 || snapshot.L1TableOffset > long.MaxValue - Qcow2Header.MaxL1Bytes)
            {
                _tally.Corruption($"{name}: its L1 table at 0x{snapshot.L1TableOffset:x} is not at the offset of a cluster", Remedies.SnapshotUnusable);
                continue;
            }

            if (snapshot.L1Size > Qcow2Header.MaxL1Bytes / L1Entry.Size)
            {
                _tally.Corruption($"{name}: an L1 table of {snapshot.L1Size} entries is too large", Remedies.SnapshotUnusable);
                continue;
            }

            // Tables that do not overlap fit the file together. Where they do overlap, walking all of 65536 could take days.
            l1Bytes += Math.Clamp(_storage.Length - (long)snapshot.L1TableOffset, 0, (long)snapshot.L1Size * L1Entry.Size);
            if (l1Bytes > _storage.Length)
            {
                _isPartial = true;
                _tally.Error($"{name}: the L1 tables of the snapshots up to this one are larger than the file; it and the rest are not examined, and leaks are not looked for");
                continue;
            }

            if (snapshot.L1Size == 0)
            {
                continue;
            }

            await tables.CheckAsync(
                new((long)snapshot.L1TableOffset), snapshot.L1Size, $"the L1 table of {name}", isActive: false, cancellationToken).ConfigureAwait(false);
        }

        if (tableBytes > 0)
        {
            _references.Add((long)_metadata.Header.SnapshotsOffset, tableBytes, Referrer.Structure("the snapshot table"));
        }
    }

    private void CheckEncryptionHeader()
    {
        if (_metadata.EncryptionHeader is { } pointer)
        {
            _references.Add((long)pointer.Offset, (long)pointer.Length, Referrer.Structure("the encryption header"));
        }
    }
}
