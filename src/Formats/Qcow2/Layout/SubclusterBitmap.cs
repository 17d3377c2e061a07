using System.Numerics;

namespace Platter.Formats.Qcow2.Layout;

/// <summary>The second 64 bits of an extended L2 entry: 32 allocation bits, then 32 zero bits, the lowest for the first subcluster.</summary>
/// <remarks>Spec: section "Extended L2 Entries".</remarks>
internal readonly record struct SubclusterBitmap(ulong Value)
{
    /// <summary>Subclusters with data of this image.</summary>
    public uint Allocated => (uint)Value;

    /// <summary>Subclusters that read as zeros.</summary>
    public uint Zero => (uint)(Value >> 32);

    /// <summary>Whether a subcluster is both, which the format forbids.</summary>
    public bool IsContradictory => (Allocated & Zero) != 0;

    /// <summary>How many subclusters from <paramref name="index"/> on have the same two bits as that one.</summary>
    public int RunLength(int index)
    {
        var allocated = Allocated >> index;
        var zero = Zero >> index;
        var differs = (allocated ^ (0u - (allocated & 1))) | (zero ^ (0u - (zero & 1)));
        return Math.Min(BitOperations.TrailingZeroCount(differs), Qcow2Geometry.SubclustersPerCluster - index);
    }
}
