using Platter.Core.Storages;

namespace Platter.Formats.Parallels.Bundle;

/// <summary>Which files a bundle's directory has. Thread-safe; the listing is made once, when a name is not found as it is written.</summary>
internal sealed class BundleNames
{
    private readonly StorageDirectory _directory;
    private readonly Lazy<Dictionary<string, string?>> _byAnyCase;

    /// <summary>The names of a directory.</summary>
    public BundleNames(StorageDirectory directory)
    {
        _directory = directory;
        OwnName = Path.GetFileName(directory.Name);
        _byAnyCase = new(List);
    }

    /// <summary>The directory's own name, without what is above it.</summary>
    public string OwnName { get; }

    /// <summary>Whether there is a file of exactly that name.</summary>
    public bool Exists(string name) => _directory.FileExists(name);

    /// <summary>The file of that name; or, for a name without directories, the only one that differs from it in case alone; or null.</summary>
    /// <remarks>macOS does not tell apart names that differ in case only; a bundle copied from there may rely on that.</remarks>
    public string? Find(string name) =>
        Exists(name) ? name : name.Contains('/', StringComparison.Ordinal) ? null : _byAnyCase.Value.GetValueOrDefault(name);

    private Dictionary<string, string?> List()
    {
        var names = new Dictionary<string, string?>(StringComparer.OrdinalIgnoreCase);
        foreach (var name in _directory.ListFiles())
        {
            // Two candidates are none.
            names[name] = names.ContainsKey(name) ? null : name;
        }

        return names;
    }
}
