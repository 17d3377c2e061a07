using Platter.Core.Units;

namespace Platter.Formats.Qcow2;

/// <summary>A host cluster by its number: host offset divided by the cluster size.</summary>
/// <param name="Index">Clusters from the start of the file.</param>
internal readonly record struct HostCluster(long Index)
{
    /// <summary>The cluster that holds a host offset.</summary>
    public static HostCluster Of(HostOffset at, Qcow2Geometry geometry) => new(at.Value >> geometry.ClusterBits);

    /// <summary>Where the cluster starts.</summary>
    public HostOffset Start(Qcow2Geometry geometry) => new(Index << geometry.ClusterBits);
}

/// <summary>A guest cluster by its number: guest offset divided by the cluster size.</summary>
/// <param name="Index">Clusters from the start of the disk.</param>
internal readonly record struct GuestCluster(long Index)
{
    /// <summary>The cluster that holds a guest offset.</summary>
    public static GuestCluster Of(GuestOffset at, Qcow2Geometry geometry) => new(at.Value >> geometry.ClusterBits);

    /// <summary>Where the cluster starts.</summary>
    public GuestOffset Start(Qcow2Geometry geometry) => new(Index << geometry.ClusterBits);
}
