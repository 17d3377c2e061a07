using System.Globalization;
using Platter.Core.Errors;

namespace Platter.Formats.Parallels.Bundle.Editing;

/// <summary>Names and dates of snapshots, kept in the machine's <c>Snapshots.xml</c> where there is one, else in a file of that name and shape beside the images.</summary>
/// <remarks>No reader needs them, and no reader is disturbed by them. A name goes to the disk before its snapshot exists, and is taken away after that is gone. What else the file says stays as it is.</remarks>
internal static class SnapshotNamesEdit
{
    private const string Empty = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ParallelsSavedStates>\n</ParallelsSavedStates>\n";
    private const string Item = "SavedStateItem";

    /// <summary>Names a snapshot.</summary>
    /// <param name="edit">The bundle.</param>
    /// <param name="id">The snapshot.</param>
    /// <param name="ancestors">Those it stands on, the nearest first: it becomes part of the first that has a name.</param>
    /// <param name="name">As the user typed it.</param>
    /// <param name="date">When it was taken.</param>
    /// <param name="cancellationToken">Stops before it is written.</param>
    public static async ValueTask AddAsync(
        BundleEdit edit, Guid id, IEnumerable<Guid> ancestors, string name, DateTimeOffset date, CancellationToken cancellationToken)
    {
        await ChangeAsync(
            edit,
            mayCreate: true,
            xml =>
            {
                // Of a snapshot that was not taken in the end, perhaps.
                while (Find(xml, xml.Root, id) is { } old)
                {
                    xml.RemoveAround(old, Item);
                }

                var parent = ancestors.Select(ancestor => Find(xml, xml.Root, ancestor)).FirstOrDefault(found => found is not null) ?? xml.Root;
                xml.Append(parent, new(Item)
                {
                    Attributes = [("guid", $"{id:B}"), ("state", "poweredOff")],
                    Children = [new("Name", name), new("DateTime", date.UtcDateTime.ToString("yyyy-MM-dd HH:mm:ss", CultureInfo.InvariantCulture))],
                });
                return true;
            },
            cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Forgets the name of a snapshot; those that stood on it move up.</summary>
    public static ValueTask RemoveAsync(BundleEdit edit, Guid id, CancellationToken cancellationToken) => ChangeAsync(
        edit,
        mayCreate: false,
        xml =>
        {
            if (Find(xml, xml.Root, id) is not { } item)
            {
                return false;
            }

            xml.RemoveAround(item, Item);
            return true;
        },
        cancellationToken);

    // A nicety: that it cannot be had is told and no more.
    private static async ValueTask ChangeAsync(BundleEdit edit, bool mayCreate, Func<XmlText, bool> change, CancellationToken cancellationToken)
    {
        try
        {
            var found = SnapshotNames.DirectoryOf(edit.Location);
            if (found is null && !mayCreate)
            {
                return;
            }

            var directory = found ?? edit.Location.Disk;
            ReadOnlyMemory<byte> bytes = System.Text.Encoding.UTF8.GetBytes(Empty);
            if (found is not null)
            {
                var storage = await directory.OpenFileAsync(SnapshotNames.FileName, cancellationToken).ConfigureAwait(false);
                await using (storage.ConfigureAwait(false))
                {
                    bytes = await XmlFile.ReadAsync(storage, edit.Context.Limits.MaxDescriptorBytes, cancellationToken).ConfigureAwait(false);
                }
            }

            var name = $"{directory.Name}/{SnapshotNames.FileName}";
            _ = XmlFile.Load(bytes, name);
            var xml = XmlText.Parse(bytes.Span, name);
            if (change(xml))
            {
                var changed = xml.ToBytes();
                _ = XmlFile.Load(changed, name);
                await DurableFiles.ReplaceAsync(directory, SnapshotNames.FileName, changed, cancellationToken).ConfigureAwait(false);
            }
        }
        catch (BlockException e) when (e.Kind is not BlockErrorKind.NoSpace)
        {
            edit.Context.Warn($"names of snapshots were not changed: {e.Message}");
        }
    }

    private static XmlText.Element? Find(XmlText xml, XmlText.Element under, Guid id)
    {
        // Bounded: XmlFile has refused what is nested deeper than 64.
        foreach (var child in under.Children)
        {
            if (xml.AttributeOf(child, "guid") is { } text && XmlFile.TryGuid(text.Trim(), out var guid) && guid == id)
            {
                return child;
            }

            if (Find(xml, child, id) is { } found)
            {
                return found;
            }
        }

        return null;
    }
}
