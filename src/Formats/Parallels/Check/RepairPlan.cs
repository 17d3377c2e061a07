using Platter.Core.Errors;

namespace Platter.Formats.Parallels.Check;

/// <summary>What a check of an image found that a repair changes.</summary>
internal sealed class RepairPlan
{
    // More damage than this is no image any more, and is not held in memory.
    private const int MaxEntries = 1 << 24;

    /// <summary>BAT entries that become 0.</summary>
    public List<long> Cleared { get; } = [];

    /// <summary>BAT entries whose cluster is copied to one of its own: index, and where the bytes are.</summary>
    public List<(long Index, long Host)> Copied { get; } = [];

    /// <summary>The file must have so many bytes at least.</summary>
    public long LeastLength { get; set; }

    /// <summary>Where the last cluster in use ends, if the file is to be cut there; else null.</summary>
    public long? CutAt { get; set; }

    /// <summary>The data area's start that is to be written, in bytes; null to leave it.</summary>
    public long? DataOffset { get; set; }

    /// <summary>ext_off becomes 0.</summary>
    public bool DropsExtension { get; set; }

    /// <summary>in_use is not "Ynot" any more.</summary>
    public bool Closes { get; set; }

    /// <summary>Whether anything is to be done.</summary>
    public bool IsEmpty => Cleared.Count + Copied.Count == 0 && LeastLength == 0 && CutAt is null && DataOffset is null && !DropsExtension && !Closes;

    public void Clear(string file, long index) => Add(file, Cleared, index);

    public void Copy(string file, long index, long host) => Add(file, Copied, (index, host));

    private static void Add<T>(string file, List<T> list, T item)
    {
        if (list.Count >= MaxEntries)
        {
            throw new BlockException(BlockErrorKind.LimitExceeded, $"{file}: more than {MaxEntries} BAT entries are damaged; it cannot be repaired");
        }

        list.Add(item);
    }
}
