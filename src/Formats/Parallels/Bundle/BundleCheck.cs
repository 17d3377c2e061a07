using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Parallels.Check;

namespace Platter.Formats.Parallels.Bundle;

/// <summary>Checks a bundle as a whole: the descriptor, every image of every snapshot, and what else lies in the directory.</summary>
/// <remarks>Images outside the opened chain are opened one at a time. Findings name their file relative to the bundle.</remarks>
internal sealed class BundleCheck
{
    private readonly BundleFiles _files;
    private readonly DiskDescriptor _descriptor;
    private readonly SnapshotTree _tree;
    private readonly Dictionary<object, ImageDriver> _open;
    private readonly FindingLimit _findings;
    private readonly IProgress<double>? _progress;
    private readonly HashSet<string> _seen = new(StringComparer.Ordinal);
    private readonly Dictionary<StorageIdentity, string> _identities = [];
    private CheckReport _sum = new();
    private BundleLeftovers _leftovers = null!;
    private int _longestChain;

    /// <summary>A check of an open bundle.</summary>
    public BundleCheck(
        BundleFiles files,
        BundleState state,
        Action<CheckFinding> report,
        IProgress<double>? progress)
    {
        _files = files.Quiet();
        _descriptor = state.Descriptor;
        _tree = state.Tree;
        _open = state.Segments.SelectMany(s => s.Layers).ToDictionary(layer => (object)layer.Image, layer => layer.Driver, ReferenceEqualityComparer.Instance);
        _findings = new(report);
        _progress = progress;
    }

    /// <summary>Why the size of an expandable image does not fit its storage, or null. Some writers round it up to whole clusters.</summary>
    public static string? SizeProblem(long storageSectors, long imageBytes, long clusterBytes)
    {
        var imageSectors = imageBytes / Sizes.SectorBytes;
        return imageSectors < storageSectors || imageSectors - storageSectors >= clusterBytes / Sizes.SectorBytes
            ? $"the image has {imageSectors} sectors, its storage {storageSectors}"
            : null;
    }

    /// <summary>Runs the check.</summary>
    public async ValueTask<CheckReport> RunAsync(CancellationToken cancellationToken)
    {
        _leftovers = await BundleLeftovers.FindAsync(_files, _descriptor, _tree, cancellationToken).ConfigureAwait(false);
        CheckDescriptor();
        CheckDepths();
        await CheckVolumeAsync(cancellationToken).ConfigureAwait(false);
        await CheckBackupAsync(cancellationToken).ConfigureAwait(false);
        foreach (var leftover in _leftovers.ToFindings())
        {
            Add(leftover);
        }

        var total = _descriptor.Storages.Sum(s => s.Images.Count);
        var done = 0;
        foreach (var storage in _descriptor.Storages)
        {
            foreach (var image in storage.Images.Values)
            {
                cancellationToken.ThrowIfCancellationRequested();
                var first = done++;
                var part = _progress is null ? null : new Part(_progress, first, total);
                await CheckImageAsync(storage, image, part, cancellationToken).ConfigureAwait(false);
                _progress?.Report((double)done / total);
            }
        }

        CheckStrays();
        _findings.Finish();
        return _sum;
    }

