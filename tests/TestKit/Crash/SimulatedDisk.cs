namespace Platter.TestKit;

/// <summary>A disk with files on it that remembers every change and every flush, so that it can be shown as any power cut might have left it.</summary>
/// <remarks>
/// A flush is one file's business, as on a real system: what one file flushed says nothing of another. One clock counts the events of all files and of
/// the guest, so that "before" and "after" have a meaning across them. The names of files outside of a <see cref="SimulatedDirectory"/> are there from the
/// beginning and stay. Thread-safe.
/// </remarks>
public sealed class SimulatedDisk
{
    private readonly Lock _gate = new();
    private readonly SortedDictionary<string, SimulatedFile> _files = new(StringComparer.Ordinal);
    private readonly List<SimulatedFile> _inOrder = [];
    private readonly SortedDictionary<string, SimulatedDirectory> _directories = new(StringComparer.Ordinal);
    private long _now;

    /// <summary>Requests end later than they begin and others come between, which is what makes requests from many threads meet.</summary>
    public bool IsSlow { get; init; }

    /// <summary>Events so far; every event has a time of its own.</summary>
    public long Now
    {
        get
        {
            lock (_gate)
            {
                return _now;
            }
        }
    }

    /// <summary>The files, in the order in which they were made: names that are chosen at random do not change what a seed does.</summary>
    public IReadOnlyCollection<SimulatedFile> Files => _inOrder;

    /// <summary>Puts a file on the disk that was there, durably, before anything happened.</summary>
    public SimulatedFile AddFile(string name, byte[] bytes)
    {
        var file = new SimulatedFile(this, name, bytes);
        lock (_gate)
        {
            _files.Add(name, file);
            _inOrder.Add(file);
        }

        return file;
    }

    /// <summary>Directories whose names are simulated too, by their paths.</summary>
    public IReadOnlyDictionary<string, SimulatedDirectory> Directories => _directories;

    /// <summary>Puts a directory on the disk that was there, durably, before anything happened.</summary>
    /// <param name="path">Its name, with those of the directories around it and '/' between.</param>
    /// <param name="files">What it held, by name.</param>
    public SimulatedDirectory AddDirectory(string path, IReadOnlyDictionary<string, byte[]> files)
    {
        var entries = AddFile(path + "/", []);
        var initial = files.ToDictionary(f => f.Key, f => AddFile($"{path}/{f.Key}", f.Value), StringComparer.Ordinal);
        var directory = new SimulatedDirectory(path, entries, initial);
        lock (_gate)
        {
            _directories.Add(path, directory);
        }

        return directory;
    }

    /// <summary>A file by name, or null. In a directory it is the file that has the name now.</summary>
    public SimulatedFile? Find(string name)
    {
        lock (_gate)
        {
            var slash = name.LastIndexOf('/');
            return slash > 0 && _directories.TryGetValue(name[..slash], out var directory)
                ? directory.Find(name[(slash + 1)..])
                : _files.GetValueOrDefault(name);
        }
    }

    // A name may be given again: the files that had it are told apart.
    internal SimulatedFile AddNewFile(string name)
    {
        lock (_gate)
        {
            var unique = name;
            for (var i = 2; _files.ContainsKey(unique); i++)
            {
                unique = $"{name}#{i}";
            }

            var file = new SimulatedFile(this, unique, []);
            _files.Add(unique, file);
            _inOrder.Add(file);
            return file;
        }
    }

    /// <summary>Takes note of an event.</summary>
    /// <returns>Its time.</returns>
    public long Tick()
    {
        lock (_gate)
        {
            return ++_now;
        }
    }

    internal long Tick(Action<long> change)
    {
        lock (_gate)
        {
            change(++_now);
            return _now;
        }
    }
}
