namespace Platter.TestKit;

/// <summary>A dirty bitmap for the Format Extension of a Parallels image.</summary>
/// <remarks>Spec: "Dirty bitmaps feature". L1 entries are 0 (all clear), 1 (all set) or the sector where a cluster of bitmap data starts.</remarks>
public sealed class ParallelsBitmap
{
    private readonly List<(long FirstSector, long Sectors)> _ranges = [];

    /// <summary>Identifier, 16 bytes on disk in the order given here.</summary>
    public byte[] Id { get; init; } = [0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe, 1, 2, 3, 4, 5, 6, 7, 8];

    /// <summary>Sectors for one bit; a power of two, if the image is to be valid.</summary>
    public uint GranularitySectors { get; init; } = 128;

    /// <summary>Disk size in the bitmap, in sectors; null for the size of the image.</summary>
    public ulong? SizeSectors { get; init; }

    /// <summary>Flags of the feature: 1 NECESSARY, 2 TRANSIT.</summary>
    public ulong Flags { get; init; }

    /// <summary>Stores clusters for parts that are all clear or all set, too.</summary>
    public bool StoreUniformClusters { get; init; }

    /// <summary>Dirty ranges in sectors.</summary>
    public IReadOnlyList<(long FirstSector, long Sectors)> Ranges => _ranges;

    /// <summary>Marks sectors as dirty.</summary>
    public ParallelsBitmap Set(long firstSector, long sectors)
    {
        _ranges.Add((firstSector, sectors));
        return this;
    }

    /// <summary>The bits as they are stored: bit n (the least significant of its byte first) stands for n × granularity sectors on.</summary>
    public byte[] ToBits(long diskSectors)
    {
        var granularity = Math.Max(1, GranularitySectors);
        var bits = (diskSectors + granularity - 1) / granularity;
        var result = new byte[(bits + 7) / 8];
        foreach (var (first, sectors) in _ranges)
        {
            var end = Math.Min(bits, (first + sectors + granularity - 1) / granularity);
            for (var bit = first / granularity; bit < end; bit++)
            {
                result[bit / 8] |= (byte)(1 << (int)(bit % 8));
            }
        }

        return result;
    }
}
