using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Units;
using Platter.Formats.Parallels.Bundle.Editing;

namespace Platter.Formats.Parallels.Bundle;

/// <summary>Cleans up after changes of a bundle that were interrupted and mends its images, one after the other; then the bundle is checked as a whole.</summary>
/// <remarks>Each image is a repair of its own with its own undo. Leftovers have none: they are removed, or merged, as the next change would do, and nobody sees a difference. What is wrong
/// between the files (sizes that contradict each other, images that are missing) is told and not touched.</remarks>
internal sealed class BundleRepair(
    BundleLocation location, BundleFiles openFiles, Action<string> warn, BundleState state, RepairOptions options, Action<CheckFinding> report)
{
    // No descriptor that anybody could read is larger.
    private const int MaxKeptBytes = 16 << 20;

    private readonly BundleFiles _files = openFiles.Quiet();
    private readonly HashSet<(string?, string)> _told = [];
    private BundleState _state = state;
    private long _corruptionsFixed, _leaksFixed;
    private bool _isChanged;

    /// <summary>Runs it.</summary>
    /// <exception cref="BlockException">An image is in use or cannot be written to. Those before it are mended.</exception>
    public async ValueTask<RepairReport> RunAsync(IProgress<double>? progress, CancellationToken cancellationToken)
    {
        if (_state.Descriptor.Replaces is { } problem && !await RestoreDescriptorAsync(problem, cancellationToken).ConfigureAwait(false))
        {
            return new RepairReport { Check = new CheckReport { Corruptions = 1 } };
        }

        await CleanUpAsync(cancellationToken).ConfigureAwait(false);
        var images = _state.Descriptor.Storages
            .SelectMany(storage => storage.Images.Values.Select(image => (Storage: storage, Image: image)))
            .Where(pair => pair.Image.Type == DescriptorImageType.Compressed && _files.NameInside(pair.Image) is not null).ToList();
        for (var i = 0; i < images.Count; i++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            await RepairAsync(images[i].Storage, images[i].Image, cancellationToken).ConfigureAwait(false);
            progress?.Report((i + 1.0) / (images.Count + 1));
        }

        if (_isChanged)
        {
            // What stood in the way of a merge may be mended now.
            await CleanUpAsync(cancellationToken).ConfigureAwait(false);
        }

        var check = await new BundleCheck(_files, _state with { Segments = [] }, TellRest, null).RunAsync(cancellationToken).ConfigureAwait(false);
        return new RepairReport { CorruptionsFixed = _corruptionsFixed, LeaksFixed = _leaksFixed, IsChanged = _isChanged, Check = check };
    }

    // From its copy, if that is surely not older than the images are.
    private async ValueTask<bool> RestoreDescriptorAsync(string problem, CancellationToken cancellationToken)
    {
        var obstacle = await WhyNotAsync(cancellationToken).ConfigureAwait(false);
        var isRepaired = obstacle is null && options.Mode == RepairMode.All;
        if (isRepaired)
        {
            // Somebody who uses the disk still knows it.
            foreach (var image in _state.Descriptor.Storages.SelectMany(s => s.Images.Values).Where(i => i.Id == _state.Tree.TopId && _files.NameInside(i) is not null))
            {
                var storage = await _files.OpenForWritingAsync(_state.Descriptor, image, cancellationToken).ConfigureAwait(false);
                await using (storage.ConfigureAwait(false))
                {
                    _files.Lock(storage);
                }
            }

            var bytes = _state.Descriptor.Bytes;
            if (options.BeforeSwitch is { } beforeSwitch)
            {
                var name = $"{location.Disk.Name}/{BundleFiles.DescriptorName}";
                await beforeSwitch(ReplacementUndo.Describe(name, await OldBytesAsync(cancellationToken).ConfigureAwait(false), bytes.Span), cancellationToken).ConfigureAwait(false);
            }

            await DurableFiles.ReplaceAsync(location.Disk, BundleFiles.DescriptorName, bytes, cancellationToken).ConfigureAwait(false);
            _corruptionsFixed++;
            _isChanged = true;
            await ReloadAsync(cancellationToken).ConfigureAwait(false);
        }

        Report(new CheckFinding(CheckSeverity.Corruption, obstacle is null ? problem : $"{problem}; {BundleFiles.BackupName} cannot take its place: {obstacle}")
        {
            File = BundleFiles.DescriptorName,
            Explanation = "Without it nobody knows which files make up the disk, and in which order.",
            Repair = obstacle is null ? $"it is restored from {BundleFiles.BackupName} by '-r all'" : null,
            IsRepaired = isRepaired,
        });
        return isRepaired;
    }

    private async ValueTask<string?> WhyNotAsync(CancellationToken cancellationToken)
    {
        var leftovers = await BundleLeftovers.FindAsync(_files, _state.Descriptor, _state.Tree, cancellationToken).ConfigureAwait(false);
        var named = new HashSet<string>(leftovers.Files, StringComparer.OrdinalIgnoreCase);
        foreach (var image in _state.Descriptor.Storages.SelectMany(storage => storage.Images.Values))
        {
            if (_files.NameInside(image) is { } file)
            {
                named.Add(file);
            }
            else if (!_files.IsInParent(image))
            {
                return $"it names '{SafeText.Clean(image.File, 256)}', which is not there";
            }
        }

        var other = location.Disk.ListFiles().FirstOrDefault(file => file.EndsWith(".hds", StringComparison.OrdinalIgnoreCase) && !named.Contains(file));
        return other is null ? null : $"it does not name '{SafeText.Clean(other, 256)}', and may be older than that";
    }

    private async ValueTask<byte[]?> OldBytesAsync(CancellationToken cancellationToken)
    {
        if (!location.Disk.FileExists(BundleFiles.DescriptorName))
        {
            return null;
        }

        var storage = await location.Disk.OpenFileAsync(BundleFiles.DescriptorName, cancellationToken).ConfigureAwait(false);
        await using (storage.ConfigureAwait(false))
        {
            return (await XmlFile.ReadAsync(storage, MaxKeptBytes, cancellationToken).ConfigureAwait(false)).ToArray();
        }
    }

    private async ValueTask ReloadAsync(CancellationToken cancellationToken)
    {
        var descriptor = await _files.ReadDescriptorAsync(cancellationToken).ConfigureAwait(false);
        _state = _state with { Descriptor = descriptor, Tree = SnapshotTree.Build(descriptor), Segments = [] };
    }

    private async ValueTask CleanUpAsync(CancellationToken cancellationToken)
    {
        var before = await BundleLeftovers.FindAsync(_files, _state.Descriptor, _state.Tree, cancellationToken).ConfigureAwait(false);
        if (!before.Any)
        {
            return;
        }

        try
        {
            await BundleJournal.RecoverAsync(location, _files.ForChanges(warn), cancellationToken).ConfigureAwait(false);
            var edit = await BundleEdit.OpenCleanAsync(location, _files.ForChanges(warn), cancellationToken).ConfigureAwait(false);
            await using (edit.ConfigureAwait(false))
            {
                foreach (var file in before.Temporaries)
                {
                    await location.Disk.RemoveFileAsync(file, cancellationToken).ConfigureAwait(false);
                }

                await SnapshotEdits.MergeAsync(edit, null, cancellationToken).ConfigureAwait(false);
            }
        }
        catch (BlockException e) when (e.Kind is BlockErrorKind.CorruptImage or BlockErrorKind.WrongFormat or BlockErrorKind.NotFound or BlockErrorKind.NoSpace)
        {
            // The check tells what is in the way, and what is left.
        }

        await ReloadAsync(cancellationToken).ConfigureAwait(false);
        var after = await BundleLeftovers.FindAsync(_files, _state.Descriptor, _state.Tree, cancellationToken).ConfigureAwait(false);
        var left = after.ToFindings().Select(finding => (finding.File, finding.Message)).ToHashSet();
        foreach (var finding in before.ToFindings().Where(finding => !left.Contains((finding.File, finding.Message))))
        {
            _isChanged = true;
            _leaksFixed++;
            Report(finding with { IsRepaired = true });
        }
    }

    private async ValueTask RepairAsync(DescriptorStorage storage, DescriptorImage image, CancellationToken cancellationToken)
    {
        var file = _files.NameInside(image)!;
        var start = storage.StartSector * Sizes.SectorBytes;
        ImageDriver driver;
        try
        {
            driver = await _files.OpenForRepairAsync(_state.Descriptor, image, cancellationToken).ConfigureAwait(false);
        }
        catch (BlockException e) when (e.Kind is BlockErrorKind.NotFound or BlockErrorKind.CorruptImage or BlockErrorKind.WrongFormat)
        {
            // The check tells.
            return;
        }

        await using (driver.ConfigureAwait(false))
        {
            var result = await driver.RepairAsync(options, Tell, null, cancellationToken).ConfigureAwait(false);
            _corruptionsFixed += result.CorruptionsFixed;
            _leaksFixed += result.LeaksFixed;
            _isChanged |= result.IsChanged;
        }

        void Tell(CheckFinding finding) => Report(finding with { File = file, GuestOffset = finding.GuestOffset + start });
    }

    private void Report(CheckFinding finding)
    {
        _told.Add((finding.File, finding.Message));
        report(finding);
    }

    private void TellRest(CheckFinding finding)
    {
        if (_told.Add((finding.File, finding.Message)))
        {
            report(finding);
        }
    }
}
