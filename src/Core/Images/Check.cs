using Platter.Core.Units;

namespace Platter.Core.Images;

/// <summary>How bad a finding is.</summary>
public enum CheckSeverity
{
    /// <summary>Data may be wrong, or further writes would make it so.</summary>
    Corruption,

    /// <summary>Space is wasted, nothing else.</summary>
    Leak,

    /// <summary>Something could not be examined.</summary>
    Error,

    /// <summary>Worth knowing, not counted.</summary>
    Note,
}

/// <summary>One thing that <c>check</c> found.</summary>
/// <param name="Severity">How bad it is.</param>
/// <param name="Message">One line without the file's name.</param>
public sealed record CheckFinding(CheckSeverity Severity, string Message)
{
    /// <summary>The file it was found in, when the disk has several; null for the image itself.</summary>
    public string? File { get; init; }

    /// <summary>Where in the file, if somewhere.</summary>
    public HostOffset? HostOffset { get; init; }

    /// <summary>The guest range that is affected, if one is.</summary>
    public GuestOffset? GuestOffset { get; init; }

    /// <summary>Bytes of the guest range.</summary>
    public long GuestLength { get; init; }

    /// <summary>What it means, in a sentence or two for people; null when the message says it all.</summary>
    public string? Explanation { get; init; }

    /// <summary>What a repair does about it, or null when it can do nothing.</summary>
    public string? Repair { get; init; }

    /// <summary>Whether the repair that reported it also mends it.</summary>
    public bool IsRepaired { get; init; }
}

/// <summary>Counts of a check. Findings are reported one by one while it runs.</summary>
public sealed record CheckReport
{
    /// <summary>Corruptions found.</summary>
    public long Corruptions { get; init; }

    /// <summary>Leaked clusters.</summary>
    public long Leaks { get; init; }

    /// <summary>Things that could not be examined.</summary>
    public long Errors { get; init; }

    /// <summary>Host offset of the end of the last used cluster, in bytes; null when the format has no such notion.</summary>
    public long? ImageEndOffset { get; init; }

    /// <summary>Guest clusters of the disk; 0 when nothing is allocated, as the peers print it.</summary>
    public long TotalClusters { get; init; }

    /// <summary>Guest clusters with data.</summary>
    public long AllocatedClusters { get; init; }

    /// <summary>Allocated clusters that do not follow their predecessor in the file.</summary>
    public long FragmentedClusters { get; init; }

    /// <summary>Compressed clusters.</summary>
    public long CompressedClusters { get; init; }
}
