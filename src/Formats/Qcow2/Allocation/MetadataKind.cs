namespace Platter.Formats.Qcow2.Allocation;

/// <summary>What a cluster of metadata holds.</summary>
internal enum MetadataKind
{
    Header,
    RefcountTable,
    RefcountBlock,
    L1Table,

    /// <summary>Of the disk; its L1 entry says that it belongs to that entry alone.</summary>
    L2Table,

    /// <summary>Of the disk; other L1 entries may lead to it too, so it is copied before it is changed.</summary>
    SharedL2Table,
    SnapshotTable,
    SnapshotL1Table,
    EncryptionHeader,
    BitmapDirectory,
    BitmapTable,
    BitmapBits,
}
