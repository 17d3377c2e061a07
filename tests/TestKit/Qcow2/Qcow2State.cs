namespace Platter.TestKit;

/// <summary>The disk as an internal snapshot froze it.</summary>
internal sealed record Qcow2State(Qcow2Snapshot Snapshot, IReadOnlyDictionary<long, Qcow2Cluster> Clusters, ReferenceDisk Model);
