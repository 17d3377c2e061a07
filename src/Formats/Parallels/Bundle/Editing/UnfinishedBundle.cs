using Platter.Core.Errors;
using Platter.Core.Storages;

namespace Platter.Formats.Parallels.Bundle.Editing;

/// <summary>What an interrupted copy leaves of a new disk: a directory whose descriptor has the name that nobody looks for.</summary>
/// <remarks>That descriptor is there before the first image is, its copy comes when all images are, and the descriptor gets its own name when the copy has ended. So at any moment the directory is
/// empty or says what it is.</remarks>
internal static class UnfinishedBundle
{
    /// <summary>Whether all that was to be made before the copying is there, so that it can go on.</summary>
    public static bool CanGoOn(StorageDirectory directory) =>
        !directory.FileExists(BundleFiles.DescriptorName) && directory.FileExists(BundleFiles.UnfinishedName) && directory.FileExists(BundleFiles.BackupName);

    /// <summary>Removes an unfinished copy but for what says that it is one; does nothing where there is none.</summary>
    /// <returns>False: something else is in the directory, and nothing was touched.</returns>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.Locked"/>: the copy is still under way; others as met.</exception>
    public static async ValueTask<bool> TryClearAsync(StorageDirectory directory, string prefix, CancellationToken cancellationToken)
    {
        var files = directory.ListFiles();
        string[] marks = [BundleFiles.UnfinishedName, DurableFiles.TemporaryOf(BundleFiles.UnfinishedName)];
        if (directory.ListDirectories().Count > 0 || !files.All(file => marks.Contains(file) || IsOurs(file, prefix)) || (files.Count > 0 && !files.Any(marks.Contains)))
        {
            return false;
        }

        List<Storage> guards = [];
        try
        {
            foreach (var image in files.Where(IsImage))
            {
                guards.Add(await directory.OpenFileForWritingAsync(image, cancellationToken).ConfigureAwait(false));
                guards[^1].LockForWriting();
            }

            // The descriptor's copy first: without it nobody goes on with images of which some are missing.
            foreach (var file in files.Except(marks).OrderByDescending(file => file == BundleFiles.BackupName))
            {
                await directory.RemoveFileAsync(file, cancellationToken).ConfigureAwait(false);
                if (file == BundleFiles.BackupName)
                {
                    await directory.SynchroniseAsync(cancellationToken).ConfigureAwait(false);
                }
            }

            await directory.SynchroniseAsync(cancellationToken).ConfigureAwait(false);
            return true;
        }
        finally
        {
            foreach (var guard in guards)
            {
                await guard.DisposeAsync().ConfigureAwait(false);
            }
        }
    }

    private static bool IsOurs(string file, string prefix) =>
        file == prefix || (IsImage(file) && file.StartsWith(prefix + ".", StringComparison.Ordinal)) || DurableFiles.IsNamedAsOne(file);

    private static bool IsImage(string file) => file.EndsWith(".hds", StringComparison.Ordinal);
}
