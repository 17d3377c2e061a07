using Platter.Core.Bitmaps;
using Platter.Core.Units;
using Platter.Formats.Parallels.Layout;

namespace Platter.Formats.Parallels.Writing;

/// <summary>A dirty bitmap of an image that is open for writing: all of its bits, in memory.</summary>
/// <param name="Id">Its identifier, which is its name as well.</param>
/// <param name="Flags">Of its section in the extension; kept as they were.</param>
/// <param name="Bits">What is dirty.</param>
internal sealed record TrackedBitmap(Guid Id, ulong Flags, DirtyBits Bits)
{
    /// <summary>What is dirty.</summary>
    public DirtyBits Bits { get; private set; } = Bits;

    /// <summary>The name it goes by.</summary>
    public string Name => DirtyBitmapFeature.NameOf(Id);

    /// <summary>Guest bytes that one bit stands for.</summary>
    public long Granularity => 1L << Bits.GranularityBits;

    /// <summary>What callers learn of it. A bitmap of this format is always tracked.</summary>
    public BitmapInfo ToInfo() => new(Name, Granularity, InUse: false, Enabled: true);

    /// <summary>Follows the disk to another size: bits are kept as far as it goes, what is new is clean.</summary>
    public void Resize(long virtualSize)
    {
        var bits = new DirtyBits(virtualSize, Bits.GranularityBits);
        foreach (var range in Bits.Ranges())
        {
            bits.Set(range.Offset, range.Length);
        }

        Bits = bits;
    }

    /// <summary>A bitmap of the same name with these bits and more.</summary>
    public TrackedBitmap Copy(bool withContent)
    {
        var result = this with { Bits = new DirtyBits(Bits.Size, Bits.GranularityBits) };
        if (withContent)
        {
            foreach (var range in Bits.Ranges())
            {
                result.Bits.Set(range.Offset, range.Length);
            }
        }

        return result;
    }
}
