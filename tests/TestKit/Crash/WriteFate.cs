namespace Platter.TestKit;

/// <summary>What a power cut did to one change that was not flushed: which of its sectors arrived.</summary>
public readonly struct WriteFate
{
    private readonly bool[]? _sectors;

    private WriteFate(SimulatedWrite write, bool[]? sectors, bool isWhole, bool lengthArrived)
    {
        Write = write;
        _sectors = sectors;
        IsWhole = isWhole;
        LengthArrived = lengthArrived;
    }

    /// <summary>The change.</summary>
    public SimulatedWrite Write { get; }

    /// <summary>All of it arrived.</summary>
    public bool IsWhole { get; }

    /// <summary>The file is as long as the change made it, even where its bytes did not arrive: those are zeros.</summary>
    public bool LengthArrived { get; }

    /// <summary>Nothing arrived.</summary>
    public bool IsLost => !IsWhole && !LengthArrived && (_sectors is null || !_sectors.Contains(true));

    /// <summary>All of a change.</summary>
    public static WriteFate Whole(SimulatedWrite write) => new(write, null, isWhole: true, lengthArrived: true);

    /// <summary>Nothing of a change.</summary>
    public static WriteFate Lost(SimulatedWrite write) => new(write, null, isWhole: false, lengthArrived: false);

    /// <summary>Some sectors of a change.</summary>
    public static WriteFate Torn(SimulatedWrite write, Func<int, bool> arrived, bool lengthArrived)
    {
        var sectors = new bool[write.SectorCount];
        for (var i = 0; i < sectors.Length; i++)
        {
            sectors[i] = arrived(i);
        }

        return new(write, sectors, isWhole: false, lengthArrived);
    }

    /// <summary>Whether one of the change's sectors arrived.</summary>
    public bool Arrived(int sector) => IsWhole || (_sectors is not null && _sectors[sector]);

    /// <inheritdoc/>
    public override string ToString()
    {
        if (IsWhole || IsLost)
        {
            return $"{Write}: {(IsWhole ? "arrived" : "lost")}";
        }

        var sectors = _sectors ?? [];
        return $"{Write}: sectors {string.Concat(sectors.Take(128).Select(s => s ? '#' : '.'))}{(LengthArrived ? ", length" : string.Empty)}";
    }
}
