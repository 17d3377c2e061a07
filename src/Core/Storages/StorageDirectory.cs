using Platter.Core.Errors;

namespace Platter.Core.Storages;

/// <summary>A directory whose files belong together, such as a Parallels bundle. Nothing outside it can be reached through it.</summary>
/// <remarks>Names are relative, with '/' between parts; implementations refuse names that leave the directory, also through
/// symbolic links, and anything that is neither a regular file nor (for <see cref="OpenDirectoryAsync"/>) a directory. What changes the directory takes
/// names without '/', of files directly inside. A name that was made, changed or removed is durable after a <see cref="SynchroniseAsync"/> that began later, and
/// until then a power cut may undo any of these changes alone; each of them happens wholly or not at all. What a file holds is its own flush's business.</remarks>
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
    /// <exception cref="BlockException"><see cref="BlockErrorKind.NotFound"/>, <see cref="BlockErrorKind.NotAllowed"/>
    /// (it lies outside or is a special file) or <see cref="BlockErrorKind.AccessDenied"/>.</exception>
    public abstract ValueTask<Storage> OpenFileAsync(string name, CancellationToken cancellationToken = default);

    /// <summary>Opens a directory inside.</summary>
    public abstract ValueTask<StorageDirectory> OpenDirectoryAsync(string name, CancellationToken cancellationToken = default);

    /// <summary>Opens a file inside for reading and writing.</summary>
    /// <exception cref="BlockException">As for <see cref="OpenFileAsync"/>; <see cref="BlockErrorKind.ReadOnly"/>: nothing can be changed here.</exception>
    public virtual ValueTask<Storage> OpenFileForWritingAsync(string name, CancellationToken cancellationToken = default) => throw NotWritable();

    /// <summary>Makes an empty file, open for reading and writing.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="like">A file directly inside whose permissions it takes over, where the host has such; null, or one that is not there: as the host likes.</param>
    /// <param name="cancellationToken">Stops before it was made.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>: something of that name is there; <see cref="BlockErrorKind.NotAllowed"/>:
    /// no name of a file directly inside; <see cref="BlockErrorKind.ReadOnly"/>, <see cref="BlockErrorKind.AccessDenied"/>, <see cref="BlockErrorKind.NoSpace"/>.</exception>
    public virtual ValueTask<Storage> CreateFileAsync(string name, string? like = null, CancellationToken cancellationToken = default) => throw NotWritable();

    /// <summary>Gives a file another name; a file that had it is gone. Nobody sees neither or half of either.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.NotFound"/>, and as for <see cref="CreateFileAsync"/>.</exception>
    public virtual ValueTask RenameFileAsync(string name, string newName, CancellationToken cancellationToken = default) => throw NotWritable();

    /// <summary>Removes the name of a file; that it is not there is no error. Whoever has the file open goes on.</summary>
    /// <exception cref="BlockException">As for <see cref="CreateFileAsync"/>.</exception>
    public virtual ValueTask RemoveFileAsync(string name, CancellationToken cancellationToken = default) => throw NotWritable();

    /// <summary>Makes a directory inside, or opens it if it is there.</summary>
    /// <exception cref="BlockException">As for <see cref="CreateFileAsync"/>.</exception>
    public virtual ValueTask<StorageDirectory> CreateDirectoryAsync(string name, CancellationToken cancellationToken = default) => throw NotWritable();

    /// <summary>Makes all that was changed in the list of names durable.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.Io"/>.</exception>
    public virtual ValueTask SynchroniseAsync(CancellationToken cancellationToken = default) => throw NotWritable();

    /// <summary>Whether a path of the host leads to something inside; false for a place that is not on the host.</summary>
    public virtual bool Contains(string path) => false;

    /// <summary>The directory around this one, if its name ends in <paramref name="suffix"/> (in either case) and the caller named this one
    /// itself; null otherwise, and for a place that has no outside. It is the one way out, and for what belongs to both: a machine's list of snapshots.</summary>
    public virtual StorageDirectory? OpenEnclosing(string suffix) => null;

    /// <summary>The error of a directory that cannot be changed.</summary>
    protected BlockException NotWritable() => new(BlockErrorKind.ReadOnly, $"{Name}: nothing can be changed in this directory");
}
