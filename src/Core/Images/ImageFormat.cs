using Platter.Core.Graph;
using Platter.Core.Storages;

namespace Platter.Core.Images;

/// <summary>A format of single images: recognises and opens them.</summary>
public abstract class ImageFormat
{
    /// <summary>The name options use (<c>qcow2</c>).</summary>
    public abstract string Name { get; }

    /// <summary>Whether somebody may write to the image while we read it: true only where no metadata could change under us (raw).</summary>
    public virtual bool AllowsWriters => false;

    /// <summary>How sure the first bytes make us: 0 is "not mine", 100 is "certainly".</summary>
    /// <param name="head">Up to 2048 bytes from the start of the storage.</param>
    public abstract int Probe(ReadOnlySpan<byte> head);

    /// <summary>How large a new image of this format would be.</summary>
    /// <param name="source">The disk to be copied, or null when only its size is known.</param>
    /// <param name="virtualSize">Size of the disk in bytes.</param>
    /// <param name="createOptions">The format's creation options (<c>cluster_size</c>, …).</param>
    /// <param name="cancellationToken">Stops the walk through the source.</param>
    /// <exception cref="Errors.BlockException"><see cref="Errors.BlockErrorKind.Unsupported"/>: this format cannot tell.</exception>
    public virtual ValueTask<MeasureResult> MeasureAsync(
        BlockNode? source, long virtualSize, NodeOptions createOptions, CancellationToken cancellationToken = default) =>
        throw new Errors.BlockException(Errors.BlockErrorKind.Unsupported, $"Format driver '{Name}' does not support size measurement");

    /// <summary>The options of a new image; empty when this format cannot make one.</summary>
    public virtual CreateOptionList CreateOptions => CreateOptionList.Empty;

    /// <summary>Whether a new image can have a backing file.</summary>
    public virtual bool SupportsBackingFile => false;

    /// <summary>The options of an image that can be changed later (<see cref="ImageWriter.AmendAsync"/>); empty when there are none.</summary>
    public virtual CreateOptionList AmendOptions => CreateOptionList.Empty;

    /// <summary>Judges everything about a new image that can be judged before anything is opened or overwritten.</summary>
    /// <param name="virtualSize">Size of the disk in bytes, not necessarily whole sectors: the format rounds up.</param>
    /// <param name="createOptions">As <see cref="CreateOptionList.Normalize(NodeOptions)"/> returns them.</param>
    /// <param name="context">Secrets.</param>
    /// <exception cref="Errors.BlockException">A value is not allowed, or not with the others; a secret is missing.</exception>
    public virtual void CheckCreate(long virtualSize, NodeOptions createOptions, CreateContext context) =>
        throw new Errors.BlockException(Errors.BlockErrorKind.Unsupported, $"Format driver '{Name}' does not support image creation");

    /// <summary>Makes an image in a storage, whose content is lost. What comes before the last write of a header leaves something that no reader
    /// takes for a finished image.</summary>
    /// <param name="storage">Writable. A file is emptied first, after all checks; a device keeps its length, which must suffice. Stays the caller's.</param>
    /// <param name="virtualSize">Size of the disk in bytes, rounded up to whole sectors.</param>
    /// <param name="createOptions">As <see cref="CreateOptionList.Normalize(NodeOptions)"/> returns them.</param>
    /// <param name="context">Secrets, the data file.</param>
    /// <param name="cancellationToken">Stops between writes; the storage then holds no image.</param>
    /// <exception cref="Errors.BlockException">As <see cref="CheckCreate"/>, with nothing touched; or the host could not write.</exception>
    public virtual ValueTask CreateAsync(
        Storage storage, long virtualSize, NodeOptions createOptions, CreateContext context, CancellationToken cancellationToken = default) =>
        throw new Errors.BlockException(Errors.BlockErrorKind.Unsupported, $"Format driver '{Name}' does not support image creation");

    /// <summary>Opens the image that a storage holds, for reading. The driver owns the storage when this succeeds.</summary>
    /// <param name="storage">The bytes.</param>
    /// <param name="options">Options for the driver, such as <c>encrypt.key-secret</c> or <c>data-file.*</c>.</param>
    /// <param name="context">Gate, caches, secrets, limits.</param>
    /// <param name="cancellationToken">Stops reading metadata.</param>
    /// <exception cref="Errors.ImageFormatException">A structure breaks the rules or needs what we do not do.</exception>
    public abstract ValueTask<ImageDriver> OpenAsync(
        Storage storage, NodeOptions options, OpenContext context, CancellationToken cancellationToken = default);
}

