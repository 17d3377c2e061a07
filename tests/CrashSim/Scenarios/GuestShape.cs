namespace Platter.Tests.CrashSim;

/// <summary>What kind of image a guest works on, whatever its format.</summary>
internal abstract record GuestShape(string Name)
{
    /// <summary>Clusters of the disk; the last one is not whole.</summary>
    public int Clusters { get; init; } = 40;

    /// <summary>Share of clusters that are there from the beginning.</summary>
    public double Filled { get; init; } = 0.4;

    /// <summary>Whether there is a raw backing disk.</summary>
    public bool Backing { get; init; }

    /// <summary>How far the backing disk reaches beyond the image, in bytes; negative if it is shorter.</summary>
    public long BackingBeyond { get; init; } = -1536;

    /// <summary>Bytes in a cluster.</summary>
    public abstract int ClusterBytes { get; }

    /// <summary>Builds an image. Its free clusters and whatever a guest must not see hold garbage.</summary>
    /// <param name="random">What is where.</param>
    public abstract CrashImage Build(Random random);
}
