using System.Globalization;
using System.Xml.Linq;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;

namespace Platter.Formats.Parallels.Bundle;

/// <summary>Names and times from <c>Snapshots.xml</c> of a virtual machine: a nicety, never needed, never an error.</summary>
/// <remarks>Nobody specifies the file. Seen are nested <c>SavedStateItem</c> elements with a <c>guid</c> attribute, a <c>Name</c> and a
/// <c>DateTime</c> without zone, which is taken as UTC.</remarks>
internal static class SnapshotNames
{
    /// <summary>Its name.</summary>
    public const string FileName = "Snapshots.xml";
    private const int MaxNameChars = 1024;

    /// <summary>What stands for a date that nobody recorded: scripts expect seconds since then.</summary>
    public static readonly DateTimeOffset NoDate = DateTimeOffset.UnixEpoch;

    /// <summary>No names.</summary>
    public static readonly IReadOnlyDictionary<Guid, Entry> None = new Dictionary<Guid, Entry>();

    /// <summary>What the file tells of a snapshot.</summary>
    public readonly record struct Entry(string Name, DateTimeOffset Date);

    /// <summary>Reads the file of the machine that was opened, or around the disk that was opened; a bad one makes a warning and no names.</summary>
    public static async ValueTask<IReadOnlyDictionary<Guid, Entry>> ReadAsync(
        BundleLocation location, OpenContext context, CancellationToken cancellationToken)
    {
        try
        {
            foreach (var directory in (ReadOnlySpan<StorageDirectory?>)[MachineOf(location), location.Disk])
            {
                // A link that leads elsewhere is listed, and no file.
                if (directory is not null && !directory.FileExists(FileName) && directory.ListFiles().Contains(FileName))
                {
                    throw new BlockException(BlockErrorKind.NotAllowed, $"{directory.Name}/{FileName}: leads out of its directory, or is no file");
                }
            }

            if (DirectoryOf(location) is not { } place)
            {
                return None;
            }

            var storage = await place.OpenFileAsync(FileName, cancellationToken).ConfigureAwait(false);
            await using (storage.ConfigureAwait(false))
            {
                return Parse(await XmlFile.LoadAsync(storage, context.Limits.MaxDescriptorBytes, cancellationToken).ConfigureAwait(false));
            }
        }
        catch (BlockException e)
        {
            context.Warn($"snapshots have no names: {e.Message}");
            return None;
        }
    }

    /// <summary>Where the file is, or null if there is none.</summary>
    /// <remarks>It is the machine's. Around a disk that was opened by its own name, nothing but this file is looked at, and only in a machine.</remarks>
    public static StorageDirectory? DirectoryOf(BundleLocation location) =>
        MachineOf(location) is { } machine && machine.FileExists(FileName) ? machine
        : location.Disk.FileExists(FileName) ? location.Disk
        : null;

    private static StorageDirectory? MachineOf(BundleLocation location) => location.Machine ?? location.Disk.OpenEnclosing(".pvm");

    /// <summary>Collects every element that has a GUID and a name. The first entry of a GUID counts.</summary>
    public static Dictionary<Guid, Entry> Parse(XElement root)
    {
        var entries = new Dictionary<Guid, Entry>();
        foreach (var element in root.Descendants())
        {
            var id = element.Attributes().FirstOrDefault(a => a.Name.LocalName.Equals("guid", StringComparison.OrdinalIgnoreCase))?.Value;
            if (id is not null && XmlFile.TryGuid(id.Trim(), out var guid))
            {
                entries.TryAdd(guid, new(SafeText.Clean(Text(element, "Name"), MaxNameChars), Date(Text(element, "DateTime"))));
            }
        }

        return entries;
    }

    private static string Text(XElement parent, string name) =>
        parent.Elements().FirstOrDefault(e => e.Name.LocalName == name && !e.HasElements)?.Value.Trim() ?? string.Empty;

    private static DateTimeOffset Date(string text) => DateTimeOffset.TryParse(
        text, CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal | DateTimeStyles.AdjustToUniversal, out var date) ? date : NoDate;
}
