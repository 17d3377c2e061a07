using System.Globalization;

namespace Platter.Core.Units;

/// <summary>Numbers of bytes as the peers read them: <c>512</c>, <c>64k</c>, <c>1.5G</c>, <c>0x10000</c>.</summary>
/// <remarks>Digits with an optional fraction (which needs a suffix above b) and one of the suffixes b k M G T P E in either case; or
/// hexadecimal without a suffix. White space and a plus sign may come first.</remarks>
public static class SizeNumber
{
    /// <summary>What came of parsing.</summary>
    public enum Outcome
    {
        /// <summary>It is a number.</summary>
        Ok,

        /// <summary>It is none.</summary>
        Malformed,

        /// <summary>It is one, above 2^63 - 1.</summary>
        OutOfRange,
    }

    /// <summary>Parses a number of bytes.</summary>
    /// <param name="text">What somebody wrote.</param>
    /// <param name="bytes">The number; 0 unless the outcome is <see cref="Outcome.Ok"/>.</param>
    public static Outcome Parse(string text, out long bytes)
    {
        var outcome = TryParse(text, out var value);
        bytes = outcome == Outcome.Ok ? (long)value : 0;
        return outcome;
    }

    private static Outcome TryParse(string text, out ulong value)
    {
        value = 0;
        var rest = text.AsSpan().TrimStart();
        if (rest.Length > 0 && rest[0] == '+')
        {
            rest = rest[1..];
        }

        if (rest.StartsWith("0x", StringComparison.OrdinalIgnoreCase))
        {
            return TryParseHex(rest[2..], out value);
        }

        var digits = 0;
        while (digits < rest.Length && char.IsAsciiDigit(rest[digits]))
        {
            digits++;
        }

        if (digits == 0)
        {
            return Outcome.Malformed;
        }

        var whole = rest[..digits];
        rest = rest[digits..];
        var fraction = 0.0;
        if (rest.Length > 0 && rest[0] == '.')
        {
            digits = 1;
            while (digits < rest.Length && char.IsAsciiDigit(rest[digits]))
            {
                digits++;
            }

            if (digits > 1)
            {
                fraction = double.Parse(rest[..digits], NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture);
            }

            rest = rest[digits..];
        }

        var shift = 0;
        if (rest.Length == 1)
        {
            shift = (rest[0] | 0x20) switch { 'b' => 0, 'k' => 10, 'm' => 20, 'g' => 30, 't' => 40, 'p' => 50, 'e' => 60, _ => -1 };
        }

        if (rest.Length > 1 || shift < 0 || (shift == 0 && fraction != 0))
        {
            return Outcome.Malformed;
        }

        if (!ulong.TryParse(whole, NumberStyles.None, CultureInfo.InvariantCulture, out value))
        {
            return Outcome.OutOfRange;
        }

        var total = ((UInt128)value << shift) + (ulong)((fraction * (1UL << shift)) + 0.5);
        value = (ulong)total;
        return total > long.MaxValue ? Outcome.OutOfRange : Outcome.Ok;
    }

    private static Outcome TryParseHex(ReadOnlySpan<char> digits, out ulong value)
    {
        value = 0;
        foreach (var digit in digits)
        {
            if (!char.IsAsciiHexDigit(digit))
            {
                return Outcome.Malformed;
            }
        }

        if (digits.Length == 0)
        {
            return Outcome.Malformed;
        }

        return ulong.TryParse(digits, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out value) && value <= long.MaxValue
            ? Outcome.Ok
            : Outcome.OutOfRange;
    }
}
