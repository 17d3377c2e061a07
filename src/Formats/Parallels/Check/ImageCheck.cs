using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
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
    private const int PieceEntries = 64 * 1024;

    private readonly Storage _storage;
    private readonly ParallelsHeader _header;
    private readonly ParallelsGeometry _geometry;
    private readonly BatTable _bat;
    private readonly ImageExtension _extension;
    private readonly FindingLimit _findings;
    private readonly IProgress<double>? _progress;
    private readonly uint[] _entries;
    private readonly byte[] _scratch;
    private readonly long _length;
    private readonly long _diskClusters;
    private long _corruptions;
    private long _leaks;
    private long _allocated;
    private long _fragmented;
    private long _usedEnd;
    private long _highest = -1;
    private long _beyondDisk;
    private long _previous;

    /// <summary>A check of an open image.</summary>
    public ImageCheck(
        Storage storage,
        in ParallelsHeader header,
        ParallelsGeometry geometry,
        BatTable bat,
        ImageExtension extension,
        Action<CheckFinding> report,
        IProgress<double>? progress)
    {
        _storage = storage;
        _header = header;
        _geometry = geometry;
        _bat = bat;
        _extension = extension;
        _findings = new(report);
        _progress = progress;
        _length = storage.Length;
        _diskClusters = Sizes.DivideRoundingUp(geometry.VirtualSize, geometry.ClusterSizeBytes);
        _entries = new uint[Math.Min(PieceEntries, geometry.BatEntryCount)];
        _scratch = new byte[_entries.Length * BatEntry.Size];
    }

    /// <summary>Runs the check.</summary>
    public async ValueTask<CheckReport> RunAsync(CancellationToken cancellationToken)
    {
        CheckHeader();
        CheckExtension();
        await ForEachPieceAsync(CheckEntries, 0, cancellationToken).ConfigureAwait(false);
        if ((_header.Flags & ParallelsHeader.EmptyImage) != 0 && _allocated > 0)
        {
            Note($"the header says that the image is empty; its {_allocated} allocated clusters are ignored");
        }

        if (_beyondDisk > 0)
        {
            Note($"{_beyondDisk} allocated clusters lie beyond the end of the disk");
        }

        CheckTail();
        await CheckDuplicatesAsync(cancellationToken).ConfigureAwait(false);
        _findings.Finish();
        _progress?.Report(1);
        return new CheckReport
        {
            Corruptions = _corruptions,
            Leaks = _leaks,
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
            Corruption("image was not closed correctly", new HostOffset(44));
        }
        else if (_header.InUse is not (0 or ParallelsHeader.InUseClosed))
        {
            Note($"in_use is 0x{_header.InUse:x}, which the specification does not know");
        }

        if (!_geometry.DataOffsetIsValid)
        {
            Corruption(
                $"data_off is sector {_header.DataOffsetSectors}, it must be {(_header.IsExtended ? "a whole number of clusters " : string.Empty)}"
                + $"from sector {_geometry.LowestDataOffset / Sizes.SectorBytes} to the end of the file",
                new HostOffset(48));
        }

        if (_geometry.VirtualSize > _geometry.BatCoverage)
        {
            Corruption($"the BAT has {_geometry.BatEntryCount} entries, the disk needs {_diskClusters}", new HostOffset(32));
        }

        if (!_header.IsExtended && _header.SizeSectors > uint.MaxValue)
        {
            Note($"the high half of nb_sectors is 0x{_header.SizeSectors >> 32:x}, in a WithoutFreeSpace image it must be zero; it is ignored");
        }

        if ((_header.Flags & ParallelsHeader.ConversionInProgress) != 0)
        {
            Note("flags say that a conversion between the two magics was going on");
        }
    }

    private void CheckExtension()
    {
        if (_extension.Stale is { } reason)
        {
            Note($"the Format Extension at sector 0x{_header.ExtensionOffsetSectors:x} does not count: {reason}");
        }

        foreach (var problem in _extension.Problems)
        {
            Corruption(problem, null);
        }

        foreach (var (magic, _, _) in _extension.Kept)
        {
            Note($"feature 0x{magic:x} of the Format Extension is unknown, and is to be left as it is");
        }

        if (_extension.Clusters.Length > 0)
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
            _usedEnd = Math.Max(_usedEnd, host + size);
            _beyondDisk += first + i >= _diskClusters ? 1 : 0;
            var problem = _geometry.ProblemOf(host, _length);
            if (problem is null)
            {
                _highest = Math.Max(_highest, IndexOf(host));
                problem = _length - host < size ? $"ends beyond the end of the file at 0x{_length:x}" : null;
            }

            if (problem is not null)
            {
                BadEntry(first + i, host, problem);
            }
        }
    }

    private void BadEntry(long index, long host, string problem)
    {
        _corruptions++;

        // The peer's words for what the peer finds.
        var outside = host + _geometry.ClusterSizeBytes > _length ? $"cluster {index} is outside image" : $"BAT entry {index} is invalid";
        _findings.Report(new CheckFinding(CheckSeverity.Corruption, $"{outside}: 0x{host:x} {problem}")
        {
            HostOffset = new HostOffset(BatEntry.PositionOf(index)),
            GuestOffset = new GuestOffset(index * _geometry.ClusterSizeBytes),
            GuestLength = _geometry.ClusterSizeBytes,
        });
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

        // Holes in the middle are not leaks: the next allocation takes them.
        _leaks = Sizes.DivideRoundingUp(_length - _usedEnd, _geometry.ClusterSizeBytes);
        _findings.Report(new CheckFinding(CheckSeverity.Leak, $"space leaked at the end of the image {_length - _usedEnd}") { HostOffset = new HostOffset(_usedEnd) });
    }

    private async ValueTask CheckDuplicatesAsync(CancellationToken cancellationToken)
    {
        var used = new UsedClusters(_highest + 1);
        for (long start = 0; start <= _highest; start += used.Size)
        {
            used.MoveTo(start);
            foreach (var cluster in _extension.Clusters)
            {
                used.TryTake(IndexOf(cluster));
            }

            await ForEachPieceAsync((first, entries) => TakeAll(first, entries, used), 0.5, cancellationToken).ConfigureAwait(false);
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

            _corruptions++;
            var owner = Array.BinarySearch(_extension.Clusters, host) >= 0 ? "the Format Extension uses" : "another entry points to";
            _findings.Report(new CheckFinding(CheckSeverity.Corruption, $"duplicate offset in BAT entry {first + i}: {owner} the cluster at 0x{host:x} too")
            {
                HostOffset = new HostOffset(BatEntry.PositionOf(first + i)),
                GuestOffset = new GuestOffset((first + i) * _geometry.ClusterSizeBytes),
                GuestLength = _geometry.ClusterSizeBytes,
            });
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

    private void Corruption(string message, HostOffset? at)
    {
        _corruptions++;
        _findings.Report(new CheckFinding(CheckSeverity.Corruption, message) { HostOffset = at });
    }

    private void Note(string message) => _findings.Report(new CheckFinding(CheckSeverity.Note, message));
}
