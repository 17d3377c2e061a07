namespace Platter.Core.Storages;

/// <summary>A directory whose files belong together, such as a Parallels bundle. Nothing outside it can be reached through it.</summary>
/// <remarks>Names are relative, with '/' between parts; implementations refuse names that leave the directory, also through
/// symbolic links, and anything that is neither a regular file nor (for <see cref="OpenDirectoryAsync"/>) a directory.</remarks>
public abstract class StorageDirectory
{
    /// <summary>How messages name it: its path.</summary>
    public abstract string Name { get; }

    /// <summary>Names of the files directly inside, in ordinal order.</summary>
    public abstract IReadOnlyList<string> ListFiles();

    /// <summary>Names of the directories directly inside, in ordinal order.</summary>
    public abstract IReadOnlyList<string> ListDirectories();

    /// <summary>Whether a regular file of that name is inside.</summary>
    public abstract bool FileExists(string name);

    /// <summary>Opens a file inside for reading.</summary>
    /// <exception cref="Errors.BlockException"><see cref="Errors.BlockErrorKind.NotFound"/>, <see cref="Errors.BlockErrorKind.NotAllowed"/>
    /// (it lies outside or is a special file) or <see cref="Errors.BlockErrorKind.AccessDenied"/>.</exception>
    public abstract ValueTask<Storage> OpenFileAsync(string name, CancellationToken cancellationToken = default);

    /// <summary>Opens a directory inside.</summary>
    public abstract ValueTask<StorageDirectory> OpenDirectoryAsync(string name, CancellationToken cancellationToken = default);

    /// <summary>Whether a path of the host leads to something inside; false for a place that is not on the host.</summary>
    public virtual bool Contains(string path) => false;

    /// <summary>The directory around this one, if its name ends in <paramref name="suffix"/> (in either case) and the caller named this one
    /// itself; null otherwise, and for a place that has no outside. It is the one way out, and for what belongs to both: a machine's list of snapshots.</summary>
    public virtual StorageDirectory? OpenEnclosing(string suffix) => null;
}
