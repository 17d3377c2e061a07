using Platter.Core.Bitmaps;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;

namespace Platter.Core.Graph;

/// <summary>How much work a mapping may cost.</summary>
public enum MapDetail
{
    /// <summary>What the images' own metadata say.</summary>
    Metadata,

    /// <summary>Also ask the storages for holes under data, where the image cannot exclude them. For <c>map</c>, <c>convert</c> and block status.</summary>
    StorageHoles,
}

/// <summary>How a write is to be done.</summary>
[Flags]
public enum WriteFlags
{
    /// <summary>As usual.</summary>
    None = 0,

    /// <summary>Durable when the call ends (FUA).</summary>
    ForceUnitAccess = 1,

    /// <summary>For zeros: the host's space may be given up.</summary>
    MayUnmap = 2,

    /// <summary>For zeros: fails with <see cref="BlockErrorKind.Unsupported"/> where they would have to be written as bytes. What was zeroed by then stays.</summary>
    NoFallback = 4,
}

/// <summary>A disk as a guest sees it: an image with its backing chain, a bundle, or a filter around another node.</summary>
/// <remarks>
/// All members may be called from many threads at once. Errors are <see cref="BlockException"/>s. Disposing closes everything below.
/// The mover is here: <see cref="ReadAsync"/> turns any mapping into bytes, whatever the format; no driver reads guest data on its own
/// except to decode.
/// </remarks>
public abstract partial class BlockNode : IAsyncDisposable
{
    /// <summary>The name of the file or node, for messages and <c>info</c>.</summary>
    public abstract string Name { get; }

    /// <summary>The format's name.</summary>
    public abstract string FormatName { get; }

    /// <summary>Size of the virtual disk, in bytes.</summary>
    public abstract long VirtualSize { get; }

    /// <summary>The node under this one in its backing chain, or null.</summary>
    public virtual BlockNode? Backing => null;

    /// <summary>Every storage that this node and those under it read.</summary>
    public abstract IEnumerable<Storage> Storages { get; }

    /// <summary>Directories all of whose files belong to this disk and those under it, whether they are read or not (bundles).</summary>
    public virtual IEnumerable<StorageDirectory> Directories => Backing?.Directories ?? [];

    /// <summary>Snapshots that can be opened as a source.</summary>
    public virtual IReadOnlyList<SnapshotInfo> Snapshots => [];

    /// <summary>Whether <see cref="SnapshotInfo.ParentId"/> tells how snapshots descend from each other, and <see cref="ParentSnapshotId"/> what the current state descends from.</summary>
    public virtual bool HasSnapshotTree => false;

    /// <summary>Identifier of the snapshot that the current state descends from; null for none.</summary>
    public virtual string? ParentSnapshotId => null;

    /// <summary>Persistent dirty bitmaps of the top image.</summary>
    public virtual IReadOnlyList<BitmapInfo> Bitmaps => [];

    /// <summary>What the range from <paramref name="at"/> is, the whole chain considered.</summary>
    /// <param name="at">Inside the disk.</param>
    /// <param name="length">At least 1; the answer is never longer and never reaches beyond the disk.</param>
    /// <param name="detail">How much it may cost.</param>
    /// <param name="cancellationToken">Stops reading metadata.</param>
    /// <returns>One extent from <paramref name="at"/>. <see cref="ExtentKind.Unallocated"/> means that no image of the chain has it: it reads as zeros.</returns>
    public abstract ValueTask<Extent> MapAsync(
        GuestOffset at, long length, MapDetail detail = MapDetail.Metadata, CancellationToken cancellationToken = default);

    /// <summary>What <c>info</c> tells of the top image.</summary>
    public abstract ValueTask<ImageInfo> GetInfoAsync(CancellationToken cancellationToken = default);

    /// <summary>Verifies the structures of the top image, or of every file of a bundle; changes nothing.</summary>
    public abstract ValueTask<CheckReport> CheckAsync(
        Action<CheckFinding> report, IProgress<double>? progress = null, CancellationToken cancellationToken = default);

    /// <summary>Mends the structures of the top image, which was opened for repair; wholly or not at all.</summary>
    public virtual ValueTask<RepairReport> RepairAsync(
        RepairOptions options, Action<CheckFinding> report, IProgress<double>? progress = null, CancellationToken cancellationToken = default) =>
        throw new BlockException(BlockErrorKind.Unsupported, $"{Name}: {FormatName} disks cannot be repaired");

    /// <summary>Finds the guest ranges that lie, wholly or in part, in host clusters of the top image.</summary>
    public virtual ValueTask<IReadOnlyDictionary<HostOffset, IReadOnlyList<ClusterUse>>> FindUsersAsync(
        IReadOnlySet<HostOffset> places, int maxRanges, CancellationToken cancellationToken = default) =>
        new(new Dictionary<HostOffset, IReadOnlyList<ClusterUse>>());

