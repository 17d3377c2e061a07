using System.Globalization;
using Platter.TestKit;

namespace Platter.Tests.Fuzz;

/// <summary>A number in a file, whose place is known.</summary>
/// <param name="Name">The specification's name, with the structure's index.</param>
/// <param name="At">Host offset in bytes.</param>
/// <param name="Size">1, 2, 4 or 8 bytes.</param>
/// <param name="BigEndian">Byte order.</param>
/// <param name="LegalMax">The largest legal value, where there is one besides all ones; it and its neighbours are tried.</param>
public readonly record struct FuzzField(string Name, long At, int Size, bool BigEndian, ulong LegalMax = 0)
{
    /// <summary>All ones in the field's width.</summary>
    public ulong AllOnes => Size == 8 ? ulong.MaxValue : (1UL << (8 * Size)) - 1;

    /// <summary>The value now.</summary>
    public ulong Get(SparseBytes bytes)
    {
        ulong value = 0;
        var stored = bytes.Slice(At, Size);
        for (var i = 0; i < Size; i++)
        {
            value = (value << 8) | stored[BigEndian ? i : Size - 1 - i];
        }

        return value;
    }

    /// <summary>Stores the low bits of a value.</summary>
    public void Set(SparseBytes bytes, ulong value)
    {
        if (BigEndian)
        {
            bytes.PutBigEndian(At, value, Size);
        }
        else
        {
            bytes.PutLittleEndian(At, value, Size);
        }
    }

    /// <summary>The ends of the field's range and of what is legal, wrap-arounds, and what hurts with this file's length.</summary>
    public IEnumerable<ulong> Extremes(SparseBytes bytes)
    {
        var now = Get(bytes);
        var length = (ulong)bytes.Length;
        HashSet<ulong> values =
        [
            0, 1, 2, AllOnes, AllOnes - 1, AllOnes >> 1, (AllOnes >> 1) + 1, AllOnes & ~511UL, AllOnes >> 9, (AllOnes >> 9) + 1,
            now + 1, now - 1, now ^ (1UL << ((8 * Size) - 1)), now + 512, length, length & ~511UL, (length + 511) & ~511UL,
        ];
        if (LegalMax != 0)
        {
            values.UnionWith([LegalMax, LegalMax - 1, LegalMax + 1]);
        }

        var mask = AllOnes;
        return values.Select(v => v & mask).Distinct().Where(v => v != now).Order();
    }

    /// <summary>The extremes and much between: powers of two and their neighbours, small numbers, relatives of the value that is there.</summary>
    public IEnumerable<ulong> Interesting(SparseBytes bytes)
    {
        var now = Get(bytes);
        var length = (ulong)bytes.Length;
        HashSet<ulong> values =
        [
            3, 7, 8, 31, 32, 33, 63, 64, 65, 511, 512, 513, AllOnes >> 2, AllOnes >> 3, now * 2, now / 2, ~now, now ^ 1, now - 512,
            length - 1, length + 1, length - 512, length / 512, (length / 512) + 1,
        ];
        for (var bit = 8; bit < 8 * Size; bit += 4)
        {
            values.UnionWith([1UL << bit, (1UL << bit) - 1]);
        }

        var mask = AllOnes;
        return values.Select(v => v & mask).Concat(Extremes(bytes)).Distinct().Where(v => v != now).Order();
    }

    /// <inheritdoc/>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Name} at 0x{At:x}");
}
