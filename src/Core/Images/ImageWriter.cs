using Platter.Core.Units;

namespace Platter.Core.Images;

/// <summary>The writing half of an <see cref="ImageDriver"/>: says where bytes are to go, and publishes that once they are there.</summary>
/// <remarks>
/// All members may be called from many threads at once. The caller (<see cref="Graph.ImageNode"/>) holds the guest range of every call against other
/// requests, widened to whole <see cref="AllocationUnit"/>s for everything but <see cref="TryPlanInPlace"/>. A request is durable when a <see cref="FlushAsync"/> that began
/// after it has ended; a cut of power before that may lose it by sectors, and nothing else (design notes, "Writing").
/// Errors are <see cref="Errors.BlockException"/>s; <see cref="Errors.BlockErrorKind.NoSpace"/> leaves everything as it was.
/// </remarks>
public abstract partial class ImageWriter
{
    /// <summary>Guest bytes: 1, or a multiple of 512, not always a power of two, up to 2 GiB. Changing a mapping may touch everything between multiples of this.</summary>
    public abstract long AllocationUnit { get; }

    /// <summary>Told once, before any request: whether something shows through where the image has nothing. Formats that know by themselves need not listen.</summary>
    public virtual void SetHasBacking(bool hasBacking)
    {
    }

    /// <summary>The place of a range that is stored already and belongs to nobody else, so that it can be overwritten where it is.</summary>
    /// <param name="at">Inside the disk.</param>
    /// <param name="length">Guest bytes wanted; inside the disk.</param>
    /// <param name="plan">Covers at least the first byte; has no <see cref="WritePlan.Token"/>.</param>
    /// <returns>False when it is not so, or not known without waiting: reserve then.</returns>
    public abstract bool TryPlanInPlace(GuestOffset at, long length, out WritePlan plan);

    /// <summary>Finds or makes a place for guest bytes.</summary>
    /// <param name="at">Inside the disk.</param>
    /// <param name="length">Guest bytes wanted, inside the disk; the plan may cover less.</param>
    /// <param name="cancellationToken">Stops reading tables; nothing stays reserved.</param>
    public abstract ValueTask<WritePlan> ReserveAsync(GuestOffset at, long length, CancellationToken cancellationToken = default);

    /// <summary>Publishes a plan whose bytes have all been written.</summary>
    public abstract ValueTask CommitAsync(WritePlan plan, CancellationToken cancellationToken = default);

    /// <summary>Gives back what a plan reserved: its bytes could not be written.</summary>
    public abstract ValueTask AbandonAsync(WritePlan plan);

    /// <summary>Turns guest bytes into stored bytes, in place. Only for plans that ask for it.</summary>
    /// <param name="at">Where the bytes are on the disk; a multiple of 512.</param>
    /// <param name="host">Where they will be stored.</param>
    /// <param name="bytes">A multiple of 512.</param>
    public virtual void Encode(GuestOffset at, HostOffset host, Span<byte> bytes) => throw new InvalidOperationException("nothing to encode");

    /// <summary>Makes whole units read as zeros without writing them.</summary>
    /// <param name="at">A multiple of <see cref="ZeroUnit"/>.</param>
    /// <param name="length">A multiple of it too, or up to the end of the disk.</param>
    /// <param name="mayUnmap">The host's space may be given up.</param>
    /// <param name="cancellationToken">Stops between tables.</param>
    /// <returns>False when the format cannot say "zero" here: nothing was done, and zeros must be written.</returns>
    public abstract ValueTask<bool> TryWriteZeroesAsync(GuestOffset at, long length, bool mayUnmap, CancellationToken cancellationToken = default);

    /// <summary>The same for those who write zeros themselves rather than wait for them. Formats that only ever change what entries say need not override it.</summary>
    /// <returns>False when bytes would have to be written, or nobody can say: none were, but parts of the range may have become zeros.</returns>
    public virtual ValueTask<bool> TryZeroFastAsync(GuestOffset at, long length, bool mayUnmap, CancellationToken cancellationToken = default) =>
        TryWriteZeroesAsync(at, length, mayUnmap, cancellationToken);

