namespace Platter.TestKit;

/// <summary>Fields of a Parallels image that a test may want to break; the value is offset × 16 + size in bytes.</summary>
/// <remarks>Spec: "Header". Fields of the Format Extension are reached through <see cref="ParallelsImage.ExtensionAt"/>.</remarks>
public enum ParallelsField
{
    Version = (16 * 16) + 4,
    Heads = (20 * 16) + 4,
    Cylinders = (24 * 16) + 4,

    /// <summary>Cluster size in sectors.</summary>
    Tracks = (28 * 16) + 4,
    BatEntries = (32 * 16) + 4,

    /// <summary>Disk size in sectors, all 64 bits.</summary>
    Sectors = (36 * 16) + 8,

    /// <summary>The low half, all that counts for "WithoutFreeSpace".</summary>
    SectorsLow = (36 * 16) + 4,
    SectorsHigh = (40 * 16) + 4,
    InUse = (44 * 16) + 4,

    /// <summary>Start of the data area, in sectors.</summary>
    DataOffset = (48 * 16) + 4,
    Flags = (52 * 16) + 4,

    /// <summary>Start of the Format Extension, in sectors.</summary>
    ExtensionOffset = (56 * 16) + 8,
}
