using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Layout;
using Platter.Formats.Qcow2.Metadata;

namespace Platter.Formats.Qcow2.Check;

/// <summary>Mends an image without touching what is there.</summary>
/// <remarks>
/// 1. The check counts every reference; what is stored is believed in nothing.
/// 2. What has to change is written to new clusters behind the end of the file: L2 tables, the L1 table, the snapshot table, refcount blocks, the refcount table; flush.
/// 3. One write of the header's first sector makes all of it the current state; flush.
/// 4. The image is checked again.
/// A cut at any time leaves the old state (with clusters behind its end that nobody knows) or the new one. Going back is restoring the sector and cutting
/// the file: <see cref="RepairUndo"/>.
/// </remarks>
internal sealed class Qcow2Repair
{
    private readonly Storage _storage;
    private readonly Qcow2Geometry _geometry;
    private readonly RepairOptions _options;
    private readonly Action<CheckFinding> _report;
    private readonly IProgress<double>? _progress;
    private readonly long _lengthBefore;
    private Qcow2Metadata _metadata;
    private List<byte[]> _snapshots = [];
    private long _mendedByGrowing;

    public Qcow2Repair(Storage storage, Qcow2Metadata metadata, RepairOptions options, Action<CheckFinding> report, IProgress<double>? progress)
    {
        (_storage, _metadata, _geometry, _options, _report, _progress) = (storage, metadata, metadata.Geometry, options, report, progress);
        _lengthBefore = storage.Length;
    }

    private bool RepairsAll => _options.Mode == RepairMode.All;

    public async ValueTask<RepairReport> RunAsync(CancellationToken cancellationToken)
    {
        if (RepairsAll)
        {
            await ReadSnapshotsAsync(cancellationToken).ConfigureAwait(false);
        }

        var check = new Qcow2Check(_storage, _metadata, _report, Part(0, 0.4), _options.Mode);
        var before = await check.RunAsync(cancellationToken).ConfigureAwait(false);
        RefuseHopeless(check);
        var header = await HeaderSector.LoadAsync(_storage, cancellationToken).ConfigureAwait(false);
        var sectorBefore = header.ToArray();
        try
        {
            var written = await BuildAsync(check, header, cancellationToken).ConfigureAwait(false);
            check.Tally.Finish();
            if (!header.IsDirty)
            {
                // In a repair of leaks the flags were not judged.
                _progress?.Report(1);
                return new() { Check = RepairsAll || check.Tally.Corruptions == 0 ? before : await RecheckAsync(cancellationToken).ConfigureAwait(false) };
            }

            await _storage.FlushAsync(cancellationToken).ConfigureAwait(false);
            cancellationToken.ThrowIfCancellationRequested();
            if (_options.BeforeSwitch is { } tell)
            {
                var undo = await SwitchUndo.DescribeAsync(_storage, _lengthBefore, sectorBefore, header.ToArray(), written, cancellationToken).ConfigureAwait(false);
                await tell(undo, cancellationToken).ConfigureAwait(false);
            }
        }
        catch
        {
            await GiveBackAsync().ConfigureAwait(false);
            throw;
        }

        await header.WriteAsync(CancellationToken.None).ConfigureAwait(false);
        await _storage.FlushAsync(CancellationToken.None).ConfigureAwait(false);
        return new()
        {
            CorruptionsFixed = check.Tally.CorruptionsFixed + _mendedByGrowing,
            LeaksFixed = check.Tally.LeaksFixed,
            IsChanged = true,
            Check = await RecheckAsync(cancellationToken).ConfigureAwait(false),
        };
    }

