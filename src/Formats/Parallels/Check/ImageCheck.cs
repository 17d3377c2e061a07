using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Findings;
using Platter.Formats.Parallels.Bitmaps;
using Platter.Formats.Parallels.Layout;
using Platter.Formats.Parallels.Metadata;

namespace Platter.Formats.Parallels.Check;

/// <summary>Verifies one image: header, BAT entries, clusters used twice, space at the end that nothing refers to.</summary>
/// <remarks>
/// Counts as <c>qemu-img check</c> does, in its order, so that scripts see the same numbers: not closed, data_off, entries outside the file,
/// leaked tail, duplicates, statistics. What the peer does not see is found in addition: entries before the data area or off its clusters,
/// a BAT too short for the disk; and the clusters of the Format Extension and its bitmaps are in use, not leaked.
/// The BAT is read twice (once for the facts, once for duplicates) in pieces; nothing of the size of the disk is held.
/// </remarks>
internal sealed class ImageCheck
{
    /// <summary>What is said of an image that nobody closed.</summary>
    public const string NotClosedMessage = "image was not closed correctly";

    private const int PieceEntries = 64 * 1024;

    private readonly Storage _storage;
    private readonly ParallelsHeader _header;
    private readonly ParallelsGeometry _geometry;
    private readonly BatTable _bat;
    private readonly ImageExtension _extension;
    private readonly CheckTally _tally;
    private readonly RepairPlan _plan = new();
    private readonly IProgress<double>? _progress;
    private readonly uint[] _entries;
    private readonly byte[] _scratch;
    private readonly long _length;
    private readonly long _diskClusters;
    private long _gridRemainder = -1;
    private bool _isOnOneGrid = true;
    private bool _extensionMayUseTail;
    private long _allocated;
    private long _fragmented;
    private long _usedEnd;
    private long _highest = -1;
    private long _beyondDisk;
    private long _previous;

    /// <summary>A check of an open image, or with <paramref name="repair"/> the beginning of a repair.</summary>
    public ImageCheck(
        Storage storage,
        in ParallelsHeader header,
        ParallelsGeometry geometry,
        BatTable bat,
        ImageExtension extension,
        Action<CheckFinding> report,
        IProgress<double>? progress,
        RepairMode? repair = null)
    {
        _storage = storage;
        _header = header;
        _geometry = geometry;
        _bat = bat;
        _extension = extension;
        _tally = new(report, repair);
        _progress = progress;
        _length = storage.Length;
        _diskClusters = Sizes.DivideRoundingUp(geometry.VirtualSize, geometry.ClusterSizeBytes);
        _entries = new uint[Math.Min(PieceEntries, geometry.BatEntryCount)];
        _scratch = new byte[_entries.Length * BatEntry.Size];
    }

    /// <summary>What the repair is to do, after <see cref="RunAsync"/>.</summary>
    public RepairPlan Plan => _plan;

    /// <summary>Corruptions that the repair mends.</summary>
    public long CorruptionsFixed => _tally.CorruptionsFixed;

    /// <summary>Leaked clusters that the repair gives back.</summary>
    public long LeaksFixed => _tally.LeaksFixed;

    /// <summary>Runs the check.</summary>
    public async ValueTask<CheckReport> RunAsync(CancellationToken cancellationToken)
    {
        CheckHeader();
        await CheckDataOffsetAsync(cancellationToken).ConfigureAwait(false);
        CheckExtension();
        await ForEachPieceAsync(CheckEntries, 0, cancellationToken).ConfigureAwait(false);
        if ((_header.Flags & ParallelsHeader.EmptyImage) != 0 && _allocated > 0)
        {
            _tally.Note($"the header says that the image is empty; its {_allocated} allocated clusters are ignored");
        }

        if (_beyondDisk > 0)
        {
            _tally.Note($"{_beyondDisk} allocated clusters lie beyond the end of the disk");
        }

        CheckTail();
        await CheckDuplicatesAsync(cancellationToken).ConfigureAwait(false);
        PlanHeader();
        _tally.Finish();
        _progress?.Report(1);
        return new CheckReport
        {
            Corruptions = _tally.Corruptions,
            Leaks = _tally.Leaks,
            ImageEndOffset = _usedEnd,
            TotalClusters = _geometry.BatEntryCount,
            AllocatedClusters = _allocated,
            FragmentedClusters = _fragmented,
        };
    }

    private void CheckHeader()
    {
        if (_header.IsDirty)
        {
            _tally.Corruption($"{NotClosedMessage}", Remedies.NotClosed, new HostOffset(44));
        }
        else if (_header.InUse is not (0 or ParallelsHeader.InUseClosed))
        {
            _tally.Note($"in_use is 0x{_header.InUse:x}, which the specification does not know");
        }

        if (_geometry.VirtualSize > _geometry.BatCoverage)
        {
            _tally.Corruption($"the BAT has {_geometry.BatEntryCount} entries, the disk needs {_diskClusters}", Remedies.ShortTable, new HostOffset(32));
        }

        if (!_header.IsExtended && _header.SizeSectors > uint.MaxValue)
        {
            _tally.Note($"the high half of nb_sectors is 0x{_header.SizeSectors >> 32:x}, in a WithoutFreeSpace image it must be zero; it is ignored");
        }

        if ((_header.Flags & ParallelsHeader.ConversionInProgress) != 0)
        {
            _tally.Note($"flags say that a conversion between the two magics was going on");
        }
    }

