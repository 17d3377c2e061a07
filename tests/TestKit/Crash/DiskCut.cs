namespace Platter.TestKit;

/// <summary>A disk at the moment of a power cut: what is certainly there, and the changes whose fate is open.</summary>
public sealed class DiskCut
{
    private readonly IReadOnlyList<FileCut> _files;

    internal DiskCut(long time, IReadOnlyList<FileCut> files)
    {
        Time = time;
        _files = files;
        Pending = [.. files.SelectMany(f => f.Rest).Where(r => !r.IsDurable).Select(r => r.Write)];
        CanReorder = files.All(f => f.Rest.TrueForAll(r => !r.IsDurable && !r.Write.SetsLength));
        DurableCount = files.Sum(f => f.Durable);
    }

    /// <summary>When the power was cut.</summary>
    public long Time { get; }

    /// <summary>The changes that no flush covers, file by file in the order in which they were begun.</summary>
    public IReadOnlyList<SimulatedWrite> Pending { get; }

    /// <summary>Sectors of all of them.</summary>
    public int PendingSectors => Pending.Sum(w => Math.Max(1, w.SectorCount));

    /// <summary>Where two open changes meet, the older one may have arrived last.</summary>
    public bool CanReorder { get; }

    /// <summary>How many changes are certainly there; together with the fates it says which state this is.</summary>
    public int DurableCount { get; }

    /// <summary>The state that follows from a fate for each of <see cref="Pending"/>.</summary>
    /// <param name="fates">In the order of <see cref="Pending"/>.</param>
    /// <param name="olderWins">Where open changes meet, the older one arrived last. Only if <see cref="CanReorder"/>.</param>
    public CrashState Build(IReadOnlyList<WriteFate> fates, bool olderWins = false)
    {
        var files = new Dictionary<SimulatedFile, CutFile>();
        var directories = new List<CutEntries>();
        var next = 0;
        foreach (var file in _files)
        {
            var bytes = file.Bytes.Clone();
            var entries = file.Entries?.Clone();
            if (olderWins && CanReorder)
            {
                for (var i = next + file.Rest.Count - 1; i >= next; i--)
                {
                    bytes.Apply(fates[i]);
                }

                next += file.Rest.Count;
            }
            else
            {
                foreach (var (write, isDurable) in file.Rest)
                {
                    var fate = isDurable ? WriteFate.Whole(write) : fates[next++];
                    bytes.Apply(fate);
                    if (fate.IsWhole)
                    {
                        entries?.Apply(write);
                    }
                }
            }

            files.Add(file.File, bytes);
            if (entries is not null)
            {
                directories.Add(entries);
            }
        }

        return new(Time, Named(files, directories), [.. directories.Select(d => d.Path)], fates, olderWins);
    }

    // What a directory names is there by that name; what it does not name any more is gone. Files of no directory are there as ever.
    private SortedDictionary<string, byte[]> Named(Dictionary<SimulatedFile, CutFile> files, List<CutEntries> directories)
    {
        var named = new SortedDictionary<string, byte[]>(StringComparer.Ordinal);
        foreach (var directory in directories)
        {
            foreach (var (name, file) in directory.Entries)
            {
                named.Add($"{directory.Path}/{name}", files[file].ToArray());
            }
        }

        foreach (var file in _files.Where(f => f.Entries is null && !directories.Exists(d => f.File.Name.StartsWith(d.Path + "/", StringComparison.Ordinal))))
        {
            named.Add(file.File.Name, files[file.File].Take());
        }

        return named;
    }

    internal sealed record FileCut(
        SimulatedFile File, CutFile Bytes, CutEntries? Entries, List<(SimulatedWrite Write, bool IsDurable)> Rest, int Durable);
}