/// <summary>Sizes of an image that does not exist yet, in bytes.</summary>
/// <param name="Required">What the data of the source will need.</param>
/// <param name="FullyAllocated">What it can grow to.</param>
/// <param name="Bitmaps">What copying the source's persistent bitmaps adds, or null when it has none or they cannot be kept.</param>
public sealed record MeasureResult(long Required, long FullyAllocated, long? Bitmaps = null);

/// <summary>A format whose disk is a directory of files.</summary>
public abstract class BundleFormat
{
    /// <summary>The name options use (<c>parallels-bundle</c>).</summary>
    public abstract string Name { get; }

    /// <summary>Whether a directory holds such a disk.</summary>
    public abstract bool Recognises(StorageDirectory directory);

    /// <summary>Whether a file is the descriptor of such a disk, so that its directory is meant.</summary>
    /// <param name="fileName">Its name without directory.</param>
    /// <param name="head">Up to 2048 bytes from its start.</param>
    public abstract bool IsDescriptor(string fileName, ReadOnlySpan<byte> head);

    /// <summary>Names of the disks in a directory that is no disk itself but a machine with some; each is opened with the option <c>disk</c>. Otherwise empty.</summary>
    public virtual IReadOnlyList<string> DisksIn(StorageDirectory directory) => [];

    /// <summary>The options of a new disk; empty when this format cannot make one.</summary>
    public virtual CreateOptionList CreateOptions => CreateOptionList.Empty;

    /// <summary>Judges everything about a new disk that can be judged before anything is made.</summary>
    /// <param name="virtualSize">Size of the disk in bytes, not necessarily whole sectors: the format rounds up.</param>
    /// <param name="createOptions">As <see cref="CreateOptionList.Normalize(NodeOptions)"/> returns them.</param>
    /// <exception cref="Errors.BlockException">A value is not allowed, or not with the others.</exception>
    public virtual void CheckCreate(long virtualSize, NodeOptions createOptions) =>
        throw new Errors.BlockException(Errors.BlockErrorKind.Unsupported, $"Format driver '{Name}' does not support image creation");

    /// <summary>Makes a disk in an empty directory. Until it is finished, nobody takes the directory for one; all of it is durable when the call ends, but for the directory's own name.</summary>
    /// <param name="directory">Empty, or with what an interrupted copy left, if <paramref name="context"/> says that the disk is to be one: that is replaced.</param>
    /// <param name="virtualSize">Size of the disk in bytes, rounded up to whole sectors.</param>
    /// <param name="createOptions">As <see cref="CreateOptionList.Normalize(NodeOptions)"/> returns them.</param>
    /// <param name="context">Whether it is the beginning of a copy: then it says that it is unfinished from its first moment on.</param>
    /// <param name="cancellationToken">Stops; what was made is removed again.</param>
    /// <exception cref="Errors.BlockException">As <see cref="CheckCreate"/>; the directory is not empty; or the host could not write. What was made is removed again.</exception>
    public virtual ValueTask CreateAsync(
        StorageDirectory directory, long virtualSize, NodeOptions createOptions, CreateContext context, CancellationToken cancellationToken = default) =>
        throw new Errors.BlockException(Errors.BlockErrorKind.Unsupported, $"Format driver '{Name}' does not support image creation");

    /// <summary>Whether a directory has an unfinished copy that was interrupted when its images were there, so that it can go on.</summary>
    public virtual bool CanResume(StorageDirectory directory) => false;

    /// <summary>Opens the disk; the node owns every file it opened.</summary>
    /// <param name="directory">The bundle.</param>
    /// <param name="options"><c>disk</c>: which disk when there are several; <c>snapshot</c>: GUID or name.</param>
    /// <param name="writable">For writing too: the current state, and nothing else.</param>
    /// <param name="context">Gate, caches, limits.</param>
    /// <param name="cancellationToken">Stops reading metadata.</param>
    public abstract ValueTask<BlockNode> OpenAsync(
        StorageDirectory directory, NodeOptions options, bool writable, OpenContext context, CancellationToken cancellationToken = default);
}
