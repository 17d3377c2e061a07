using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;

namespace Platter.Core.Graph;

/// <summary>What to open: where the bytes are and what is known about them.</summary>
public sealed record OpenRequest
{
    /// <summary>Options of an image (<c>driver=qcow2,file.filename=…</c>) or of a storage (<c>filename=…</c>).</summary>
    public required NodeOptions Options { get; init; }

    /// <summary>The format the caller declares (<c>-f</c>), or null to probe.</summary>
    public string? Format { get; init; }

    /// <summary>The snapshot to open instead of the current state.</summary>
    public SnapshotSelector? Snapshot { get; init; }

    /// <summary>Open for reading and writing. What lies below in the chain is only read.</summary>
    public bool Writable { get; init; }

    /// <summary>Which backing file is opened for writing too: 1 for the image's own, 2 for that one's, and so on; 0 for none. Only somebody who was asked to
    /// change that image may say so: a name inside an image is no such request.</summary>
    public int WritableBacking { get; init; }

    /// <summary>Leave the backing file closed: for changing its name only.</summary>
    public bool WithoutBacking { get; init; }

    /// <summary>Whether the name came from an image instead of the caller.</summary>
    public bool NamedByImage { get; init; }
}

/// <summary>Builds the graph of an image: storage, format, backing chain; each reference through the gate.</summary>
/// <remarks>Thread-safe. When anything fails, everything opened so far is closed again.</remarks>
public sealed class ImageOpener
{
    private readonly OpenContext _context;

    /// <summary>An opener for one graph.</summary>
    public ImageOpener(OpenContext context) => _context = context;

    /// <summary>Opens an image with its chain, or a bundle.</summary>
    /// <exception cref="BlockException">It cannot be opened; the message names the file that failed.</exception>
    public ValueTask<BlockNode> OpenAsync(OpenRequest request, CancellationToken cancellationToken = default) =>
        OpenAsync(request, [], cancellationToken);

