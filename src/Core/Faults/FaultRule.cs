using Platter.Core.Storages;

namespace Platter.Core.Faults;

/// <summary>Kinds of requests that a fault can hit.</summary>
[Flags]
public enum FaultTargets
{
    /// <summary>None.</summary>
    None = 0,

    /// <summary><c>read</c>.</summary>
    Read = 1,

    /// <summary><c>write</c>.</summary>
    Write = 2,

    /// <summary><c>write-zeroes</c>.</summary>
    WriteZeroes = 4,

    /// <summary><c>discard</c>.</summary>
    Discard = 8,

    /// <summary><c>flush</c>.</summary>
    Flush = 16,

    /// <summary><c>block-status</c>: <see cref="Storage.MapAsync"/>.</summary>
    Map = 32,

    /// <summary>What is hit when nothing is said: all but <see cref="Map"/>.</summary>
    Default = Read | Write | WriteZeroes | Discard | Flush,
}

/// <summary><c>inject-error</c>: after an event, requests fail.</summary>
public sealed record FaultRule
{
    /// <summary>The event that arms it.</summary>
    public required StorageEvent Event { get; init; }

    /// <summary>The state in which the event arms it; 0 for any.</summary>
    public int State { get; init; }

    /// <summary>Which requests fail.</summary>
    public FaultTargets Targets { get; init; } = FaultTargets.Default;

    /// <summary>The error, as an <c>errno</c>.</summary>
    public int ErrorNumber { get; init; } = 5;

    /// <summary>Only requests that touch this sector of 512 bytes fail; -1 for all.</summary>
    public long Sector { get; init; } = -1;

    /// <summary>Only the first such request fails.</summary>
    public bool Once { get; init; }

    /// <summary>It fails on the calling thread instead of later.</summary>
    public bool Immediately { get; init; }
}

/// <summary><c>set-state</c>: an event leads to another state.</summary>
/// <param name="Event">The event.</param>
/// <param name="State">The state in which it does so; 0 for any.</param>
/// <param name="NewState">The state then; 0 for no change.</param>
public sealed record FaultStateRule(StorageEvent Event, int State, int NewState);
