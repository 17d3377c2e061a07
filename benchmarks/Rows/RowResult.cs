using Platter.Bench.Measuring;

namespace Platter.Bench.Rows;

/// <summary>One line of the table: us and one peer.</summary>
internal sealed record RowResult(string Name, string Peer)
{
    /// <summary>Most memory we may take, whatever we do (design.md, section 8).</summary>
    public const long MemoryTarget = 96 * 1024 * 1024;

    /// <summary>The peer's median, with its unit.</summary>
    public string PeerFigure { get; init; } = string.Empty;

    /// <summary>Our median.</summary>
    public string OurFigure { get; init; } = string.Empty;

    /// <summary>Ours / the peer's, of runs side by side; of times less is better, of throughput more.</summary>
    public Spread? Ratio { get; init; }

    /// <summary>CPU time, ours / the peer's; where a server was measured, per request.</summary>
    public double? CpuRatio { get; init; }

    public long PeerMemoryBytes { get; init; }

    public long OurMemoryBytes { get; init; }

    public Target? Target { get; init; }

    /// <summary>Share of all cores that other processes took meanwhile, 0 to 1.</summary>
    public double OthersShare { get; init; }

    /// <summary>Why there are no figures, or null.</summary>
    public string? Missing { get; init; }

    /// <summary>Whether something went wrong, as opposed to a peer that is not there.</summary>
    public bool Failed { get; init; }

    public bool MemoryIsMet => OurMemoryBytes <= MemoryTarget;

    public string Verdict => (Missing, Target, Ratio) switch
    {
        (not null, _, _) => string.Empty,
        (_, { } target, { } ratio) => (target.IsMet(ratio.Median), MemoryIsMet) switch
        {
            (true, true) => "met",
            (true, false) => "memory missed",
            (false, true) => "missed",
            _ => "missed, memory too",
        },
        _ => MemoryIsMet ? "–" : "memory missed",
    };
}
