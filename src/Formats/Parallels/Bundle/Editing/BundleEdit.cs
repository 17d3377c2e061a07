using Platter.Core.Bitmaps;
using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Parallels.Create;

namespace Platter.Formats.Parallels.Bundle.Editing;

/// <summary>One change of a bundle's files. The caller has none of the images open that it writes to.</summary>
/// <remarks>
/// The order that every power cut survives: the journal names what may be left behind; new images are whole and durable, and so are their names; the descriptor is written beside
/// the old one, flushed, and takes its place, which is the moment when everything has happened; its copy follows; what no descriptor names is removed, and last the
/// journal. The images of the current state stay locked, so that two changes cannot meet.
/// </remarks>
internal sealed class BundleEdit : IAsyncDisposable
{
    private readonly OpenContext _context;
    private readonly List<Storage> _guards = [];
    private readonly List<string> _made = [];
    private readonly List<string> _obsolete = [];
    private BundleJournal? _journal;
    private bool _dropsJournal;

    private BundleEdit(BundleLocation location, OpenContext context, BundleFiles files, DiskDescriptor descriptor, SnapshotTree tree)
    {
        (Location, _context, Files, Descriptor, Tree) = (location, context, files, descriptor, tree);
        Editor = DescriptorEditor.Parse(descriptor.Bytes.Span, descriptor.File);
        Editor.CompleteShots(tree);
    }

    /// <summary>Where the bundle is.</summary>
    public BundleLocation Location { get; }

    /// <summary>What openings share.</summary>
    public OpenContext Context => _context;

    /// <summary>Its files.</summary>
    public BundleFiles Files { get; }

    /// <summary>The descriptor as it is on the disk.</summary>
    public DiskDescriptor Descriptor { get; private set; }

    /// <summary>Its snapshots.</summary>
    public SnapshotTree Tree { get; private set; }

    /// <summary>The descriptor as it shall be.</summary>
    public DescriptorEditor Editor { get; private set; }

