using Platter.Core.Units;

namespace Platter.Formats.Qcow2.Layout;

/// <summary>An entry of a bitmap table: where a cluster of bits is, or that all its bits are the same.</summary>
/// <remarks>Spec: section "Bitmap table".</remarks>
internal readonly record struct BitmapTableEntry(ulong Value)
{
    public const int Size = 8;
    public const ulong OffsetMask = 0x00ff_ffff_ffff_fe00;
    public const ulong AllOnesFlag = 1;
    public const ulong ReservedMask = 0xff00_0000_0000_01fe;

    /// <summary>Host offset of the cluster; 0 when there is none.</summary>
    public HostOffset Offset => new((long)(Value & OffsetMask));

    /// <summary>No cluster is stored: all bits are as <see cref="IsAllOnes"/> says.</summary>
    public bool IsUnallocated => (Value & OffsetMask) == 0;

    /// <summary>Of an unallocated cluster: all bits are set.</summary>
    public bool IsAllOnes => (Value & AllOnesFlag) != 0;

    /// <summary>Whether bits are set that must not be: the flag belongs to unallocated clusters only.</summary>
    public bool HasReservedBits => (Value & ReservedMask) != 0 || (!IsUnallocated && IsAllOnes);
}
