using Platter.Core.Units;

namespace Platter.Core.Images;

/// <summary>A guest range that depends on a cluster of the image file: its data are there, or a table that leads to them.</summary>
/// <param name="Offset">Where the range starts.</param>
/// <param name="Length">Its bytes.</param>
/// <param name="Snapshot">Name of the internal snapshot whose disk it is; null for the disk as it is now.</param>
public readonly record struct ClusterUse(GuestOffset Offset, long Length, string? Snapshot = null);
