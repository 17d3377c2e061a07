namespace Platter.Core.Images;

/// <summary>How far a repair goes.</summary>
public enum RepairMode
{
    /// <summary>Only give back leaked space (<c>-r leaks</c>).</summary>
    Leaks,

    /// <summary>Everything that can be mended without guessing (<c>-r all</c>).</summary>
    All,
}

/// <summary>What a repair is to do.</summary>
/// <param name="Mode">How far it goes.</param>
public sealed record RepairOptions(RepairMode Mode)
{
    /// <summary>Called once everything that is new has been written and before it counts, with what it takes to go back; an exception leaves
    /// the image as it was. Not called when there is nothing to repair.</summary>
    public Func<RepairUndo, CancellationToken, ValueTask>? BeforeSwitch { get; init; }
}

/// <summary>What a repair did, and how the image is now.</summary>
public sealed record RepairReport
{
    /// <summary>Corruptions that were mended.</summary>
    public long CorruptionsFixed { get; init; }

    /// <summary>Leaked clusters that were given back.</summary>
    public long LeaksFixed { get; init; }

    /// <summary>Whether anything was written.</summary>
    public bool IsChanged { get; init; }

    /// <summary>The check of the image as it is now.</summary>
    public required CheckReport Check { get; init; }
}
