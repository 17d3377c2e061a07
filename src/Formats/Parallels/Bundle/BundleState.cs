namespace Platter.Formats.Parallels.Bundle;

/// <summary>An open bundle as it is between two changes of its snapshots.</summary>
/// <param name="Descriptor">The file.</param>
/// <param name="Tree">Its snapshots.</param>
/// <param name="Names">Of the snapshots.</param>
/// <param name="Opened">The snapshot that is open.</param>
/// <param name="Segments">Its storages, by their starts; none when only metadata were asked for.</param>
internal sealed record BundleState(
    DiskDescriptor Descriptor,
    SnapshotTree Tree,
    IReadOnlyDictionary<Guid, SnapshotNames.Entry> Names,
    DescriptorShot Opened,
    IReadOnlyList<BundleSegment> Segments);