    /// <summary>Guest bytes, of which <see cref="AllocationUnit"/> is a multiple: the smallest range that can be said to be zero or discarded.</summary>
    public virtual long ZeroUnit => AllocationUnit;

    /// <summary>Gives up whole units. They read as zeros afterwards, or as before where the format could not keep a backing file from showing through.</summary>
    /// <param name="at">A multiple of <see cref="AllocationUnit"/>.</param>
    /// <param name="length">A multiple of it too, or up to the end of the disk.</param>
    /// <param name="cancellationToken">Stops between tables.</param>
    public abstract ValueTask DiscardAsync(GuestOffset at, long length, CancellationToken cancellationToken = default);

    /// <summary>Stores one unit compressed, instead of what is there.</summary>
    /// <param name="at">A multiple of <see cref="AllocationUnit"/>.</param>
    /// <param name="cluster">One unit of guest bytes; zeros behind the end of the disk.</param>
    /// <param name="cancellationToken">Stops before anything was written.</param>
    /// <returns>False when it does not get smaller: nothing was done.</returns>
    /// <exception cref="Errors.BlockException"><see cref="Errors.BlockErrorKind.Unsupported"/>: the format or this image cannot compress.</exception>
    public virtual ValueTask<bool> TryWriteCompressedAsync(GuestOffset at, ReadOnlyMemory<byte> cluster, CancellationToken cancellationToken = default) =>
        throw new Errors.BlockException(Errors.BlockErrorKind.Unsupported, "Compression not supported for this file format");

    /// <summary>Makes everything that was written or changed before durable.</summary>
    public abstract ValueTask FlushAsync(CancellationToken cancellationToken = default);

    /// <summary>Changes the size of the disk. Whole units that are new read as zeros; the caller has zeroed the rest of the last old one. No request may be under way.</summary>
    /// <param name="virtualSize">Bytes, a multiple of 512.</param>
    /// <param name="backingSize">Size of the backing file's disk in bytes, 0 without one: what it has behind the old end must not show.</param>
    /// <param name="cancellationToken">Stops before the size was changed.</param>
    public abstract ValueTask ResizeAsync(long virtualSize, long backingSize, CancellationToken cancellationToken = default);

    /// <summary>As <see cref="ResizeAsync(long, long, CancellationToken)"/>, and gives what is new a place in the file before the new size is published.</summary>
    /// <param name="virtualSize">Bytes, a multiple of 512; not less than the disk has.</param>
    /// <param name="backingSize">Size of the backing file's disk in bytes, 0 without one.</param>
    /// <param name="preallocation">How much of a place.</param>
    /// <param name="cancellationToken">Stops before the size was changed.</param>
    /// <exception cref="Errors.BlockException"><see cref="Errors.BlockErrorKind.Unsupported"/>: the format does not have this mode;
    /// <see cref="Errors.BlockErrorKind.NoSpace"/>: with the size unchanged.</exception>
    public virtual ValueTask ResizeAsync(
        long virtualSize, long backingSize, ResizePreallocation preallocation, CancellationToken cancellationToken = default) =>
        preallocation == ResizePreallocation.Off
            ? ResizeAsync(virtualSize, backingSize, cancellationToken)
            : throw new Errors.BlockException(Errors.BlockErrorKind.Unsupported, $"Unsupported preallocation mode: {preallocation.ToString().ToLowerInvariant()}");

    /// <summary>Whether the unit at an offset has a place of its own in the image, so that something may be stored behind the end of the disk.</summary>
    public virtual ValueTask<bool> HasPlaceAsync(GuestOffset at, CancellationToken cancellationToken = default) => new(false);

    /// <summary>Takes an internal snapshot of the disk as it is. Happens wholly or, at any error or power cut, not at all. No request may be under way.</summary>
    /// <param name="name">Its name; at most 65535 bytes of UTF-8. Names may repeat.</param>
    /// <param name="date">When it is said to have been taken.</param>
    /// <param name="cancellationToken">Stops before it has happened.</param>
    /// <exception cref="Errors.BlockException"><see cref="Errors.BlockErrorKind.Unsupported"/>: the format, or this image, has no snapshots.</exception>
    public virtual ValueTask CreateSnapshotAsync(string name, DateTimeOffset date, CancellationToken cancellationToken = default) => throw NoSnapshots();