    private void CheckDescriptor()
    {
        var last = _descriptor.Storages[^1];
        if (last.EndSector != _descriptor.DiskSizeSectors)
        {
            Add(CheckSeverity.Corruption, BundleFiles.DescriptorName, $"{last.Path} ends at sector {last.EndSector}, Disk_size is {_descriptor.DiskSizeSectors}");
        }

        if (_descriptor.GeometrySectors is { } product && product != _descriptor.DiskSizeSectors)
        {
            Add(CheckSeverity.Note, BundleFiles.DescriptorName, $"Cylinders x Heads x Sectors is {product}, Disk_size is {_descriptor.DiskSizeSectors}");
        }

        if (_tree.TopId is null)
        {
            Add(CheckSeverity.Corruption, BundleFiles.DescriptorName, "no snapshot is the current state");
        }
        else if (_tree.Shots.FirstOrDefault(s => s.ParentId == _tree.TopId) is { } child)
        {
            Add(CheckSeverity.Corruption, BundleFiles.DescriptorName, $"the snapshot {child.Id:B} was made on the current state, which writes change");
        }

        foreach (var shot in _tree.Shots.Where(shot => shot.IsMerging && !_leftovers.Unmerged.Contains(shot)).Take(16))
        {
            Add(CheckSeverity.Note, BundleFiles.DescriptorName, $"the snapshot {shot.Id:B} was deleted; its images stay as long as several states stand on them");
        }

        foreach (var storage in _descriptor.Storages)
        {
            // Counted first: asking every storage for every snapshot of a hostile descriptor would take minutes.
            var missing = _tree.Shots.Count - storage.Images.Keys.Count(id => _tree.Find(id) is not null);
            if (missing is > 0 and <= 16)
            {
                foreach (var shot in _tree.Shots.Where(shot => !storage.Images.ContainsKey(shot.Id)))
                {
                    Add(CheckSeverity.Corruption, BundleFiles.DescriptorName, $"{storage.Path} has no image for the snapshot {shot.Id:B}");
                }
            }
            else if (missing > 0)
            {
                Add(CheckSeverity.Corruption, BundleFiles.DescriptorName, $"{storage.Path} has no images for {missing} snapshots");
            }

            foreach (var image in storage.Images.Values.Where(image => _tree.Find(image.Id) is null))
            {
                Add(CheckSeverity.Note, BundleFiles.DescriptorName, $"{image.Path} belongs to no snapshot ({image.Id:B})");
            }
        }
    }

    private async ValueTask CheckImageAsync(
        DescriptorStorage storage, DescriptorImage image, IProgress<double>? progress, CancellationToken cancellationToken)
    {
        var inside = _files.NameInside(image);
        var file = SafeText.Clean(inside ?? image.File, 256);
        if (inside is not null && !_seen.Add(inside))
        {
            Add(CheckSeverity.Corruption, file, $"{image.Path} names a file that another image has already");
            return;
        }

        if (inside is null && _files.IsInParent(image))
        {
            await CheckParentAsync(image, file, cancellationToken).ConfigureAwait(false);
            return;
        }

        var wasOpen = _open.TryGetValue(image, out var driver);
        try
        {
            driver ??= await _files.OpenAsync(_descriptor, image, cancellationToken).ConfigureAwait(false);
            if (driver.Storage.Identity is { } identity && !_identities.TryAdd(identity, file))
            {
                Add(CheckSeverity.Corruption, file, $"is the same file as {_identities[identity]}, under another name");
                return;
            }

            await CheckDriverAsync(storage, image, file, driver, progress, cancellationToken).ConfigureAwait(false);
        }
        catch (BlockException e)
        {
            // What is missing or unreadable is found, not suffered: the other files are worth checking all the same.
            AddLost(file, e, $"{_files.Directory.Name}/{inside}: ");
        }
        finally
        {
            if (!wasOpen && driver is not null)
            {
                await driver.DisposeAsync().ConfigureAwait(false);
            }
        }
    }

