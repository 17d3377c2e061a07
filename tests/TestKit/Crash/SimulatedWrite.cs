namespace Platter.TestKit;

/// <summary>A change of a <see cref="SimulatedFile"/>: bytes, zeros, or another length; or of names in a <see cref="SimulatedDirectory"/>.</summary>
public sealed class SimulatedWrite
{
    private const int SectorBytes = 512;

    internal SimulatedWrite(int index, long at, byte[]? bytes, long length, bool setsLength, long begun)
    {
        Index = index;
        At = at;
        Bytes = bytes;
        Length = length;
        SetsLength = setsLength;
        Begun = begun;
        FirstSector = at / SectorBytes;
        SectorCount = setsLength || length == 0 ? 0 : (int)(((at + length - 1) / SectorBytes) - FirstSector + 1);
    }

    /// <summary>Which change of its file it is.</summary>
    public int Index { get; }

    /// <summary>Where it starts, in bytes; for a change of length, the new length.</summary>
    public long At { get; }

    /// <summary>What is written; null for zeros and for a change of length.</summary>
    public byte[]? Bytes { get; }

    /// <summary>How many bytes.</summary>
    public long Length { get; }

    /// <summary>It only sets the length of the file.</summary>
    public bool SetsLength { get; }

    /// <summary>For a change of a directory: its names and the files they stand for from then on, null for none. It arrives as one, or not at all.</summary>
    public IReadOnlyList<(string Name, SimulatedFile? File)>? Entries { get; init; }

    /// <summary>When it began.</summary>
    public long Begun { get; }

    /// <summary>When it was answered; <see cref="long.MaxValue"/> as long as it was not.</summary>
    public long Completed { get; internal set; } = long.MaxValue;

    /// <summary>The first sector of the file that it touches.</summary>
    public long FirstSector { get; }

    /// <summary>The sectors that it touches: it can be torn between them.</summary>
    public int SectorCount { get; }

    /// <summary>The bytes of one of its sectors that it writes: where, from which of its own bytes on, how many.</summary>
    internal (long At, int From, int Count) Piece(int sector)
    {
        var start = Math.Max(At, (FirstSector + sector) * SectorBytes);
        var end = Math.Min(At + Length, (FirstSector + sector + 1) * SectorBytes);
        return (start, (int)(start - At), (int)(end - start));
    }

    /// <inheritdoc/>
    public override string ToString() => Entries is not null
        ? $"#{Index} names: {string.Join(", ", Entries.Select(e => $"{e.Name} {(e.File is null ? "gone" : $"is {e.File.Name}")}"))}"
        : SetsLength
        ? $"#{Index} set length 0x{At:x}"
        : $"#{Index} {(Bytes is null ? "zero" : "write")} 0x{Length:x} bytes at 0x{At:x}";
}
