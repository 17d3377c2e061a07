using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Storages;
using Platter.Host.Files;

namespace Platter;

/// <summary>Keeps a conversion from writing over its own source.</summary>
internal static class TargetGuard
{
    /// <summary>Refuses a file that the source reads or owns.</summary>
    /// <remarks>To be asked before the target is opened for writing, so that the message is about this and not about locks.</remarks>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>.</exception>
    public static async ValueTask RefusePartOfSourceAsync(BlockNode source, string path)
    {
        if (Directory.Exists(path) && source.Directories.Any(directory => directory.Contains(Path.Combine(path, "x"))))
        {
            throw PartOfSource(path);
        }

        if (!File.Exists(path))
        {
            return;
        }

        if (source.Directories.Any(directory => directory.Contains(path)))
        {
            throw PartOfSource(path);
        }

        StorageIdentity? identity;
        try
        {
            var found = FileStorage.Open(path);
            await using var closing = found.ConfigureAwait(false);
            identity = found.Identity;
        }
        catch (BlockException)
        {
            // Opening it for writing tells what is wrong with it.
            return;
        }

        if (IsPartOf(source, identity))
        {
            throw PartOfSource(path);
        }
    }

    /// <summary>Whether the source reads that file.</summary>
    public static bool IsPartOf(BlockNode source, StorageIdentity? identity) =>
        identity is not null && source.Storages.Any(storage => storage.Identity == identity);

    /// <summary>Refuses an export that the source reads under the same name. Under another name (or through another server) nobody can tell.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>.</exception>
    public static void RefuseExportOfSource(BlockNode source, Storage export)
    {
        if (source.Storages.Any(storage => storage.Name == export.Name))
        {
            throw PartOfSource(export.Name);
        }
    }

    /// <summary>The refusal.</summary>
    public static BlockException PartOfSource(string path) =>
        new(BlockErrorKind.InvalidRequest, $"{path}: is part of the source and cannot be its target");
}
