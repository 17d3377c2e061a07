using Platter.Core.Units;

namespace Platter.Formats.Qcow2.Layout;

/// <summary>An L1 table entry: where an L2 table is.</summary>
/// <remarks>Spec: section "Cluster mapping". Bits 9 to 55 are the offset, bit 63 says that the L2 table's refcount is exactly one.</remarks>
internal readonly record struct L1Entry(ulong Value)
{
    public const int Size = 8;
    public const ulong OffsetMask = 0x00ff_ffff_ffff_fe00;
    public const ulong CopiedFlag = 1UL << 63;
    public const ulong ReservedMask = 0x7f00_0000_0000_01ff;

    /// <summary>Where the L2 table starts; 0 when there is none.</summary>
    public HostOffset TableOffset => new((long)(Value & OffsetMask));

    /// <summary>No L2 table: nothing below this entry is allocated.</summary>
    public bool IsAbsent => (Value & OffsetMask) == 0;

    /// <summary>The L2 table belongs to this entry alone. Accurate in the active L1 table only.</summary>
    public bool IsCopied => (Value & CopiedFlag) != 0;

    /// <summary>Bits that must be zero and are not.</summary>
    public ulong ReservedBits => Value & ReservedMask;
}
