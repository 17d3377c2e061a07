namespace Platter;

/// <summary>How <see cref="Disk.CommitAsync"/> works.</summary>
public sealed record DiskCommitOptions
{
    /// <summary>Do not empty the image afterwards.</summary>
    public bool KeepOverlay { get; init; }

    /// <summary>Bytes per second at most; 0 is unlimited.</summary>
    public long BytesPerSecond { get; init; }
}
