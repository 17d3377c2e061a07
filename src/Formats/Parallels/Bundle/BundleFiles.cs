using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Formats.Raw;

namespace Platter.Formats.Parallels.Bundle;

/// <summary>Opens the images of a bundle, each inside the bundle's own directory or, for linked clones, inside another bundle that the
/// gate allows and that lists the image itself.</summary>
internal sealed class BundleFiles
{
    /// <summary>Name of the descriptor in every bundle.</summary>
    public const string DescriptorName = "DiskDescriptor.xml";

    /// <summary>Name of the descriptor's copy, which is whole when the descriptor is not.</summary>
    public const string BackupName = DescriptorName + ".Backup";

    /// <summary>What the descriptor of an unfinished copy is called, so that nobody finds it.</summary>
    public const string UnfinishedName = DescriptorName + ".unfinished";

    private static readonly RawFormat s_raw = new();
    private static readonly ParallelsFormat s_parallels = new();

    private readonly OpenContext _context;
    private readonly BundleNames _names;

    /// <summary>The files of a bundle.</summary>
    public BundleFiles(StorageDirectory directory, OpenContext context)
        : this(directory, new BundleNames(directory), context)
    {
    }

    private BundleFiles(StorageDirectory directory, BundleNames names, OpenContext context) =>
        (Directory, _names, _context) = (directory, names, context);

    /// <summary>The bundle.</summary>
    public StorageDirectory Directory { get; }

    /// <summary>Images that one snapshot may stand on.</summary>
    public int MaxLayers => _context.Limits.MaxBundleLayers;

    /// <summary>The same without warnings: whoever opens an image a second time has had them.</summary>
    public BundleFiles Quiet() => Quiet(_context.ForceShare);

    /// <summary>The same without warnings, for a look at many images: at extensions of no more than 1 MiB.</summary>
    public BundleFiles ForLook() => new(Directory, _names, Context(
        _context.ForceShare, _context.MetadataOnly, static _ => { }, _context.Limits with { MaxEagerMetadataBytes = Math.Min(_context.Limits.MaxEagerMetadataBytes, 1 << 20) }));

    /// <summary>The same without warnings and locks: for a look at files that the caller has locked already.</summary>
    public BundleFiles Unlocked() => Quiet(forceShare: true);

    /// <summary>What openings share where a repair changes the bundle as a whole, as every change does.</summary>
    public OpenContext ForChanges(Action<string> warn) => Context(_context.ForceShare, metadataOnly: false, warn);

    private BundleFiles Quiet(bool forceShare) => new(Directory, _names, Context(forceShare, _context.MetadataOnly, static _ => { }));

    private OpenContext Context(bool forceShare, bool metadataOnly, Action<string> warn, OpenLimits? limits = null) => new()
    {
        Formats = _context.Formats,
        Storages = _context.Storages,
        Gate = _context.Gate,
        Codecs = _context.Codecs,
        Cache = _context.Cache,
        Secrets = _context.Secrets,
        DefaultSecretId = _context.DefaultSecretId,
        Limits = limits ?? _context.Limits,
        MetadataOnly = metadataOnly,
        BackingChain = _context.BackingChain,
        AllowUnfinished = _context.AllowUnfinished,
        ForceShare = forceShare,
        Warn = warn,
    };

