using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Metadata;
using Platter.Core.Storages;
using Platter.Operations.Copy;
using Platter.Operations.Offline;
using Platter.Snapshots;

namespace Platter;

// Offline changes of images: nothing else may use them meanwhile, and each is wholly done, not done, or can be run again.
public sealed partial class Disk
{
    /// <summary>How many images down the backing chain an image is, for <see cref="DiskOpenOptions.WritableBacking"/>.</summary>
    /// <param name="backing">Its path, or its name as the image above stores it.</param>
    /// <returns>1 for the disk's own backing file; null when the chain has no such image.</returns>
    public int? FindBacking(string backing)
    {
        var depth = 0;
        for (var node = Node; node.Backing is { } below; node = below)
        {
            depth++;
            var stored = node is ImageNode { Driver.Backing: { } reference } ? reference.Name : null;
            if (stored == backing || below.Name == backing || IsSamePath(below.Name, backing))
            {
                return depth;
            }
        }

        return null;
    }

    /// <summary>Writes all that this disk's image (and those between) store into the backing file that was opened for writing, which grows when it is shorter.
    /// Then the image is emptied, unless <see cref="DiskCommitOptions.KeepOverlay"/>.</summary>
    /// <remarks>The backing file is durable before the image is emptied: whatever happens meanwhile, the disk reads the same, and the commit can be run again.</remarks>
    /// <param name="options">How.</param>
    /// <param name="progress">Told 0 to 1.</param>
    /// <param name="cancellationToken">Stops; the image is not emptied then.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>: no backing file was opened for writing
    /// (<see cref="DiskOpenOptions.WritableBacking"/>); others as met.</exception>
    public async Task CommitAsync(DiskCommitOptions? options = null, IProgress<double>? progress = null, CancellationToken cancellationToken = default)
    {
        options ??= new DiskCommitOptions();
        if (Node is not ImageNode)
        {
            if (options.KeepOverlay)
            {
                throw new BlockException(BlockErrorKind.InvalidRequest, $"{Node.Name}: the current state of a bundle is always emptied by a commit");
            }

            await Node.CommitAsync(progress, cancellationToken).ConfigureAwait(false);
            return;
        }

        if (Node.Backing is not { } target)
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, "Image does not have a backing file");
        }

        while (target.IsReadOnly)
        {
            target = target.Backing ?? throw new BlockException(BlockErrorKind.ReadOnly, $"{Node.Name}: no backing file was opened for writing");
        }

        await CommitOperation.CopyDownAsync(Node, target, options.BytesPerSecond, progress, cancellationToken).ConfigureAwait(false);
        if (!options.KeepOverlay)
        {
            await Image().MakeEmptyAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>Lets the image stand on another backing file, or on none. Afterwards this disk is to be closed: it goes on with the old chain.</summary>
    /// <remarks>What the disk reads stays the same, because what the new backing file has otherwise is copied into the image first; a cut leaves the old backing file or the new one.
    /// A disk that was opened with <see cref="DiskOpenOptions.WithoutBacking"/> gets the other name and nothing else.</remarks>
    /// <param name="backing">Name of the new backing file as it is to be stored, relative to the image's directory; null for none.</param>
    /// <param name="format">Its format; needed unless there is none.</param>
    /// <param name="compresses">Store what is copied compressed.</param>
    /// <param name="progress">Told 0 to 1.</param>
    /// <param name="cancellationToken">Stops; the image then has its old backing file and reads as before.</param>
    /// <exception cref="BlockException">The new backing file cannot be opened or is the image itself; others as met.</exception>
    public async Task RebaseAsync(
        string? backing, string? format = null, bool compresses = false, IProgress<double>? progress = null, CancellationToken cancellationToken = default)
    {
        var image = Image();
        if (!image.Driver.SupportsBacking)
        {
            throw CannotChange(new BlockException(BlockErrorKind.Unsupported, "Operation not supported"));
        }

        if (backing is not null && format is null)
        {
            throw CannotChange(new BlockException(BlockErrorKind.InvalidRequest, "backing format must be specified"));
        }

        if (!_options.WithoutBacking)
        {
            var below = backing is null ? null : await OpenNewBackingAsync(image, backing, format!, cancellationToken).ConfigureAwait(false);
            try
            {
                await RebaseOperation.CopyDifferencesAsync(image, below, compresses, progress, cancellationToken).ConfigureAwait(false);
            }
            finally
            {
                if (below is not null)
                {
                    await below.DisposeAsync().ConfigureAwait(false);
                }
            }
        }

        try
        {
            await image.ChangeBackingAsync(backing, backing is null ? null : format, cancellationToken).ConfigureAwait(false);
        }
        catch (BlockException e)
        {
            throw CannotChange(e);
        }

        BlockException CannotChange(BlockException e) => new(e.Kind, $"Could not change the backing file to '{SafeText.Clean(backing ?? string.Empty, 256)}': {e.Message}", e);
    }

    /// <summary>Takes a snapshot of the disk as it is, inside the qcow2 image or the bundle. Wholly or, at any error or power cut, not at all; waits for requests under way.</summary>
    /// <param name="name">Its name; names may repeat.</param>
    /// <param name="date">When it is said to have been taken; null for now.</param>
    /// <param name="cancellationToken">Stops before it has happened.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.Unsupported"/>: the format has no snapshots; <see cref="BlockErrorKind.ReadOnly"/>; others as met.</exception>
    public ValueTask CreateSnapshotAsync(string name, DateTimeOffset? date = null, CancellationToken cancellationToken = default) =>
        Node.CreateSnapshotAsync(name, date ?? DateTimeOffset.UtcNow, cancellationToken);

    /// <summary>Makes the disk what it was at a snapshot; what it is now is lost. Wholly or not at all.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.NotFound"/>; others as for <see cref="CreateSnapshotAsync"/>.</exception>
    public ValueTask ApplySnapshotAsync(SnapshotSelector snapshot, CancellationToken cancellationToken = default) => Node.ApplySnapshotAsync(snapshot, cancellationToken);

    /// <summary>Forgets a snapshot, wholly or not at all, and gives up the space that only it needed.</summary>
    /// <exception cref="BlockException">As for <see cref="ApplySnapshotAsync"/>.</exception>
    public ValueTask DeleteSnapshotAsync(SnapshotSelector snapshot, CancellationToken cancellationToken = default) => Node.DeleteSnapshotAsync(snapshot, cancellationToken);

    /// <summary>Changes options of an image (<c>compat</c>, <c>refcount_bits</c>, <c>lazy_refcounts</c>, <c>size</c>, <c>data_file</c>, <c>data_file_raw</c>,
    /// <c>encrypt.state</c> with its companions): all are judged before the first is changed, and each change happens wholly or not at all.</summary>
    /// <param name="options">By name.</param>
    /// <param name="how">Secrets.</param>
    /// <param name="cancellationToken">Stops between changes; the same call goes on from there.</param>
    /// <returns>What is left to do, with the image closed and opened again: some changes alter what an open image stands on. Empty when all is done.</returns>
    /// <exception cref="BlockException">An option is unknown, or not allowed for this image; or others as met.</exception>
    public async Task<NodeOptions> AmendAsync(NodeOptions options, AmendContext? how = null, CancellationToken cancellationToken = default)
    {
        var format = KnownFormats.Registry.Formats.FirstOrDefault(known => known.Name == Format);
        if (format is null || format.AmendOptions.Options.Count == 0)
        {
            throw new BlockException(BlockErrorKind.Unsupported, $"Format driver '{Format}' does not support option amendment");
        }

        foreach (var key in options.Keys)
        {
            if (format.CreateOptions.Options.Any(option => option.Name == key) && !format.AmendOptions.Options.Any(option => option.Name == key))
            {
                throw new BlockException(BlockErrorKind.InvalidRequest, $"Invalid parameter '{key}'. This option is only supported for image creation");
            }
        }

        return await Image().AmendAsync(format.AmendOptions.Normalize(options), how ?? new AmendContext(), cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Copies a disk with all its snapshots into new qcow2 files or a new bundle. Each state reads the same afterwards, and is stored as what it does not share with the one before it.</summary>
    /// <remarks>The snapshots of a bundle, with their names, dates and branches; the internal snapshots of a qcow2 image, which are told apart by the places of their clusters; or the images of a
    /// backing chain. A target that is not finished is removed.</remarks>
    /// <param name="source">The disk in its current state, as <see cref="OpenAsync(string, DiskOpenOptions?, CancellationToken)"/> opened it; its snapshots are opened in the same way.</param>
    /// <param name="path">The target: an image, of a chain the top one.</param>
    /// <param name="target">Format and options of the new images.</param>
    /// <param name="form">What snapshots become; of a qcow2 source also what counts as one.</param>
    /// <param name="options">How; copies of several states cannot be resumed, nor go into a target that is there.</param>
    /// <param name="digest">Told the digest and the name of each state, if not null.</param>
    /// <param name="progress">Told often.</param>
    /// <param name="cancellationToken">Stops.</param>
    /// <exception cref="BlockException">The target's format cannot hold snapshots; creating, reading or writing failed; or the verification did.</exception>
    public static async Task ConvertSnapshotsAsync(
        Disk source, string path, DiskCreateOptions target, SnapshotForm form, DiskConvertOptions? options = null,
        Action<string, string>? digest = null, IProgress<CopyProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        options ??= new DiskConvertOptions();
        if (source._source is not { } name || source._options.Snapshot is not null)
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, $"{source.Node.Name}: only a disk that was opened by its name, in its current state, can be copied with its snapshots");
        }

        await TargetGuard.RefusePartOfSourceAsync(source.Node, path).ConfigureAwait(false);

        // What there is to warn of was said when the disk was opened.
        var again = source._options with { Warn = static _ => { } };
        var states = await SnapshotLineage.FindAsync(
            source.Node, async (snapshot, token) => (await OpenAsync(name, again with { Snapshot = snapshot }, token).ConfigureAwait(false)).Node,
            form, options.Warn, cancellationToken).ConfigureAwait(false);
        if (target.Format == "parallels-bundle")
        {
            states = await SnapshotLineage.WithOneSizeAsync(states, options.Warn, cancellationToken).ConfigureAwait(false);
        }

        SnapshotTarget to = (target.Format, form) switch
        {
            ("qcow2", SnapshotForm.Internal) or ("parallels-bundle", SnapshotForm.Internal or SnapshotForm.Chain) => new InternalSnapshots(path, target, options),
            ("qcow2", SnapshotForm.Chain) => new OverlayFiles(path, target, options),
            _ => throw new BlockException(BlockErrorKind.Unsupported, $"an image of format '{target.Format}' cannot hold snapshots"),
        };
        await using var closingTarget = to.ConfigureAwait(false);
        await SnapshotConversion.RunAsync(states, to, options, digest, progress, cancellationToken).ConfigureAwait(false);
    }

    private ImageNode Image() => Node as ImageNode ?? throw new BlockException(BlockErrorKind.Unsupported, $"{Node.Name}: a disk of format '{Node.FormatName}' cannot be changed so");

    private async ValueTask<BlockNode> OpenNewBackingAsync(ImageNode overlay, string backing, string format, CancellationToken cancellationToken)
    {
        try
        {
            var gate = _options.Gate ?? new LocalFilesGate();
            var storage = overlay.Driver.Storage;
            var source = gate.Resolve(new ImageReference(ReferenceKind.Backing, backing, format, storage.Name, storage.BaseDirectory));

            // A look at what the chain consists of, without locks: it must not lead back to the image, which we have locked ourselves.
            var look = await new ImageOpener(ContextFor(_options, gate, metadataOnly: true)).OpenAsync(
                new OpenRequest { Options = source, Format = format }, cancellationToken).ConfigureAwait(false);
            await using (look.ConfigureAwait(false))
            {
                if (storage.Identity is { } identity && look.Storages.Any(s => s.Identity == identity))
                {
                    throw new BlockException(BlockErrorKind.InvalidRequest, "the image would be its own backing file");
                }
            }

            return await new ImageOpener(ContextFor(_options, gate, metadataOnly: false)).OpenAsync(
                new OpenRequest { Options = source, Format = format }, cancellationToken).ConfigureAwait(false);
        }
        catch (BlockException e)
        {
            throw new BlockException(e.Kind, $"Could not open new backing file '{SafeText.Clean(backing, 256)}': {e.Message}", e);
        }
    }

    private static OpenContext ContextFor(DiskOpenOptions options, OpenGate gate, bool metadataOnly) => new()
    {
        Formats = KnownFormats.Registry,
        Storages = new HostStorageOpener(),
        Gate = gate,
        Codecs = KnownFormats.Codecs,
        Cache = new MetadataCache(options.MetadataCacheBytes),
        Secrets = options.Password is { } password ? new OnePassword(password, options.Secrets) : options.Secrets,
        DefaultSecretId = options.Password is null ? null : PasswordSecretId,
        MetadataOnly = metadataOnly,
        BackingChain = metadataOnly,
        ForceShare = metadataOnly || options.ForceShare,
        Warn = options.Warn,
    };

    private static bool IsSamePath(string name, string other)
    {
        try
        {
            return Path.GetFullPath(name) == Path.GetFullPath(other);
        }
        catch (ArgumentException)
        {
            // No path, then.
            return false;
        }
    }
}
