using Platter.Core.Storages;

namespace Platter.TestKit;

/// <summary>The files as they are found after a power cut, and what led there. Opening for writing changes them.</summary>
public sealed class CrashState
{
    private readonly IReadOnlyList<WriteFate> _fates;
    private readonly bool _olderWins;
    private readonly Dictionary<string, MemoryStorage> _storages;
    private readonly HashSet<string> _directories;

    internal CrashState(
        long time, IReadOnlyDictionary<string, byte[]> files, IReadOnlyList<string> directories, IReadOnlyList<WriteFate> fates, bool olderWins)
    {
        _directories = [.. directories];
        Time = time;
        _fates = fates;
        _olderWins = olderWins;
        _storages = files.ToDictionary(f => f.Key, f => new MemoryStorage(f.Key, f.Value), StringComparer.Ordinal);
    }

    /// <summary>When the power was cut.</summary>
    public long Time { get; }

    /// <summary>Names of the files that are there.</summary>
    public IEnumerable<string> Names => _storages.Keys;

    /// <summary>A file for an opener, or null if it is not there.</summary>
    public Storage? Open(string name, bool writable) => !_storages.TryGetValue(name, out var storage) ? null : new StorageView(storage, writable);

    /// <summary>A directory, which can be changed, or null if it is not there.</summary>
    public StorageDirectory? OpenDirectory(string path) => _directories.Contains(path) ? new MemoryDirectory(path, _storages, _directories) : null;

    /// <summary>A file's bytes as they are now.</summary>
    public byte[] Bytes(string name) => _storages[name].ToArray();

    /// <summary>What arrived and what did not, for the message of a failure.</summary>
    public string Describe()
    {
        const int Most = 60;
        var lines = _fates.Where(f => !f.IsLost).Select(f => f.ToString()).Concat(_fates.Where(f => f.IsLost).Select(f => f.ToString())).Take(Most);
        return $"cut at event {Time}, {_fates.Count} changes not flushed{(_olderWins ? ", the older one wins where they meet" : string.Empty)}:\n  "
            + string.Join("\n  ", lines);
    }
}
