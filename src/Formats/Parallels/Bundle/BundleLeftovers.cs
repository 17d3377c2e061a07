using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Formats.Parallels.Bundle.Editing;

namespace Platter.Formats.Parallels.Bundle;

/// <summary>What a change of a bundle leaves when it is interrupted: space that nobody needs, and nothing wrong.</summary>
/// <remarks>There are three witnesses, and only what one of them testifies to is taken for a leftover: the journal, the mark of a deleted snapshot, and names that only this program makes.</remarks>
internal sealed class BundleLeftovers
{
    private readonly BundleJournal? _journal;
    private readonly SnapshotTree _tree;
    private readonly DiskDescriptor _descriptor;
    private readonly Dictionary<Guid, int> _children;

    private BundleLeftovers(BundleFiles files, DiskDescriptor descriptor, SnapshotTree tree, BundleJournal? journal)
    {
        (_descriptor, _tree, _journal) = (descriptor, tree, journal);
        _children = tree.Shots.CountBy(shot => shot.ParentId).ToDictionary();
        var named = descriptor.Storages.SelectMany(storage => storage.Images.Values).Select(files.NameInside).ToHashSet(StringComparer.OrdinalIgnoreCase);
        Files = [.. (journal?.Files ?? []).Where(file => !named.Contains(file) && files.Directory.FileExists(file)).Distinct(StringComparer.Ordinal)];
        Temporaries = [.. DurableFiles.TemporariesIn(files.Directory).Where(file => !named.Contains(file))];
        Unmerged = [.. tree.Shots.Where(CanMerge)];
    }

    /// <summary>Images that the journal lists and no descriptor names.</summary>
    public IReadOnlyList<string> Files { get; }

    /// <summary>Files that were being written.</summary>
    public IReadOnlyList<string> Temporaries { get; }

    /// <summary>Deleted snapshots that one state or none stands on, so that they need not be there.</summary>
    public IReadOnlyList<DescriptorShot> Unmerged { get; }

    /// <summary>Whether there is anything to clean up.</summary>
    public bool Any => _journal is not null || Temporaries.Count > 0 || Unmerged.Count > 0;

    /// <summary>Looks for them.</summary>
    public static async ValueTask<BundleLeftovers> FindAsync(BundleFiles files, DiskDescriptor descriptor, SnapshotTree tree, CancellationToken cancellationToken)
    {
        BundleJournal? journal = null;
        if (files.Directory.FileExists(BundleJournal.FileName))
        {
            try
            {
                journal = await BundleJournal.ReadAsync(files.Directory, cancellationToken).ConfigureAwait(false);
            }
            catch (BlockException)
            {
                // It says nothing, then.
                journal = new();
            }
        }

        return new(files, descriptor, tree, journal);
    }

    /// <summary>What a check says of them.</summary>
    public IEnumerable<CheckFinding> ToFindings()
    {
        if (_journal is not null)
        {
            var what = _journal.SizeSectors is { } size && size != _descriptor.DiskSizeSectors ? $" (of the size to {size} sectors, which did not happen)" : string.Empty;
            yield return Leak(BundleJournal.FileName, $"a change of the bundle{what} was interrupted, or is under way");
        }

        foreach (var file in Files.Concat(Temporaries))
        {
            yield return Leak(SafeText.Clean(file, 256), "was left by a change that was interrupted, and nobody needs it");
        }

        foreach (var shot in Unmerged)
        {
            yield return Leak(BundleFiles.DescriptorName, $"the snapshot {shot.Id:B} was deleted, and its images were not merged with those on top of them");
        }
    }

    /// <summary>Whether an image that says it is open for writing is one that an interrupted change was writing to.</summary>
    public bool ExplainsOpen(DescriptorStorage storage, DescriptorImage image) =>
        (_journal?.SizeSectors is not null && image.Id == _tree.TopId && ReferenceEquals(storage, _descriptor.Storages[^1]))
        || (_tree.Find(image.Id) is { } shot && (CanMerge(shot) || (_tree.Find(shot.ParentId) is { } below && CanMerge(below))));

    /// <summary>Whether an image that is larger than its storage was left so by an interrupted change of the size.</summary>
    public bool ExplainsLarger(DescriptorStorage storage, DescriptorImage image) =>
        _journal?.SizeSectors >= _descriptor.DiskSizeSectors && image.Id == _tree.TopId && ReferenceEquals(storage, _descriptor.Storages[^1]);

    private bool CanMerge(DescriptorShot shot) => shot.IsMerging && shot.Id != _tree.TopId && _children.GetValueOrDefault(shot.Id) <= 1;

    private static CheckFinding Leak(string file, string message) => new(CheckSeverity.Leak, message)
    {
        File = file,
        Explanation = "It costs space and nothing else: the descriptor says which state counts, and that state is whole.",
        Repair = "it is cleaned up, as the next change of the disk would do",
    };
}
