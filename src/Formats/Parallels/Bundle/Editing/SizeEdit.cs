using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Units;

namespace Platter.Formats.Parallels.Bundle.Editing;

/// <summary>Changes the size of a bundle: of the current state's image in the last storage, and of the descriptor.</summary>
/// <remarks>
/// Images of snapshots keep the size that the disk had then; above it they read as zeros. To grow, the image is made larger first, to shrink last: whatever the descriptor says,
/// its images have. The journal holds the new size, and whoever opens the bundle for writing after a cut goes on with it.
/// </remarks>
internal static class SizeEdit
{
    /// <summary>Changes the size.</summary>
    /// <param name="edit">The bundle.</param>
    /// <param name="virtualSize">Bytes, a multiple of 512.</param>
    /// <param name="preallocation">What place new bytes get.</param>
    /// <param name="cancellationToken">Stops before anything was changed.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>: it would become smaller, and has snapshots, which would be cut too; or there would be nothing left.</exception>
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

        await edit.BeginAsync([], sectors, cancellationToken).ConfigureAwait(false);
        try
        {
            await RunAsync(edit, sectors, preallocation, cancellationToken).ConfigureAwait(false);
        }
        catch when (sectors > old && edit.Descriptor.DiskSizeSectors == old)
        {
            // Nothing has happened that a reader would see: it stays so.
            await TakeBackAsync(edit, old).ConfigureAwait(false);
            throw;
        }

        await edit.CleanAsync().ConfigureAwait(false);
    }

    /// <summary>Goes on after a cut; the journal is the caller's.</summary>
    public static async ValueTask FinishAsync(BundleEdit edit, long sectors, CancellationToken cancellationToken)
    {
        // To make a disk smaller that has snapshots was refused before there was a journal: this one is somebody else's invention.
        if (sectors >= edit.Descriptor.DiskSizeSectors || edit.Tree.Shots.Count == 1)
        {
            await RunAsync(edit, sectors, ResizePreallocation.Off, cancellationToken).ConfigureAwait(false);
        }
    }

    private static async ValueTask RunAsync(BundleEdit edit, long sectors, ResizePreallocation preallocation, CancellationToken cancellationToken)
    {
        await edit.ReleaseGuardsAsync().ConfigureAwait(false);
        var grows = sectors > edit.Descriptor.DiskSizeSectors;
        if (grows)
        {
            await SetImageAsync(edit, sectors, preallocation, cancellationToken).ConfigureAwait(false);
        }

        if (sectors != edit.Descriptor.DiskSizeSectors)
        {
            await edit.GuardAsync(edit.Tree.Top(), cancellationToken).ConfigureAwait(false);
            await edit.Files.RefuseChangedAsync(edit.Descriptor, cancellationToken).ConfigureAwait(false);
            foreach (var storage in edit.Descriptor.Storages.Where(s => s.StartSector >= sectors).Reverse())
            {
                foreach (var image in storage.Images.Values)
                {
                    edit.Forget(image);
                }

                edit.Editor.RemoveStorage(storage);
            }

            edit.Editor.SetSize(sectors, edit.Descriptor.Storages.Last(s => s.StartSector < sectors));
            await edit.SwitchAsync(cancellationToken).ConfigureAwait(false);
            await edit.ReleaseGuardsAsync().ConfigureAwait(false);
        }

        if (!grows)
        {
            await SetImageAsync(edit, sectors, ResizePreallocation.Off, CancellationToken.None).ConfigureAwait(false);
        }
    }

    // Back to the old size; if that fails too, the journal brings the next one who opens the disk for writing to the new one.
    private static async ValueTask TakeBackAsync(BundleEdit edit, long old)
    {
        try
        {
            await edit.ReleaseGuardsAsync().ConfigureAwait(false);
            await SetImageAsync(edit, old, ResizePreallocation.Off, CancellationToken.None).ConfigureAwait(false);
            await BundleJournal.RemoveAsync(edit.Location.Disk, CancellationToken.None).ConfigureAwait(false);
        }
        catch (BlockException)
        {
            // The first error is the one to report.
        }
    }

    private static async ValueTask SetImageAsync(BundleEdit edit, long sectors, ResizePreallocation preallocation, CancellationToken cancellationToken)
    {
        var storage = edit.Descriptor.Storages[^1];
        var bytes = (sectors - storage.StartSector) * Sizes.SectorBytes;
        var top = edit.Tree.Top();
        var chain = await edit.OpenChainAsync(storage, top, top.Id, cancellationToken).ConfigureAwait(false);
        await using (chain.ConfigureAwait(false))
        {
            if (chain.VirtualSize != bytes)
            {
                await chain.ResizeAsync(bytes, preallocation, cancellationToken).ConfigureAwait(false);
                await chain.FlushAsync(cancellationToken).ConfigureAwait(false);
            }
        }
    }
}