    // Writes everything that is new, and puts its places into the header in memory.
    private async ValueTask<IReadOnlyList<(long Offset, long Length)>> BuildAsync(Qcow2Check check, HeaderSector header, CancellationToken cancellationToken)
    {
        var (survey, missing, counts, tally) = (check.Survey!, check.Missing!, check.Counts, check.Tally);
        var needed = Needed(check);
        var first = missing.FindRoom(counts, needed);
        var space = new RepairSpace(_storage, _geometry, first, first + needed(first));
        var changes = survey.HasBrokenEntries || tally.CorruptionsFixed + tally.LeaksFixed > 0
            || (RepairsAll && (_metadata.Header.RefcountTableClusters == 0 || missing.Before(first).Any()));
        var refcounts = new RefcountRebuilder(_storage, _geometry, counts, check.Refcounts, survey, lowersOnly: !RepairsAll, space, missing.End);
        if (changes)
        {
            CountMissing();
        }

        byte[]? l1 = null;
        var snapshotsChange = RepairsAll && CompleteSnapshots();
        var tables = new TableRepairer(_storage, _metadata, refcounts, counts, space, tally, RepairsAll);
        if (RepairsAll || tally.Corruptions == 0)
        {
            l1 = await tables.RepairAsync(
                new((long)_metadata.Header.L1TableOffset), _metadata.Header.L1Size, "the L1 table", isActive: true, cancellationToken).ConfigureAwait(false);
            snapshotsChange |= check.HasSnapshotRepairs && await RepairSnapshotsAsync(tables, refcounts, missing, space, cancellationToken).ConfigureAwait(false);
        }

        // What the longer file has need not be told again.
        _mendedByGrowing = changes && RepairsAll ? missing.RangesBefore(first) : 0;
        if (tally.Corruptions == _mendedByGrowing)
        {
            ClearMarks(header);
        }

        if (!changes && l1 is null && !snapshotsChange)
        {
            return [];
        }

        if (!changes)
        {
            CountMissing();
        }

        HostOffset l1At = default;
        if (l1 is not null)
        {
            l1At = await MoveAsync(l1, (long)_metadata.Header.L1TableOffset, l1.Length, refcounts, missing, space, cancellationToken).ConfigureAwait(false);
            header.Set64(Qcow2Header.L1TableOffsetAt, (ulong)l1At.Value);
        }

        if (snapshotsChange)
        {
            var at = await MoveAsync(
                _snapshots.SelectMany(entry => entry).ToArray(), (long)_metadata.Header.SnapshotsOffset, _metadata.Snapshots.Sum(s => s.EntrySize), refcounts, missing, space,
                cancellationToken).ConfigureAwait(false);
            header.Set64(Qcow2Header.SnapshotsOffsetAt, (ulong)at.Value);
        }

        // Where data were said to be in the place of a table, they are alone there when it has moved.
        while (l1 is not null && refcounts.TakeBecameOwned() is { Count: > 0 } owned)
        {
            if (await tables.SettleAsync(l1, owned, cancellationToken).ConfigureAwait(false))
            {
                await _storage.WriteAsync(l1At, l1, cancellationToken).ConfigureAwait(false);
            }
        }

        refcounts.MarkThrough(space.Next);
        await refcounts.WriteAsync(cancellationToken).ConfigureAwait(false);
        header.Set64(Qcow2Header.RefcountTableOffsetAt, (ulong)refcounts.TableOffset.Value);
        header.Set32(Qcow2Header.RefcountTableClustersAt, (uint)refcounts.TableClusters);
        if (_geometry.Version >= 3)
        {
            // As any writer must.
            header.Set64(Qcow2Header.AutoclearAt, (ulong)(_metadata.Header.Autoclear & (AutoclearFeatures.Bitmaps | AutoclearFeatures.RawExternalData)));
        }

        return space.Written;

        // The file will reach there: what it does not have now reads as zeros, as before, and is referred to.
        void CountMissing()
        {
            foreach (var cluster in missing.Before(first))
            {
                refcounts.Add(cluster);
            }

            refcounts.StoredFrom = space.Limit;
        }
    }

