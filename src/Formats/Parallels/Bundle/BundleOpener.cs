using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Parallels.Bundle.Editing;

namespace Platter.Formats.Parallels.Bundle;

/// <summary>Builds the graph of a bundle: descriptor, snapshot, one chain of images for each storage, perhaps a parent bundle below.</summary>
/// <remarks>Only the images that the chosen snapshot stands on are opened, each of them once, and only those of the current state for writing. When anything fails, all are closed again.</remarks>
internal sealed class BundleOpener
{
    private readonly OpenContext _context;
    private readonly BundleFiles _files;
    private readonly DiskDescriptor _descriptor;
    private readonly SnapshotTree _tree;
    private readonly bool _writable;
    private readonly List<BundleSegment> _segments = [];
    private readonly HashSet<StorageIdentity> _identities = [];
    private readonly HashSet<string> _openedNames = new(StringComparer.Ordinal);

    private BundleOpener(OpenContext context, BundleFiles files, DiskDescriptor descriptor, SnapshotTree tree, bool writable) =>
        (_context, _files, _descriptor, _tree, _writable) = (context, files, descriptor, tree, writable);

    /// <summary>Opens a disk.</summary>
    /// <param name="directory">A bundle, or a directory with bundles in it.</param>
    /// <param name="disk">Which bundle, when there are several; or null.</param>
    /// <param name="snapshot">GUID or name, or null for the current state.</param>
    /// <param name="writable">For writing too: into the current state.</param>
    /// <param name="context">Gate, caches, limits.</param>
    /// <param name="cancellationToken">Stops reading metadata.</param>
    public static ValueTask<BundleNode> OpenAsync(
        StorageDirectory directory, string? disk, string? snapshot, bool writable, OpenContext context, CancellationToken cancellationToken) =>
        writable && (snapshot is not null || context.MetadataOnly)
            ? throw new BlockException(BlockErrorKind.ReadOnly, $"{directory.Name}: a snapshot can only be read")
            : OpenAsync(directory, disk, snapshot, writable, context, layersAbove: 0, cancellationToken);

    private static async ValueTask<BundleNode> OpenAsync(
        StorageDirectory directory, string? disk, string? snapshot, bool writable, OpenContext context, int layersAbove, CancellationToken cancellationToken)
    {
        var location = await BundleLocation.FindAsync(directory, disk, cancellationToken).ConfigureAwait(false);
        var state = await LoadAsync(location, snapshot, writable, context, layersAbove, cancellationToken).ConfigureAwait(false);
        return new BundleNode(location, context, state, writable);
    }

    /// <summary>Opens the current state of a bundle whose place is known, for writing.</summary>
    public static ValueTask<BundleState> ReopenAsync(BundleLocation location, OpenContext context, CancellationToken cancellationToken) =>
        LoadAsync(location, null, writable: true, context, layersAbove: 0, cancellationToken);

    private static async ValueTask<BundleState> LoadAsync(
        BundleLocation location, string? snapshot, bool writable, OpenContext context, int layersAbove, CancellationToken cancellationToken)
    {
        var files = new BundleFiles(location.Disk, context);
        if (writable)
        {
            await BundleJournal.RecoverAsync(location, context, cancellationToken).ConfigureAwait(false);
        }

        var descriptor = await files.ReadDescriptorAsync(cancellationToken).ConfigureAwait(false);
        var tree = SnapshotTree.Build(descriptor);

        // A parent bundle is asked for by GUID.
        var names = layersAbove > 0 ? SnapshotNames.None : await SnapshotNames.ReadAsync(location, context, cancellationToken).ConfigureAwait(false);
        var shot = snapshot is null ? tree.Top() : Choose(snapshot, tree, names, location.Disk.Name);
        var opener = new BundleOpener(context, files, descriptor, tree, writable);
        if (context.MetadataOnly)
        {
            // For info and check, which look into every image on their own: one that is missing or broken must not hide the others.
            return new(descriptor, tree, names, shot, []);
        }

        BlockNode? below = null;
        try
        {
            var chain = tree.ChainOf(shot);
            opener.RefuseDepth(layersAbove + chain.Count);
            opener.RefuseUnwritable(shot);
            below = await opener.OpenParentAsync(layersAbove + chain.Count, cancellationToken).ConfigureAwait(false);
            await opener.OpenSegmentsAsync(chain, below, cancellationToken).ConfigureAwait(false);
            if (writable)
            {
                await files.RefuseChangedAsync(descriptor, cancellationToken).ConfigureAwait(false);
            }

            return new(descriptor, tree, names, shot, opener._segments);
        }
        catch
        {
            foreach (var segment in opener._segments)
            {
                await segment.Node.DisposeAsync().ConfigureAwait(false);
            }

            if (below is not null)
            {
                // Harmless when a segment owned it already.
                await below.DisposeAsync().ConfigureAwait(false);
            }

            throw;
        }
    }

