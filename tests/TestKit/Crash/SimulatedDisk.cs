namespace Platter.TestKit;

/// <summary>A disk with files on it that remembers every change and every flush, so that it can be shown as any power cut might have left it.</summary>
/// <remarks>
/// A flush is one file's business, as on a real system: what one file flushed says nothing of another. One clock counts the events of all files and of
/// the guest, so that "before" and "after" have a meaning across them. Thread-safe.
/// </remarks>
public sealed class SimulatedDisk
{
    private readonly Lock _gate = new();
    private readonly SortedDictionary<string, SimulatedFile> _files = new(StringComparer.Ordinal);
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

    /// <summary>The files, in the order of their names.</summary>
    public IReadOnlyCollection<SimulatedFile> Files => _files.Values;

    /// <summary>Puts a file on the disk that was there, durably, before anything happened.</summary>
    public SimulatedFile AddFile(string name, byte[] bytes)
    {
        var file = new SimulatedFile(this, name, bytes);
        lock (_gate)
        {
            _files.Add(name, file);
        }

        return file;
    }

    /// <summary>A file by name, or null.</summary>
    public SimulatedFile? Find(string name)
    {
        lock (_gate)
        {
            return _files.GetValueOrDefault(name);
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
