namespace Platter.TestKit;

/// <summary>Everything that was done to a <see cref="SimulatedDisk"/>, and how the disk looks when the power is cut at a time.</summary>
/// <remarks>
/// A cut at time T: what began by T may be there. What a flush covers that ended by T is there. Of everything else any subset is there, in any order, torn
/// between sectors. Not thread-safe; the disk must be at rest.
/// </remarks>
public sealed class CrashTrace
{
    private readonly SimulatedFile[] _files;
    private readonly Dictionary<SimulatedFile, SimulatedDirectory> _directories;
    private readonly long[][] _durable;

    /// <summary>The trace of a disk.</summary>
    /// <param name="disk">At rest.</param>
    /// <param name="without">A flush that is taken to have done nothing, as if somebody had forgotten it: is that noticed?</param>
    public CrashTrace(SimulatedDisk disk, SimulatedFlush? without = null)
    {
        _files = [.. disk.Files];
        _directories = disk.Directories.Values.ToDictionary(d => d.Entries);
        End = disk.Now;
        _durable = [.. _files.Select(file => file.Writes.Select(write => DurableFrom(file, write, without)).ToArray())];
        Flushes = [.. _files.SelectMany(f => f.Flushes).OrderBy(f => f.Ended)];

        // Within an epoch the last moment allows every state that an earlier one does, and demands more.
        Epochs = [.. Flushes.Where(f => f != without).Select(f => f.Ended - 1).Append(End)];
    }

    /// <summary>When the last event was.</summary>
    public long End { get; }

    /// <summary>Every flush in the order of their ends.</summary>
    public IReadOnlyList<SimulatedFlush> Flushes { get; }

    /// <summary>The last moments before each flush took effect, and the end.</summary>
    public IReadOnlyList<long> Epochs { get; }

    /// <summary>Changes of all files.</summary>
    public int WriteCount => _files.Sum(f => f.Writes.Count);

    /// <summary>The disk when the power is cut at a time.</summary>
    public DiskCut CutAt(long time)
    {
        var files = new List<DiskCut.FileCut>();
        for (var i = 0; i < _files.Length; i++)
        {
            var file = _files[i];
            var bytes = new CutFile(file.Name, [.. file.Initial], file.Initial.Length);
            var entries = _directories.TryGetValue(file, out var directory) ? new CutEntries(directory.Name, directory.Initial) : null;
            var rest = new List<(SimulatedWrite Write, bool IsDurable)>();
            var durable = 0;
            for (var w = 0; w < file.Writes.Count && file.Writes[w].Begun <= time; w++)
            {
                var isDurable = _durable[i][w] <= time;
                durable += isDurable ? 1 : 0;
                if (isDurable && rest.Count == 0)
                {
                    bytes.Apply(file.Writes[w]);
                    entries?.Apply(file.Writes[w]);
                }
                else
                {
                    rest.Add((file.Writes[w], isDurable));
                }
            }

            files.Add(new(file, bytes, entries, rest, durable));
        }

        return new(time, files);
    }

    private static long DurableFrom(SimulatedFile file, SimulatedWrite write, SimulatedFlush? without)
    {
        var first = long.MaxValue;
        foreach (var flush in file.Flushes)
        {
            if (flush != without && flush.Begun > write.Completed)
            {
                first = Math.Min(first, flush.Ended);
            }
        }

        return first;
    }
}
