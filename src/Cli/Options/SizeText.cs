using System.Globalization;
using Platter.Core.Errors;
using Platter.Core.Units;

namespace Platter.Cli.Options;

/// <summary>Sizes as the peers read and write them: <c>64k</c>, <c>1.5G</c>, <c>0x10000</c>; <c>1.46 MiB</c>.</summary>
internal static class SizeText
{
    private static readonly string[] Units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

    /// <summary>Parses a size in bytes.</summary>
    /// <param name="text">Digits with an optional fraction and one of the suffixes b k M G T P E in either case, or hexadecimal without a suffix.</param>
    /// <param name="what">What it is, for messages ("start offset").</param>
    /// <param name="least">The smallest value allowed.</param>
    /// <param name="most">The largest value allowed.</param>
    /// <exception cref="UsageException">It is not a size, or not within the bounds.</exception>
    public static long Parse(string text, string what, long least = 0, long most = long.MaxValue)
    {
        switch (SizeNumber.Parse(text, out var value))
        {
            case SizeNumber.Outcome.Malformed:
                throw new UsageException(
                    $"Invalid {what} specified: '{SafeText.Clean(text, 64)}'. You may use k, M, G, T, P or E suffixes for "
                    + "kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.");
            case SizeNumber.Outcome.Ok when value >= least && value <= most:
                return value;
            default:
                throw new UsageException($"Invalid {what} specified. Must be between {least} and {most}.");
        }
    }

    /// <summary>A size with three significant digits in binary units, as C's <c>%0.3g</c> writes it: "1.46 MiB", "1e+03 KiB".</summary>
    public static string Format(long bytes)
    {
        // The unit changes at 1000, not at 1024, so that no more than three digits stand before the point.
        var value = (ulong)bytes;
        var unit = 0;
        while (unit + 1 < Units.Length && (UInt128)value >= (UInt128)1000 << (10 * unit))
        {
            unit++;
        }

        return $"{ThreeDigits(value, 10 * unit)} {Units[unit]}";
    }

    // value / 2^shift, exactly, to three significant digits, ties to even; the result is between 0.97 and 1000, or 0.
    private static string ThreeDigits(ulong value, int shift)
    {
        if (value == 0)
        {
            return "0";
        }

        // The quotient times 10^(2 - exponent) has three digits before the point.
        var exponent = 2;
        while (exponent > -1 && value < Power(exponent) << shift)
        {
            exponent--;
        }

        var digits = RoundedQuotient(value * Power(2 - exponent), shift);
        if (digits == 1000)
        {
            digits = 100;
            exponent++;
        }

        if (exponent > 2)
        {
            return digits % 100 == 0 ? $"{digits / 100}e+{exponent:00}" : $"{digits / 100}.{(digits % 100).ToString("00", CultureInfo.InvariantCulture).TrimEnd('0')}e+{exponent:00}";
        }

        var text = digits.ToString(CultureInfo.InvariantCulture);
        text = exponent < 0 ? $"0.{text}" : exponent < 2 ? $"{text[..(exponent + 1)]}.{text[(exponent + 1)..]}" : text;
        return text.Contains('.', StringComparison.Ordinal) ? text.TrimEnd('0').TrimEnd('.') : text;
    }

    private static UInt128 Power(int exponent) => exponent switch
    {
        <= 0 => exponent == 0 ? (UInt128)1 : 0,
        1 => 10,
        2 => 100,
        _ => 1000,
    };

    private static int RoundedQuotient(UInt128 value, int shift)
    {
        var quotient = (int)(value >> shift);
        if (shift == 0)
        {
            return quotient;
        }

        var rest = value & (((UInt128)1 << shift) - 1);
        var half = (UInt128)1 << (shift - 1);
        return rest > half || (rest == half && (quotient & 1) == 1) ? quotient + 1 : quotient;
    }
}
