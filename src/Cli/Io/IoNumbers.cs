using System.Globalization;
using Platter.Core.Units;

namespace Platter.Cli.Io;

/// <summary>Numbers as qemu-io reads and writes them.</summary>
internal static class IoNumbers
{
    private static readonly string[] s_units = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

    /// <summary>A number of bytes with three decimals, or none: "64 KiB", "9.938 MiB", "512 bytes".</summary>
    public static string Size(double bytes)
    {
        var unit = 0;
        while (unit + 1 < s_units.Length && bytes >= 1024)
        {
            bytes /= 1024;
            unit++;
        }

        if (unit == 0)
        {
            return bytes == Math.Floor(bytes) ? Text($"{bytes:0} bytes") : Text($"{bytes:0.000000} bytes");
        }

        // C rounds a tie to the even digit.
        var text = Text($"{Math.Round(bytes, 3, MidpointRounding.ToEven):0.000}");
        return $"{(text.EndsWith(".000", StringComparison.Ordinal) ? text[..^4] : text)} {s_units[unit]}";
    }

    /// <summary>What a transfer reports: two lines for people, or one for programs.</summary>
    public static string Report(string done, TimeSpan time, long offset, long wanted, long total, bool forPrograms)
    {
        // Nothing takes no time.
        var seconds = Math.Max(time.TotalSeconds, 1e-7);
        var hundredths = (long)(time.TotalSeconds * 100);
        var (hours, minutes, rest, fraction) = (hundredths / 360_000, hundredths / 6000 % 60, hundredths / 100 % 60, hundredths % 100);
        if (forPrograms)
        {
            return Text($"{total},1,{hours}:{minutes:00}:{rest:00}.{fraction:00},{total / seconds:0.000},{1 / seconds:0.000}\n");
        }

        var clock = hours > 0 || minutes > 0 ? Text($"{hours}:{minutes:00}:{rest:00}.{fraction:00}") : Text($"{rest:00}.{fraction:00} sec");
        return Text(
            $"{done} {total}/{wanted} bytes at offset {offset}\n{Size(total)}, 1 ops; {clock} ({Size(total / seconds)}/sec and {1 / seconds:0.0000} ops/sec)\n");
    }

    /// <summary>Parses an offset or a length.</summary>
    /// <exception cref="IoFailure">It is none; the message says so as qemu-io does.</exception>
    public static long Parse(string text) => SizeNumber.Parse(text, out var value) switch
    {
        SizeNumber.Outcome.Ok => value,
        SizeNumber.Outcome.OutOfRange => throw new IoFailure($"Parsing error: argument too large -- {text}"),
        _ => throw new IoFailure($"Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- {text}"),
    };

    /// <summary>Parses the byte of a pattern: decimal, hexadecimal (0x) or octal (0).</summary>
    public static byte ParsePattern(string text) =>
        ParseCInteger(text) is >= 0 and <= 255 and var value ? (byte)value : throw new IoFailure($"{text} is not a valid pattern byte");

    /// <summary>Parses an integer as C writes it, or null.</summary>
    public static long? ParseCInteger(string text)
    {
        var digits = text.AsSpan().TrimStart();
        var negative = digits.StartsWith("-");
        digits = negative || digits.StartsWith("+") ? digits[1..] : digits;
        var numberBase = 10;
        if (digits.StartsWith("0x", StringComparison.OrdinalIgnoreCase))
        {
            numberBase = 16;
            digits = digits[2..];
        }
        else if (digits.Length > 1 && digits[0] == '0')
        {
            numberBase = 8;
            digits = digits[1..];
        }

        var value = 0L;
        foreach (var digit in digits)
        {
            var number = char.IsAsciiHexDigit(digit) ? Convert.ToInt32(digit.ToString(), 16) : 16;
            if (number >= numberBase || value > (long.MaxValue - number) / numberBase)
            {
                return null;
            }

            value = (value * numberBase) + number;
        }

        return digits.Length == 0 ? null : negative ? -value : value;
    }

    /// <summary>Bytes as <c>read -v</c> shows them: sixteen to a line, with the letters and digits among them.</summary>
    public static void Dump(TextWriter writer, ReadOnlySpan<byte> bytes, long offset)
    {
        for (; bytes.Length > 0; offset += 16)
        {
            var line = bytes[..Math.Min(16, bytes.Length)];
            bytes = bytes[line.Length..];
            writer.Write(Text($"{offset:x8}:  "));
            foreach (var value in line)
            {
                writer.Write(Text($"{value:x2} "));
            }

            writer.Write(' ');
            foreach (var value in line)
            {
                writer.Write(char.IsAsciiLetterOrDigit((char)value) ? (char)value : '.');
            }

            writer.Write('\n');
        }
    }

    private static string Text(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
