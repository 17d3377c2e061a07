using Platter.Core.Bitmaps;
using Platter.Core.Errors;
using Platter.Core.Storages;
using Platter.Core.Units;

namespace Platter.Core.Images;

/// <summary>One image of a format: says where a disk's bytes are. It never walks the backing chain; <see cref="Graph.ImageNode"/> does.</summary>
/// <remarks>All members may be called from many threads at once. Disposing closes the storage (and a data file).</remarks>
public abstract class ImageDriver : IAsyncDisposable
{
    /// <summary>The format's name.</summary>
    public abstract string FormatName { get; }

    /// <summary>The storage that holds the image.</summary>
    public abstract Storage Storage { get; }

    /// <summary>Size of the virtual disk, in bytes.</summary>
    public abstract long VirtualSize { get; }

    /// <summary>Cluster size in bytes; 0 when the format has none.</summary>
    public virtual long ClusterSize => 0;

    /// <summary>The backing file that the image names, or null.</summary>
    public virtual ImageReference? Backing => null;

    /// <summary>Every other file the image names, in no order: backing file, data file.</summary>
    public virtual IReadOnlyList<ImageReference> References => Backing is { } backing ? [backing] : [];

    /// <summary>Every storage that this image reads: its own, and a data file.</summary>
    public virtual IEnumerable<Storage> Storages => [Storage];

    /// <summary>Whether an unallocated extent of this image shows a backing file. False for formats that have none.</summary>
    public virtual bool SupportsBacking => false;

    /// <summary>Whether the storage's bytes are the disk's bytes, so that holes of the storage are holes of the disk (raw).</summary>
    public virtual bool IsTransparent => false;

    /// <summary>The writing half, or null for an image that was opened for reading.</summary>
    public virtual ImageWriter? Writer => null;

    /// <summary>Internal snapshots.</summary>
    public virtual IReadOnlyList<SnapshotInfo> Snapshots => [];

    /// <summary>Persistent dirty bitmaps.</summary>
    public virtual IReadOnlyList<BitmapInfo> Bitmaps => [];

    /// <summary>What the range from <paramref name="at"/> is, in this image alone.</summary>
    /// <param name="at">Inside the disk.</param>
    /// <param name="length">At least 1; the range may reach beyond the end of the disk, the answer never does.</param>
    /// <param name="cancellationToken">Stops reading metadata.</param>
    /// <returns>One extent that starts at <paramref name="at"/>, at least one byte and at most <paramref name="length"/> bytes long. It should
    /// be as long as can be told without much extra I/O: neighbouring clusters with contiguous host offsets are one extent.</returns>
    /// <exception cref="ImageFormatException">The mapping is corrupt here.</exception>
    public abstract ValueTask<Extent> MapAsync(GuestOffset at, long length, CancellationToken cancellationToken = default);

    /// <summary>Decodes part of an encoded extent that this driver returned.</summary>
    /// <param name="extent">As <see cref="MapAsync"/> returned it, perhaps shortened.</param>
    /// <param name="at">Where to read from, inside the extent; any alignment.</param>
    /// <param name="buffer">Receives guest bytes; lies inside the extent.</param>
    /// <param name="cancellationToken">Stops the read.</param>
    public virtual ValueTask ReadEncodedAsync(
        Extent extent, GuestOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default) =>
        throw new InvalidOperationException($"{FormatName} has no encoded extents");

    /// <summary>What <c>info</c> tells. Reads no guest data.</summary>
    public abstract ValueTask<ImageInfo> GetInfoAsync(CancellationToken cancellationToken = default);

    /// <summary>The disk as it was at a snapshot: a driver of its own over the same storage. Both must be disposed, this one last.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.NotFound"/> or <see cref="BlockErrorKind.Unsupported"/>.</exception>
    public virtual ValueTask<ImageDriver> OpenSnapshotAsync(SnapshotSelector selector, CancellationToken cancellationToken = default) =>
        throw new BlockException(BlockErrorKind.Unsupported, $"{Storage.Name}: {FormatName} images have no internal snapshots");

    /// <summary>The dirty ranges of a bitmap, in order; neighbouring ones are merged.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.NotFound"/>, or <see cref="BlockErrorKind.CorruptImage"/> for an inconsistent bitmap.</exception>
    public virtual IAsyncEnumerable<DirtyRange> ReadBitmapAsync(string name, CancellationToken cancellationToken = default) =>
        throw new BlockException(BlockErrorKind.NotFound, $"{Storage.Name}: no bitmap '{SafeText.Clean(name, 256)}'");

    /// <summary>Verifies the image's own structures; changes nothing.</summary>
    /// <param name="report">Called for every finding, in order, from one thread; after <see cref="FindingLimit.Max"/> of them only the counts go on,
    /// and one last note says how many more there were.</param>
    /// <param name="progress">Told 0 to 1.</param>
    /// <param name="cancellationToken">Stops the check.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.Unsupported"/>: the format has nothing to check.</exception>
    public virtual ValueTask<CheckReport> CheckAsync(
        Action<CheckFinding> report, IProgress<double>? progress = null, CancellationToken cancellationToken = default) =>
        throw new BlockException(BlockErrorKind.Unsupported, "This image format does not support checks");

    /// <summary>Mends the image's own structures. Happens wholly or, at any error or power cut, not at all. The image was opened for repair, and nothing else uses this driver.</summary>
    /// <param name="options">How far it goes.</param>
    /// <param name="report">Called for every finding, in order, from one thread; afterwards for those that the final check still has.</param>
    /// <param name="progress">Told 0 to 1.</param>
    /// <param name="cancellationToken">Stops before anything has changed.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.Unsupported"/>: the format, or this image, cannot be repaired; nothing was changed.</exception>
    public virtual ValueTask<RepairReport> RepairAsync(
        RepairOptions options, Action<CheckFinding> report, IProgress<double>? progress = null, CancellationToken cancellationToken = default) =>
        throw new BlockException(BlockErrorKind.Unsupported, $"{Storage.Name}: {FormatName} images cannot be repaired");

    /// <summary>Finds the guest clusters that lie, wholly or in part, in host clusters: for explaining what a check found.</summary>
    /// <param name="places">Host offsets of clusters.</param>
    /// <param name="maxRanges">Guest ranges per host cluster at most.</param>
    /// <param name="cancellationToken">Stops the search.</param>
    /// <returns>For each host cluster that the disk as it is now uses: guest offset and length in bytes.</returns>
    public virtual ValueTask<IReadOnlyDictionary<HostOffset, IReadOnlyList<(GuestOffset Offset, long Length)>>> FindUsersAsync(
        IReadOnlySet<HostOffset> places, int maxRanges, CancellationToken cancellationToken = default) =>
        new(new Dictionary<HostOffset, IReadOnlyList<(GuestOffset Offset, long Length)>>());

    /// <inheritdoc/>
    public virtual async ValueTask DisposeAsync()
    {
        await Storage.DisposeAsync().ConfigureAwait(false);
        GC.SuppressFinalize(this);
    }
}
