using System.Globalization;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Units;
using Platter.Formats.Parallels.Layout;

namespace Platter.Formats.Parallels.Create;

/// <summary>What a new image is to be: its options by the names QEMU's tools give them (<c>version</c> is ours), judged together with its size.</summary>
/// <param name="IsExtended">The layout: v2 ("WithouFreSpacExt"), which is all that QEMU makes, or v1 ("WithoutFreeSpace"), which Parallels Desktop makes.</param>
/// <param name="ClusterSizeSectors">Cluster size in sectors; no power of two needed.</param>
/// <param name="SizeSectors">Size of the disk in sectors.</param>
internal sealed record ParallelsCreateSettings(bool IsExtended, uint ClusterSizeSectors, long SizeSectors)
{
    private const long DefaultClusterSize = Sizes.MiB;

    /// <summary>Of the guest geometry that the peers write, whatever the size.</summary>
    public const uint SectorsPerTrack = 32;

    private const uint Heads = 16;

    /// <summary>The options in the order in which the peers tell them.</summary>
    public static CreateOptionList Options { get; } = new(
        new("size", CreateOptionKind.Size, "Virtual disk size"),
        new("cluster_size", CreateOptionKind.Size, "Parallels image cluster size", "1048576"),
        new("version", CreateOptionKind.Number, "Layout: 2 as QEMU makes it, 1 as Parallels Desktop does"),
        new("nocow", CreateOptionKind.Switch, "Turn off copy-on-write (valid only on btrfs)"),
        new("extent_size_hint", CreateOptionKind.Size, "Extent size hint for the image file, 0 to disable"));

    /// <summary>Entries of the BAT: one for every cluster of the disk.</summary>
    public long BatEntryCount => Sizes.DivideRoundingUp(SizeSectors, ClusterSizeSectors);

    /// <summary>Where data begin, in sectors: header and BAT, rounded up to whole clusters in both layouts, as everybody writes it.</summary>
    public long DataOffsetSectors => Sizes.DivideRoundingUp(BatEntry.PositionOf(BatEntryCount), ClusterSizeSectors * (long)Sizes.SectorBytes) * ClusterSizeSectors;

    /// <summary>Parses options and judges them together with the disk's size.</summary>
    /// <param name="virtualSize">Bytes; rounded up to whole sectors.</param>
    /// <param name="given">Options by name.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>.</exception>
    public static ParallelsCreateSettings Parse(long virtualSize, NodeOptions given)
    {
        var options = Options.Normalize(given);
        var version = options["version"] is { } text ? long.Parse(text, CultureInfo.InvariantCulture) : 2;
        if (version is not (1 or 2))
        {
            throw Invalid($"Parameter 'version' is {version}: there are the layouts 1 and 2");
        }

        var clusterSize = options["cluster_size"] is not { } size ? DefaultClusterSize
            : ByteCount.TryParse(size, out var bytes) ? bytes : long.MaxValue;
        return Plan(virtualSize, Sizes.DivideRoundingUp(clusterSize, Sizes.SectorBytes), (int)version);
    }

    /// <summary>Judges numbers that came from elsewhere.</summary>
    /// <param name="virtualSize">Bytes; rounded up to whole sectors.</param>
    /// <param name="clusterSizeSectors">Cluster size in sectors.</param>
    /// <param name="version">1 or 2.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>.</exception>
    public static ParallelsCreateSettings Plan(long virtualSize, long clusterSizeSectors, int version)
    {
        if (clusterSizeSectors is 0 or > ParallelsHeader.MaxClusterSizeSectors)
        {
            throw Invalid($"Cluster size must be between {Sizes.SectorBytes} and {(long)ParallelsHeader.MaxClusterSizeSectors * Sizes.SectorBytes} bytes");
        }

        // Whatever the peers make they must be able to open; and a v1 entry counts sectors, so that its file ends at 2 TiB.
        var settings = new ParallelsCreateSettings(version == 2, (uint)clusterSizeSectors, Sizes.DivideRoundingUp(virtualSize, Sizes.SectorBytes));
        return settings.BatEntryCount > ParallelsHeader.MaxBatEntryCount
            || settings.DataOffsetSectors > uint.MaxValue
            || (version == 1 && settings.DataOffsetSectors + (settings.BatEntryCount * clusterSizeSectors) > uint.MaxValue)
            ? throw Invalid($"Image size is too large for this cluster size{(version == 1 ? " and version 1, which ends at 2 TiB" : string.Empty)}")
            : settings;
    }

    /// <summary>The header of the new image.</summary>
    public ParallelsHeader ToHeader() => new(
        IsExtended,
        Version: 2,
        Heads,
        Cylinders: unchecked((uint)(SizeSectors / (Heads * SectorsPerTrack))),
        ClusterSizeSectors,
        (uint)BatEntryCount,
        (ulong)SizeSectors,
        InUse: 0,
        DataOffsetSectors: (uint)DataOffsetSectors,
        Flags: 0,
        ExtensionOffsetSectors: 0);

    private static BlockException Invalid(string message) => new(BlockErrorKind.InvalidRequest, message);
}
