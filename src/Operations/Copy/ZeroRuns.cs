namespace Platter.Operations.Copy;

/// <summary>Cuts a buffer into runs that are zero and runs that are not.</summary>
internal static class ZeroRuns
{
    /// <summary>The run at the start of <paramref name="bytes"/>.</summary>
    /// <param name="bytes">Not empty.</param>
    /// <param name="position">Disk offset of its first byte: runs begin and end at multiples of <paramref name="granularity"/> of the disk.</param>
    /// <param name="granularity">The smallest run that is called zero, in bytes.</param>
    /// <returns>Its length, at least 1, and whether all of it is zero.</returns>
    public static (int Length, bool IsZero) Next(ReadOnlySpan<byte> bytes, long position, int granularity)
    {
        var end = NextBoundary(0, bytes.Length, position, granularity);
        var isZero = IsZero(bytes[..end]);
        if (isZero)
        {
            var used = bytes.IndexOfAnyExcept((byte)0);
            if (used < 0)
            {
                return (bytes.Length, true);
            }

            // Back to the boundary before the first byte that is not zero.
            var boundary = used - (int)((position + used) % granularity);
            return (Math.Max(boundary, end), true);
        }

        while (end < bytes.Length)
        {
            var next = NextBoundary(end, bytes.Length, position, granularity);
            if (IsZero(bytes[end..next]))
            {
                break;
            }

            end = next;
        }

        return (end, false);
    }

    /// <summary>Whether every byte is zero.</summary>
    public static bool IsZero(ReadOnlySpan<byte> bytes) => !bytes.ContainsAnyExcept((byte)0);

    private static int NextBoundary(int from, int length, long position, int granularity) =>
        (int)Math.Min(length, from + granularity - ((position + from) % granularity));
}