    // Where the data begin can be told from where the clusters lie: all of them on one grid. In v2 the grid is that of the file.
    private async ValueTask CheckDataOffsetAsync(CancellationToken cancellationToken)
    {
        if (_geometry.DataOffsetIsValid)
        {
            return;
        }

        var size = _geometry.ClusterSizeBytes;
        if (_header.IsExtended)
        {
            _gridRemainder = 0;
        }
        else
        {
            await ForEachPieceAsync(FindGrid, 0, cancellationToken).ConfigureAwait(false);
        }

        var lowest = _geometry.LowestDataOffset;
        var offset = _gridRemainder < 0 ? lowest : lowest + ((((_gridRemainder - lowest) % size) + size) % size);
        if (_isOnOneGrid && offset > _length)
        {
            // An image without data, whose file ends with its table.
            offset = lowest;
        }

        var remedy = _isOnOneGrid && offset / Sizes.SectorBytes <= uint.MaxValue ? Remedies.DataOffset : Remedies.DataOffsetUnknown;
        _tally.Corruption(
            $"data_off is sector {_header.DataOffsetSectors}, it must be {(_header.IsExtended ? "a whole number of clusters " : string.Empty)}from sector {lowest / Sizes.SectorBytes} to the end of the file",
            remedy,
            new HostOffset(48));
        if (_tally.Mends(remedy))
        {
            (_plan.DataOffset, _plan.LeastLength) = (offset, Math.Max(_plan.LeastLength, offset > _length ? offset : 0));
        }
    }

    private void FindGrid(long first, ReadOnlySpan<uint> entries)
    {
        foreach (var value in entries)
        {
            var entry = new BatEntry(value);
            if (entry.IsUnallocated || _geometry.ProblemOf(_geometry.HostOffsetOf(entry), _length) is not null)
            {
                continue;
            }

            var remainder = _geometry.HostOffsetOf(entry) % _geometry.ClusterSizeBytes;
            _isOnOneGrid &= _gridRemainder < 0 || _gridRemainder == remainder;
            _gridRemainder = remainder;
        }
    }

    private void CheckExtension()
    {
        if (_extension.Stale is { } reason)
        {
            var mends = _tally.Mends(Remedies.StaleExtension);
            _tally.Note($"the Format Extension at sector 0x{_header.ExtensionOffsetSectors:x} does not count: {reason}", Remedies.StaleExtension, mends);
            _plan.DropsExtension |= mends;
        }

        foreach (var problem in _extension.Problems)
        {
            _tally.Corruption($"{problem}", Remedies.Extension);
            _plan.DropsExtension |= _tally.Mends(Remedies.Extension);
        }

        foreach (var (magic, _, _) in _extension.Kept)
        {
            _tally.Note($"feature 0x{magic:x} of the Format Extension is unknown, and is to be left as it is");
        }

        foreach (var magic in _extension.Dropped)
        {
            _tally.Note($"feature 0x{magic:x} of the Format Extension is unknown, and will be gone when the image is changed");
        }

        // What cannot be read may have its bitmaps, or other sections' clusters, anywhere in the file: while the header refers to it, nobody knows what is leaked.
        _extensionMayUseTail = _extension.Problems.Count > 0 && !_plan.DropsExtension && _header.ExtensionOffsetSectors < (ulong)(_length / Sizes.SectorBytes);
        if (_extension.Clusters.Length > 0 && !_plan.DropsExtension)
        {
            _usedEnd = _extension.Clusters[^1] + _geometry.ClusterSizeBytes;
            _highest = IndexOf(_extension.Clusters[^1]);
        }
    }

    private void CheckEntries(long first, ReadOnlySpan<uint> entries)
    {
        var size = _geometry.ClusterSizeBytes;
        for (var i = 0; i < entries.Length; i++)
        {
            var entry = new BatEntry(entries[i]);
            if (entry.IsUnallocated)
            {
                _previous = 0;
                continue;
            }

            var host = _geometry.HostOffsetOf(entry);
            _allocated++;
            _fragmented += _previous != 0 && _previous + size != host ? 1 : 0;
            _previous = host;
            var usedBefore = _usedEnd;
            _usedEnd = Math.Max(_usedEnd, host + size);
            _beyondDisk += first + i >= _diskClusters ? 1 : 0;
            var problem = _geometry.ProblemOf(host, _length);
            if (problem is null)
            {
                _highest = Math.Max(_highest, IndexOf(host));
                problem = _length - host < size ? $"ends beyond the end of the file at 0x{_length:x}" : null;
            }

            if (problem is not null && BadEntry(first + i, host, problem))
            {
                _usedEnd = usedBefore;
            }
        }
    }