    private async ValueTask CheckDriverAsync(
        DescriptorStorage storage,
        DescriptorImage image,
        string file,
        ImageDriver driver,
        IProgress<double>? progress,
        CancellationToken cancellationToken)
    {
        var isRoot = _tree.Find(image.Id) is not { } shot || shot.ParentId == Guid.Empty;
        if (driver is not ParallelsImage expandable)
        {
            if (!isRoot)
            {
                Add(CheckSeverity.Corruption, file, $"{image.Path} is plain, but {image.Id:B} is not the root");
            }

            var bytes = (storage.EndSector - storage.StartSector) * Sizes.SectorBytes;
            if (driver.VirtualSize > bytes)
            {
                Add(CheckSeverity.Note, file, $"is {driver.VirtualSize - bytes} bytes longer than its storage");
            }

            return;
        }

        if (storage.BlockSizeSectors is { } blockSize && blockSize * Sizes.SectorBytes != expandable.ClusterSize)
        {
            Add(CheckSeverity.Corruption, file, $"has clusters of {expandable.ClusterSize / Sizes.SectorBytes} sectors, Blocksize of {storage.Path} is {blockSize}");
        }

        var isTop = image.Id == _tree.TopId;
        if (SizeProblem(storage.EndSector - storage.StartSector, expandable.VirtualSize, expandable.ClusterSize) is { } problem)
        {
            // A disk that has grown leaves older snapshots with a smaller size.
            if (expandable.VirtualSize > (storage.EndSector - storage.StartSector) * Sizes.SectorBytes && _leftovers.ExplainsLarger(storage, image))
            {
                Add(CheckSeverity.Leak, file, $"{problem}: a change of the size was interrupted");
            }
            else if (isTop || expandable.VirtualSize > (storage.EndSector - storage.StartSector) * Sizes.SectorBytes)
            {
                Add(isTop ? CheckSeverity.Corruption : CheckSeverity.Note, file, problem);
            }
        }

        var isExplained = expandable.IsDirty && _leftovers.ExplainsOpen(storage, image);
        if (expandable.IsDirty && !isTop && !isExplained)
        {
            Add(CheckSeverity.Note, file, "is not the current state and still was open for writing: a merge of snapshots may have been interrupted");
        }

        var start = storage.StartSector * Sizes.SectorBytes;
        var leftOpen = 0;
        var counts = await driver.CheckAsync(Report, progress, cancellationToken).ConfigureAwait(false);
        _sum = _sum with
        {
            Corruptions = _sum.Corruptions + counts.Corruptions - leftOpen,
            Leaks = _sum.Leaks + counts.Leaks + leftOpen,
            Errors = _sum.Errors + counts.Errors,
            TotalClusters = _sum.TotalClusters + counts.TotalClusters,
            AllocatedClusters = _sum.AllocatedClusters + counts.AllocatedClusters,
            FragmentedClusters = _sum.FragmentedClusters + counts.FragmentedClusters,
        };

        // Whoever was interrupted could not close it; whatever else is wrong with the image is told all the same.
        void Report(CheckFinding finding)
        {
            if (isExplained && finding is { Severity: CheckSeverity.Corruption, Message: ImageCheck.NotClosedMessage })
            {
                leftOpen++;
                finding = finding with { Severity = CheckSeverity.Leak, Message = "was not closed, because a change of the bundle was interrupted" };
            }

            _findings.Report(finding with { File = file, GuestOffset = finding.GuestOffset + start });
        }
    }

    // Only worth knowing: it may be the last copy of something, and nothing here proves that it is garbage.
    private void CheckStrays()
    {
        foreach (var name in _files.Directory.ListFiles())
        {
            if (name.EndsWith(".hds", StringComparison.OrdinalIgnoreCase) && !_seen.Contains(name) && !_leftovers.Files.Contains(name))
            {
                Add(CheckSeverity.Note, SafeText.Clean(name, 256), "no image of the descriptor names this file");
            }
        }
    }

    // It is opened, so that a clone without its parent is not called good, and not checked: it is another disk's.
    private async ValueTask CheckParentAsync(DescriptorImage image, string file, CancellationToken cancellationToken)
    {
        if (image.Id == _tree.TopId)
        {
            Add(CheckSeverity.Corruption, file, $"{image.Path} is the current state's, and lies outside this bundle: nothing can be written");
            return;
        }

        if (_files.FollowsParents && !_open.ContainsKey(image))
        {
            try
            {
                await (await _files.OpenAsync(_descriptor, image, cancellationToken).ConfigureAwait(false)).DisposeAsync().ConfigureAwait(false);
            }
            catch (BlockException e)
            {
                AddLost(file, e);
                return;
            }
        }

        Add(CheckSeverity.Note, file, $"{image.Path} belongs to the bundle this one was cloned from, which is not checked");
    }

