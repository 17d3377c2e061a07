namespace Platter.TestKit;

/// <summary>One <c>Storage</c> element of a bundle: a range of the disk with its own chain of images.</summary>
/// <param name="StartSector">First sector.</param>
/// <param name="EndSector">The sector after the last.</param>
/// <param name="ClusterSectors">Cluster size in sectors ("Blocksize").</param>
public sealed record BundleStorage(long StartSector, long EndSector, uint ClusterSectors);
