using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Units;

namespace Platter.Formats.Parallels.Bundle.Editing;

/// <summary>Changes the size of a bundle: of the current state's image in the last storage, of the number of storages where the disk is split, and of the descriptor.</summary>
/// <remarks>
/// Images of snapshots keep the size that the disk had then; above it they read as zeros. To grow, the images are made or made larger first, to shrink last: whatever the
/// descriptor says, its images have. What a cut leaves larger than the descriptor says is cut back by whoever opens the bundle for writing next: the descriptor is right.
/// A split disk has no part larger than those it has already: beyond that come new ones, with an image for every state.
/// </remarks>
internal static class SizeEdit
{
    /// <summary>Changes the size.</summary>
    /// <param name="edit">The bundle.</param>
    /// <param name="virtualSize">Bytes, a multiple of 512.</param>
    /// <param name="preallocation">What place new bytes get.</param>
    /// <param name="cancellationToken">Stops before anything was changed.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>: it would become smaller, and has snapshots, which would be cut too; or there would be nothing left, or too many parts.</exception>
    public static async ValueTask ResizeAsync(BundleEdit edit, long virtualSize, ResizePreallocation preallocation, CancellationToken cancellationToken)
    {
        var sectors = virtualSize / Sizes.SectorBytes;
        var old = edit.Descriptor.DiskSizeSectors;
        if (sectors <= 0)
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, "a disk without a sector cannot be described");
        }

        if (sectors < old && edit.Tree.Shots.Count > 1)
        {
            throw new BlockException(
                BlockErrorKind.InvalidRequest, $"{edit.Location.Disk.Name}: a disk with snapshots cannot be made smaller: they have what would be cut off. Delete them first");
        }

        if (sectors < old && preallocation != ResizePreallocation.Off)
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, "Preallocation can only be used for growing images");
        }

        if (sectors > old)
        {
            await GrowAsync(edit, sectors, preallocation, cancellationToken).ConfigureAwait(false);
        }
        else if (sectors < old)
        {
            await ShrinkAsync(edit, sectors, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>Cuts back what a change that was cut has left larger than the descriptor says; the journal is the caller's.</summary>
    public static async ValueTask RestoreAsync(BundleEdit edit, CancellationToken cancellationToken)
    {
        await edit.ReleaseGuardsAsync().ConfigureAwait(false);
        await SetImageAsync(edit, edit.Descriptor.Storages[^1], edit.Descriptor.DiskSizeSectors, ResizePreallocation.Off, mayGrow: false, cancellationToken).ConfigureAwait(false);
    }

    private static async ValueTask GrowAsync(BundleEdit edit, long sectors, ResizePreallocation preallocation, CancellationToken cancellationToken)
    {
        var last = edit.Descriptor.Storages[^1];
        var (lastEnd, ends) = PlanParts(edit, sectors);
        var parts = NameParts(edit, lastEnd, ends);
        edit.Editor.AddStorages(last, parts);
        edit.Editor.SetSize(sectors, last, lastEnd);
        _ = edit.Editor.Finish();
        await edit.BeginAsync(parts.SelectMany(part => part.Images.Values).Select(image => image.File), sectors, cancellationToken).ConfigureAwait(false);
        foreach (var part in parts)
        {
            await MakePartAsync(edit, last, part, preallocation, cancellationToken).ConfigureAwait(false);
        }

        await edit.ReleaseGuardsAsync().ConfigureAwait(false);
        await SetImageAsync(edit, last, lastEnd, preallocation, mayGrow: true, cancellationToken).ConfigureAwait(false);
        await edit.GuardAsync(edit.Tree.Top(), cancellationToken).ConfigureAwait(false);
        await edit.RefuseTakenOverAsync(cancellationToken).ConfigureAwait(false);
        await edit.SwitchAsync(cancellationToken).ConfigureAwait(false);
        await edit.CleanAsync().ConfigureAwait(false);
    }

    private static async ValueTask ShrinkAsync(BundleEdit edit, long sectors, CancellationToken cancellationToken)
    {
        foreach (var storage in edit.Descriptor.Storages.Where(s => s.StartSector >= sectors).Reverse())
        {
            foreach (var image in storage.Images.Values)
            {
                edit.Forget(image);
            }

            edit.Editor.RemoveStorage(storage);
        }

        edit.Editor.SetSize(sectors, edit.Descriptor.Storages.Last(s => s.StartSector < sectors), sectors);
        await edit.BeginAsync([], sectors, cancellationToken).ConfigureAwait(false);
        await edit.SwitchAsync(cancellationToken).ConfigureAwait(false);
        await RestoreAsync(edit, CancellationToken.None).ConfigureAwait(false);
        await edit.CleanAsync().ConfigureAwait(false);
    }

    // Where the last part ends then, and where each of the new ones does.
    private static (long LastEnd, IReadOnlyList<long> Ends) PlanParts(BundleEdit edit, long sectors)
    {
        var storages = edit.Descriptor.Storages;
        if (storages.Count == 1)
        {
            return (sectors, []);
        }

        var split = storages.Take(storages.Count - 1).Max(storage => storage.EndSector - storage.StartSector);
        var lastEnd = Math.Min(sectors, Math.Max(storages[^1].EndSector, storages[^1].StartSector + split));
        if (Sizes.DivideRoundingUp(sectors - lastEnd, split) + storages.Count > BundleCreator.MaxStorages)
        {
            throw new BlockException(
                BlockErrorKind.InvalidRequest, $"{edit.Location.Disk.Name}: its parts have at most {split * Sizes.SectorBytes} bytes, and the disk would have more than {BundleCreator.MaxStorages} of them");
        }

        List<long> ends = [];
        for (var end = lastEnd; end < sectors;)
        {
            ends.Add(end = Math.Min(sectors, end + split));
        }

        return (lastEnd, ends);
    }

    // Every state that the last part has an image of needs one in the new parts.
    private static List<NewStorage> NameParts(BundleEdit edit, long lastEnd, IReadOnlyList<long> ends)
    {
        var storages = edit.Descriptor.Storages;
        var prefix = BundleNaming.PrefixOf(edit.Location.Disk, edit.Descriptor, edit.Tree.TopId);
        List<NewStorage> parts = [];
        foreach (var end in ends)
        {
            var images = new Dictionary<Guid, (string File, DescriptorImageType Type)>();
            foreach (var image in storages[^1].Images.Values.Where(image => edit.Tree.Find(image.Id) is not null))
            {
                var name = BundleNaming.ImageFile(prefix, storages.Count + parts.Count, image.Id);
                images[image.Id] = (edit.Location.Disk.FileExists(name) ? BundleNaming.ImageFile(prefix, storages.Count + parts.Count, Guid.NewGuid()) : name, image.Type);
            }

            parts.Add(new(parts.Count == 0 ? lastEnd : parts[^1].EndSector, end, images));
        }

        return parts;
    }

    private static async ValueTask MakePartAsync(
        BundleEdit edit, DescriptorStorage like, NewStorage part, ResizePreallocation preallocation, CancellationToken cancellationToken)
    {
        foreach (var (id, (file, type)) in part.Images)
        {
            // Place is taken by the current state alone, and by growing, which knows how.
            var takesPlace = preallocation != ResizePreallocation.Off && id == edit.Tree.TopId;
            var sectors = takesPlace ? 1 : part.EndSector - part.StartSector;
            await edit.MakeImageAsync(file, type, sectors * Sizes.SectorBytes, like, edit.Tree.Find(id)!, cancellationToken).ConfigureAwait(false);
            if (takesPlace)
            {
                var image = new DescriptorImage(id, type, file, like.Path, like.Line);
                var node = new ImageNode(await edit.Files.OpenAsync(edit.Descriptor, image, writable: true, cancellationToken).ConfigureAwait(false), backing: null);
                await using (node.ConfigureAwait(false))
                {
                    await node.ResizeAsync((part.EndSector - part.StartSector) * Sizes.SectorBytes, preallocation, cancellationToken).ConfigureAwait(false);
                    await node.FlushAsync(cancellationToken).ConfigureAwait(false);
                }
            }
        }
    }

    private static async ValueTask SetImageAsync(
        BundleEdit edit, DescriptorStorage storage, long endSector, ResizePreallocation preallocation, bool mayGrow, CancellationToken cancellationToken)
    {
        var bytes = (endSector - storage.StartSector) * Sizes.SectorBytes;
        var top = edit.Tree.Top();
        var chain = await edit.OpenChainAsync(storage, top, top.Id, cancellationToken).ConfigureAwait(false);
        await using (chain.ConfigureAwait(false))
        {
            if (chain.VirtualSize > bytes || (mayGrow && chain.VirtualSize < bytes))
            {
                await chain.ResizeAsync(bytes, preallocation, cancellationToken).ConfigureAwait(false);
                await chain.FlushAsync(cancellationToken).ConfigureAwait(false);
            }
        }
    }
}
