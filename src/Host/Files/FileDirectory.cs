using Platter.Core.Errors;
using Platter.Core.Storages;
using Platter.Host.Native;

namespace Platter.Host.Files;

/// <summary>A directory of the host. Names that leave it are refused, also when a symbolic link would.</summary>
public sealed class FileDirectory : StorageDirectory
{
    private readonly string _root;
    private readonly string _path;

    private FileDirectory(string name, string path, string root) => (Name, _path, _root) = (name, path, root);

    /// <inheritdoc/>
    public override string Name { get; }

    /// <summary>Opens a directory that the caller names; nothing outside it can be reached through it.</summary>
    /// <exception cref="BlockException">It does not exist or is no directory.</exception>
    public static FileDirectory Open(string path)
    {
        try
        {
            var real = RealPath.Of(Path.GetFullPath(path), path);
            return Directory.Exists(real)
                ? new FileDirectory(path.Length > 1 ? path.TrimEnd('/') : path, real, real)
                : throw new BlockException(BlockErrorKind.NotFound, $"{path}: Could not open: No such directory");
        }
        catch (Exception e) when (HostErrors.IsHostError(e))
        {
            throw HostErrors.From(e, path, "Could not open");
        }
    }

    /// <summary>Makes a directory, or opens one that is there; its name is durable when the call ends.</summary>
    /// <param name="path">Where; the directory around it is there.</param>
    /// <param name="isNew">It was not there.</param>
    /// <exception cref="BlockException">It cannot be made, or something else has the name.</exception>
    public static FileDirectory Create(string path, out bool isNew)
    {
        try
        {
            isNew = !Path.Exists(path);
            if (isNew)
            {
                Directory.CreateDirectory(path);
                DurableFile.FlushDirectory(Path.GetDirectoryName(Path.GetFullPath(path)) ?? "/", path);
            }
            else if (!Directory.Exists(path))
            {
                throw new BlockException(BlockErrorKind.InvalidRequest, $"{path}: is there already, and is no directory");
            }

            return Open(path);
        }
        catch (Exception e) when (HostErrors.IsHostError(e))
        {
            throw HostErrors.From(e, path, "Could not create directory");
        }
    }

    /// <summary>Removes a directory that is empty; that it cannot be is no error.</summary>
    public static void TryRemove(string path)
    {
        try
        {
            Directory.Delete(path);
        }
        catch (Exception e) when (HostErrors.IsHostError(e))
        {
            // Something is in it, then.
        }
    }

    /// <inheritdoc/>
    public override IReadOnlyList<string> ListFiles() => List(Directory.EnumerateFiles);

    /// <inheritdoc/>
    public override IReadOnlyList<string> ListDirectories() => List(Directory.EnumerateDirectories);

    /// <inheritdoc/>
    public override bool FileExists(string name)
    {
        try
        {
            return File.Exists(Inside(name));
        }
        catch (BlockException)
        {
            return false;
        }
    }

    /// <inheritdoc/>
    public override bool Contains(string path)
    {
        try
        {
            return IsInside(RealPath.Of(Path.GetFullPath(path), path));
        }
        catch (Exception e) when (HostErrors.IsHostError(e) || e is BlockException)
        {
            // What cannot be found is not inside.
            return false;
        }
    }

    /// <inheritdoc/>
    public override ValueTask<Storage> OpenFileAsync(string name, CancellationToken cancellationToken = default) =>
        CheckedAsync(FileStorage.OpenReferenced(Inside(name), displayName: $"{Name}/{name}"), name);

    /// <inheritdoc/>
    public override ValueTask<Storage> OpenFileForWritingAsync(string name, CancellationToken cancellationToken = default) =>
        CheckedAsync(FileStorage.OpenReferenced(Inside(name), writable: true, displayName: $"{Name}/{name}"), name);

    /// <inheritdoc/>
    public override ValueTask<Storage> CreateFileAsync(string name, string? like = null, CancellationToken cancellationToken = default) =>
        CheckedAsync(FileStorage.CreateNew(Direct(name), $"{Name}/{name}", like is null ? null : Direct(like)), name);

    /// <inheritdoc/>
    public override ValueTask RenameFileAsync(string name, string newName, CancellationToken cancellationToken = default)
    {
        Change(name, "Could not rename", () => File.Move(Direct(name), Direct(newName), overwrite: true));
        return ValueTask.CompletedTask;
    }