    // New clusters that are enough, for tables that begin at a cluster: every L2 table, both kinds of L1 tables, the snapshot table, all refcounts.
    private Func<long, long> Needed(Qcow2Check check)
    {
        long bytes = _metadata.Header.L1Size * (long)L1Entry.Size;
        var tables = check.TablesRead + 2;
        if (RepairsAll)
        {
            bytes += _snapshots.Sum(entry => (long)entry.Length + 32);
            if (check.HasSnapshotRepairs)
            {
                bytes += _metadata.Snapshots.Sum(s => Math.Min(s.L1Size * (long)L1Entry.Size, Qcow2Header.MaxL1Bytes));
                tables += _metadata.Snapshots.Count;
            }
        }

        var kept = 0L;
        for (var index = 0; index < check.Survey!.Length; index++)
        {
            kept += check.Survey.IsUsed(index) ? 1 : 0;
        }

        var fixedPart = tables + Sizes.DivideRoundingUp(bytes, _geometry.ClusterSize) + kept + 64;
        return at =>
        {
            var blocks = ((at + fixedPart) >> (_geometry.RefcountBlockEntryBits - 1)) + 1;
            return fixedPart + blocks + (3 * Sizes.DivideRoundingUp((blocks + kept) * RefcountTableEntry.Size, _geometry.ClusterSize)) + 3;
        };
    }

    // What could not be examined may refer to anything: no refcount can be called right then.
    private void RefuseHopeless(Qcow2Check check)
    {
        if (check.Tally.Errors > 0)
        {
            check.Tally.Finish();
            throw new BlockException(
                BlockErrorKind.CorruptImage, $"{_storage.Name}: part of the image could not be examined, so that it cannot be repaired. Nothing was changed");
        }

        if (!RepairsAll && (check.Survey!.HasBrokenEntries || _metadata.Header.RefcountTableClusters == 0))
        {
            check.Tally.Finish();
            throw new BlockException(
                BlockErrorKind.CorruptImage, $"{_storage.Name}: the refcount structures are damaged, and leaks cannot be told from them; 'check -r all' rebuilds them. Nothing was changed");
        }
    }

    private async ValueTask<HostOffset> MoveAsync(
        byte[] bytes, long oldOffset, long oldLength, RefcountRebuilder refcounts, MissingClusters missing, RepairSpace space, CancellationToken cancellationToken)
    {
        var clusters = Sizes.DivideRoundingUp(bytes.Length, _geometry.ClusterSize);
        var first = space.Take(clusters);
        await space.WriteAsync(first, bytes, cancellationToken).ConfigureAwait(false);
        for (var i = 0; i < clusters; i++)
        {
            refcounts.Add(first + i);
        }

        var isCounted = oldOffset + oldLength - _lengthBefore < _geometry.ClusterSize;
        var end = (oldOffset + oldLength - 1) >> _geometry.ClusterBits;
        foreach (var cluster in missing.Before(isCounted ? end + 1 : space.First, oldOffset, oldLength))
        {
            refcounts.Remove(cluster);
        }

        return new(first << _geometry.ClusterBits);
    }

    private void ClearMarks(HeaderSector header)
    {
        const IncompatibleFeatures Marks = IncompatibleFeatures.Dirty | IncompatibleFeatures.Corrupt;
        if (_geometry.Version >= 3 && (_metadata.Header.Incompatible & Marks) != 0)
        {
            header.Set64(Qcow2Header.IncompatibleAt, (ulong)(_metadata.Header.Incompatible & ~Marks));
        }
    }

