using Platter.Core.Units;

namespace Platter.Formats.Qcow2.Layout;

/// <summary>The first 64 bits of an L2 entry: where a guest cluster is.</summary>
/// <remarks>Spec: section "Cluster mapping", "Standard Cluster Descriptor" and "Compressed Clusters Descriptor". Bit 62 tells the two apart.</remarks>
internal readonly record struct L2Entry(ulong Value)
{
    public const ulong OffsetMask = 0x00ff_ffff_ffff_fe00;
    public const ulong ZeroFlag = 1;
    public const ulong CompressedFlag = 1UL << 62;
    public const ulong CopiedFlag = 1UL << 63;
    public const ulong ReservedMask = 0x3f00_0000_0000_01fe;

    /// <summary>The cluster is compressed.</summary>
    public bool IsCompressed => (Value & CompressedFlag) != 0;

    /// <summary>The host cluster belongs to this entry alone.</summary>
    public bool IsCopied => (Value & CopiedFlag) != 0;

    /// <summary>The cluster reads as zeros. Has no meaning in extended entries and in version 2.</summary>
    public bool IsZero => (Value & ZeroFlag) != 0;

    /// <summary>Host offset of a standard cluster.</summary>
    public HostOffset Offset => new((long)(Value & OffsetMask));

    /// <summary>Bits of a standard descriptor that must be zero and are not; the zero flag is not among them.</summary>
    public ulong ReservedBits => Value & ReservedMask;

    /// <summary>Host offset of the first byte of a compressed cluster; any alignment.</summary>
    public HostOffset CompressedOffset(Qcow2Geometry geometry) => new((long)(Value & ((1UL << geometry.CompressedOffsetBits) - 1)));

    /// <summary>The descriptor of a compressed cluster.</summary>
    /// <param name="at">Its first byte.</param>
    /// <param name="length">Its bytes, at least 1.</param>
    /// <param name="geometry">The image's.</param>
    public static L2Entry Compressed(HostOffset at, int length, Qcow2Geometry geometry)
    {
        var additionalSectors = ((at.Value + length - 1) >> Sizes.SectorBits) - (at.Value >> Sizes.SectorBits);
        return new(CompressedFlag | ((ulong)additionalSectors << geometry.CompressedOffsetBits) | (ulong)at.Value);
    }

    /// <summary>Bytes that a compressed cluster occupies at most: to the end of its last sector.</summary>
    public int CompressedLength(Qcow2Geometry geometry)
    {
        var additionalSectors = (Value & ~(CompressedFlag | CopiedFlag)) >> geometry.CompressedOffsetBits;
        return (((int)additionalSectors + 1) << Sizes.SectorBits) - (int)(Value & (Sizes.SectorBytes - 1));
    }
}