    /// <inheritdoc/>
    public override ValueTask RemoveFileAsync(string name, CancellationToken cancellationToken = default)
    {
        Change(name, "Could not remove", () => File.Delete(Direct(name)));
        return ValueTask.CompletedTask;
    }

    /// <inheritdoc/>
    public override ValueTask<StorageDirectory> CreateDirectoryAsync(string name, CancellationToken cancellationToken = default)
    {
        Change(name, "Could not create directory", () => Directory.CreateDirectory(Direct(name)));
        return OpenDirectoryAsync(name, cancellationToken);
    }

    /// <inheritdoc/>
    public override ValueTask SynchroniseAsync(CancellationToken cancellationToken = default)
    {
        DurableFile.FlushDirectory(_path, Name);
        return ValueTask.CompletedTask;
    }

    private async ValueTask<Storage> CheckedAsync(FileStorage storage, string name)
    {
        string? problem = null;
        if (storage.IsDevice)
        {
            problem = "is a device, not a file of this bundle";
        }
        else if (storage.ResolvedPath is { } opened && !IsInside(opened))
        {
            // A link was put there between looking and opening.
            problem = "lies outside this directory";
        }

        if (problem is not null)
        {
            await storage.DisposeAsync().ConfigureAwait(false);
            throw new BlockException(BlockErrorKind.NotAllowed, $"{Name}: '{SafeText.Clean(name, 256)}' {problem}");
        }

        return storage;
    }

    /// <inheritdoc/>
    public override ValueTask<StorageDirectory> OpenDirectoryAsync(string name, CancellationToken cancellationToken = default)
    {
        var real = Inside(name);
        return Directory.Exists(real)
            ? new(new FileDirectory($"{Name}/{name}", real, _root))
            : throw new BlockException(BlockErrorKind.NotFound, $"{Name}: has no directory '{SafeText.Clean(name, 256)}'");
    }

    /// <inheritdoc/>
    public override StorageDirectory? OpenEnclosing(string suffix)
    {
        if (_path != _root || Path.GetDirectoryName(_path) is not { } outer || !outer.EndsWith(suffix, StringComparison.OrdinalIgnoreCase))
        {
            return null;
        }

        // As the caller wrote it, unless that was a link from elsewhere or the working directory.
        var shown = Path.GetDirectoryName(Name);
        return new FileDirectory(shown is not null && Path.GetFileName(shown) == Path.GetFileName(outer) ? shown : outer, outer, outer);
    }

    // What is changed is a name in this very directory; a link of that name is changed itself, not what it leads to.
    private string Direct(string name) => name.Length == 0 || name is "." or ".." || name.AsSpan().ContainsAny('/', '\\', '\0')
        ? throw new BlockException(BlockErrorKind.NotAllowed, $"{Name}: '{SafeText.Clean(name, 256)}' is no name of a file directly inside")
        : Path.Combine(_path, name);

    private void Change(string name, string attempted, Action change)
    {
        try
        {
            change();
        }
        catch (Exception e) when (HostErrors.IsHostError(e))
        {
            throw HostErrors.From(e, $"{Name}/{SafeText.Clean(name, 256)}", attempted);
        }
    }

    private string Inside(string name)
    {
        try
        {
            if (name.Length == 0 || Path.IsPathRooted(name) || name.Contains('\0', StringComparison.Ordinal))
            {
                throw Outside(name);
            }

            var real = RealPath.Of(Path.GetFullPath(Path.Combine(_path, name)), $"{Name}/{SafeText.Clean(name, 256)}");
            return IsInside(real) ? real : throw Outside(name);
        }
        catch (Exception e) when (HostErrors.IsHostError(e))
        {
            throw HostErrors.From(e, $"{Name}/{SafeText.Clean(name, 256)}", "Could not open");
        }
    }

    private bool IsInside(string real) =>
        real.StartsWith(_root == "/" ? _root : _root + Path.DirectorySeparatorChar, StringComparison.Ordinal);

    private BlockException Outside(string name) =>
        new(BlockErrorKind.NotAllowed, $"{Name}: '{SafeText.Clean(name, 256)}' lies outside this directory");

    private List<string> List(Func<string, IEnumerable<string>> enumerate)
    {
        try
        {
            var names = enumerate(_path).Select(path => Path.GetFileName(path)!).ToList();
            names.Sort(StringComparer.Ordinal);
            return names;
        }
        catch (Exception e) when (HostErrors.IsHostError(e))
        {
            throw HostErrors.From(e, Name, "Could not list");
        }
    }
}
