using System.Collections;
using Platter.Core.Bitmaps;
using Platter.Core.Graph;
using Xunit;

namespace Platter.Tests.Unit.Formats.Qcow2.Writing;

/// <summary>What a bitmap should have: one bool for each granule.</summary>
internal sealed class BitmapModel(string name, long size, int granularityBits, bool enabled)
{
    private readonly BitArray _bits = new((int)((size + (1L << granularityBits) - 1) >> granularityBits));

    public string Name => name;

    public int GranularityBits => granularityBits;

    public long Size => size;

    public bool Enabled { get; set; } = enabled;

    public bool this[int bit] => _bits[bit];

    public int Count => _bits.Count;

    public BitmapModel Track(long at, long length)
    {
        if (Enabled)
        {
            Set(at, length);
        }

        return this;
    }

    public BitmapModel Set(long at, long length)
    {
        var end = Math.Min(at + length, size);
        for (var bit = at >> granularityBits; bit << granularityBits < end; bit++)
        {
            _bits[(int)bit] = true;
        }

        return this;
    }

    public void Clear() => _bits.SetAll(false);

    public BitmapModel Resized(long newSize)
    {
        var result = new BitmapModel(name, newSize, granularityBits, Enabled);
        for (var bit = 0; bit < Math.Min(Count, result.Count); bit++)
        {
            result._bits[bit] = _bits[bit];
        }

        return result;
    }

    public IEnumerable<DirtyRange> Ranges()
    {
        for (var bit = 0; bit < _bits.Count;)
        {
            var first = bit;
            while (bit < _bits.Count && _bits[bit])
            {
                bit++;
            }

            if (bit > first)
            {
                var start = (long)first << granularityBits;
                yield return new(new(start), Math.Min((long)bit << granularityBits, size) - start);
            }

            bit++;
        }
    }

    /// <summary>The node's bitmaps are these, bit for bit.</summary>
    public static async Task AssertSameAsync(BlockNode node, IReadOnlyList<BitmapModel> models)
    {
        Assert.Equal(models.Select(m => new BitmapInfo(m.Name, 1L << m.GranularityBits, false, m.Enabled)), node.Bitmaps);
        foreach (var model in models)
        {
            var found = new List<DirtyRange>();
            await foreach (var range in node.ReadBitmapAsync(model.Name))
            {
                found.Add(range);
            }

            Assert.Equal(model.Ranges(), found);
        }
    }
}
