using System.Globalization;
using System.Numerics;
using System.Text;
using Platter.Core.Errors;

namespace Platter.Formats.Qcow2.Layout;

/// <summary>Which feature field of the header is meant.</summary>
internal enum FeatureKind : byte
{
    Incompatible = 0,
    Compatible = 1,
    Autoclear = 2,
}

/// <summary>Names that an image gives to feature bits, so that a program which does not know a bit can still say what is missing.</summary>
/// <remarks>Spec: section "Feature name table". An entry has 48 bytes: type, bit number, 46 bytes of name padded with zeros.</remarks>
internal sealed class FeatureNameTable
{
    public const int EntrySize = 48;

    private const int TypeAt = 0, BitAt = 1, NameAt = 2;

    private readonly byte[] _entries;

    public FeatureNameTable(ReadOnlySpan<byte> data) => _entries = data[..(data.Length - (data.Length % EntrySize))].ToArray();

    public static FeatureNameTable Empty { get; } = new([]);

    /// <summary>A table with one more name, in front.</summary>
    public static byte[] With(ReadOnlySpan<byte> table, FeatureKind kind, int bit, string name)
    {
        var result = new byte[EntrySize + table.Length];
        result[TypeAt] = (byte)kind;
        result[BitAt] = (byte)bit;
        Encoding.ASCII.GetBytes(name, result.AsSpan(NameAt));
        table.CopyTo(result.AsSpan(EntrySize));
        return result;
    }

    /// <summary>A table without the names of a feature.</summary>
    public static byte[] Without(ReadOnlySpan<byte> table, FeatureKind kind, int bit)
    {
        var result = new List<byte>(table.Length);
        for (; table.Length >= EntrySize; table = table[EntrySize..])
        {
            if (table[TypeAt] != (byte)kind || table[BitAt] != bit)
            {
                result.AddRange(table[..EntrySize]);
            }
        }

        return [.. result];
    }

    /// <summary>The table that new images get: every bit that we know, in the order in which the peers write them.</summary>
    public static byte[] KnownNames()
    {
        (FeatureKind Kind, byte Bit, string Name)[] known =
        [
            (FeatureKind.Incompatible, 0, "dirty bit"), (FeatureKind.Incompatible, 1, "corrupt bit"), (FeatureKind.Incompatible, 2, "external data file"),
            (FeatureKind.Incompatible, 3, "compression type"), (FeatureKind.Incompatible, 4, "extended L2 entries"),
            (FeatureKind.Compatible, 0, "lazy refcounts"), (FeatureKind.Autoclear, 0, "bitmaps"), (FeatureKind.Autoclear, 1, "raw external data"),
        ];
        var result = new byte[known.Length * EntrySize];
        for (var i = 0; i < known.Length; i++)
        {
            var entry = result.AsSpan(i * EntrySize, EntrySize);
            entry[TypeAt] = (byte)known[i].Kind;
            entry[BitAt] = known[i].Bit;
            Encoding.ASCII.GetBytes(known[i].Name, entry[NameAt..]);
        }

        return result;
    }

    /// <summary>The name of a bit, cleaned for display, or null.</summary>
    public string? Find(FeatureKind kind, int bit)
    {
        for (var at = 0; at < _entries.Length; at += EntrySize)
        {
            var entry = _entries.AsSpan(at, EntrySize);
            if (entry[TypeAt] == (byte)kind && entry[BitAt] == bit)
            {
                var name = entry[NameAt..];
                var end = name.IndexOf((byte)0);
                return SafeText.Clean(Encoding.UTF8.GetString(end < 0 ? name : name[..end]), 46);
            }
        }

        return null;
    }

    /// <summary>Lists bits as "bit 5 'name', bit 6".</summary>
    public string Describe(FeatureKind kind, ulong bits)
    {
        var result = new StringBuilder();
        for (var rest = bits; rest != 0; rest &= rest - 1)
        {
            var bit = BitOperations.TrailingZeroCount(rest);
            result.Append(result.Length == 0 ? string.Empty : ", ").Append(CultureInfo.InvariantCulture, $"bit {bit}");
            if (Find(kind, bit) is { Length: > 0 } name)
            {
                result.Append(CultureInfo.InvariantCulture, $" '{name}'");
            }
        }

        return result.ToString();
    }
}
