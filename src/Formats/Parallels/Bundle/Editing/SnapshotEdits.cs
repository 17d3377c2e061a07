using Platter.Core.Bitmaps;
using Platter.Core.Errors;
using Platter.Core.Graph;

namespace Platter.Formats.Parallels.Bundle.Editing;

/// <summary>Takes, applies, deletes snapshots of a bundle, and commits the current state into the one below.</summary>
/// <remarks>
/// Each of these is one change of the descriptor. A snapshot that is deleted and still needed is only marked at first: it is none any more, and its images stay as a layer. Then
/// those with a single child are merged with it, and that is another change. A cut in between leaves the mark, and the next change of the bundle merges.
/// Readers that do not know the mark see one more snapshot.
/// </remarks>
internal static class SnapshotEdits
{
    /// <summary>Freezes the current state's images and lays empty ones on top.</summary>
    public static async ValueTask CreateAsync(BundleEdit edit, string name, DateTimeOffset date, CancellationToken cancellationToken)
    {
        var top = edit.Tree.Top();
        var layers = edit.Tree.ChainOf(top).Count + 1;
        if (layers > edit.Context.Limits.MaxBundleLayers)
        {
            throw new BlockException(
                BlockErrorKind.LimitExceeded, $"the disk would stand on a chain of {layers} images, the limit is {edit.Context.Limits.MaxBundleLayers}; delete snapshots first");
        }

        var files = edit.NewNames();
        await edit.BeginAsync(files, null, cancellationToken).ConfigureAwait(false);
        await edit.MakeLayerAsync(files, top, cancellationToken).ConfigureAwait(false);
        await edit.CopyBitmapsAsync(files, top, cancellationToken).ConfigureAwait(false);

        // The current state keeps the predefined GUID, for readers that know no other.
        var (frozen, current) = top.Id == SnapshotTree.PredefinedTop ? (Guid.NewGuid(), top.Id) : (top.Id, Guid.NewGuid());
        edit.Editor.Split(top.Id, frozen, current);
        edit.Editor.SetParent(current, frozen);
        SetFiles(edit, current, files);
        if (edit.Tree.TopId != current)
        {
            edit.Editor.SetTop(current);
        }

        if (name.Length > 0)
        {
            await SnapshotNamesEdit.AddAsync(
                edit, frozen, edit.Tree.ChainOf(top).Skip(1).Select(shot => shot.Id), name, date, cancellationToken).ConfigureAwait(false);
        }

        await edit.SwitchAsync(cancellationToken).ConfigureAwait(false);
        await edit.CleanAsync().ConfigureAwait(false);
        await MergeAsync(edit, null, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Lets the current state be empty images on top of a snapshot; what it had is lost.</summary>
    public static async ValueTask ApplyAsync(BundleEdit edit, DescriptorShot snapshot, CancellationToken cancellationToken)
    {
        var top = edit.Tree.Top();
        if (snapshot.Id == top.Id)
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, "it is the current state, not a snapshot");
        }

        var files = edit.NewNames();
        await edit.WarnOfBitmapsAsync(top, "they told what changed up to the state that is given up", cancellationToken).ConfigureAwait(false);
        foreach (var storage in edit.Descriptor.Storages)
        {
            edit.Forget(edit.ImageOf(storage, top.Id));
        }

        SetFiles(edit, top.Id, files);
        await edit.BeginAsync(files, null, cancellationToken).ConfigureAwait(false);
        await edit.MakeLayerAsync(files, snapshot, cancellationToken).ConfigureAwait(false);
        edit.Editor.SetParent(top.Id, snapshot.Id);
        await edit.SwitchAsync(cancellationToken).ConfigureAwait(false);
        await edit.CleanAsync().ConfigureAwait(false);
        await MergeAsync(edit, null, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Forgets a snapshot. Its images go, are merged with those of the only state on top, or stay as long as several stand on them.</summary>
    public static async ValueTask DeleteAsync(BundleEdit edit, DescriptorShot snapshot, CancellationToken cancellationToken)
    {
        if (snapshot.Id == edit.Tree.TopId)
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, "it is the current state, not a snapshot");
        }

        // Somebody who reads it, or what is going to be merged with it, keeps it from being deleted.
        await edit.GuardAsync(snapshot, cancellationToken).ConfigureAwait(false);
        var children = edit.Tree.Shots.Where(shot => shot.ParentId == snapshot.Id).ToArray();
        if (children is [var only] && only.Id != edit.Tree.TopId)
        {
            await edit.GuardAsync(only, cancellationToken).ConfigureAwait(false);
        }

        if (children.Length == 0)
        {
            await DropAsync(edit, snapshot, cancellationToken).ConfigureAwait(false);
        }
        else
        {
            edit.Editor.MarkMerging(snapshot.Id);
            await edit.SwitchAsync(cancellationToken).ConfigureAwait(false);
        }

        await SnapshotNamesEdit.RemoveAsync(edit, snapshot.Id, CancellationToken.None).ConfigureAwait(false);
        await MergeAsync(edit, null, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Makes the snapshot under the current state what the current state is; that goes on in empty images. Other states on top of the old snapshot keep it as a layer.</summary>
    public static async ValueTask CommitAsync(BundleEdit edit, IProgress<double>? progress, CancellationToken cancellationToken)
    {
        var top = edit.Tree.Top();
        var parent = edit.Tree.ChainOf(top).Skip(1).FirstOrDefault(shot => !shot.IsMerging)
            ?? throw new BlockException(BlockErrorKind.InvalidRequest, $"{edit.Location.Disk.Name}: the current state stands on no snapshot that it could be committed into");
        await edit.GuardAsync(parent, cancellationToken).ConfigureAwait(false);
        var files = edit.NewNames();
        await edit.BeginAsync(files, null, cancellationToken).ConfigureAwait(false);
        await edit.MakeLayerAsync(files, top, cancellationToken).ConfigureAwait(false);
        await edit.CopyBitmapsAsync(files, top, cancellationToken).ConfigureAwait(false);

        // What the snapshot was becomes a layer that is none any more; the entries of the snapshot and of the current state stay, and name other files.
        var layer = Guid.NewGuid();
        edit.Editor.Split(parent.Id, layer, parent.Id);
        edit.Editor.MarkMerging(layer);
        edit.Editor.MoveChildren(parent.Id, layer);
        edit.Editor.SetParent(parent.Id, top.ParentId == parent.Id ? layer : top.ParentId);
        edit.Editor.SetParent(top.Id, parent.Id);
        foreach (var storage in edit.Descriptor.Storages)
        {
            var image = edit.ImageOf(storage, top.Id);
            edit.Editor.SetFile(storage, parent.Id, image.File, image.Type);
        }

        SetFiles(edit, top.Id, files);
        await edit.SwitchAsync(cancellationToken).ConfigureAwait(false);
        await edit.CleanAsync().ConfigureAwait(false);
        await MergeAsync(edit, progress, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Merges deleted snapshots that one state or none stands on. They are gone already: what cannot be merged now is merged by a later change, and a warning tells so.</summary>
    public static async ValueTask MergeAsync(BundleEdit edit, IProgress<double>? progress, CancellationToken cancellationToken)
    {
        try
        {
            while (Next(edit) is { } layer)
            {
                var child = edit.Tree.Shots.FirstOrDefault(shot => shot.ParentId == layer.Id);
                if (child is null)
                {
                    await DropAsync(edit, layer, cancellationToken).ConfigureAwait(false);
                }
                else
                {
                    await MergeAsync(edit, layer, child, progress, cancellationToken).ConfigureAwait(false);
                }
            }
        }
        catch (BlockException e)
        {
            edit.Context.Warn($"what deleted snapshots occupied is not given up yet; the next change of the snapshots tries again: {e.Message}");
        }
    }

    private static DescriptorShot? Next(BundleEdit edit)
    {
        var children = edit.Tree.Shots.CountBy(shot => shot.ParentId).ToDictionary();
        return edit.Tree.Shots.FirstOrDefault(shot => shot.IsMerging && children.GetValueOrDefault(shot.Id) <= 1);
    }

    private static async ValueTask DropAsync(BundleEdit edit, DescriptorShot layer, CancellationToken cancellationToken)
    {
        foreach (var storage in edit.Descriptor.Storages)
        {
            if (storage.Images.TryGetValue(layer.Id, out var image))
            {
                edit.Forget(image);
                edit.Editor.RemoveImage(storage, layer.Id);
            }
        }

        edit.Editor.RemoveShot(layer.Id);
        await edit.BeginAsync([], null, cancellationToken).ConfigureAwait(false);
        await edit.SwitchAsync(cancellationToken).ConfigureAwait(false);
        await edit.CleanAsync().ConfigureAwait(false);
    }

    private static async ValueTask MergeAsync(
        BundleEdit edit, DescriptorShot layer, DescriptorShot child, IProgress<double>? progress, CancellationToken cancellationToken)
    {
        await edit.ReleaseGuardsAsync().ConfigureAwait(false);
        var storages = edit.Descriptor.Storages;
        for (var i = 0; i < storages.Count; i++)
        {
            var (lower, upper) = (edit.ImageOf(storages[i], layer.Id), edit.ImageOf(storages[i], child.Id));
            var part = progress is null ? null : new Part(progress, i, storages.Count);
            if (await MergeStorageAsync(edit, storages[i], layer, child, part, cancellationToken).ConfigureAwait(false))
            {
                // The lower file has become the child's.
                edit.Forget(upper);
                edit.Editor.RemoveImage(storages[i], layer.Id);
                edit.Editor.SetFile(storages[i], child.Id, lower.File, lower.Type);
            }
            else
            {
                edit.Forget(lower);
                edit.Editor.RemoveImage(storages[i], layer.Id);
            }
        }

        // Nobody has changed the descriptor meanwhile: it would have needed the images of the current state, or these.
        await edit.GuardAsync(edit.Tree.Top(), cancellationToken).ConfigureAwait(false);
        await edit.Files.RefuseChangedAsync(edit.Descriptor, cancellationToken).ConfigureAwait(false);
        edit.Editor.RemoveShot(layer.Id);
        edit.Editor.SetParent(child.Id, layer.ParentId);
        await edit.BeginAsync([], null, cancellationToken).ConfigureAwait(false);
        await edit.SwitchAsync(cancellationToken).ConfigureAwait(false);
        await edit.CleanAsync().ConfigureAwait(false);
        await edit.GuardAsync(edit.Tree.Top(), cancellationToken).ConfigureAwait(false);
    }

    // True if all is in the lower image now, false if it is in the upper one.
    private static async ValueTask<bool> MergeStorageAsync(
        BundleEdit edit, DescriptorStorage storage, DescriptorShot layer, DescriptorShot child, IProgress<double>? progress, CancellationToken cancellationToken)
    {
        bool goesDown;
        IReadOnlyList<BitmapInfo> lost = [];
        var look = await edit.OpenChainAsync(storage, child, Guid.Empty, cancellationToken).ConfigureAwait(false);
        await using (look.ConfigureAwait(false))
        {
            // What cannot be written to, or reaches less far, or would lose bitmaps that are tracked, is not the one that stays.
            goesDown = look.Backing!.VirtualSize == look.VirtualSize && look.Bitmaps.Count == 0
                && edit.Files.NameInside(edit.ImageOf(storage, layer.Id)) is not null
                && await LayerMerge.CountDownAsync(look, cancellationToken).ConfigureAwait(false)
                    < await LayerMerge.CountUpAsync(look, cancellationToken).ConfigureAwait(false);
            if (!goesDown)
            {
                lost = [.. look.Backing.Bitmaps.Where(bitmap => look.Bitmaps.All(own => own.Name != bitmap.Name))];
            }
        }

        var chain = await edit.OpenChainAsync(storage, child, goesDown ? layer.Id : child.Id, cancellationToken).ConfigureAwait(false);
        await using (chain.ConfigureAwait(false))
        {
            if (goesDown)
            {
                await LayerMerge.CopyDownAsync(chain, progress, cancellationToken).ConfigureAwait(false);
            }
            else
            {
                await LayerMerge.CopyUpAsync(chain, progress, cancellationToken).ConfigureAwait(false);
            }
        }

        edit.WarnOfLost(lost, "they were the deleted snapshot's, and what was made on it has them not");
        return goesDown;
    }

    private static void SetFiles(BundleEdit edit, Guid id, IReadOnlyList<string> files)
    {
        for (var i = 0; i < files.Count; i++)
        {
            edit.Editor.SetFile(edit.Descriptor.Storages[i], id, files[i], DescriptorImageType.Compressed);
        }
    }

    private sealed class Part(IProgress<double> whole, int index, int count) : IProgress<double>
    {
        public void Report(double value) => whole.Report((index + value) / count);
    }
}
