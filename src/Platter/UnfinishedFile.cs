using Platter.Core.Errors;
using Platter.Host.Files;

namespace Platter;

/// <summary>The name that a file has until it is a whole copy, when nothing in it could say that it is not.</summary>
internal static class UnfinishedFile
{
    /// <summary>Where a new file is until it is whole.</summary>
    public static string NameOf(string path) => path + ".unfinished";

    /// <summary>Refuses to go on with something that has its name already.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>.</exception>
    public static BlockException Finished(string path) =>
        new(BlockErrorKind.InvalidRequest, $"{path}: is there already; what was interrupted is called '{NameOf(path)}' and nothing else can be resumed");

    /// <summary>Takes the name away from a file that is to be replaced; a device keeps it. Nobody uses the file then.</summary>
    /// <returns>Where the file is.</returns>
    /// <exception cref="BlockException">It is in use, or cannot be written to or renamed: nothing was changed.</exception>
    public static async ValueTask<string> TakeFromAsync(string path)
    {
        var replaced = FileStorage.OpenForReplacing(path);
        await using var closing = replaced.ConfigureAwait(false);
        if (replaced.IsDevice)
        {
            return path;
        }

        var name = NameOf(path);
        if (File.Exists(name))
        {
            // Somebody may be copying into it right now.
            await FileStorage.OpenForReplacing(name).DisposeAsync().ConfigureAwait(false);
        }

        DurableFile.Rename(path, name, replaces: true);
        return name;
    }

    /// <summary>Gives a file its name, durably: it is whole.</summary>
    /// <exception cref="BlockException">It could not be renamed, or something has that name by now.</exception>
    public static void Finish(string path)
    {
        try
        {
            DurableFile.Rename(NameOf(path), path, replaces: false);
        }
        catch (BlockException e)
        {
            throw new BlockException(BlockErrorKind.Io, $"{path}: the copy is whole, and could not be given its name: {e.Message}", e);
        }
    }
}
