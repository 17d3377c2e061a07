namespace Platter.TestKit;

/// <summary>Header fields of a qcow2 image that a test may want to break; the value is offset × 16 + size in bytes.</summary>
/// <remarks>Spec: "Header".</remarks>
public enum Qcow2Field
{
    Magic = (0 * 16) + 4,
    Version = (4 * 16) + 4,
    BackingFileOffset = (8 * 16) + 8,
    BackingFileSize = (16 * 16) + 4,
    ClusterBits = (20 * 16) + 4,
    Size = (24 * 16) + 8,
    CryptMethod = (32 * 16) + 4,
    L1Size = (36 * 16) + 4,
    L1TableOffset = (40 * 16) + 8,
    RefcountTableOffset = (48 * 16) + 8,
    RefcountTableClusters = (56 * 16) + 4,
    SnapshotCount = (60 * 16) + 4,
    SnapshotsOffset = (64 * 16) + 8,
    IncompatibleFeatures = (72 * 16) + 8,
    CompatibleFeatures = (80 * 16) + 8,
    AutoclearFeatures = (88 * 16) + 8,
    RefcountOrder = (96 * 16) + 4,
    HeaderLength = (100 * 16) + 4,
    CompressionType = (104 * 16) + 1,
}
