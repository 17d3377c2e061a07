using System.Text.Json.Nodes;

namespace Platter.Core.Images;

/// <summary>What <c>info</c> tells of one image.</summary>
public sealed record ImageInfo
{
    /// <summary>Name of the file or node.</summary>
    public required string FileName { get; init; }

    /// <summary>Format name (<c>qcow2</c>).</summary>
    public required string Format { get; init; }

    /// <summary>Size of the virtual disk, in bytes.</summary>
    public required long VirtualSize { get; init; }

    /// <summary>Bytes the host spends on it, or null when unknown.</summary>
    public long? AllocatedSize { get; init; }

    /// <summary>Cluster size in bytes, or null when the format has none.</summary>
    public long? ClusterSize { get; init; }

    /// <summary>Where saved machine state starts behind the disk, as a guest offset in bytes; 0 when the format has no place for it.</summary>
    public long VmStateOffset { get; init; }

    /// <summary>Whether guest data is encrypted.</summary>
    public bool Encrypted { get; init; }

    /// <summary>Whether it was not closed properly; null when the format cannot tell.</summary>
    public bool? Dirty { get; init; }

    /// <summary>The backing file's name as stored.</summary>
    public string? BackingName { get; init; }

    /// <summary>The backing file's name resolved against the image's own directory.</summary>
    public string? FullBackingName { get; init; }

    /// <summary>The backing file's format as stored.</summary>
    public string? BackingFormat { get; init; }

    /// <summary>Internal snapshots, in table order.</summary>
    public IReadOnlyList<SnapshotInfo> Snapshots { get; init; } = [];

    /// <summary>Which snapshot it says it is, as one of the overlay files of a chain; null when it says nothing.</summary>
    public SnapshotLabel? Label { get; init; }

    /// <summary>What only this format has, in the keys that the peers' JSON uses; null when there is nothing.</summary>
    public JsonObject? FormatSpecific { get; init; }
}

/// <summary>An internal snapshot, or a snapshot of a bundle.</summary>
public sealed record SnapshotInfo
{
    /// <summary>Identifier (a number for qcow2, a GUID in braces for Parallels).</summary>
    public required string Id { get; init; }

    /// <summary>Name that its maker gave; may be empty.</summary>
    public required string Name { get; init; }

    /// <summary>Identifier of the snapshot that it was made from; null when it was made from none, or when the format does not say.</summary>
    public string? ParentId { get; init; }

    /// <summary>When it was taken.</summary>
    public DateTimeOffset Date { get; init; }

    /// <summary>Nanoseconds of <see cref="Date"/> within its second.</summary>
    public int DateNanoseconds { get; init; }

    /// <summary>Bytes of saved machine state.</summary>
    public long VmStateSize { get; init; }

    /// <summary>Guest run time when it was taken, in nanoseconds.</summary>
    public ulong VmClockNanoseconds { get; init; }

    /// <summary>Instruction counter, or null when not recorded.</summary>
    public ulong? InstructionCount { get; init; }

    /// <summary>Size of the disk at that time, in bytes.</summary>
    public long VirtualSize { get; init; }
}