    // What contradicts itself may be read, but nobody knows which side a write should believe.
    private void RefuseUnwritable(DescriptorShot top)
    {
        if (!_writable)
        {
            return;
        }

        if (_descriptor.Storages[^1].EndSector != _descriptor.DiskSizeSectors)
        {
            throw NotWritable($"{_descriptor.Storages[^1].Path} ends at sector {_descriptor.Storages[^1].EndSector}, Disk_size is {_descriptor.DiskSizeSectors}");
        }

        var files = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (var image in _descriptor.Storages.SelectMany(storage => storage.Images.Values))
        {
            // A write to one would change the other.
            if (_files.NameInside(image) is { } file && !files.TryAdd(file, image.Path))
            {
                throw NotWritable($"{image.Path} and {files[file]} name one file, '{SafeText.Clean(file, 256)}'");
            }
        }

        if (_tree.Shots.FirstOrDefault(s => s.ParentId == top.Id) is { } child)
        {
            throw NotWritable($"the snapshot {child.Id:B} was made on the current state, and would change with it");
        }
    }

    private BlockException NotWritable(string why) =>
        new(BlockErrorKind.ReadOnly, $"{_descriptor.File}: the disk can only be read: {why}");

    /// <summary>Finds a snapshot by its GUID or its name.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.NotFound"/>; <see cref="BlockErrorKind.InvalidRequest"/>: several have the name.</exception>
    public static DescriptorShot Choose(
        string snapshot, SnapshotTree tree, IReadOnlyDictionary<Guid, SnapshotNames.Entry> names, string bundle)
    {
        if (XmlFile.TryGuid(snapshot.Trim(), out var id) && tree.Find(id) is { IsMerging: false } exact)
        {
            return exact;
        }

        var named = tree.Shots.Where(s => !s.IsMerging && names.TryGetValue(s.Id, out var entry) && entry.Name == snapshot).Take(3).ToArray();
        return named.Length switch
        {
            1 => named[0],
            0 => throw new BlockException(BlockErrorKind.NotFound, $"{bundle}: has no snapshot '{SafeText.Clean(snapshot, 256)}'"),
            _ => throw new BlockException(
                BlockErrorKind.InvalidRequest,
                $"{bundle}: several snapshots are named '{SafeText.Clean(snapshot, 256)}', choose by GUID: {string.Join(", ", named.Select(s => $"{s.Id:B}"))}"),
        };
    }

    private void RefuseDepth(int layers)
    {
        if (layers > _context.Limits.MaxBundleLayers)
        {
            throw new BlockException(
                BlockErrorKind.LimitExceeded, $"{_descriptor.File}: the snapshot stands on a chain of {layers} images, the limit is {_context.Limits.MaxBundleLayers}");
        }
    }

