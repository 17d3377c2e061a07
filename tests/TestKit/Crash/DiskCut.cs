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
        var files = new SortedDictionary<string, byte[]>(StringComparer.Ordinal);
        var next = 0;
        foreach (var file in _files)
        {
            var bytes = file.Bytes.Clone();
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
                    if (isDurable)
                    {
                        bytes.Apply(write);
                    }
                    else
                    {
                        bytes.Apply(fates[next++]);
                    }
                }
            }

            files.Add(bytes.Name, bytes.Take());
        }

        return new(Time, files, fates, olderWins);
    }

    internal sealed record FileCut(CutFile Bytes, List<(SimulatedWrite Write, bool IsDurable)> Rest, int Durable);
}
