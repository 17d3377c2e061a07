using System.Globalization;
using System.Text;

namespace Platter.Snapshots;

/// <summary>Names of the files of a chain: <c>STEM.NUMBER.SNAPSHOT.EXT</c> beside <c>STEM.EXT</c>, from which the snapshot's name can be had again.</summary>
/// <remarks>What a file system, or whoever reads a backing file's name, could stumble over is a percent sign and two hexadecimal digits for each byte of its UTF-8, as in a URI; so is the percent
/// sign itself. A name that is too long for a file is cut; the image's header has all of it (<see cref="Core.Images.SnapshotLabel"/>).</remarks>
internal static class ChainFileName
{
    // What file systems allow, less what somebody may put behind it (.undo, .bak).
    private const int MaxBytes = 255 - 10;
    private const int MinNameBytes = 16;

    /// <summary>The file of a snapshot.</summary>
    /// <param name="top">Path of the current state's file.</param>
    /// <param name="number">From 1.</param>
    /// <param name="snapshot">The snapshot's name.</param>
    /// <returns>A path in the same directory.</returns>
    public static string Make(string top, int number, string snapshot)
    {
        var before = string.Create(CultureInfo.InvariantCulture, $"{Path.GetFileNameWithoutExtension(top)}.{number}.");
        var extension = Path.GetExtension(top);
        var room = Math.Max(MaxBytes - Encoding.UTF8.GetByteCount(before) - Encoding.UTF8.GetByteCount(extension), MinNameBytes);
        return Path.Combine(Path.GetDirectoryName(top) ?? string.Empty, before + Encode(snapshot, room) + extension);
    }

    /// <summary>The snapshot's name that a file's name holds, or null when the file is not named as a snapshot of the other.</summary>
    /// <param name="top">Path of the current state's file.</param>
    /// <param name="file">Path of the other file.</param>
    public static string? SnapshotOf(string top, string file)
    {
        var name = Path.GetFileName(file);
        var before = Path.GetFileNameWithoutExtension(top) + ".";
        var extension = Path.GetExtension(top);
        if (!name.StartsWith(before, StringComparison.Ordinal) || !name.EndsWith(extension, StringComparison.Ordinal) || name.Length < before.Length + extension.Length)
        {
            return null;
        }

        var rest = name[before.Length..^extension.Length];
        var dot = rest.IndexOf('.', StringComparison.Ordinal);
        return dot > 0 && dot + 1 < rest.Length && !rest.AsSpan(0, dot).ContainsAnyExceptInRange('0', '9') ? Decode(rest[(dot + 1)..]) : null;
    }

    private static string Encode(string name, int maxBytes)
    {
        var result = new StringBuilder();
        var used = 0;
        Span<byte> bytes = stackalloc byte[4];
        var at = 0;
        foreach (var rune in name.EnumerateRunes())
        {
            var length = rune.EncodeToUtf8(bytes);
            at += rune.Utf16SequenceLength;
            var isEscaped = IsEscaped(rune) || (at == name.Length && rune.Value is ' ' or '.');
            used += isEscaped ? 3 * length : length;
            if (used > maxBytes)
            {
                break;
            }

            if (!isEscaped)
            {
                result.Append(rune.ToString());
                continue;
            }

            foreach (var b in bytes[..length])
            {
                result.Append(CultureInfo.InvariantCulture, $"%{b:X2}");
            }
        }

        return result.ToString();
    }

    // A colon would make a backing file's name that of a protocol; the others are what one host or another has no files with.
    private static bool IsEscaped(Rune rune) =>
        rune.Value is '%' or '/' or '\\' or ':' or '<' or '>' or '"' or '|' or '?' or '*' or 0xfffd
        || Rune.GetUnicodeCategory(rune) is UnicodeCategory.Control or UnicodeCategory.Format or UnicodeCategory.LineSeparator or UnicodeCategory.ParagraphSeparator;

    // What is no escape stays as it is: not every file was named by us.
    private static string Decode(string name)
    {
        var bytes = Encoding.UTF8.GetBytes(name);
        var count = 0;
        for (var i = 0; i < bytes.Length; i++)
        {
            if (bytes[i] == '%' && i + 2 < bytes.Length && byte.TryParse(bytes.AsSpan(i + 1, 2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var value))
            {
                bytes[count++] = value;
                i += 2;
            }
            else
            {
                bytes[count++] = bytes[i];
            }
        }

        return Encoding.UTF8.GetString(bytes, 0, count);
    }
}