    /// <summary>What lies below the root of a bundle: a snapshot of another bundle, or nothing.</summary>
    /// <param name="context">Gate, caches, limits.</param>
    /// <param name="files">The bundle's files.</param>
    /// <param name="descriptor">Its descriptor.</param>
    /// <param name="tree">Its snapshots.</param>
    /// <param name="cancellationToken">Stops reading metadata.</param>
    /// <param name="layersAbove">Images that stand on it.</param>
    public static ValueTask<BlockNode?> OpenVolumeAsync(
        OpenContext context, BundleFiles files, DiskDescriptor descriptor, SnapshotTree tree, CancellationToken cancellationToken, int layersAbove = 1) =>
        new BundleOpener(context, files, descriptor, tree, writable: false).OpenParentAsync(layersAbove, cancellationToken);

    // Linked clones of ploop: below our root lies a snapshot of another bundle.
    private async ValueTask<BlockNode?> OpenParentAsync(int layersAbove, CancellationToken cancellationToken)
    {
        if (_descriptor.Volume is not { } volume)
        {
            return null;
        }

        if (_descriptor.Storages.Count > 1)
        {
            throw ImageFormatException.InDescriptor(
                _descriptor.File,
                volume.Path,
                volume.Line,
                SafeText.Clean(volume.Parent, 256),
                "a linked clone of a split disk is not supported",
                BlockErrorKind.Unsupported);
        }

        // Every level counts as a layer at least, so that bundles that name each other end at the limit.
        RefuseDepth(layersAbove + 1);
        var name = volume.Parent.Replace('\\', '/');
        if (name.EndsWith("/" + BundleFiles.DescriptorName, StringComparison.Ordinal))
        {
            name = name[..^(BundleFiles.DescriptorName.Length + 1)];
        }

        var directory = await BundleFiles.OpenParentAsync(
            _context, _files.Directory, _descriptor, name, volume.Path, volume.Line, cancellationToken).ConfigureAwait(false);
        return await OpenAsync(directory, null, $"{volume.SnapshotId:B}", writable: false, _context, layersAbove, cancellationToken).ConfigureAwait(false);
    }

    private async ValueTask OpenSegmentsAsync(List<DescriptorShot> chain, BlockNode? below, CancellationToken cancellationToken)
    {
        var storages = _descriptor.Storages;
        if (storages[^1].EndSector != _descriptor.DiskSizeSectors)
        {
            _context.Warn(
                $"{_descriptor.File}: {storages[^1].Path} ends at sector {storages[^1].EndSector}, Disk_size is {_descriptor.DiskSizeSectors}, which counts");
        }

        for (var i = 0; i < storages.Count && storages[i].StartSector < _descriptor.DiskSizeSectors; i++)
        {
            // The last storage goes to the end of the disk, whatever its End says: its images know what they have.
            var end = i == storages.Count - 1 ? _descriptor.DiskSizeSectors : Math.Min(storages[i].EndSector, _descriptor.DiskSizeSectors);
            _segments.Add(await OpenSegmentAsync(storages[i], end, chain, below, cancellationToken).ConfigureAwait(false));
        }
    }

    private async ValueTask<BundleSegment> OpenSegmentAsync(
        DescriptorStorage storage, long endSector, List<DescriptorShot> chain, BlockNode? below, CancellationToken cancellationToken)
    {
        List<BundleLayer> layers = [];
        try
        {
            foreach (var shot in chain)
            {
                var writable = _writable && layers.Count == 0;
                layers.Add(await OpenLayerAsync(storage, shot, writable, cancellationToken).ConfigureAwait(false));
            }

            WarnOfSize(storage, endSector, layers[0]);
            if (_writable)
            {
                RefuseUnclean(layers);
                await FillUpAsync(layers[0], (endSector - storage.StartSector) * Sizes.SectorBytes, cancellationToken).ConfigureAwait(false);
            }
        }
        catch
        {
            foreach (var layer in layers)
            {
                await layer.Driver.DisposeAsync().ConfigureAwait(false);
            }

            throw;
        }

        return new(
            storage, storage.StartSector * Sizes.SectorBytes, endSector * Sizes.SectorBytes, layers, StackUp(layers, below));
    }

