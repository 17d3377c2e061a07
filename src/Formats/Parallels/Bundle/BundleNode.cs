using System.Runtime.CompilerServices;
using Platter.Core.Bitmaps;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;

namespace Platter.Formats.Parallels.Bundle;

/// <summary>A Parallels disk, open for reading: one or several storages side by side, each a chain of images. Thread-safe.</summary>
internal sealed class BundleNode : BlockNode
{
    private readonly BundleFiles _files;
    private readonly DiskDescriptor _descriptor;
    private readonly SnapshotTree _tree;
    private readonly IReadOnlyDictionary<Guid, SnapshotNames.Entry> _names;
    private readonly DescriptorShot _opened;
    private readonly List<BundleSegment> _segments;

    internal BundleNode(
        BundleFiles files,
        DiskDescriptor descriptor,
        SnapshotTree tree,
        IReadOnlyDictionary<Guid, SnapshotNames.Entry> names,
        DescriptorShot opened,
        List<BundleSegment> segments)
    {
        _files = files;
        _descriptor = descriptor;
        _tree = tree;
        _names = names;
        _opened = opened;
        _segments = segments;
        VirtualSize = descriptor.DiskSizeSectors * Sizes.SectorBytes;
        Bitmaps = opened.Id == tree.TopId ? CommonBitmaps() : [];
        Snapshots = [.. tree.Shots.Where(shot => shot.Id != tree.TopId).Select(ToInfo)];
    }

    /// <summary>Path of the bundle's directory.</summary>
    public override string Name => _files.Directory.Name;

    /// <inheritdoc/>
    public override string FormatName => ParallelsBundleFormat.FormatName;

    /// <summary>"Disk_size" of the descriptor, in bytes.</summary>
    public override long VirtualSize { get; }

    /// <inheritdoc/>
    public override IEnumerable<Storage> Storages => _segments.SelectMany(segment => segment.Node.Storages);

    /// <inheritdoc/>
    public override IEnumerable<StorageDirectory> Directories => [_files.Directory, .. _segments.SelectMany(segment => segment.Node.Directories)];

    /// <summary>Every snapshot but the current state, in the descriptor's order, by GUID in braces. Names and dates are there when the
    /// virtual machine's directory was opened and has a <c>Snapshots.xml</c>.</summary>
    public override IReadOnlyList<SnapshotInfo> Snapshots { get; }

    /// <inheritdoc/>
    public override bool HasSnapshotTree => true;

    /// <inheritdoc/>
    public override string? ParentSnapshotId => _tree.Shots.FirstOrDefault(shot => shot.Id == _tree.TopId) is { } top ? IdOfParent(top) : null;

    /// <summary>Bitmaps of the current state's images; of a split disk those that every storage has. None when a snapshot was chosen.</summary>
    public override IReadOnlyList<BitmapInfo> Bitmaps { get; }

    /// <summary>GUID of the snapshot that is open, in braces; the current state unless another was chosen.</summary>
    public string OpenedSnapshot => $"{_opened.Id:B}";

    /// <inheritdoc/>
    public override ValueTask<Extent> MapAsync(
        GuestOffset at, long length, MapDetail detail = MapDetail.Metadata, CancellationToken cancellationToken = default)
    {
        var segment = SegmentAt(at);
        var within = at.Value - segment.Start;
        var wanted = Math.Min(length, segment.End - at.Value);
        var stored = segment.Node.VirtualSize - within;
        if (stored <= 0)
        {
            // The storage is larger than its image (a plain root may be short): the rest reads as zeros.
            return new(new Extent { Offset = at, Length = wanted, Kind = ExtentKind.Zero });
        }

        var inside = segment.Node.MapAsync(new GuestOffset(within), Math.Min(wanted, stored), detail, cancellationToken);
        return inside.IsCompletedSuccessfully ? new(inside.Result with { Offset = at }) : AwaitedAsync(inside, at);

        static async ValueTask<Extent> AwaitedAsync(ValueTask<Extent> pending, GuestOffset offset) =>
            await pending.ConfigureAwait(false) with { Offset = offset };
    }

    /// <inheritdoc/>
    public override IAsyncEnumerable<DirtyRange> ReadBitmapAsync(string name, CancellationToken cancellationToken = default) =>
        Bitmaps.FirstOrDefault(b => b.Name.Equals(name, StringComparison.OrdinalIgnoreCase)) is { } bitmap
            ? ReadCommonBitmapAsync(bitmap.Name, cancellationToken)
            : base.ReadBitmapAsync(name, cancellationToken);

    /// <inheritdoc/>
    public override ValueTask<ImageInfo> GetInfoAsync(CancellationToken cancellationToken = default) =>
        BundleInfo.MakeAsync(this, _files, _descriptor, _tree, _opened, _segments, _names, cancellationToken);

    /// <summary>Verifies every file of the bundle, of all snapshots, and the descriptor against them; changes nothing.</summary>
    public override ValueTask<CheckReport> CheckAsync(
        Action<CheckFinding> report, IProgress<double>? progress = null, CancellationToken cancellationToken = default) =>
        new BundleCheck(_files, _descriptor, _tree, _segments, report, progress).RunAsync(cancellationToken);

    /// <inheritdoc/>
    public override async ValueTask DisposeAsync()
    {
        foreach (var segment in _segments)
        {
            await segment.Node.DisposeAsync().ConfigureAwait(false);
        }

        GC.SuppressFinalize(this);
    }

    private BundleSegment SegmentAt(GuestOffset at)
    {
        if (_segments.Count == 0)
        {
            throw new InvalidOperationException("the bundle was opened for its metadata only");
        }

        int low = 0, high = _segments.Count - 1;
        while (low < high)
        {
            var middle = (low + high + 1) / 2;
            (low, high) = _segments[middle].Start <= at.Value ? (middle, high) : (low, middle - 1);
        }

        return _segments[low];
    }

    private IReadOnlyList<BitmapInfo> CommonBitmaps()
    {
        if (_segments.Count == 0)
        {
            return [];
        }

        var first = _segments[0].Layers[0].Driver.Bitmaps;
        return _segments.Count == 1 ? first : [.. first.Where(bitmap => _segments.TrueForAll(s => s.Layers[0].Driver.Bitmaps.Contains(bitmap)))];
    }

    private async IAsyncEnumerable<DirtyRange> ReadCommonBitmapAsync(string name, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        DirtyRange? pending = null;
        foreach (var segment in _segments)
        {
            await foreach (var range in segment.Layers[0].Driver.ReadBitmapAsync(name, cancellationToken).ConfigureAwait(false))
            {
                var start = range.Offset.Value + segment.Start;
                var end = Math.Min(start + range.Length, segment.End);
                if (pending is { } before && before.Offset.Value + before.Length == start)
                {
                    pending = before with { Length = end - before.Offset.Value };
                    continue;
                }

                if (pending is { } finished)
                {
                    yield return finished;
                }

                pending = start < end ? new DirtyRange(new GuestOffset(start), end - start) : null;
            }
        }

        if (pending is { } last)
        {
            yield return last;
        }
    }

    private SnapshotInfo ToInfo(DescriptorShot shot)
    {
        var entry = _names.GetValueOrDefault(shot.Id, new(string.Empty, SnapshotNames.NoDate));
        return new SnapshotInfo { Id = shot.Id.ToString("B"), Name = entry.Name, ParentId = IdOfParent(shot), Date = entry.Date, VirtualSize = VirtualSize };
    }

    private static string? IdOfParent(DescriptorShot shot) => shot.ParentId == Guid.Empty ? null : shot.ParentId.ToString("B");
}
