using Platter.Core.Errors;
using Platter.Core.Storages;

namespace Platter.TestKit;

/// <summary>A directory of a <see cref="SimulatedDisk"/> that remembers what was done to its names, and when that was made durable.</summary>
/// <remarks>A name that was given, changed or taken away after the last synchronisation may or may not be so after a power cut, each for itself. What the file
/// holds that it stands for is another matter: that file's own flush.</remarks>
public sealed class SimulatedDirectory : StorageDirectory
{
    private readonly Lock _gate = new();
    private readonly SimulatedFile _entries;
    private readonly Dictionary<string, SimulatedFile> _now;

    internal SimulatedDirectory(string name, SimulatedFile entries, IReadOnlyDictionary<string, SimulatedFile> initial)
    {
        (Name, _entries, Initial) = (name, entries, initial);
        _now = new(initial, StringComparer.Ordinal);
    }

    /// <inheritdoc/>
    public override string Name { get; }

    /// <summary>What it held before anything happened.</summary>
    public IReadOnlyDictionary<string, SimulatedFile> Initial { get; }

    /// <summary>The changes of its names and their flushes.</summary>
    public SimulatedFile Entries => _entries;

    /// <summary>The file that has a name now, or null.</summary>
    public SimulatedFile? Find(string name)
    {
        lock (_gate)
        {
            return _now.GetValueOrDefault(name);
        }
    }

    /// <inheritdoc/>
    public override IReadOnlyList<string> ListFiles()
    {
        lock (_gate)
        {
            return [.. _now.Keys.Order(StringComparer.Ordinal)];
        }
    }

    /// <inheritdoc/>
    public override IReadOnlyList<string> ListDirectories() =>
        [.. _entries.Disk.Directories.Keys.Where(d => d.StartsWith(Name + "/", StringComparison.Ordinal)).Select(d => d[(Name.Length + 1)..])];

    /// <inheritdoc/>
    public override bool FileExists(string name) => _entries.Disk.Find($"{Name}/{name}") is not null;

    /// <inheritdoc/>
    public override ValueTask<Storage> OpenFileAsync(string name, CancellationToken cancellationToken = default) => new(Open(name, writable: false));

    /// <inheritdoc/>
    public override ValueTask<Storage> OpenFileForWritingAsync(string name, CancellationToken cancellationToken = default) => new(Open(name, writable: true));

    /// <inheritdoc/>
    public override ValueTask<StorageDirectory> OpenDirectoryAsync(string name, CancellationToken cancellationToken = default) =>
        _entries.Disk.Directories.TryGetValue($"{Name}/{name}", out var directory)
            ? new(directory)
            : throw new BlockException(BlockErrorKind.NotFound, $"{Name}/{name}: no such directory");

    /// <inheritdoc/>
    public override StorageDirectory? OpenEnclosing(string suffix)
    {
        var slash = Name.LastIndexOf('/');
        return slash > 0 && Name[..slash].EndsWith(suffix, StringComparison.OrdinalIgnoreCase) ? _entries.Disk.Directories.GetValueOrDefault(Name[..slash]) : null;
    }

    /// <inheritdoc/>
    public override ValueTask<Storage> CreateFileAsync(string name, string? like = null, CancellationToken cancellationToken = default)
    {
        lock (_gate)
        {
            if (_now.ContainsKey(name))
            {
                throw new BlockException(BlockErrorKind.InvalidRequest, $"{Name}/{name}: is there already");
            }

            var file = _entries.Disk.AddNewFile($"{Name}/{name}");
            Change((name, file));
            return new(file.Open(writable: true, $"{Name}/{name}"));
        }
    }

    /// <inheritdoc/>
    public override ValueTask RenameFileAsync(string name, string newName, CancellationToken cancellationToken = default)
    {
        lock (_gate)
        {
            Change((name, null), (newName, _now.GetValueOrDefault(name) ?? throw new BlockException(BlockErrorKind.NotFound, $"{Name}/{name}: no such file")));
        }

        return ValueTask.CompletedTask;
    }

    /// <inheritdoc/>
    public override ValueTask RemoveFileAsync(string name, CancellationToken cancellationToken = default)
    {
        lock (_gate)
        {
            if (_now.ContainsKey(name))
            {
                Change((name, null));
            }
        }

        return ValueTask.CompletedTask;
    }

    /// <inheritdoc/>
    public override ValueTask SynchroniseAsync(CancellationToken cancellationToken = default)
    {
        _entries.CompleteFlush(_entries.BeginFlush());
        return ValueTask.CompletedTask;
    }

    private void Change(params (string Name, SimulatedFile? File)[] entries)
    {
        // Without a length of its own it cannot be torn.
        var change = _entries.Begin(0, null, 0, setsLength: true, entries);
        foreach (var (name, file) in entries)
        {
            if (file is null)
            {
                _now.Remove(name);
            }
            else
            {
                _now[name] = file;
            }
        }

        _entries.Complete(change);
    }

    private SimulatedStorage Open(string name, bool writable) => _entries.Disk.Find($"{Name}/{name}")?.Open(writable, $"{Name}/{name}")
        ?? throw new BlockException(BlockErrorKind.NotFound, $"{Name}/{name}: no such file");
}