    private static ImageNode StackUp(List<BundleLayer> layers, BlockNode? below)
    {
        for (var i = layers.Count - 1; i >= 0; i--)
        {
            below = new ImageNode(layers[i].Driver, below);
        }

        return (ImageNode)below!;
    }

    // An image that was never closed may have changed under those on top of it. What a merge of ours left that way is known to be right.
    private void RefuseUnclean(List<BundleLayer> layers)
    {
        foreach (var layer in layers.Skip(1))
        {
            if (layer.Driver is ParallelsImage { IsDirty: true } && !layer.Shot.IsMerging && _tree.Find(layer.Shot.ParentId) is not { IsMerging: true })
            {
                throw NotWritable($"{layer.Driver.Storage.Name} is below the current state and was not closed correctly; 'check -r all' on it mends it");
            }
        }
    }

    // A plain image may be shorter than its storage, until there is something to write behind its end.
    private static async ValueTask FillUpAsync(BundleLayer top, long bytes, CancellationToken cancellationToken)
    {
        if (top.Driver is { Writer: { } writer } and not ParallelsImage && top.Driver.VirtualSize < bytes)
        {
            await writer.ResizeAsync(bytes, 0, cancellationToken).ConfigureAwait(false);
        }
    }

    private async ValueTask<BundleLayer> OpenLayerAsync(
        DescriptorStorage storage, DescriptorShot shot, bool writable, CancellationToken cancellationToken)
    {
        if (!storage.Images.TryGetValue(shot.Id, out var image))
        {
            throw ImageFormatException.InDescriptor(
                _descriptor.File, storage.Path, storage.Line, $"{shot.Id:B}", $"has no Image for this GUID of {shot.Path}");
        }

        if (shot.ParentId != Guid.Empty && image.Type == DescriptorImageType.Plain)
        {
            throw ImageFormatException.InDescriptor(
                _descriptor.File, image.Path + "/Type", image.Line, "Plain", $"only a root can be plain, and {image.Id:B} has a parent");
        }

        var driver = await _files.OpenAsync(_descriptor, image, writable, cancellationToken, RefuseTwice).ConfigureAwait(false);
        try
        {
            if (driver is ParallelsImage && storage.BlockSizeSectors is { } blockSize && blockSize != driver.ClusterSize / Sizes.SectorBytes)
            {
                throw ImageFormatException.InDescriptor(
                    _descriptor.File,
                    storage.Path + "/Blocksize",
                    storage.Line,
                    $"{blockSize}",
                    $"the clusters of {driver.Storage.Name} have {driver.ClusterSize / Sizes.SectorBytes} sectors");
            }

            return new(shot, image, driver);
        }
        catch
        {
            await driver.DisposeAsync().ConfigureAwait(false);
            throw;
        }

        // Before it is locked: otherwise our own lock would look like somebody else's.
        void RefuseTwice(Storage file)
        {
            if (!_openedNames.Add(file.Name) || (file.Identity is { } identity && !_identities.Add(identity)))
            {
                throw ImageFormatException.InDescriptor(
                    _descriptor.File, image.Path + "/File", image.Line, SafeText.Clean(image.File, 256), "the same file is another image of this disk already");
            }
        }
    }

    // A disk may have been resized between snapshots, so only the opened one must fit; some writers round the image up to whole clusters,
    // and a plain image may be shorter.
    private void WarnOfSize(DescriptorStorage storage, long endSector, BundleLayer top)
    {
        if (top.Driver is ParallelsImage image
            && BundleCheck.SizeProblem(endSector - storage.StartSector, image.VirtualSize, image.ClusterSize) is { } problem)
        {
            if (_writable)
            {
                throw NotWritable($"{image.Storage.Name}: {problem}");
            }

            if (top.Shot.Id != _tree.TopId && image.VirtualSize < (endSector - storage.StartSector) * Sizes.SectorBytes)
            {
                // The disk has grown since; what the snapshot did not have reads as zeros.
                return;
            }

            _context.Warn($"{image.Storage.Name}: {problem}; Disk_size ({_descriptor.DiskSizeSectors}) counts");
        }
    }
}
