namespace Platter.Operations.Offline;

/// <summary>What <see cref="BenchOperation"/> sends to a disk.</summary>
public sealed record BenchOptions
{
    /// <summary>Requests in all.</summary>
    public int Count { get; init; } = 75000;

    /// <summary>Requests under way at most.</summary>
    public int Depth { get; init; } = 64;

    /// <summary>Bytes of a request.</summary>
    public int RequestBytes { get; init; } = 4096;

    /// <summary>Bytes from the start of one request to that of the next.</summary>
    public int StepBytes { get; init; } = 4096;

    /// <summary>Where the first request starts, in bytes.</summary>
    public long Offset { get; init; }

    /// <summary>Write instead of read.</summary>
    public bool Writes { get; init; }

    /// <summary>What is written.</summary>
    public byte Pattern { get; init; }

    /// <summary>Flush after every so many writes; 0 never.</summary>
    public int FlushInterval { get; init; }

    /// <summary>Wait for all requests before a flush.</summary>
    public bool DrainsBeforeFlush { get; init; } = true;
}