    /// <summary>The dirty ranges of a bitmap of the top image.</summary>
    public virtual IAsyncEnumerable<DirtyRange> ReadBitmapAsync(string name, CancellationToken cancellationToken = default) =>
        throw new BlockException(BlockErrorKind.NotFound, $"{Name}: no bitmap '{SafeText.Clean(name, 256)}'");

    /// <summary>Reads guest bytes, all of them or none.</summary>
    /// <param name="at">Any alignment.</param>
    /// <param name="buffer">Filled entirely.</param>
    /// <param name="cancellationToken">Stops the read.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>: the range reaches beyond the disk; others as met on the way.</exception>
    public virtual ValueTask ReadAsync(GuestOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        ThrowIfOutside(at, buffer.Length);
        return MoveAsync(at, buffer, cancellationToken);
    }

    /// <summary>Refuses a request that does not lie inside the disk.</summary>
    protected void ThrowIfOutside(GuestOffset at, long length)
    {
        if (at.Value < 0 || length < 0 || at.Value > VirtualSize || length > VirtualSize - at.Value)
        {
            throw new BlockException(
                BlockErrorKind.InvalidRequest, $"{Name}: {length} bytes at {at} reach beyond the end of the disk at 0x{VirtualSize:x}");
        }
    }

    /// <summary>Reads the bytes of one extent, which <see cref="MapAsync"/> of this node returned (perhaps shortened).</summary>
    /// <param name="extent">What is there.</param>
    /// <param name="at">Where to start, inside the extent.</param>
    /// <param name="buffer">Filled entirely; lies inside the extent.</param>
    /// <param name="cancellationToken">Stops the read.</param>
    public static ValueTask ReadExtentAsync(
        Extent extent, GuestOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        if (extent.Kind == ExtentKind.Encoded)
        {
            return extent.Driver!.ReadEncodedAsync(extent, at, buffer, cancellationToken);
        }

        if (extent.ReadsZero)
        {
            buffer.Span.Clear();
            return ValueTask.CompletedTask;
        }

        extent.Storage!.Announce(extent.Depth == 0 ? StorageEvent.ReadAio : StorageEvent.ReadBackingAio);
        var read = extent.Storage.ReadAsync(extent.HostOffset + (at - extent.Offset), buffer, cancellationToken);
        if (!read.IsCompletedSuccessfully)
        {
            return FinishAsync(read, buffer);
        }

        // Images may end inside their last cluster: what the storage does not have reads as zeros.
        buffer.Span[read.Result..].Clear();
        return ValueTask.CompletedTask;

        static async ValueTask FinishAsync(ValueTask<int> pending, Memory<byte> target)
        {
            var count = await pending.ConfigureAwait(false);
            target.Span[count..].Clear();
        }
    }

    /// <summary>Whether every write is refused.</summary>
    public virtual bool IsReadOnly => true;

    /// <summary>Writes guest bytes. Durable after a later <see cref="FlushAsync"/>, or at once with <see cref="WriteFlags.ForceUnitAccess"/>.</summary>
    /// <param name="at">Any alignment; the range lies inside the disk.</param>
    /// <param name="buffer">Not changed; belongs to the node until the task completes.</param>
    /// <param name="flags">How.</param>
    /// <param name="cancellationToken">Stops between pieces; what was written by then stays.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.ReadOnly"/>, <see cref="BlockErrorKind.NoSpace"/>, <see cref="BlockErrorKind.InvalidRequest"/> and others as met.</exception>
    public virtual ValueTask WriteAsync(
        GuestOffset at, ReadOnlyMemory<byte> buffer, WriteFlags flags = WriteFlags.None, CancellationToken cancellationToken = default) => throw NotWritable();

    /// <summary>Makes a range read as zeros, without writing them where the format can say so.</summary>
    /// <param name="at">Any alignment; the range lies inside the disk.</param>
    /// <param name="length">Guest bytes.</param>
    /// <param name="flags">How.</param>
    /// <param name="cancellationToken">Stops between pieces.</param>
    public virtual ValueTask WriteZeroesAsync(
        GuestOffset at, long length, WriteFlags flags = WriteFlags.None, CancellationToken cancellationToken = default) => throw NotWritable();

    /// <summary>Says that the content of a range is no longer needed. Parts of units at its ends are left alone; the rest reads as zeros
    /// afterwards, or as before where the format could not do otherwise.</summary>
    public virtual ValueTask DiscardAsync(GuestOffset at, long length, CancellationToken cancellationToken = default) => throw NotWritable();

    /// <summary>Guest bytes, a power of two: what a writable image allocates at once; 1 where it allocates nothing.</summary>
    public virtual long AllocationUnit => 1;

