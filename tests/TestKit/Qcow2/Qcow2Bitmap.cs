using System.Text;

namespace Platter.TestKit;

/// <summary>A persistent bitmap for a qcow2 image.</summary>
/// <remarks>Spec: "Bitmaps".</remarks>
public sealed class Qcow2Bitmap(string name)
{
    /// <summary>Flag: was not saved correctly.</summary>
    public const uint InUse = 1;

    /// <summary>Flag: is enabled.</summary>
    public const uint Auto = 2;

    /// <summary>Flag: may be used although its extra data is unknown.</summary>
    public const uint ExtraDataCompatible = 4;

    private readonly List<(long Offset, long Length)> _ranges = [];

    /// <summary>Its name in bytes, not terminated.</summary>
    public byte[] Name { get; init; } = Encoding.UTF8.GetBytes(name);

    /// <summary>log2 of the bytes for one bit.</summary>
    public int GranularityBits { get; init; } = 16;

    /// <summary>flags.</summary>
    public uint Flags { get; init; } = Auto;

    /// <summary>1 is the dirty tracking bitmap, the only type there is.</summary>
    public byte Type { get; init; } = 1;

    /// <summary>Extra data of unknown meaning.</summary>
    public byte[] ExtraData { get; init; } = [];

    /// <summary>Stores clusters for parts that are all clear or all set, too.</summary>
    public bool StoreUniformClusters { get; init; }

    /// <summary>Dirty ranges in guest bytes.</summary>
    public IReadOnlyList<(long Offset, long Length)> Ranges => _ranges;

    /// <summary>Marks guest bytes as dirty.</summary>
    public Qcow2Bitmap Set(long offset, long length)
    {
        _ranges.Add((offset, length));
        return this;
    }

    /// <summary>The bits as they are stored: bit n, the least significant of its byte first.</summary>
    public byte[] ToBits(long diskBytes)
    {
        var granularity = 1L << GranularityBits;
        var bits = (diskBytes + granularity - 1) / granularity;
        var result = new byte[(bits + 7) / 8];
        foreach (var (offset, length) in _ranges)
        {
            var end = Math.Min(bits, (offset + length + granularity - 1) / granularity);
            for (var bit = offset / granularity; bit < end; bit++)
            {
                result[bit / 8] |= (byte)(1 << (int)(bit % 8));
            }
        }

        return result;
    }
}
