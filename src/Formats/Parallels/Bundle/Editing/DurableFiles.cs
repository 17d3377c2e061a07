using System.Text;
using Platter.Core.Storages;

namespace Platter.Formats.Parallels.Bundle.Editing;

/// <summary>Small files that are there as they were or as they shall be, whatever happens meanwhile.</summary>
internal static class DurableFiles
{
    // What is called so is ours, and of no use to anybody once whoever was writing it is gone.
    private const string NewSuffix = ".new";

    private static readonly string[] s_names =
        [BundleFiles.DescriptorName, BundleFiles.BackupName, BundleFiles.UnfinishedName, BundleJournal.FileName, SnapshotNames.FileName];

    /// <summary>Makes or replaces a file: the new one is written beside it, flushed, and takes its name; durable when the call ends.</summary>
    public static async ValueTask ReplaceAsync(StorageDirectory directory, string name, ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken)
    {
        var temporary = TemporaryOf(name);
        await directory.RemoveFileAsync(temporary, cancellationToken).ConfigureAwait(false);
        try
        {
            var storage = await directory.CreateFileAsync(temporary, like: name, cancellationToken).ConfigureAwait(false);
            await using (storage.ConfigureAwait(false))
            {
                await storage.WriteAsync(default, bytes, cancellationToken).ConfigureAwait(false);
                await storage.FlushAsync(cancellationToken).ConfigureAwait(false);
            }

            await directory.RenameFileAsync(temporary, name, cancellationToken).ConfigureAwait(false);
        }
        catch
        {
            await TryRemoveAsync(directory, temporary).ConfigureAwait(false);
            throw;
        }

        await directory.SynchroniseAsync(cancellationToken).ConfigureAwait(false);
    }

    /// <summary>As <see cref="ReplaceAsync(StorageDirectory, string, ReadOnlyMemory{byte}, CancellationToken)"/>, in UTF-8.</summary>
    public static ValueTask ReplaceAsync(StorageDirectory directory, string name, string text, CancellationToken cancellationToken) =>
        ReplaceAsync(directory, name, Encoding.UTF8.GetBytes(text), cancellationToken);

    /// <summary>Files that were being written when something was interrupted, directly in a bundle.</summary>
    public static IEnumerable<string> TemporariesIn(StorageDirectory directory) =>
        s_names.Select(TemporaryOf).Where(directory.FileExists);

    /// <summary>What a file is called while it is being written.</summary>
    public static string TemporaryOf(string name) => name + NewSuffix;

    /// <summary>Whether a file has the name of one that is kept in this way, or was being written.</summary>
    public static bool IsNamedAsOne(string name) => s_names.Any(known => name == known || name == TemporaryOf(known));

    /// <summary>Removes a file if it can be; an error that is on its way is the one to report.</summary>
    public static async ValueTask TryRemoveAsync(StorageDirectory directory, string name)
    {
        try
        {
            await directory.RemoveFileAsync(name).ConfigureAwait(false);
        }
        catch (Core.Errors.BlockException)
        {
            // It stays, and is of no use to anybody.
        }
    }
}