    /// <summary>Makes the disk what it was at a snapshot, its size included. Wholly or not at all; no request may be under way.</summary>
    public virtual ValueTask ApplySnapshotAsync(SnapshotSelector selector, CancellationToken cancellationToken = default) => throw NoSnapshots();

    /// <summary>Forgets a snapshot and gives up its space. Wholly or not at all; no request may be under way.</summary>
    public virtual ValueTask DeleteSnapshotAsync(SnapshotSelector selector, CancellationToken cancellationToken = default) => throw NoSnapshots();

    /// <summary>Gives up everything that the image stores of its current state, so that its backing file shows through everywhere; snapshots stay. Wholly or not at all;
    /// no request may be under way.</summary>
    /// <exception cref="Errors.BlockException"><see cref="Errors.BlockErrorKind.Unsupported"/>: the format has no backing files.</exception>
    public virtual ValueTask MakeEmptyAsync(CancellationToken cancellationToken = default) =>
        throw new Errors.BlockException(Errors.BlockErrorKind.Unsupported, "Operation not supported: an image of this format cannot be emptied");

    /// <summary>Records another backing file, or none, once everything else is durable. Wholly or not at all; no request may be under way, and none may come after it.</summary>
    /// <param name="name">As it is to be stored; null for none.</param>
    /// <param name="format">Its format; null for none.</param>
    /// <param name="cancellationToken">Stops before it has happened.</param>
    /// <exception cref="Errors.BlockException"><see cref="Errors.BlockErrorKind.Unsupported"/>: the format has no backing files; <see cref="Errors.BlockErrorKind.NoSpace"/>:
    /// the name does not fit.</exception>
    public virtual ValueTask ChangeBackingAsync(string? name, string? format, CancellationToken cancellationToken = default) =>
        throw new Errors.BlockException(Errors.BlockErrorKind.Unsupported, "Operation not supported");

    /// <summary>Changes options of the image. Everything is judged before anything is changed; then one step follows the other, each of them wholly done or not at
    /// all, and none of them changes what the disk reads (but for <c>size</c>). No request may be under way.</summary>
    /// <param name="options">As <see cref="CreateOptionList.Normalize(NodeOptions)"/> of <see cref="ImageFormat.AmendOptions"/> returns them.</param>
    /// <param name="context">Secrets.</param>
    /// <param name="cancellationToken">Stops between steps.</param>
    /// <returns>What is left to do. If not empty, the image has to be closed and opened again for it; <c>size</c> alone is left to <see cref="ResizeAsync(long, long, CancellationToken)"/>.</returns>
    /// <exception cref="Errors.BlockException">An option is not allowed for this image, with nothing changed; or others as met.</exception>
    public virtual ValueTask<NodeOptions> AmendAsync(NodeOptions options, AmendContext context, CancellationToken cancellationToken = default) =>
        throw new Errors.BlockException(Errors.BlockErrorKind.Unsupported, "this format does not support option amendment");

    /// <summary>Marks the image as a copy that has not come to its end, so that nobody takes it for a whole one, or takes the mark away. Durable when the call ends.</summary>
    /// <param name="unfinished">Whether it is one.</param>
    /// <param name="cancellationToken">Stops before anything was changed.</param>
    /// <returns>False when the format has no way to say so: nothing was done.</returns>
    public virtual ValueTask<bool> SetUnfinishedAsync(bool unfinished, CancellationToken cancellationToken = default) => new(false);

    /// <summary>Gives back the space of what nothing in the image refers to, where the format can tell and nothing else is wrong. For a copy that goes on; no request may be
    /// under way.</summary>
    public virtual ValueTask GiveUpLeaksAsync(CancellationToken cancellationToken = default) => ValueTask.CompletedTask;

    /// <summary>Ends writing: flushes, and brings the image into the state of one that was closed cleanly. Called once, before the driver is disposed.</summary>
    public virtual ValueTask CloseAsync(CancellationToken cancellationToken = default) => FlushAsync(cancellationToken);

    private static Errors.BlockException NoSnapshots() =>
        new(Errors.BlockErrorKind.Unsupported, "Operation not supported: this image format has no internal snapshots");
}
