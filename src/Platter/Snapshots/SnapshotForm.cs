namespace Platter;

/// <summary>What becomes of a disk's snapshots when it is converted.</summary>
public enum SnapshotForm
{
    /// <summary>Only one state of the disk is copied.</summary>
    None,

    /// <summary>Snapshots inside one image or bundle. Of a qcow2 source that has both kinds: its internal snapshots.</summary>
    Internal,

    /// <summary>One overlay file per snapshot. Of a qcow2 source that has both kinds: the images of its backing chain.</summary>
    Chain,
}
