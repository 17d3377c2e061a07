using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Units;

namespace Platter.Formats.Parallels.Bundle;

/// <summary>Mends the images of a bundle, one after the other; then the bundle is checked as a whole.</summary>
/// <remarks>Each image is a repair of its own with its own undo. What is wrong between the files (sizes that contradict each other, images that are missing) is told and not touched.</remarks>
internal sealed class BundleRepair(BundleFiles files, BundleState state, RepairOptions options, Action<CheckFinding> report)
{
    private readonly HashSet<(string?, string)> _told = [];
    private long _corruptionsFixed, _leaksFixed;
    private bool _isChanged;

    /// <summary>Runs it.</summary>
    /// <exception cref="BlockException">An image is in use or cannot be written to. Those before it are mended.</exception>
    public async ValueTask<RepairReport> RunAsync(IProgress<double>? progress, CancellationToken cancellationToken)
    {
        var images = state.Descriptor.Storages
            .SelectMany(storage => storage.Images.Values.Select(image => (Storage: storage, Image: image)))
            .Where(pair => pair.Image.Type == DescriptorImageType.Compressed && files.NameInside(pair.Image) is not null).ToList();
        for (var i = 0; i < images.Count; i++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            await RepairAsync(images[i].Storage, images[i].Image, cancellationToken).ConfigureAwait(false);
            progress?.Report((i + 1.0) / (images.Count + 1));
        }

        var check = await new BundleCheck(files, state with { Segments = [] }, TellRest, null).RunAsync(cancellationToken).ConfigureAwait(false);
        return new RepairReport { CorruptionsFixed = _corruptionsFixed, LeaksFixed = _leaksFixed, IsChanged = _isChanged, Check = check };
    }

    private async ValueTask RepairAsync(DescriptorStorage storage, DescriptorImage image, CancellationToken cancellationToken)
    {
        var file = files.NameInside(image)!;
        var start = storage.StartSector * Sizes.SectorBytes;
        ImageDriver driver;
        try
        {
            driver = await files.OpenForRepairAsync(state.Descriptor, image, cancellationToken).ConfigureAwait(false);
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

        void Tell(CheckFinding finding)
        {
            finding = finding with { File = file, GuestOffset = finding.GuestOffset + start };
            _told.Add((finding.File, finding.Message));
            report(finding);
        }
    }

    private void TellRest(CheckFinding finding)
    {
        if (_told.Add((finding.File, finding.Message)))
        {
            report(finding);
        }
    }
}