    // Whether the entry will be gone.
    private bool BadEntry(long index, long host, string problem)
    {
        var (outside, size) = (host + _geometry.ClusterSizeBytes > _length, _geometry.ClusterSizeBytes);
        var remedy =
            host < _geometry.LowestClusterOffset ? Remedies.BeforeData
            : host >= _length ? Remedies.Outside
            : _geometry.ProblemOf(host, _length) is null ? Remedies.CutOff
            : Remedies.OffGrid;

        // The peer's words for what the peer finds.
        var words = outside ? "is outside image" : "is invalid";
        _tally.Corruption(
            $"{(outside ? "cluster" : "BAT entry")} {index} {words}: 0x{host:x} {problem}", remedy, new HostOffset(BatEntry.PositionOf(index)), new GuestOffset(index * size), size);
        if (!_tally.Mends(remedy))
        {
            return false;
        }

        if (remedy == Remedies.CutOff)
        {
            _plan.LeastLength = Math.Max(_plan.LeastLength, host + size);
        }
        else if (remedy == Remedies.OffGrid)
        {
            _plan.Copy(_storage.Name, index, host);
        }
        else
        {
            _plan.Clear(_storage.Name, index);
            return true;
        }

        return false;
    }

    private void CheckTail()
    {
        if (_usedEnd == 0)
        {
            _usedEnd = _geometry.DataOffset;
        }

        if (_length <= _usedEnd)
        {
            return;
        }

        if (_extensionMayUseTail)
        {
            _tally.Note($"{_length - _usedEnd} bytes at the end of the image may belong to the damaged Format Extension", Remedies.TailOfExtension);
            _usedEnd = _length;
            return;
        }

        // Holes in the middle are not leaks: the next allocation takes them. With a table that is too short nobody knows what the rest of it said.
        var remedy = _geometry.VirtualSize > _geometry.BatCoverage ? Remedies.TailOfShortTable : Remedies.Tail;
        _tally.Leak(
            $"space leaked at the end of the image {_length - _usedEnd}", remedy, new HostOffset(_usedEnd),
            Sizes.DivideRoundingUp(_length - _usedEnd, _geometry.ClusterSizeBytes));
        _plan.CutAt = _tally.Mends(remedy) ? _usedEnd : null;
    }

    // Last: what does not hold for the header as it is may hold for the repaired one.
    private void PlanHeader() => _plan.Closes = _header.IsDirty && _tally.Mends(Remedies.NotClosed);

    private async ValueTask CheckDuplicatesAsync(CancellationToken cancellationToken)
    {
        var used = new UsedClusters(_highest + 1);
        long taken = 0;
        for (long start = 0; start <= _highest; start += used.Size)
        {
            used.MoveTo(start);
            foreach (var cluster in _extension.Clusters)
            {
                used.TryTake(IndexOf(cluster));
            }

            await ForEachPieceAsync((first, entries) => TakeAll(first, entries, used), 0.5, cancellationToken).ConfigureAwait(false);
            taken += used.Taken;
        }

        // As with the peer no leak, and not counted: the next allocation takes them.
        if (_tally.Corruptions + _tally.CorruptionsFixed == 0 && _highest + 1 - taken is > 0 and var free)
        {
            _tally.Note($"{free} cluster{(free == 1 ? " between others is" : "s between others are")} not in use", Remedies.Hole);
        }
    }

    private void TakeAll(long first, ReadOnlySpan<uint> entries, UsedClusters used)
    {
        for (var i = 0; i < entries.Length; i++)
        {
            var host = _geometry.HostOffsetOf(new BatEntry(entries[i]));
            if (entries[i] == 0 || _geometry.ProblemOf(host, _length) is not null || used.TryTake(IndexOf(host)))
            {
                continue;
            }

            var owner = Array.BinarySearch(_extension.Clusters, host) >= 0 ? "the Format Extension uses" : "another entry points to";
            _tally.Corruption(
                $"duplicate offset in BAT entry {first + i}: {owner} the cluster at 0x{host:x} too", Remedies.Duplicate, new HostOffset(BatEntry.PositionOf(first + i)),
                new GuestOffset((first + i) * _geometry.ClusterSizeBytes), _geometry.ClusterSizeBytes);
            if (_tally.Mends(Remedies.Duplicate))
            {
                _plan.Copy(_storage.Name, first + i, host);
            }
        }
    }

    private async ValueTask ForEachPieceAsync(PieceAction action, double progressFrom, CancellationToken cancellationToken)
    {
        var count = _geometry.BatEntryCount;
        for (long first = 0; first < count; first += _entries.Length)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var piece = _entries.AsMemory(0, (int)Math.Min(_entries.Length, count - first));
            await _bat.ReadAsync(first, piece, _scratch, cancellationToken).ConfigureAwait(false);
            action(first, piece.Span);
            _progress?.Report(progressFrom + (0.5 * first / count));
        }
    }

    private delegate void PieceAction(long first, ReadOnlySpan<uint> entries);

    private long IndexOf(long host) => (host - _geometry.LowestClusterOffset) / _geometry.ClusterSizeBytes;
}
