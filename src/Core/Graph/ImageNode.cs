using Platter.Core.Bitmaps;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;

namespace Platter.Core.Graph;

/// <summary>An image with its backing chain: asks the driver first and goes down where it has nothing to say.</summary>
public sealed partial class ImageNode : BlockNode
{
    private readonly BlockNode? _backing;
    private readonly IAsyncDisposable? _alsoOwned;

    /// <summary>Takes over driver and backing node.</summary>
    /// <param name="driver">The image.</param>
    /// <param name="backing">What shows through, or null.</param>
    /// <param name="alsoOwned">Disposed after the driver: the image that a snapshot's driver was opened from.</param>
    public ImageNode(ImageDriver driver, BlockNode? backing, IAsyncDisposable? alsoOwned = null)
    {
        Driver = driver;
        _writer = driver.Writer;
        _backing = backing;
        _alsoOwned = alsoOwned;
        _writer?.SetHasBacking(backing is not null);
    }

    /// <summary>The image's driver.</summary>
    public ImageDriver Driver { get; }

    /// <inheritdoc/>
    public override string Name => Driver.Storage.Name;

    /// <inheritdoc/>
    public override string FormatName => Driver.FormatName;

    /// <inheritdoc/>
    public override long VirtualSize => Driver.VirtualSize;

    /// <inheritdoc/>
    public override BlockNode? Backing => _backing;

    /// <inheritdoc/>
    public override IEnumerable<Storage> Storages => _backing is null ? Driver.Storages : Driver.Storages.Concat(_backing.Storages);

    /// <inheritdoc/>
    public override IReadOnlyList<SnapshotInfo> Snapshots => Driver.Snapshots;

    /// <inheritdoc/>
    public override IReadOnlyList<BitmapInfo> Bitmaps => Driver.Bitmaps;

    /// <inheritdoc/>
    public override ValueTask<ImageInfo> GetInfoAsync(CancellationToken cancellationToken = default) => Driver.GetInfoAsync(cancellationToken);

    /// <inheritdoc/>
    public override ValueTask<CheckReport> CheckAsync(
        Action<CheckFinding> report, IProgress<double>? progress = null, CancellationToken cancellationToken = default) =>
        Driver.CheckAsync(report, progress, cancellationToken);

    /// <inheritdoc/>
    public override ValueTask<RepairReport> RepairAsync(
        RepairOptions options, Action<CheckFinding> report, IProgress<double>? progress = null, CancellationToken cancellationToken = default) =>
        Driver.RepairAsync(options, report, progress, cancellationToken);

    /// <inheritdoc/>
    public override ValueTask<IReadOnlyDictionary<HostOffset, IReadOnlyList<ClusterUse>>> FindUsersAsync(
        IReadOnlySet<HostOffset> places, int maxRanges, CancellationToken cancellationToken = default) =>
        Driver.FindUsersAsync(places, maxRanges, cancellationToken);

    /// <inheritdoc/>
    public override IAsyncEnumerable<DirtyRange> ReadBitmapAsync(string name, CancellationToken cancellationToken = default) =>
        Driver.ReadBitmapAsync(name, cancellationToken);

    /// <inheritdoc/>
    public override ValueTask<Extent> MapAsync(
        GuestOffset at, long length, MapDetail detail = MapDetail.Metadata, CancellationToken cancellationToken = default)
    {
        var answer = Driver.MapAsync(at, Math.Min(length, VirtualSize - at.Value), cancellationToken);
        if (!answer.IsCompletedSuccessfully)
        {
            return AwaitedAsync(answer, at, detail, cancellationToken);
        }

        var extent = answer.Result;
        return NeedsMore(extent, detail) ? ResolveAsync(extent, at, detail, cancellationToken) : new(extent);
    }

    /// <inheritdoc/>
    /// <remarks>A writable image is closed as it should be first: its last changes go to the disk, and errors of that come from here.</remarks>
    public override async ValueTask DisposeAsync()
    {
        try
        {
            await CloseWriterAsync().ConfigureAwait(false);
        }
        finally
        {
            await DisposeAllAsync().ConfigureAwait(false);
        }
    }

    private async ValueTask DisposeAllAsync()
    {
        HeadGuard?.Dispose();
        await Driver.DisposeAsync().ConfigureAwait(false);
        if (_backing is not null)
        {
            await _backing.DisposeAsync().ConfigureAwait(false);
        }

        if (_alsoOwned is not null)
        {
            await _alsoOwned.DisposeAsync().ConfigureAwait(false);
        }
    }

    private bool NeedsMore(in Extent extent, MapDetail detail) =>
        (extent.Kind == ExtentKind.Unallocated && _backing is not null)
        || (detail == MapDetail.StorageHoles && extent.Kind == ExtentKind.Data && (extent.Flags & ExtentFlags.MayHaveHoles) != 0);

    private async ValueTask<Extent> AwaitedAsync(
        ValueTask<Extent> answer, GuestOffset at, MapDetail detail, CancellationToken cancellationToken)
    {
        var extent = await answer.ConfigureAwait(false);
        return NeedsMore(extent, detail) ? await ResolveAsync(extent, at, detail, cancellationToken).ConfigureAwait(false) : extent;
    }

    private ValueTask<Extent> ResolveAsync(Extent extent, GuestOffset at, MapDetail detail, CancellationToken cancellationToken) =>
        extent.Kind == ExtentKind.Unallocated
            ? FromBackingAsync(extent, at, detail, cancellationToken)
            : WithHolesAsync(extent, cancellationToken);

    private ValueTask<Extent> FromBackingAsync(Extent extent, GuestOffset at, MapDetail detail, CancellationToken cancellationToken)
    {
        var backing = _backing!;
        var inside = backing.VirtualSize - at.Value;
        if (inside <= 0)
        {
            // Beyond the end of a short backing file nothing has the range: it reads as zeros, and map shows it as this image's hole.
            return new(extent);
        }

        var below = backing.MapAsync(at, Math.Min(extent.Length, inside), detail, cancellationToken);
        if (!below.IsCompletedSuccessfully)
        {
            return OneDeeperAsync(below);
        }

        var found = below.Result;
        return new(found with { Depth = found.Depth + 1 });

        static async ValueTask<Extent> OneDeeperAsync(ValueTask<Extent> pending)
        {
            var awaited = await pending.ConfigureAwait(false);
            return awaited with { Depth = awaited.Depth + 1 };
        }
    }

    private async ValueTask<Extent> WithHolesAsync(Extent extent, CancellationToken cancellationToken)
    {
        var storage = extent.Storage!;
        var inside = storage.Length - extent.HostOffset.Value;
        if (inside <= 0)
        {
            return Hole(extent, isAllocated: false);
        }

        var status = await storage.MapAsync(extent.HostOffset, Math.Min(extent.Length, inside), cancellationToken).ConfigureAwait(false);
        var part = extent.Take(status.Length);
        return status.ReadsZero ? Hole(part, status.IsAllocated) : part;
    }

    // An export may have zeros that it spends space on: those are data that read as zeros, as in any image.
    private Extent Hole(Extent extent, bool isAllocated) => Driver.IsTransparent && !isAllocated
        ? extent with { Kind = ExtentKind.Zero, Flags = ExtentFlags.None }
        : extent with { Flags = ExtentFlags.StorageHole };
}
