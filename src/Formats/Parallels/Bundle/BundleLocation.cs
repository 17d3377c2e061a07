using Platter.Core.Errors;
using Platter.Core.Storages;

namespace Platter.Formats.Parallels.Bundle;

/// <summary>Which disk a directory means: it is a bundle (<c>.hdd</c>), or holds one or several (<c>.pvm</c>).</summary>
/// <param name="Disk">The bundle's directory.</param>
/// <param name="Machine">The virtual machine's directory around it, when that is what was opened.</param>
internal readonly record struct BundleLocation(StorageDirectory Disk, StorageDirectory? Machine)
{
    /// <summary>Names of the bundles directly inside a directory; one that has only a copy of its descriptor is one, too, and says so when it is opened.</summary>
    public static List<string> DisksIn(StorageDirectory directory) =>
        [.. directory.ListDirectories().Where(name =>
            name.EndsWith(".hdd", StringComparison.OrdinalIgnoreCase)
            && (directory.FileExists($"{name}/{BundleFiles.DescriptorName}")
                || (directory.FileExists($"{name}/{BundleFiles.BackupName}") && !directory.FileExists($"{name}/{BundleFiles.UnfinishedName}")))).Order(StringComparer.Ordinal)];

    /// <summary>Finds the disk.</summary>
    /// <param name="directory">As the caller named it.</param>
    /// <param name="disk">Name of one bundle of several, with or without ".hdd", or null.</param>
    /// <param name="cancellationToken">Not needed but for opening.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.NotFound"/>: none, or none of that name; <see cref="BlockErrorKind.InvalidRequest"/>:
    /// several, and no choice was made.</exception>
    public static async ValueTask<BundleLocation> FindAsync(StorageDirectory directory, string? disk, CancellationToken cancellationToken)
    {
        if (disk is null && (directory.FileExists(BundleFiles.DescriptorName) || directory.FileExists(BundleFiles.UnfinishedName) || directory.FileExists(BundleFiles.BackupName)))
        {
            return new(directory, null);
        }

        var names = DisksIn(directory);
        if (names.Count == 0)
        {
            if (directory.FileExists(BundleFiles.DescriptorName))
            {
                throw new BlockException(BlockErrorKind.InvalidRequest, $"{directory.Name}: is one disk; option 'disk' is for directories with several");
            }

            throw new BlockException(BlockErrorKind.NotFound, $"{directory.Name}: has no {BundleFiles.DescriptorName} and no .hdd directory with one");
        }

        if (disk is null && names.Count > 1)
        {
            throw new BlockException(
                BlockErrorKind.InvalidRequest, $"{directory.Name}: has {names.Count} disks, choose one with --disk (option 'disk'): {Listed(names)}");
        }

        var chosen = disk is null ? names[0] : names.Find(name => name == disk || name.Equals(disk + ".hdd", StringComparison.OrdinalIgnoreCase));
        return chosen is null
            ? throw new BlockException(
                BlockErrorKind.NotFound, $"{directory.Name}: has no disk '{SafeText.Clean(disk!, 256)}', only {Listed(names)}")
            : new(await directory.OpenDirectoryAsync(chosen, cancellationToken).ConfigureAwait(false), directory);
    }

    private static string Listed(List<string> names) =>
        string.Join(", ", names.Take(16).Select(n => SafeText.Clean(n, 256))) + (names.Count > 16 ? ", ..." : string.Empty);
}