    // The entries as they are but for too much extra data. Where they cannot be read at all, that is a finding already.
    private async ValueTask ReadSnapshotsAsync(CancellationToken cancellationToken)
    {
        const long MaxTableBytes = 16 << 20;
        var header = _metadata.Header;
        var entries = new List<SnapshotTableEntry>();
        var start = (long)header.SnapshotsOffset;
        long total = 0;
        for (var index = 0; index < header.SnapshotCount; index++)
        {
            var fixedPart = new byte[SnapshotTableEntry.FixedSize];
            await FillAsync(start, fixedPart, cancellationToken).ConfigureAwait(false);
            var extra = new byte[Math.Min(SnapshotTableEntry.ExtraSizeOf(fixedPart), SnapshotTableEntry.MaxExtraBytes)];
            await FillAsync(start + SnapshotTableEntry.FixedSize, extra, cancellationToken).ConfigureAwait(false);
            var names = new byte[SnapshotTableEntry.IdAndNameSizeOf(fixedPart)];
            await FillAsync(start + SnapshotTableEntry.FixedSize + SnapshotTableEntry.ExtraSizeOf(fixedPart), names, cancellationToken).ConfigureAwait(false);
            var bytes = SnapshotTableEntry.CutExtra(fixedPart, extra, names);
            total += bytes.Length;
            if (total > MaxTableBytes)
            {
                // The check has said so; the table stays what it is.
                _snapshots = [];
                return;
            }

            _snapshots.Add(bytes);
            entries.Add(SnapshotTableEntry.Parse(bytes, _storage.Name, index, new(start)) with
            {
                ExtraSize = SnapshotTableEntry.ExtraSizeOf(fixedPart), EntrySize = SnapshotTableEntry.DeclaredSize(fixedPart),
            });
            start += SnapshotTableEntry.DeclaredSize(fixedPart);
        }

        _metadata = _metadata with
        {
            Snapshots = entries, Problems = [.. _metadata.Problems.Where(p => !p.Structure.StartsWith("snapshot table", StringComparison.Ordinal))],
        };

        async ValueTask FillAsync(long at, Memory<byte> buffer, CancellationToken token)
        {
            var read = at < 0 ? 0 : await _storage.ReadAsync(new(at), buffer, token).ConfigureAwait(false);
            buffer.Span[read..].Clear();
        }
    }

    private bool CompleteSnapshots()
    {
        var isChanged = false;
        for (var i = 0; i < _snapshots.Count; i++)
        {
            var extra = _metadata.Snapshots[i].ExtraSize;
            isChanged |= extra > SnapshotTableEntry.MaxExtraBytes;
            if (_geometry.Version >= 3 && extra < SnapshotTableEntry.MinExtraBytesV3)
            {
                _snapshots[i] = SnapshotTableEntry.Complete(_snapshots[i], _metadata.Header.Size);
                isChanged = true;
            }
        }

        return isChanged;
    }

    private async ValueTask<bool> RepairSnapshotsAsync(
        TableRepairer tables, RefcountRebuilder refcounts, MissingClusters missing, RepairSpace space, CancellationToken cancellationToken)
    {
        var isChanged = false;
        for (var i = 0; i < _snapshots.Count; i++)
        {
            var snapshot = _metadata.Snapshots[i];
            if ((snapshot.L1TableOffset & (ulong)_geometry.ClusterMask) != 0 || snapshot.L1TableOffset > long.MaxValue - Qcow2Header.MaxL1Bytes
                || snapshot.L1Size > Qcow2Header.MaxL1Bytes / L1Entry.Size)
            {
                continue;
            }

            var l1 = await tables.RepairAsync(new((long)snapshot.L1TableOffset), snapshot.L1Size, string.Empty, isActive: false, cancellationToken).ConfigureAwait(false);
            if (l1 is not null)
            {
                var at = await MoveAsync(l1, (long)snapshot.L1TableOffset, l1.Length, refcounts, missing, space, cancellationToken).ConfigureAwait(false);
                SnapshotTableEntry.SetL1(_snapshots[i], at);
                isChanged = true;
            }
        }

        return isChanged;
    }

    private async ValueTask<CheckReport> RecheckAsync(CancellationToken cancellationToken)
    {
        var metadata = await Qcow2Opening.ReadForCheckAsync(_storage, cancellationToken, lenient: true).ConfigureAwait(false);
        return await new Qcow2Check(_storage, metadata, _report, Part(0.6, 0.4)).RunAsync(cancellationToken).ConfigureAwait(false);
    }

    // What was appended is nobody's; leaving it there would cost space and nothing else.
    private async ValueTask GiveBackAsync()
    {
        try
        {
            if (_storage.Length > _lengthBefore)
            {
                await _storage.SetLengthAsync(_lengthBefore, CancellationToken.None).ConfigureAwait(false);
            }
        }
        catch (BlockException)
        {
            // The error that led here is the one to tell.
        }
    }

    private Scaled? Part(double from, double size) => _progress is null ? null : new(_progress, from, size);

    private sealed class Scaled(IProgress<double> whole, double from, double size) : IProgress<double>
    {
        public void Report(double value) => whole.Report(from + (value * size));
    }
}
