using Platter.Core.Units;

namespace Platter.Formats.Qcow2.Layout;

/// <summary>An entry of the refcount table: where a refcount block is.</summary>
/// <remarks>Spec: section "Host cluster management".</remarks>
internal readonly record struct RefcountTableEntry(ulong Value)
{
    public const int Size = 8;
    public const ulong OffsetMask = 0xffff_ffff_ffff_fe00;
    public const ulong ReservedMask = 0x1ff;

    /// <summary>The bits of the offset; may exceed what a file can have.</summary>
    public ulong RawOffset => Value & OffsetMask;

    /// <summary>No block: every refcount it would hold is 0.</summary>
    public bool IsAbsent => RawOffset == 0;

    /// <summary>Bits that must be zero and are not.</summary>
    public ulong ReservedBits => Value & ReservedMask;

    /// <summary>Where the block starts, if it can be anywhere.</summary>
    public HostOffset Offset => new((long)Math.Min(RawOffset, long.MaxValue));
}
