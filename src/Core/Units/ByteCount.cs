using System.Globalization;

namespace Platter.Core.Units;

/// <summary>Sizes as people write them in options: <c>65536</c>, <c>64k</c>, <c>1.5G</c>, <c>0x10000</c>.</summary>
public static class ByteCount
{
    private const string Suffixes = "bkmgtpe";

    /// <summary>Parses a number of bytes; suffixes are powers of 1024 in either case, <c>b</c> means bytes.</summary>
    public static bool TryParse(string text, out long bytes)
    {
        bytes = 0;
        if (text.StartsWith("0x", StringComparison.OrdinalIgnoreCase))
        {
            return long.TryParse(text.AsSpan(2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out bytes) && bytes >= 0;
        }

        var power = text.Length == 0 ? -1 : Suffixes.IndexOf(char.ToLowerInvariant(text[^1]), StringComparison.Ordinal);
        var number = power >= 0 ? text.AsSpan(0, text.Length - 1) : text.AsSpan();
        if (long.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out var whole))
        {
            return Sizes.TryMultiply(whole, 1L << (10 * Math.Max(power, 0)), out bytes);
        }

        if (power <= 0 || !decimal.TryParse(number, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var fraction)
            || fraction > long.MaxValue >> (10 * power))
        {
            return false;
        }

        bytes = (long)(fraction * (1L << (10 * power)));
        return true;
    }
}
