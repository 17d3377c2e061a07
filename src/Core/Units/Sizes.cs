using System.Numerics;

namespace Platter.Core.Units;

/// <summary>Units and the checked arithmetic that every number read from a disk or a wire goes through.</summary>
/// <remarks>None of these throws on overflow: they answer false, so that the caller can name structure, field and value.</remarks>
public static class Sizes
{
    /// <summary>Bytes in a sector, wherever a format counts in sectors.</summary>
    public const int SectorBytes = 512;

    /// <summary>log2 of <see cref="SectorBytes"/>.</summary>
    public const int SectorBits = 9;

    /// <summary>One KiB in bytes.</summary>
    public const long KiB = 1024;

    /// <summary>One MiB in bytes.</summary>
    public const long MiB = 1024 * KiB;

    /// <summary>One GiB in bytes.</summary>
    public const long GiB = 1024 * MiB;

    /// <summary>One TiB in bytes.</summary>
    public const long TiB = 1024 * GiB;

    /// <summary>Adds two non-negative numbers; false when the sum does not fit a long.</summary>
    public static bool TryAdd(long left, long right, out long sum)
    {
        sum = unchecked(left + right);
        return left >= 0 && right >= 0 && sum >= 0;
    }

    /// <summary>Multiplies two non-negative numbers; false when the product does not fit a long.</summary>
    public static bool TryMultiply(long left, long right, out long product)
    {
        product = 0;
        if (left < 0 || right < 0)
        {
            return false;
        }

        var high = Math.BigMul(left, right, out product);
        return high == 0 && product >= 0;
    }

    /// <summary>The quotient rounded up; both numbers non-negative, the divisor positive.</summary>
    public static long DivideRoundingUp(long value, long divisor) => (value / divisor) + (value % divisor == 0 ? 0 : 1);

    /// <summary>The largest multiple of <paramref name="alignment"/> (any positive number) not above <paramref name="value"/>.</summary>
    public static long AlignDown(long value, long alignment) => value - (value % alignment);

    /// <summary>The smallest multiple of <paramref name="alignment"/> not below <paramref name="value"/>; false on overflow.</summary>
    public static bool TryAlignUp(long value, long alignment, out long aligned)
    {
        var rest = value % alignment;
        if (rest == 0)
        {
            aligned = value;
            return value >= 0;
        }

        return TryAdd(value, alignment - rest, out aligned);
    }

    /// <summary>Whether <paramref name="value"/> is a power of two.</summary>
    public static bool IsPowerOfTwo(long value) => value > 0 && BitOperations.IsPow2(value);
}
