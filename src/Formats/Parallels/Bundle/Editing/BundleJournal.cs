using System.Globalization;
using System.Text;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;

namespace Platter.Formats.Parallels.Bundle.Editing;

/// <summary>What a change of a bundle would leave behind if it were cut: files that only the old or only the new descriptor names, and a size that is half changed.</summary>
/// <remarks>
/// It is a file in the bundle, durable before the first file of the change is made and removed after its last one has gone. The descriptor alone says which state
/// counts; a file of the list that it does not name is of no use. Whoever opens the bundle for writing next cleans up. Readers never look at it.
/// </remarks>
internal sealed record BundleJournal
{
    /// <summary>Its name.</summary>
    public const string FileName = BundleFiles.DescriptorName + ".changes";

    private const int MaxBytes = 1 << 20;
    private const string Heading = "# A change of this disk is under way, or was interrupted. Files listed here that no image is in are removed by the next change.";

    /// <summary>Names of files directly in the bundle.</summary>
    public IReadOnlyList<string> Files { get; init; } = [];

    /// <summary>The size in sectors that the disk is to have, or null when it keeps its own. Until the descriptor says so it has the old one.</summary>
    public long? SizeSectors { get; init; }

    /// <summary>Writes it; durable when the call ends.</summary>
    public ValueTask WriteAsync(StorageDirectory directory, CancellationToken cancellationToken)
    {
        var text = new StringBuilder(Heading).Append('\n');
        foreach (var file in Files)
        {
            text.Append("file ").Append(file).Append('\n');
        }

        if (SizeSectors is { } size)
        {
            text.Append(CultureInfo.InvariantCulture, $"size {size}\n");
        }

        return DurableFiles.ReplaceAsync(directory, FileName, text.ToString(), cancellationToken);
    }

    /// <summary>Cleans up after a change that was cut, if there was one.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.Locked"/>: it is still under way; others as met.</exception>
    public static async ValueTask RecoverAsync(BundleLocation location, OpenContext context, CancellationToken cancellationToken)
    {
        var directory = location.Disk;
        if (!directory.FileExists(FileName))
        {
            return;
        }

        var journal = await ReadAsync(directory, cancellationToken).ConfigureAwait(false);
        var edit = await BundleEdit.OpenCleanAsync(location, context, cancellationToken).ConfigureAwait(false);
        await using (edit.ConfigureAwait(false))
        {
            // Removing files that the old copy still names would leave it useless.
            await edit.WriteBackupAsync(cancellationToken).ConfigureAwait(false);
            await edit.RemoveUnnamedAsync(journal.Files, cancellationToken).ConfigureAwait(false);
            if (journal.SizeSectors is not null)
            {
                await SizeEdit.RestoreAsync(edit, cancellationToken).ConfigureAwait(false);
            }

            await RemoveAsync(directory, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>Removes it: nothing is left of the change.</summary>
    public static async ValueTask RemoveAsync(StorageDirectory directory, CancellationToken cancellationToken)
    {
        await directory.SynchroniseAsync(cancellationToken).ConfigureAwait(false);
        await directory.RemoveFileAsync(FileName, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Parses it. Lines that say nothing known are left alone, as are names that are none of an image directly inside.</summary>
    public static BundleJournal Parse(string text)
    {
        List<string> files = [];
        long? size = null;
        foreach (var line in text.Split('\n', StringSplitOptions.RemoveEmptyEntries))
        {
            if (line.StartsWith("file ", StringComparison.Ordinal) && IsImageName(line[5..]))
            {
                files.Add(line[5..]);
            }
            else if (line.StartsWith("size ", StringComparison.Ordinal)
                && long.TryParse(line.AsSpan(5), NumberStyles.None, CultureInfo.InvariantCulture, out var sectors) && sectors is > 0 and <= long.MaxValue / 512)
            {
                size = sectors;
            }
        }

        return new() { Files = files, SizeSectors = size };
    }

    // It may be a stranger's: nothing but images is ever removed on its word.
    private static bool IsImageName(string name) =>
        name.EndsWith(".hds", StringComparison.OrdinalIgnoreCase) && !name.AsSpan().ContainsAny('/', '\\', '\0');

    /// <summary>Reads it.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.NotFound"/>: there is none; others as met.</exception>
    public static async ValueTask<BundleJournal> ReadAsync(StorageDirectory directory, CancellationToken cancellationToken)
    {
        var storage = await directory.OpenFileAsync(FileName, cancellationToken).ConfigureAwait(false);
        await using (storage.ConfigureAwait(false))
        {
            return Parse(Encoding.UTF8.GetString((await XmlFile.ReadAsync(storage, MaxBytes, cancellationToken).ConfigureAwait(false)).Span));
        }
    }
}
