using Platter.Core.Errors;
using Platter.Core.Storages;

namespace Platter.TestKit;

/// <summary>A directory in memory that can be changed; what is in it is shared by all that were opened over the same files. Not thread-safe.</summary>
public sealed class MemoryDirectory : StorageDirectory
{
    private readonly Dictionary<string, MemoryStorage> _files;
    private readonly HashSet<string> _directories;
    private readonly string _prefix;

    internal MemoryDirectory(string path, Dictionary<string, MemoryStorage> files, HashSet<string> directories) =>
        (Name, _prefix, _files, _directories) = (path, path + "/", files, directories);

    /// <summary>An empty directory.</summary>
    /// <param name="path">Its name, with those of the directories around it and '/' between.</param>
    public MemoryDirectory(string path)
        : this(path, new(StringComparer.Ordinal), new(StringComparer.Ordinal) { path })
    {
    }

    /// <inheritdoc/>
    public override string Name { get; }

    /// <summary>Called with what is about to be changed and the name; throw to have it fail.</summary>
    public Action<string, string>? OnChange { get; set; }

    /// <summary>Takes a copy of a built bundle, or of the disk directories and files of a machine.</summary>
    public static MemoryDirectory Of(BuiltBundle bundle)
    {
        var directory = new MemoryDirectory(bundle.Name);
        foreach (var (name, bytes) in bundle.Files)
        {
            directory.Put(name, bytes.ToArray());
        }

        return directory;
    }

    /// <summary>Adds or replaces a file, and the directories that its name has.</summary>
    public void Put(string name, byte[] bytes)
    {
        _files[_prefix + name] = new MemoryStorage(_prefix + name, bytes);
        for (var slash = name.IndexOf('/', StringComparison.Ordinal); slash >= 0; slash = name.IndexOf('/', slash + 1))
        {
            _directories.Add(_prefix + name[..slash]);
        }
    }

    /// <summary>A file's bytes as they are now.</summary>
    public byte[] Bytes(string name) => _files[_prefix + name].ToArray();

    /// <inheritdoc/>
    public override IReadOnlyList<string> ListFiles() => Inside(_files.Keys);

    /// <inheritdoc/>
    public override IReadOnlyList<string> ListDirectories() => Inside(_directories);

    /// <inheritdoc/>
    public override bool FileExists(string name) => !Leaves(name) && _files.ContainsKey(_prefix + name);

    /// <inheritdoc/>
    public override ValueTask<Storage> OpenFileAsync(string name, CancellationToken cancellationToken = default) =>
        new(new StorageView(Find(name), writable: false, _prefix + name));

    /// <inheritdoc/>
    public override ValueTask<Storage> OpenFileForWritingAsync(string name, CancellationToken cancellationToken = default)
    {
        OnChange?.Invoke("write", name);
        return new(new StorageView(Find(name), writable: true, _prefix + name));
    }

    /// <inheritdoc/>
    public override ValueTask<StorageDirectory> OpenDirectoryAsync(string name, CancellationToken cancellationToken = default) =>
        !Leaves(name) && _directories.Contains(_prefix + name)
            ? new(new MemoryDirectory(_prefix + name, _files, _directories) { OnChange = OnChange })
            : throw new BlockException(BlockErrorKind.NotFound, $"{Name}/{name}: no such directory");

    /// <inheritdoc/>
    public override StorageDirectory? OpenEnclosing(string suffix)
    {
        var slash = Name.LastIndexOf('/');
        return slash > 0 && Name[..slash].EndsWith(suffix, StringComparison.OrdinalIgnoreCase) && _directories.Contains(Name[..slash])
            ? new MemoryDirectory(Name[..slash], _files, _directories) { OnChange = OnChange }
            : null;
    }

    /// <inheritdoc/>
    public override ValueTask<Storage> CreateFileAsync(string name, string? like = null, CancellationToken cancellationToken = default)
    {
        OnChange?.Invoke("create", name);
        if (Leaves(name) || FileExists(name))
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, $"{Name}/{name}: is there already");
        }

        Put(name, []);
        return new(new StorageView(Find(name), writable: true, _prefix + name));
    }

    /// <inheritdoc/>
    public override ValueTask RenameFileAsync(string name, string newName, CancellationToken cancellationToken = default)
    {
        OnChange?.Invoke("rename", newName);
        _files[_prefix + newName] = Find(name);
        _files.Remove(_prefix + name);
        return ValueTask.CompletedTask;
    }

    /// <inheritdoc/>
    public override ValueTask RemoveFileAsync(string name, CancellationToken cancellationToken = default)
    {
        OnChange?.Invoke("remove", name);
        _files.Remove(_prefix + name);
        return ValueTask.CompletedTask;
    }

    /// <inheritdoc/>
    public override ValueTask<StorageDirectory> CreateDirectoryAsync(string name, CancellationToken cancellationToken = default)
    {
        OnChange?.Invoke("create", name);
        _directories.Add(_prefix + name);
        return OpenDirectoryAsync(name, cancellationToken);
    }

    /// <inheritdoc/>
    public override ValueTask SynchroniseAsync(CancellationToken cancellationToken = default) => ValueTask.CompletedTask;

    private MemoryStorage Find(string name) => Leaves(name)
        ? throw new BlockException(BlockErrorKind.NotAllowed, $"{Name}/{name}: lies outside the directory")
        : _files.GetValueOrDefault(_prefix + name) ?? throw new BlockException(BlockErrorKind.NotFound, $"{Name}/{name}: no such file");

    private List<string> Inside(IEnumerable<string> paths) =>
        [.. paths.Where(p => p.StartsWith(_prefix, StringComparison.Ordinal)).Select(p => p[_prefix.Length..]).Where(p => !p.Contains('/', StringComparison.Ordinal)).Order(StringComparer.Ordinal)];

    private static bool Leaves(string name) => name.Length == 0 || name.StartsWith('/') || name.Split('/').Contains("..");
}
