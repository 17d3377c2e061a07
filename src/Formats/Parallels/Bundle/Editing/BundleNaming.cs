using System.Globalization;
using Platter.Core.Errors;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Parallels.Layout;

namespace Platter.Formats.Parallels.Bundle.Editing;

/// <summary>How files of a bundle are called: <c>NAME.hdd.INDEX.{GUID}.hds</c>.</summary>
internal static class BundleNaming
{
    /// <summary>Sectors of a cluster where nothing else is said: 1 MiB.</summary>
    public const uint DefaultClusterSectors = 2048;

    /// <summary>The name of an image.</summary>
    public static string ImageFile(string prefix, int storage, Guid id) =>
        string.Create(CultureInfo.InvariantCulture, $"{prefix}.{storage}.{id:B}.hds");

    /// <summary>What the names of a bundle's images begin with: as with the image that it has, or its own name.</summary>
    public static string PrefixOf(StorageDirectory directory, DiskDescriptor descriptor, Guid? top)
    {
        var storage = descriptor.Storages[0];
        var image = top is { } id && storage.Images.TryGetValue(id, out var current) ? current : storage.Images.Values.First();
        var brace = image.File.LastIndexOf(".{", StringComparison.Ordinal);
        var dot = brace > 0 ? image.File.LastIndexOf('.', brace - 1) : -1;
        if (dot > 0 && image.File.EndsWith("}.hds", StringComparison.OrdinalIgnoreCase) && !image.File.AsSpan(dot + 1, brace - dot - 1).ContainsAnyExceptInRange('0', '9')
            && !image.File.AsSpan(0, dot).ContainsAny('/', '\\') && SafeText.Clean(image.File) == image.File)
        {
            return image.File[..dot];
        }

        var own = Path.GetFileName(directory.Name);
        return own.EndsWith(".hdd", StringComparison.OrdinalIgnoreCase) ? own : "disk.hdd";
    }

    /// <summary>Cluster size and layout for an image on top of a plain one.</summary>
    public static (uint ClusterSectors, int Version) DefaultLook(DescriptorStorage storage)
    {
        var cluster = storage.BlockSizeSectors is > 0 and <= ParallelsHeader.MaxClusterSizeSectors and var sectors ? (uint)sectors : DefaultClusterSectors;
        return (cluster, VersionFor(storage.EndSector - storage.StartSector));
    }

    /// <summary>The layout that Parallels Desktop writes, as far as it reaches: its BAT counts sectors in 32 bits.</summary>
    public static int VersionFor(long sectors) => sectors <= (2L << 40) / Sizes.SectorBytes / 16 * 15 ? 1 : 2;
}