    private async ValueTask<BlockNode> OpenAsync(OpenRequest request, List<Opened> above, CancellationToken cancellationToken)
    {
        var (options, storageOptions, format) = Interpret(request);
        if (_context.Storages.IsDirectory(storageOptions))
        {
            var directory = await _context.Storages.OpenDirectoryAsync(storageOptions["filename"]!, cancellationToken).ConfigureAwait(false);
            return await OpenBundleAsync(directory, options, format, request, cancellationToken).ConfigureAwait(false);
        }

        Storage storage;
        var isOverImage = IsOverImage(storageOptions);
        if (isOverImage)
        {
            // What the guest wrote decides nothing.
            format ??= "raw";
            storage = await OpenFilterAsync(storageOptions, request, above, cancellationToken).ConfigureAwait(false);
        }
        else
        {
            storage = await _context.Storages.OpenAsync(
                storageOptions, new StorageOpenMode(_context.ForceShare, request.NamedByImage, request.Writable || _context.ForRepair), cancellationToken).ConfigureAwait(false);
        }

        try
        {
            RefuseLoop(storage, above);
            var head = isOverImage ? default : await ReadHeadAsync(storage, cancellationToken).ConfigureAwait(false);
            if (format is null || _context.Formats.Bundles.Any(b => b.Name == format))
            {
                var bundle = DescriptorOf(storage, head.Span);
                if (bundle is not null || format is not null)
                {
                    await storage.DisposeAsync().ConfigureAwait(false);
                    var path = storage.BaseDirectory ?? throw new BlockException(
                        BlockErrorKind.WrongFormat, $"{storage.Name}: a bundle must be a local directory");
                    var directory = await _context.Storages.OpenDirectoryAsync(path.Length == 0 ? "." : path, cancellationToken).ConfigureAwait(false);
                    return await OpenBundleAsync(directory, options, bundle?.Name ?? format, request, cancellationToken).ConfigureAwait(false);
                }
            }

            var chosen = format is null ? _context.Formats.Probe(head.Span) : _context.Formats.Get(format);
            var guard = format is null && request.Writable && chosen.Name == "raw" ? new HeadGuard(_context.Formats, storage) : null;
            if (guard is not null)
            {
                _context.Warn($"{storage.Name}: nobody has said what format it has, and it was taken for raw: writes that would make it look like another one are refused (-f raw allows them)");
            }

            return await OpenImageAsync(chosen, storage, options, request, above, guard, cancellationToken).ConfigureAwait(false);
        }
        catch
        {
            await storage.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    // A filter whose child is an image: "image.driver" is a format.
    private bool IsOverImage(NodeOptions options) =>
        options.Driver is { } driver && _context.Storages.IsStorageDriver(driver) && options.HasChild("image") && options.Child("image") is var image
        && (image.HasChild("file") || (image.Driver is { } below && _context.Formats.Knows(below)));

    private async ValueTask<Storage> OpenFilterAsync(NodeOptions options, OpenRequest request, List<Opened> above, CancellationToken cancellationToken)
    {
        var below = new OpenRequest { Options = options.Child("image"), Writable = request.Writable, NamedByImage = request.NamedByImage };
        var disk = new NodeStorage(await OpenAsync(below, above, cancellationToken).ConfigureAwait(false));
        try
        {
            return _context.Storages.OpenFilter(options, disk);
        }
        catch
        {
            await disk.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    private async ValueTask<BlockNode> OpenImageAsync(
        ImageFormat format, Storage storage, NodeOptions options, OpenRequest request, List<Opened> above, HeadGuard? guard, CancellationToken cancellationToken)
    {
        var writable = request.Writable || _context.ForRepair;
        if (request.Writable && (_context.MetadataOnly || request.Snapshot is not null))
        {
            throw new BlockException(BlockErrorKind.ReadOnly, $"{storage.Name}: a snapshot can only be read");
        }

        if (!_context.ForceShare)
        {
            if (writable)
            {
                storage.LockForWriting();
            }
            else
            {
                storage.LockForReading(format.AllowsWriters);
            }
        }

        var driver = await format.OpenAsync(storage, options, _context, cancellationToken).ConfigureAwait(false);
        ImageDriver? whole = null;
        BlockNode? backing = null;
        try
        {
            if (request.Snapshot is { } selector)
            {
                whole = driver;
                driver = await whole.OpenSnapshotAsync(selector, cancellationToken).ConfigureAwait(false);
            }

            if ((!_context.MetadataOnly || _context.BackingChain) && !request.WithoutBacking && BackingRequest(driver, options) is { } below)
            {
                List<Opened> chain = [.. above, new(storage.Name, storage.Identity)];
                if (chain.Count >= _context.Limits.MaxChainDepth)
                {
                    throw new BlockException(
                        BlockErrorKind.LimitExceeded,
                        $"{storage.Name}: its backing file would be image {chain.Count + 1} of the chain, the limit is {_context.Limits.MaxChainDepth}");
                }

                below = below with { Writable = request.WritableBacking == 1, WritableBacking = Math.Max(0, request.WritableBacking - 1) };
                if (below is { Writable: true, NamedByImage: true, Format: null })
                {
                    // A guest can make a raw disk look like anything, so nothing is written on the strength of a look.
                    throw new BlockException(
                        BlockErrorKind.InvalidRequest,
                        $"{storage.Name}: does not say what format its backing file has, and without that it is not written to ('rebase -u -b FILE -F FMT' says it)");
                }

                backing = await OpenBackingAsync(below, storage, chain, cancellationToken).ConfigureAwait(false);
            }

            if (request.Writable && driver.Writer is null)
            {
                throw new BlockException(BlockErrorKind.ReadOnly, $"{storage.Name}: {driver.FormatName} images cannot be written to");
            }

            return new ImageNode(driver, backing, whole) { HeadGuard = guard };
        }
        catch
        {
            if (backing is not null)
            {
                await backing.DisposeAsync().ConfigureAwait(false);
            }

            await driver.DisposeAsync().ConfigureAwait(false);
            if (whole is not null && !ReferenceEquals(whole, driver))
            {
                await whole.DisposeAsync().ConfigureAwait(false);
            }

            throw;
        }
    }

    private async ValueTask<BlockNode> OpenBackingAsync(
        OpenRequest below, Storage referrer, List<Opened> chain, CancellationToken cancellationToken)
    {
        try
        {
            return await OpenAsync(below, chain, cancellationToken).ConfigureAwait(false);
        }
        catch (BlockException e) when (e is not ImageFormatException && chain.Count == 1 && e.Kind != BlockErrorKind.NotAllowed)
        {
            throw new BlockException(e.Kind, $"{referrer.Name}: Could not open backing file: {e.Message}", e);
        }
    }

    private OpenRequest? BackingRequest(ImageDriver driver, NodeOptions options)
    {
        if (options.HasChild("backing"))
        {
            return new OpenRequest { Options = options.Child("backing") };
        }

        if (options.Has("backing"))
        {
            return options["backing"] is null or ""
                ? null
                : throw new BlockException(
                    BlockErrorKind.InvalidRequest, $"{driver.Storage.Name}: option 'backing' names a node; only backing.* options or null are understood");
        }

        return driver.Backing is { } reference
            ? new OpenRequest { Options = _context.Gate.Resolve(reference), Format = reference.Format, NamedByImage = true }
            : null;
    }

    private async ValueTask<BlockNode> OpenBundleAsync(
        StorageDirectory directory, NodeOptions options, string? format, OpenRequest request, CancellationToken cancellationToken)
    {
        var bundle = format is null
            ? _context.Formats.Bundles.FirstOrDefault(b => b.Recognises(directory))
            : _context.Formats.Bundles.FirstOrDefault(b => b.Name == format);
        if (bundle is null)
        {
            throw new BlockException(
                BlockErrorKind.WrongFormat,
                format is null ? $"{directory.Name}: is a directory that holds no disk bundle" : $"{directory.Name}: is a directory, not a {format} image");
        }

        if (request.Snapshot is { } selector)
        {
            options["snapshot"] = selector.IdOrName ?? selector.Id ?? selector.Name;
        }

        return await bundle.OpenAsync(directory, options, request.Writable, _context, cancellationToken).ConfigureAwait(false);
    }

    // An image's options hold its storage under "file."; a storage's options are the storage, and its format is probed or declared.
    private (NodeOptions Image, NodeOptions Storage, string? Format) Interpret(OpenRequest request)
    {
        var options = request.Options;
        var driver = options.Driver;
        if (driver is not null && !_context.Storages.IsStorageDriver(driver) && !_context.Formats.Knows(driver))
        {
            throw new BlockException(BlockErrorKind.WrongFormat, $"Unknown driver '{SafeText.Clean(driver, 64)}'");
        }

        if (options.HasChild("file"))
        {
            if (driver is not null && _context.Storages.IsStorageDriver(driver))
            {
                throw new BlockException(BlockErrorKind.InvalidRequest, $"driver '{driver}' takes no 'file' options");
            }

            var file = options.Child("file");
            if (file.HasChild("file"))
            {
                throw new BlockException(BlockErrorKind.Unsupported, "an image inside an image ('file.file') is not supported");
            }

            // driver=raw,file.driver=qcow2 would be an image in an image as well.
            return (options, file, request.Format ?? driver);
        }

        if (driver is not null && !_context.Storages.IsStorageDriver(driver))
        {
            if (options["filename"] is null)
            {
                throw new BlockException(BlockErrorKind.InvalidRequest, $"driver '{driver}' needs options for its storage: file.filename or file.driver");
            }

            return (options, NodeOptions.ForFile(options["filename"]!), request.Format ?? driver);
        }

        return (new NodeOptions(), options, request.Format);
    }

    private BundleFormat? DescriptorOf(Storage storage, ReadOnlySpan<byte> head)
    {
        var name = Path.GetFileName(storage.Name);
        foreach (var bundle in _context.Formats.Bundles)
        {
            if (bundle.IsDescriptor(name, head))
            {
                return bundle;
            }
        }

        return null;
    }

    private static void RefuseLoop(Storage storage, List<Opened> above)
    {
        if (storage.Identity is { } identity && above.Exists(opened => opened.Identity == identity))
        {
            throw new BlockException(
                BlockErrorKind.CorruptImage, $"{storage.Name}: the backing chain of {above[0].Name} comes back to this file and has no end");
        }
    }

    private static async ValueTask<ReadOnlyMemory<byte>> ReadHeadAsync(Storage storage, CancellationToken cancellationToken)
    {
        var head = new byte[FormatRegistry.ProbeBytes];
        var read = await storage.ReadAsync(default, head, cancellationToken).ConfigureAwait(false);
        return head.AsMemory(0, read);
    }

    private readonly record struct Opened(string Name, StorageIdentity? Identity);
}
