namespace Platter.TestKit;

/// <summary>What one guest cluster of a qcow2 image under construction is. Reference identity is identity of the host cluster.</summary>
internal sealed class Qcow2Cluster
{
    /// <summary>A host cluster and what it holds; null for none (zero-plain, compressed).</summary>
    public byte[]? Host { get; set; }

    /// <summary>The zero bit of a standard entry.</summary>
    public bool Zero { get; init; }

    /// <summary>Extended entries: subclusters that are allocated.</summary>
    public uint Allocated { get; set; }

    /// <summary>Extended entries: subclusters that read as zeros.</summary>
    public uint Zeros { get; set; }

    /// <summary>A compressed stream.</summary>
    public byte[]? Stream { get; init; }

    /// <summary>Which contiguous area the stream is packed into.</summary>
    public int Run { get; init; }

    /// <summary>Sectors that the entry declares beyond those the stream needs.</summary>
    public int SlackSectors { get; init; }

    /// <summary>Belongs to a snapshot: a write must make a new cluster.</summary>
    public bool Frozen { get; set; }
}