    /// <summary>Reads and judges the descriptor.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.NotFound"/>: there is none.</exception>
    public async ValueTask<DiskDescriptor> ReadDescriptorAsync(CancellationToken cancellationToken)
    {
        var name = DescriptorFile();
        if (!Directory.FileExists(name))
        {
            if (Directory.FileExists(UnfinishedName))
            {
                throw new BlockException(BlockErrorKind.Unsupported, $"{Directory.Name}: is an unfinished copy: copying into it was interrupted; the same 'platter convert' command replaces it, or (without --snapshots) with --resume goes on with it");
            }

            if (!Directory.FileExists(BackupName))
            {
                throw new BlockException(BlockErrorKind.NotFound, $"{Directory.Name}: has no {DescriptorName}");
            }

            return _context.ForRepair
                ? await ReadDescriptorAsync(BackupName, cancellationToken).ConfigureAwait(false) with { Replaces = "is missing" }
                : throw new BlockException(BlockErrorKind.NotFound, $"{Directory.Name}: {DescriptorName} is missing; its copy {BackupName} is there, and 'check -r all' restores it from that");
        }

        try
        {
            return await ReadDescriptorAsync(name, cancellationToken).ConfigureAwait(false);
        }
        catch (BlockException e) when (
            _context.ForRepair && name == DescriptorName && (e.Kind is BlockErrorKind.CorruptImage or BlockErrorKind.WrongFormat) && Directory.FileExists(BackupName))
        {
            if (await TryReadBackupAsync(cancellationToken).ConfigureAwait(false) is not { } copy)
            {
                throw;
            }

            var problem = e.Message.StartsWith($"{Directory.Name}/{name}: ", StringComparison.Ordinal) ? e.Message[(Directory.Name.Length + name.Length + 3)..] : e.Message;
            return copy with { Replaces = problem };
        }
    }

    /// <summary>Reads and judges the descriptor's copy.</summary>
    public ValueTask<DiskDescriptor> ReadBackupAsync(CancellationToken cancellationToken) => ReadDescriptorAsync(BackupName, cancellationToken);

    private async ValueTask<DiskDescriptor?> TryReadBackupAsync(CancellationToken cancellationToken)
    {
        try
        {
            return await ReadDescriptorAsync(BackupName, cancellationToken).ConfigureAwait(false);
        }
        catch (BlockException)
        {
            // The descriptor's own error is the one to tell.
            return null;
        }
    }

    private async ValueTask<DiskDescriptor> ReadDescriptorAsync(string name, CancellationToken cancellationToken)
    {
        var storage = await Directory.OpenFileAsync(name, cancellationToken).ConfigureAwait(false);
        await using (storage.ConfigureAwait(false))
        {
            var bytes = await XmlFile.ReadAsync(storage, _context.Limits.MaxDescriptorBytes, cancellationToken).ConfigureAwait(false);
            return DescriptorParser.Parse(XmlFile.Load(bytes, storage.Name), storage.Name) with { Bytes = bytes };
        }
    }

    /// <summary>Makes sure that a descriptor that was read is still the one that is there, once the files that it names are locked.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.Locked"/>: somebody changed the bundle meanwhile.</exception>
    public async ValueTask RefuseChangedAsync(DiskDescriptor descriptor, CancellationToken cancellationToken)
    {
        var storage = await Directory.OpenFileAsync(DescriptorFile(), cancellationToken).ConfigureAwait(false);
        await using (storage.ConfigureAwait(false))
        {
            var bytes = await XmlFile.ReadAsync(storage, _context.Limits.MaxDescriptorBytes, cancellationToken).ConfigureAwait(false);
            if (!bytes.Span.SequenceEqual(descriptor.Bytes.Span))
            {
                throw new BlockException(BlockErrorKind.Locked, $"{storage.Name}: was changed by somebody else just now; try again");
            }
        }
    }

    /// <summary>Name of the descriptor: that of an unfinished copy if it is allowed and there is no other.</summary>
    public string DescriptorFile() =>
        _context.AllowUnfinished && !Directory.FileExists(DescriptorName) && Directory.FileExists(UnfinishedName) ? UnfinishedName : DescriptorName;

    /// <summary>The name inside the bundle's directory, or null when the image is elsewhere or nowhere.</summary>
    public string? NameInside(DescriptorImage image) => ImageFileName.Find(_names, image.File).Inside;

    /// <summary>Whether the image belongs to another bundle that this one is a linked clone of.</summary>
    public bool IsInParent(DescriptorImage image) => ParentOf(image) is not null;

    /// <summary>The other bundle that the name of an image leads to, as it spells it, or null.</summary>
    public string? ParentOf(DescriptorImage image) => ImageFileName.Find(_names, image.File).ParentBundle;

    /// <summary>Whether bundles that this one was cloned from are looked into at all.</summary>
    public bool FollowsParents => _context.Gate is not ClosedGate;

