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
    private readonly BundleFiles _files = openFiles.Quiet();
    private readonly HashSet<(string?, string)> _told = [];
    private BundleState _state = state;
    private long _corruptionsFixed, _leaksFixed;
    private bool _isChanged;

    /// <summary>Runs it.</summary>
    /// <exception cref="BlockException">An image is in use or cannot be written to. Those before it are mended.</exception>
    public async ValueTask<RepairReport> RunAsync(IProgress<double>? progress, CancellationToken cancellationToken)
    {
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

        var descriptor = await _files.ReadDescriptorAsync(cancellationToken).ConfigureAwait(false);
        _state = _state with { Descriptor = descriptor, Tree = SnapshotTree.Build(descriptor), Segments = [] };
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
