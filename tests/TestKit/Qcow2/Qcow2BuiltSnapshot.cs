namespace Platter.TestKit;

/// <summary>An internal snapshot in a built image.</summary>
/// <param name="Snapshot">What was asked for.</param>
/// <param name="Model">What the guest saw.</param>
/// <param name="EntryAt">Host offset of its entry in the snapshot table, in bytes.</param>
/// <param name="L1At">Host offset of its L1 table, in bytes.</param>
/// <param name="L1Size">Entries of its L1 table.</param>
public sealed record Qcow2BuiltSnapshot(Qcow2Snapshot Snapshot, ReferenceDisk Model, long EntryAt, long L1At, long L1Size);
