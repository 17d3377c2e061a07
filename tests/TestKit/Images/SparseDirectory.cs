using Platter.Core.Errors;
using Platter.Core.Storages;

namespace Platter.TestKit;

/// <summary>A directory of <see cref="SparseBytes"/> in memory, for readers that take a <see cref="StorageDirectory"/>.</summary>
/// <param name="name">How messages name it.</param>
/// <param name="files">Content by path relative to the directory, with '/' between parts.</param>
public sealed class SparseDirectory(string name, IReadOnlyDictionary<string, SparseBytes> files) : StorageDirectory
{
    private readonly List<string> _opened = [];

    /// <inheritdoc/>
    public override string Name => name;

    /// <summary>Every name that was opened, in order: what a gate let through.</summary>
    public IReadOnlyList<string> Opened
    {
        get
        {
            lock (_opened)
            {
                return [.. _opened];
            }
        }
    }

    /// <inheritdoc/>
    public override IReadOnlyList<string> ListFiles() =>
        [.. files.Keys.Where(f => !f.Contains('/', StringComparison.Ordinal)).Order(StringComparer.Ordinal)];

    /// <inheritdoc/>
    public override IReadOnlyList<string> ListDirectories() =>
        [.. files.Keys.Where(f => f.Contains('/', StringComparison.Ordinal)).Select(f => f[..f.IndexOf('/', StringComparison.Ordinal)]).Distinct().Order(StringComparer.Ordinal)];

    /// <inheritdoc/>
    public override bool FileExists(string name) => !Leaves(name) && files.ContainsKey(name);

    /// <inheritdoc/>
    public override ValueTask<Storage> OpenFileAsync(string name, CancellationToken cancellationToken = default)
    {
        lock (_opened)
        {
            _opened.Add(name);
        }

        if (Leaves(name))
        {
            throw new BlockException(BlockErrorKind.NotAllowed, $"{Name}/{name}: lies outside the directory");
        }

        return files.TryGetValue(name, out var bytes)
            ? new(new SparseStorage($"{Name}/{name}", bytes))
            : throw new BlockException(BlockErrorKind.NotFound, $"{Name}/{name}: no such file");
    }

    /// <inheritdoc/>
    public override ValueTask<StorageDirectory> OpenDirectoryAsync(string name, CancellationToken cancellationToken = default)
    {
        if (Leaves(name))
        {
            throw new BlockException(BlockErrorKind.NotAllowed, $"{Name}/{name}: lies outside the directory");
        }

        var prefix = name.TrimEnd('/') + "/";
        var inside = files.Where(f => f.Key.StartsWith(prefix, StringComparison.Ordinal)).ToDictionary(f => f.Key[prefix.Length..], f => f.Value);
        return inside.Count > 0
            ? new(new SparseDirectory($"{Name}/{name}", inside))
            : throw new BlockException(BlockErrorKind.NotFound, $"{Name}/{name}: no such directory");
    }

    private static bool Leaves(string name) => name.StartsWith('/') || name.Split('/').Contains("..");
}