    /// <summary>Stores a whole unit compressed (see <see cref="ImageWriter.TryWriteCompressedAsync"/>; plainly if it does not get smaller).</summary>
    public virtual ValueTask WriteCompressedAsync(GuestOffset at, ReadOnlyMemory<byte> cluster, CancellationToken cancellationToken = default) =>
        throw NotWritable();

    /// <summary>Makes every completed write durable.</summary>
    public virtual ValueTask FlushAsync(CancellationToken cancellationToken = default) => ValueTask.CompletedTask;

    /// <summary>Changes the size of the disk; new bytes read as zeros.</summary>
    /// <param name="virtualSize">Bytes, a multiple of 512.</param>
    /// <param name="cancellationToken">Stops before anything was changed.</param>
    public ValueTask ResizeAsync(long virtualSize, CancellationToken cancellationToken = default) =>
        ResizeAsync(virtualSize, ResizePreallocation.Off, cancellationToken);

    /// <summary>Changes the size of the disk; new bytes read as zeros.</summary>
    /// <param name="virtualSize">Bytes, a multiple of 512.</param>
    /// <param name="preallocation">What place in the file the new bytes get; only when the disk grows.</param>
    /// <param name="cancellationToken">Stops before the size was changed.</param>
    public virtual ValueTask ResizeAsync(
        long virtualSize, ResizePreallocation preallocation, CancellationToken cancellationToken = default) => throw NotWritable();

    /// <summary>Takes a snapshot of the disk as it is, inside the image or bundle. Happens wholly or, at any error or power cut, not at all. Waits for every request under way.</summary>
    /// <param name="name">Its name. Names may repeat.</param>
    /// <param name="date">When it is said to have been taken.</param>
    /// <param name="cancellationToken">Stops before it has happened.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.Unsupported"/>: there can be no snapshots inside; <see cref="BlockErrorKind.ReadOnly"/>; others as met.</exception>
    public virtual ValueTask CreateSnapshotAsync(string name, DateTimeOffset date, CancellationToken cancellationToken = default) => throw NoSnapshots();

    /// <summary>Makes the disk what it was at a snapshot. Wholly or not at all; waits for every request under way.</summary>
    public virtual ValueTask ApplySnapshotAsync(SnapshotSelector selector, CancellationToken cancellationToken = default) => throw NoSnapshots();

    /// <summary>Forgets a snapshot and gives up the space that only it needs. It is forgotten wholly or not at all; waits for every request under way.</summary>
    public virtual ValueTask DeleteSnapshotAsync(SnapshotSelector selector, CancellationToken cancellationToken = default) => throw NoSnapshots();

    /// <summary>For disks whose layers are their own business (bundles): makes the layer under the top what the disk is now. Wholly or not at all; waits for every request under way.</summary>
    /// <param name="progress">Told 0 to 1.</param>
    /// <param name="cancellationToken">Stops; if it has happened by then, what is left of the old layer is merged by the next such change.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>: there is nothing under the top.</exception>
    public virtual ValueTask CommitAsync(IProgress<double>? progress = null, CancellationToken cancellationToken = default) =>
        throw new BlockException(BlockErrorKind.InvalidRequest, "Image does not have a backing file");

    /// <summary>Marks the disk as an unfinished copy, so that nobody takes it for a whole one, or takes the mark away. Waits for every request under way.</summary>
    /// <remarks>A disk of several files may be closed by taking the mark away; whoever goes on with it opens it anew.</remarks>
    /// <returns>False when the format has no way to say so: nothing was done.</returns>
    public virtual ValueTask<bool> SetUnfinishedAsync(bool unfinished, CancellationToken cancellationToken = default) => new(false);

    /// <summary>Gives back the space of what nothing in the image refers to: an interrupted copy left it. Waits for every request under way.</summary>
    public virtual ValueTask GiveUpLeaksAsync(CancellationToken cancellationToken = default) => ValueTask.CompletedTask;

    /// <inheritdoc/>
    public abstract ValueTask DisposeAsync();

    /// <summary>The error of a node that cannot be written to.</summary>
    protected BlockException NotWritable() => new(BlockErrorKind.ReadOnly, $"{Name}: is open for reading only");

    private static BlockException NoSnapshots() => new(BlockErrorKind.Unsupported, "this format has no internal snapshots");

    /// <summary>The mover: turns mappings into bytes. The range lies inside the disk.</summary>
    protected async ValueTask MoveAsync(GuestOffset at, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        while (buffer.Length > 0)
        {
            var extent = await MapAsync(at, buffer.Length, MapDetail.Metadata, cancellationToken).ConfigureAwait(false);
            var part = buffer[..(int)extent.Length];
            await ReadExtentAsync(extent, at, part, cancellationToken).ConfigureAwait(false);
            at += part.Length;
            buffer = buffer[part.Length..];
        }
    }
}
