namespace Platter.Formats.Parallels.Bundle.Editing;

/// <summary>Cylinders, heads and sectors for a disk. Nobody derives a size from them, but their product has to be the size (prl-xml).</summary>
internal static class DiskGeometry
{
    /// <summary>The most usual geometry that divides the disk without rest.</summary>
    /// <param name="sectors">Size of the disk.</param>
    public static (long Cylinders, long Heads, long Sectors) Of(long sectors)
    {
        foreach (var (heads, track) in (ReadOnlySpan<(int, int)>)[(16, 63), (16, 32), (16, 16), (16, 8), (8, 8), (4, 8), (2, 8), (1, 8)])
        {
            if (sectors % (heads * track) == 0)
            {
                return (sectors / (heads * track), heads, track);
            }
        }

        return (sectors, 1, 1);
    }
}
