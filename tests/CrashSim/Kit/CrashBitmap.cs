namespace Platter.Tests.CrashSim;

/// <summary>A bitmap as it should be.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Granularity">Guest bytes of one bit.</param>
/// <param name="Enabled">Whether writes are tracked.</param>
/// <param name="Bits">The bits that are set.</param>
internal sealed record CrashBitmap(string Name, long Granularity, bool Enabled, IReadOnlySet<long> Bits)
{
    /// <summary>The bitmap with a range set.</summary>
    public CrashBitmap Set(long offset, long length)
    {
        var bits = new HashSet<long>(Bits);
        for (var bit = offset / Granularity; bit * Granularity < offset + length; bit++)
        {
            bits.Add(bit);
        }

        return this with { Bits = bits };
    }
}