    /// <summary>Opens the file of an image with the driver that its type demands.</summary>
    /// <exception cref="BlockException">It is missing, lies where it must not, is locked, or is no such image.</exception>
    public ValueTask<ImageDriver> OpenAsync(DiskDescriptor descriptor, DescriptorImage image, CancellationToken cancellationToken) =>
        OpenAsync(descriptor, image, writable: false, cancellationToken);

    /// <summary>Opens the file of an image for reading, or for writing too; then it has to be in this very bundle.</summary>
    /// <param name="descriptor">Names it.</param>
    /// <param name="image">Which.</param>
    /// <param name="writable">For writing too.</param>
    /// <param name="cancellationToken">Stops reading metadata.</param>
    /// <param name="accept">Asked before the file is locked; throws to refuse it.</param>
    /// <exception cref="BlockException">It is missing, lies where it must not, is locked, is no such image, or cannot be written to.</exception>
    public async ValueTask<ImageDriver> OpenAsync(
        DiskDescriptor descriptor, DescriptorImage image, bool writable, CancellationToken cancellationToken, Action<Storage>? accept = null)
    {
        var storage = writable
            ? await OpenForWritingAsync(descriptor, image, cancellationToken).ConfigureAwait(false)
            : await OpenStorageAsync(descriptor, image, cancellationToken).ConfigureAwait(false);
        try
        {
            accept?.Invoke(storage);
            ImageFormat format = image.Type == DescriptorImageType.Plain ? s_raw : s_parallels;
            if (writable)
            {
                Lock(storage);
            }
            else if (!_context.ForceShare)
            {
                Lock(storage, () => storage.LockForReading(format.AllowsWriters));
            }

            var driver = await format.OpenAsync(storage, new NodeOptions(), _context, cancellationToken).ConfigureAwait(false);
            return !writable || driver.Writer is not null
                ? driver
                : throw new BlockException(BlockErrorKind.ReadOnly, $"{storage.Name}: {driver.FormatName} images cannot be written to");
        }
        catch
        {
            await storage.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    /// <summary>Opens the file of an expandable image for repair: nobody else may use it meanwhile, and it need not be good enough to be read.</summary>
    /// <exception cref="BlockException">It is missing, lies where it must not, is locked, or is no such image.</exception>
    public async ValueTask<ImageDriver> OpenForRepairAsync(DiskDescriptor descriptor, DescriptorImage image, CancellationToken cancellationToken)
    {
        var storage = await OpenForWritingAsync(descriptor, image, cancellationToken).ConfigureAwait(false);
        try
        {
            Lock(storage);
            return await s_parallels.OpenAsync(storage, new NodeOptions(), _context, cancellationToken).ConfigureAwait(false);
        }
        catch
        {
            await storage.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    /// <summary>Locks the file of an image against everybody.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.Locked"/>.</exception>
    public void Lock(Storage storage) => Lock(storage, storage.LockForWriting);

    /// <summary>Opens the file of an image as it is, to be written to; it has to be in this very bundle.</summary>
    public ValueTask<Storage> OpenForWritingAsync(DiskDescriptor descriptor, DescriptorImage image, CancellationToken cancellationToken) =>
        NameInside(image) is { } name
            ? IsOwn(name)
                ? throw ImageFormatException.InDescriptor(
                    descriptor.File, image.Path + "/File", image.Line, SafeText.Clean(image.File, 256), "is a file of the bundle's own, not an image to be written to",
                    BlockErrorKind.NotAllowed)
                : Directory.OpenFileForWritingAsync(name, cancellationToken)
            : throw ImageFormatException.InDescriptor(
                descriptor.File,
                image.Path + "/File",
                image.Line,
                SafeText.Clean(image.File, 256),
                IsInParent(image) ? "belongs to the bundle this one was cloned from, which is never written to" : "there is no such file in this bundle",
                IsInParent(image) ? BlockErrorKind.ReadOnly : BlockErrorKind.NotFound);

    // The error names the file; "is another process using it" is asked about the disk, which people know.
    private void Lock(Storage storage, Action take)
    {
        try
        {
            take();
        }
        catch (BlockException e) when (e.Kind == BlockErrorKind.Locked && e.Message.Contains($"[{storage.Name}]", StringComparison.Ordinal))
        {
            throw new BlockException(BlockErrorKind.Locked, e.Message.Replace($"[{storage.Name}]", $"[{Directory.Name}]", StringComparison.Ordinal), e);
        }
    }

    // A guest would write its sectors over what says where they are.
    private static bool IsOwn(string name) =>
        name.StartsWith(DescriptorName, StringComparison.OrdinalIgnoreCase) || name.Equals(SnapshotNames.FileName, StringComparison.OrdinalIgnoreCase);

    private async ValueTask<Storage> OpenStorageAsync(DiskDescriptor descriptor, DescriptorImage image, CancellationToken cancellationToken)
    {
        var place = ImageFileName.Find(_names, image.File);
        if (place.Inside is { } name)
        {
            return await Directory.OpenFileAsync(name, cancellationToken).ConfigureAwait(false);
        }

        if (place.ParentBundle is { } parent)
        {
            return await OpenFromParentAsync(descriptor, image, parent, place.ParentFile!, cancellationToken).ConfigureAwait(false);
        }

        throw ImageFormatException.InDescriptor(
            descriptor.File,
            image.Path + "/File",
            image.Line,
            SafeText.Clean(image.File, 256),
            place.LeadsOutside ? "lies outside this bundle" : "there is no such file in this bundle",
            place.LeadsOutside ? BlockErrorKind.NotAllowed : BlockErrorKind.NotFound);
    }

    // A linked clone of Parallels Desktop: the image belongs to another bundle. That must be a bundle, and must list this very image;
    // otherwise a descriptor could name any file whose directory ends in ".hdd".
    private async ValueTask<Storage> OpenFromParentAsync(
        DiskDescriptor descriptor, DescriptorImage image, string parentName, string fileName, CancellationToken cancellationToken)
    {
        var parent = await OpenParentAsync(_context, Directory, descriptor, parentName, image.Path + "/File", image.Line, cancellationToken)
            .ConfigureAwait(false);
        var files = new BundleFiles(parent, _context);
        var listed = await files.ReadDescriptorAsync(cancellationToken).ConfigureAwait(false);
        foreach (var storage in listed.Storages)
        {
            if (storage.Images.TryGetValue(image.Id, out var same) && same.Type == image.Type
                && files.NameInside(same) is { } inside && Path.GetFileName(inside) == fileName)
            {
                return await parent.OpenFileAsync(inside, cancellationToken).ConfigureAwait(false);
            }
        }

        throw ImageFormatException.InDescriptor(
            descriptor.File,
            image.Path + "/File",
            image.Line,
            SafeText.Clean(image.File, 256),
            $"the bundle {parent.Name} does not list this image under {image.Id:B}",
            BlockErrorKind.NotAllowed);
    }

    /// <summary>Opens another bundle that this one names, if the gate allows it. One that was moved together with this one is found beside it.</summary>
    /// <exception cref="BlockException">The gate refuses, or there is no such directory.</exception>
    public static async ValueTask<StorageDirectory> OpenParentAsync(
        OpenContext context,
        StorageDirectory directory,
        DiskDescriptor descriptor,
        string name,
        string element,
        int line,
        CancellationToken cancellationToken)
    {
        List<string> candidates = [name];
        if (name.Split('/', StringSplitOptions.RemoveEmptyEntries) is [.., var machine, var disk] && name[0] != '.')
        {
            candidates.Add($"../../{machine}/{disk}");
            candidates.Add($"../{disk}");
        }

        foreach (var candidate in candidates)
        {
            var options = context.Gate.Resolve(
                new ImageReference(ReferenceKind.ParentBundle, candidate, ParallelsBundleFormat.FormatName, descriptor.File, directory.Name));
            if (context.Storages.IsDirectory(options) && options["filename"] is { } path)
            {
                return await context.Storages.OpenDirectoryAsync(path, cancellationToken).ConfigureAwait(false);
            }
        }

        throw ImageFormatException.InDescriptor(
            descriptor.File, element, line, SafeText.Clean(name, 256), "there is no bundle of that name", BlockErrorKind.NotFound);
    }
}