    /// <summary>Begins a change, after whatever an earlier one left.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.Locked"/>: somebody uses the current state; others as met.</exception>
    public static async ValueTask<BundleEdit> OpenAsync(BundleLocation location, OpenContext context, CancellationToken cancellationToken)
    {
        await BundleJournal.RecoverAsync(location, context, cancellationToken).ConfigureAwait(false);
        return await OpenCleanAsync(location, context, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Begins a change where nothing is left, or to clean up what is.</summary>
    public static async ValueTask<BundleEdit> OpenCleanAsync(BundleLocation location, OpenContext context, CancellationToken cancellationToken)
    {
        var files = new BundleFiles(location.Disk, context).Quiet();
        var descriptor = await files.ReadDescriptorAsync(cancellationToken).ConfigureAwait(false);
        var edit = new BundleEdit(location, context, files, descriptor, SnapshotTree.Build(descriptor));
        try
        {
            await edit.GuardAsync(edit.Tree.Top(), cancellationToken).ConfigureAwait(false);
            await files.RefuseChangedAsync(descriptor, cancellationToken).ConfigureAwait(false);
            return edit;
        }
        catch
        {
            await edit.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    /// <summary>Locks the images of a snapshot against everybody.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.Locked"/>.</exception>
    public async ValueTask GuardAsync(DescriptorShot shot, CancellationToken cancellationToken)
    {
        foreach (var storage in Descriptor.Storages)
        {
            if (storage.Images.TryGetValue(shot.Id, out var image) && Files.NameInside(image) is not null)
            {
                var guard = await Files.OpenForWritingAsync(Descriptor, image, cancellationToken).ConfigureAwait(false);
                _guards.Add(guard);
                Files.Lock(guard);
            }
        }
    }

    /// <summary>Gives the locks back, for images that are opened now and locked by that.</summary>
    public async ValueTask ReleaseGuardsAsync()
    {
        foreach (var guard in _guards)
        {
            await guard.DisposeAsync().ConfigureAwait(false);
        }

        _guards.Clear();
    }

    /// <summary>The image of a snapshot in a storage.</summary>
    /// <exception cref="BlockException">It has none.</exception>
    public DescriptorImage ImageOf(DescriptorStorage storage, Guid id) => storage.Images.TryGetValue(id, out var image)
        ? image
        : throw ImageFormatException.InDescriptor(Descriptor.File, storage.Path, storage.Line, $"{id:B}", "has no Image for this GUID");

    /// <summary>Opens what a snapshot is in a storage, for reading but for the images of some snapshots.</summary>
    /// <param name="storage">Which.</param>
    /// <param name="shot">Which.</param>
    /// <param name="writable">The snapshot whose image is opened for writing too; empty for none.</param>
    /// <param name="cancellationToken">Stops reading metadata.</param>
    public async ValueTask<ImageNode> OpenChainAsync(DescriptorStorage storage, DescriptorShot shot, Guid writable, CancellationToken cancellationToken)
    {
        var below = await BundleOpener.OpenVolumeAsync(_context, Files, Descriptor, Tree, cancellationToken).ConfigureAwait(false);
        try
        {
            foreach (var layer in Tree.ChainOf(shot).AsEnumerable().Reverse())
            {
                var driver = await Files.OpenAsync(
                    Descriptor, ImageOf(storage, layer.Id), layer.Id == writable, cancellationToken).ConfigureAwait(false);
                below = new ImageNode(driver, below);
            }

            return (ImageNode)below!;
        }
        catch
        {
            if (below is not null)
            {
                await below.DisposeAsync().ConfigureAwait(false);
            }

            throw;
        }
    }

    /// <summary>Says that the file of an image is to go when the descriptor does not name it any more. Files of other bundles stay.</summary>
    public void Forget(DescriptorImage image)
    {
        if (Files.NameInside(image) is { } name && !name.Contains('/', StringComparison.Ordinal))
        {
            _obsolete.Add(name);
        }
    }

    /// <summary>Makes the journal durable; from then on images may be made and the descriptor changed.</summary>
    /// <param name="newFiles">Names of the images that are going to be made.</param>
    /// <param name="sizeSectors">What size the disk is to have, if that changes.</param>
    /// <param name="cancellationToken">Stops before it is written.</param>
    public async ValueTask BeginAsync(IEnumerable<string> newFiles, long? sizeSectors, CancellationToken cancellationToken)
    {
        var journal = _journal = new BundleJournal { Files = [.. newFiles, .. _obsolete], SizeSectors = sizeSectors };
        await journal.WriteAsync(Location.Disk, cancellationToken).ConfigureAwait(false);
        _dropsJournal = sizeSectors is null;
    }

    /// <summary>Makes sure, once the current state is locked again, that nobody changed the bundle meanwhile or cleaned up after this change, taking it for one that was interrupted.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.Locked"/>.</exception>
    public async ValueTask RefuseTakenOverAsync(CancellationToken cancellationToken)
    {
        await Files.RefuseChangedAsync(Descriptor, cancellationToken).ConfigureAwait(false);
        if (!Location.Disk.FileExists(BundleJournal.FileName)
            || await BundleJournal.ReadAsync(Location.Disk, cancellationToken).ConfigureAwait(false) is var found
            && (found.SizeSectors != _journal?.SizeSectors || !found.Files.SequenceEqual(_journal?.Files ?? [])))
        {
            throw new BlockException(BlockErrorKind.Locked, $"{Location.Disk.Name}: somebody else opened the disk just now; try again");
        }
    }

    /// <summary>Names for the images of a new layer, one for each storage.</summary>
    public IReadOnlyList<string> NewNames()
    {
        var id = Guid.NewGuid();
        var prefix = BundleNaming.PrefixOf(Location.Disk, Descriptor, Tree.TopId);
        return [.. Descriptor.Storages.Select((_, i) => BundleNaming.ImageFile(prefix, i, id))];
    }

    /// <summary>Makes an empty image; durable with its name after <see cref="SwitchAsync"/> at the latest, before the descriptor.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="bytes">Size of its disk.</param>
    /// <param name="clusterSectors">Sectors of a cluster.</param>
    /// <param name="version">Its layout.</param>
    /// <param name="cancellationToken">Stops.</param>
    public async ValueTask MakeImageAsync(string name, long bytes, uint clusterSectors, int version, CancellationToken cancellationToken)
    {
        var storage = await Location.Disk.CreateFileAsync(name, like: Files.DescriptorFile(), cancellationToken).ConfigureAwait(false);
        _made.Add(name);
        await using (storage.ConfigureAwait(false))
        {
            await ParallelsCreator.MakeAsync(storage, bytes, clusterSectors, version, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>Makes an empty image of a kind; an expandable one looks like those of a snapshot in a storage.</summary>
    public async ValueTask MakeImageAsync(
        string name, DescriptorImageType type, long bytes, DescriptorStorage like, DescriptorShot shot, CancellationToken cancellationToken)
    {
        if (type == DescriptorImageType.Compressed)
        {
            var (cluster, version) = await LookOfAsync(like, shot, cancellationToken).ConfigureAwait(false);
            await MakeImageAsync(name, bytes, cluster, version, cancellationToken).ConfigureAwait(false);
            return;
        }

        var storage = await Location.Disk.CreateFileAsync(name, like: Files.DescriptorFile(), cancellationToken).ConfigureAwait(false);
        _made.Add(name);
        await using (storage.ConfigureAwait(false))
        {
            await storage.SetLengthAsync(bytes, cancellationToken).ConfigureAwait(false);
            await storage.FlushAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>Makes an empty image for every storage, like those of a snapshot, to lie on top of them.</summary>
    public async ValueTask MakeLayerAsync(IReadOnlyList<string> names, DescriptorShot like, CancellationToken cancellationToken)
    {
        for (var i = 0; i < names.Count; i++)
        {
            var storage = Descriptor.Storages[i];
            var (cluster, version) = await LookOfAsync(storage, like, cancellationToken).ConfigureAwait(false);
            var end = i == names.Count - 1 ? Descriptor.DiskSizeSectors : storage.EndSector;
            await MakeImageAsync(names[i], (end - storage.StartSector) * Sizes.SectorBytes, cluster, version, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>Copies the dirty bitmaps of a state's images into new ones that lie on top: whoever makes incremental backups goes on with the current state.</summary>
    /// <param name="names">The new images, from <see cref="MakeLayerAsync"/>.</param>
    /// <param name="from">The state.</param>
    /// <param name="cancellationToken">Stops.</param>
    public async ValueTask CopyBitmapsAsync(IReadOnlyList<string> names, DescriptorShot from, CancellationToken cancellationToken)
    {
        for (var i = 0; i < names.Count; i++)
        {
            var image = ImageOf(Descriptor.Storages[i], from.Id);
            var source = await Files.Unlocked().OpenAsync(Descriptor, image, cancellationToken).ConfigureAwait(false);
            await using var closing = source.ConfigureAwait(false);
            if (source.Bitmaps.Count == 0)
            {
                continue;
            }

            var driver = await Files.OpenAsync(
                Descriptor, image with { File = names[i], Type = DescriptorImageType.Compressed }, writable: true, cancellationToken).ConfigureAwait(false);
            var target = new ImageNode(driver, backing: null);
            await using var closingTarget = target.ConfigureAwait(false);
            if (target.VirtualSize != source.VirtualSize)
            {
                // Their bits would not mean the same.
                WarnOfLost(source.Bitmaps, "the new image has another size");
                continue;
            }

            await target.AddBitmapsAsync(
                [.. source.Bitmaps.Select(b => new NewBitmap(b.Name, b.Granularity, b.Enabled, source.ReadBitmapAsync(b.Name, cancellationToken)))],
                cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>Tells of the bitmaps that a state's images have and that go with them.</summary>
    public async ValueTask WarnOfBitmapsAsync(DescriptorShot shot, string why, CancellationToken cancellationToken)
    {
        var lost = new List<BitmapInfo>();
        foreach (var storage in Descriptor.Storages)
        {
            var driver = await Files.Unlocked().OpenAsync(Descriptor, ImageOf(storage, shot.Id), cancellationToken).ConfigureAwait(false);
            await using var closing = driver.ConfigureAwait(false);
            lost.AddRange(driver.Bitmaps.Where(bitmap => lost.All(other => other.Name != bitmap.Name)));
        }

        WarnOfLost(lost, why);
    }

    /// <summary>Tells of bitmaps that are gone.</summary>
    public void WarnOfLost(IReadOnlyCollection<BitmapInfo> bitmaps, string why)
    {
        if (bitmaps.Count > 0)
        {
            _context.Warn(
                $"{Location.Disk.Name}: gone: dirty bitmap{(bitmaps.Count == 1 ? string.Empty : "s")} {string.Join(", ", bitmaps.Take(4).Select(b => SafeText.Clean(b.Name, 64)))}"
                + $"{(bitmaps.Count > 4 ? ", ..." : string.Empty)}: {why}; the next backup must be a full one");
        }
    }

    /// <summary>Lets the change happen: the new descriptor takes the old one's place.</summary>
    public async ValueTask SwitchAsync(CancellationToken cancellationToken)
    {
        var (bytes, descriptor, tree) = Editor.Finish();
        await Location.Disk.SynchroniseAsync(cancellationToken).ConfigureAwait(false);
        cancellationToken.ThrowIfCancellationRequested();

        // From here on only the descriptor on the disk knows whether it has happened, and the journal says what to do then.
        _made.Clear();
        _dropsJournal = false;
        await DurableFiles.ReplaceAsync(Location.Disk, Files.DescriptorFile(), bytes, CancellationToken.None).ConfigureAwait(false);
        (Descriptor, Tree) = (descriptor with { Bytes = bytes }, tree);
        Editor = DescriptorEditor.Parse(bytes, descriptor.File);
        await WriteBackupAsync(CancellationToken.None).ConfigureAwait(false);
    }

    /// <summary>Removes what no descriptor names any more, and the journal.</summary>
    public async ValueTask CleanAsync()
    {
        await ReleaseGuardsAsync().ConfigureAwait(false);
        await RemoveUnnamedAsync(_obsolete, CancellationToken.None).ConfigureAwait(false);
        _obsolete.Clear();
        await BundleJournal.RemoveAsync(Location.Disk, CancellationToken.None).ConfigureAwait(false);
    }

    /// <summary>Brings the descriptor's copy up to it.</summary>
    public ValueTask WriteBackupAsync(CancellationToken cancellationToken) =>
        DurableFiles.ReplaceAsync(Location.Disk, BundleFiles.BackupName, Descriptor.Bytes, cancellationToken);

    /// <summary>Removes those files that no image of the descriptor is in.</summary>
    public async ValueTask RemoveUnnamedAsync(IReadOnlyList<string> names, CancellationToken cancellationToken)
    {
        var needed = Descriptor.Storages.SelectMany(s => s.Images.Values).Select(Files.NameInside).ToHashSet(StringComparer.OrdinalIgnoreCase);
        foreach (var name in names.Where(name => !needed.Contains(name)))
        {
            await Location.Disk.RemoveFileAsync(name, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <inheritdoc/>
    /// <remarks>What was made for a change that has not happened is removed.</remarks>
    public async ValueTask DisposeAsync()
    {
        await ReleaseGuardsAsync().ConfigureAwait(false);
        foreach (var name in _made)
        {
            await DurableFiles.TryRemoveAsync(Location.Disk, name).ConfigureAwait(false);
        }

        if (_dropsJournal)
        {
            await DurableFiles.TryRemoveAsync(Location.Disk, BundleJournal.FileName).ConfigureAwait(false);
        }
    }

    private async ValueTask<(uint ClusterSectors, int Version)> LookOfAsync(DescriptorStorage storage, DescriptorShot shot, CancellationToken cancellationToken)
    {
        foreach (var layer in Tree.ChainOf(shot))
        {
            // The guards are on it; a look at the header needs no lock.
            if (ImageOf(storage, layer.Id) is { Type: DescriptorImageType.Compressed } image)
            {
                var driver = await Files.Unlocked().OpenAsync(Descriptor, image, cancellationToken).ConfigureAwait(false);
                await using (driver.ConfigureAwait(false))
                {
                    var header = ((ParallelsImage)driver).Header;
                    return (header.ClusterSizeSectors, header.IsExtended ? 2 : 1);
                }
            }
        }

        return BundleNaming.DefaultLook(storage);
    }
}
