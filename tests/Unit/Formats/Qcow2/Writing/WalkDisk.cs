using Platter.Core.Storages;
using Platter.TestKit;

namespace Platter.Tests.Unit.Formats.Qcow2.Writing;

/// <summary>Files in memory that are opened by name: so that their requests are counted and may fail, or as they are.</summary>
internal sealed class WalkDisk
{
    private readonly Dictionary<string, MemoryStorage> _files;
    private readonly List<FailingStorage> _opened = [];

    public WalkDisk(IReadOnlyDictionary<string, byte[]> files, FaultCounter counter)
    {
        _files = files.ToDictionary(f => f.Key, f => new MemoryStorage(f.Key, [.. f.Value]), StringComparer.Ordinal);
        Failing = new((name, writable) =>
        {
            if (!_files.TryGetValue(name, out var file))
            {
                return null;
            }

            var storage = new FailingStorage(new StorageView(file, writable), counter);
            _opened.Add(storage);
            return storage;
        });
        Healthy = new((name, writable) => _files.TryGetValue(name, out var file) ? new StorageView(file, writable) : null);
    }

    /// <summary>Opens files whose requests count.</summary>
    public NamedStorages Failing { get; }

    /// <summary>Opens files that never fail.</summary>
    public NamedStorages Healthy { get; }

    /// <summary>Whether everything that was opened and counts has been closed.</summary>
    public bool IsClosed => _opened.TrueForAll(s => s.Closed > 0);

    /// <summary>A file's bytes.</summary>
    public byte[] Bytes(string name) => _files[name].ToArray();
}