    private async ValueTask CheckVolumeAsync(CancellationToken cancellationToken)
    {
        if (_descriptor.Volume is not { } volume || !_files.FollowsParents)
        {
            return;
        }

        try
        {
            var context = _files.ForChanges(static _ => { });
            var below = await BundleOpener.OpenVolumeAsync(
                context, _files, _descriptor, _tree, cancellationToken, Math.Min(_longestChain, context.Limits.MaxBundleLayers - 1)).ConfigureAwait(false);
            if (below is not null)
            {
                await below.DisposeAsync().ConfigureAwait(false);
            }
        }
        catch (BlockException e)
        {
            AddLost($"{BundleFiles.DescriptorName}", e);
            return;
        }

        Add(CheckSeverity.Note, BundleFiles.DescriptorName, $"{SafeText.Clean(volume.Parent, 256)}, which this bundle was cloned from, is not checked");
    }

    // What nothing opens is not clean, though nothing in it is damaged.
    private void CheckDepths()
    {
        var depths = _tree.Depths();
        _longestChain = (_tree.TopId is { } top ? depths[top] : 0) + 1;
        var limit = _files.MaxLayers;
        var deep = depths.Values.Count(depth => depth >= limit);
        if (deep > 0)
        {
            Add(
                CheckSeverity.Error, BundleFiles.DescriptorName,
                _longestChain > limit
                    ? $"the current state stands on a chain of {_longestChain} images, the limit is {limit}: it cannot be opened"
                    : $"{deep} snapshot{(deep == 1 ? " stands" : "s stand")} on a chain of up to {depths.Values.Max() + 1} images, the limit is {limit}: {(deep == 1 ? "it" : "they")} cannot be opened");
        }
    }

    // It takes the descriptor's place when that is lost; one that names other files would not help.
    private async ValueTask CheckBackupAsync(CancellationToken cancellationToken)
    {
        if (_descriptor.Replaces is not null || !_files.Directory.FileExists(BundleFiles.BackupName))
        {
            return;
        }

        try
        {
            var copy = await _files.ReadBackupAsync(cancellationToken).ConfigureAwait(false);
            var known = _descriptor.Storages.SelectMany(s => s.Images.Values).Select(image => image.File).ToHashSet(StringComparer.Ordinal);
            var missing = copy.Storages.SelectMany(s => s.Images.Values)
                .Where(image => !known.Contains(image.File) && _files.NameInside(image) is null && !_files.IsInParent(image)).Select(image => image.File).ToList();
            if (missing.Count > 0)
            {
                var more = missing.Count > 1 ? $" and {missing.Count - 1} more" : string.Empty;
                Add(CheckSeverity.Note, BundleFiles.BackupName, $"names '{SafeText.Clean(missing[0], 256)}'{more}, which is not there: it is no copy of the descriptor");
            }
        }
        catch (BlockException e)
        {
            Add(CheckSeverity.Note, BundleFiles.BackupName, $"cannot be read: {WithoutName(e.Message, $"{_files.Directory.Name}/{BundleFiles.BackupName}: ")}");
        }
    }

    private void AddLost(string file, BlockException e, string name = "")
    {
        var lost = e.Kind is BlockErrorKind.NotFound or BlockErrorKind.CorruptImage or BlockErrorKind.WrongFormat or BlockErrorKind.NotAllowed;
        Add(lost ? CheckSeverity.Corruption : CheckSeverity.Error, file, WithoutName(e.Message, name, $"{_descriptor.File}: "));
    }

    // The finding names its file already.
    private static string WithoutName(string message, params ReadOnlySpan<string> names)
    {
        foreach (var name in names)
        {
            if (name.Length > 0 && message.StartsWith(name, StringComparison.Ordinal))
            {
                return message[name.Length..];
            }
        }

        return message;
    }

    private void Add(CheckSeverity severity, string file, string message) => Add(new CheckFinding(severity, message) { File = file });

    private void Add(CheckFinding finding)
    {
        _findings.Report(finding);
        _sum = finding.Severity switch
        {
            CheckSeverity.Corruption => _sum with { Corruptions = _sum.Corruptions + 1 },
            CheckSeverity.Leak => _sum with { Leaks = _sum.Leaks + 1 },
            CheckSeverity.Error => _sum with { Errors = _sum.Errors + 1 },
            _ => _sum,
        };
    }

    private sealed class Part(IProgress<double> whole, int index, int count) : IProgress<double>
    {
        public void Report(double value) => whole.Report((index + value) / count);
    }
}
