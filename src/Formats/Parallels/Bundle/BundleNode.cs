using System.Runtime.CompilerServices;
using Platter.Core.Bitmaps;
using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;

namespace Platter.Formats.Parallels.Bundle;

/// <summary>An open Parallels disk: one or several storages side by side, each a chain of images. Thread-safe.</summary>
internal sealed partial class BundleNode : BlockNode
{
    private readonly BundleLocation _location;
    private readonly OpenContext _context;
    private BundleState _state;
    private IReadOnlyList<SnapshotInfo> _snapshots = [];

    internal BundleNode(BundleLocation location, OpenContext context, BundleState state, bool writable)
    {
        (_location, _context, _state) = (location, context, state);
        IsReadOnly = !writable;
        Adopt(state);
    }

    /// <summary>Path of the bundle's directory.</summary>
    public override string Name => _location.Disk.Name;

    /// <inheritdoc/>
    public override string FormatName => ParallelsBundleFormat.FormatName;

    /// <summary>"Disk_size" of the descriptor, in bytes.</summary>
    public override long VirtualSize => _state.Descriptor.DiskSizeSectors * Sizes.SectorBytes;

    /// <inheritdoc/>
    public override IEnumerable<Storage> Storages => Segments.SelectMany(segment => segment.Node.Storages);

    /// <inheritdoc/>
    public override IEnumerable<StorageDirectory> Directories => [_location.Disk, .. Segments.SelectMany(segment => segment.Node.Directories)];

    /// <summary>Every snapshot but the current state, in the descriptor's order, by GUID in braces. Names and dates are there when the
    /// virtual machine's directory was opened and has a <c>Snapshots.xml</c>.</summary>
    public override IReadOnlyList<SnapshotInfo> Snapshots => _snapshots;

    /// <inheritdoc/>
    public override bool HasSnapshotTree => true;

    /// <inheritdoc/>
    public override string? ParentSnapshotId => _state.Tree.TopId is { } id ? IdOfParent(_state.Tree.Find(id)!) : null;

    /// <summary>Bitmaps of the current state's images; of a split disk those that every storage has. None when a snapshot was chosen.</summary>
    public override IReadOnlyList<BitmapInfo> Bitmaps => _state.Opened.Id == _state.Tree.TopId ? CommonBitmaps() : [];

    /// <summary>GUID of the snapshot that is open, in braces; the current state unless another was chosen.</summary>
    public string OpenedSnapshot => $"{_state.Opened.Id:B}";

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
        BundleInfo.MakeAsync(this, Files, _state, cancellationToken);

    /// <summary>Verifies every file of the bundle, of all snapshots, and the descriptor against them; changes nothing.</summary>
    public override ValueTask<CheckReport> CheckAsync(
        Action<CheckFinding> report, IProgress<double>? progress = null, CancellationToken cancellationToken = default) =>
        new BundleCheck(Files, _state, report, progress).RunAsync(cancellationToken);

    /// <summary>Cleans up after changes that were interrupted, and mends the images of every snapshot, one after the other.</summary>
    public override ValueTask<RepairReport> RepairAsync(
        RepairOptions options, Action<CheckFinding> report, IProgress<double>? progress = null, CancellationToken cancellationToken = default) =>
        _context.ForRepair
            ? new BundleRepair(_location, Files, _context.Warn, _state, options, report).RunAsync(progress, cancellationToken)
            : throw new BlockException(BlockErrorKind.InvalidRequest, $"{Name}: was not opened for repair");

    private IReadOnlyList<BundleSegment> Segments => _state.Segments;

    private BundleFiles Files => new(_location.Disk, _context);

    private void Adopt(BundleState state)
    {
        _state = state;
        _snapshots = [.. state.Tree.Shots.Where(shot => shot.Id != state.Tree.TopId && !shot.IsMerging).Select(ToInfo)];
    }

    private BundleSegment SegmentAt(GuestOffset at)
    {
        if (Segments.Count == 0)
        {
            throw IsReadOnly
                ? new InvalidOperationException("the bundle was opened for its metadata only")
                : new BlockException(BlockErrorKind.Io, $"{Name}: is not open any more: after a change its images could not be opened again");
        }

        int low = 0, high = Segments.Count - 1;
        while (low < high)
        {
            var middle = (low + high + 1) / 2;
            (low, high) = Segments[middle].Start <= at.Value ? (middle, high) : (low, middle - 1);
        }

        return Segments[low];
    }

    private IReadOnlyList<BitmapInfo> CommonBitmaps()
    {
        if (Segments.Count == 0)
        {
            return [];
        }

        var first = Segments[0].Layers[0].Driver.Bitmaps;
        return Segments.Count == 1 ? first : [.. first.Where(bitmap => Segments.All(s => s.Layers[0].Driver.Bitmaps.Contains(bitmap)))];
    }

    private async IAsyncEnumerable<DirtyRange> ReadCommonBitmapAsync(string name, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        DirtyRange? pending = null;
        foreach (var segment in Segments)
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
        var entry = _state.Names.GetValueOrDefault(shot.Id, new(string.Empty, SnapshotNames.NoDate));
        return new SnapshotInfo { Id = shot.Id.ToString("B"), Name = entry.Name, ParentId = IdOfParent(shot), Date = entry.Date == SnapshotNames.NoDate ? default : entry.Date, VirtualSize = VirtualSize };
    }

    // Through layers of deleted snapshots.
    private string? IdOfParent(DescriptorShot shot)
    {
        var parent = _state.Tree.Find(shot.ParentId);
        while (parent is { IsMerging: true })
        {
            parent = _state.Tree.Find(parent.ParentId);
        }

        return parent?.Id.ToString("B");
    }
}
