namespace Platter.Formats.Parallels.Bundle;

/// <summary>One <c>Storage</c> element: a part of the disk with its own images. Ordinary disks have one, split disks several.</summary>
/// <param name="StartSector">First sector of the disk in it.</param>
/// <param name="EndSector">The sector after its last.</param>
/// <param name="BlockSizeSectors">Cluster size that its expandable images must have, or null when not given.</param>
/// <param name="Images">In document order; GUIDs are unique.</param>
/// <param name="Path">Path of the element, for messages.</param>
/// <param name="Line">Its line, for messages.</param>
internal sealed record DescriptorStorage(
    long StartSector, long EndSector, long? BlockSizeSectors, IReadOnlyDictionary<Guid, DescriptorImage> Images, string Path, int Line);
