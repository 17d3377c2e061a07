namespace Platter.Formats.Parallels.Bundle;

/// <summary><c>DiskDescriptor.xml</c> as values, each judged on its own and all of them together; what contradicts the images is found later.</summary>
/// <remarks>Spec: qemu <c>docs/interop/prl-xml</c>. Elements not described there are left alone.</remarks>
internal sealed record DiskDescriptor
{
    /// <summary>Name of the file, for messages.</summary>
    public required string File { get; init; }

    /// <summary>Why this is the copy, read for a repair: what is wrong with the descriptor itself. Null when this is the descriptor.</summary>
    public string? Replaces { get; init; }

    /// <summary>The file as it was read.</summary>
    public ReadOnlyMemory<byte> Bytes { get; init; }

    /// <summary>Size of the disk in sectors ("Disk_size").</summary>
    public required long DiskSizeSectors { get; init; }

    /// <summary>Cylinders × Heads × Sectors, or null when one is missing or the product is absurd. Nothing but a hint.</summary>
    public long? GeometrySectors { get; init; }

    /// <summary>"UID" of the disk, or null.</summary>
    public string? Uid { get; init; }

    /// <summary>"Name" of the disk, or null.</summary>
    public string? Name { get; init; }

    /// <summary>By start sector; they follow each other from sector 0 without gap or overlap.</summary>
    public required IReadOnlyList<DescriptorStorage> Storages { get; init; }

    /// <summary>In document order; empty in some old descriptors.</summary>
    public required IReadOnlyList<DescriptorShot> Shots { get; init; }

    /// <summary>"TopGUID", or null when the predefined GUID is the top.</summary>
    public Guid? TopId { get; init; }

    /// <summary>Line of "TopGUID".</summary>
    public int TopLine { get; init; }

    /// <summary>The bundle that this one was cloned from, or null.</summary>
    public DescriptorVolume? Volume { get; init; }
}
