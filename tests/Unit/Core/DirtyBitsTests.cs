using Platter.Core.Bitmaps;
using Platter.Core.Units;
using Xunit;

namespace Platter.Tests.Unit.Core;

/// <summary>Bits in memory, held against one bool for each.</summary>
public sealed class DirtyBitsTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public async Task Ranges_questions_and_stored_bits_are_those_of_the_model(int seed)
    {
        var random = new Random(seed);
        const int granularityBits = 9;
        var size = (random.Next(60_000, 150_000) << granularityBits) - random.Next(512);
        var bits = new DirtyBits(size, granularityBits);
        var model = new bool[bits.Count];
        for (var i = 0; i < 60; i++)
        {
            var first = random.Next(model.Length);
            var count = random.Next(4) switch { 0 => 1, 1 => random.Next(100), 2 => random.Next(5000), _ => random.Next(3) == 0 ? 70_000 : 64 };
            var end = Math.Min(first + count, model.Length);
            bits.Set(new((long)first << granularityBits), (long)count << granularityBits);
            Array.Fill(model, true, first, end - first);
            var (from, to) = (random.Next(model.Length), random.Next(model.Length));
            Assert.Equal(from < to && model.AsSpan(from, to - from).Contains(true), bits.Any(from, to));
        }

        var stored = new byte[((model.Length + 63) / 64 * 8) + 64];
        bits.OrInto(0, stored);
        var found = Enumerable.Range(0, stored.Length * 8).Where(i => (stored[i / 8] >> (i % 8) & 1) != 0);
        var wanted = Enumerable.Range(0, model.Length).Where(i => model[i]).ToList();
        Assert.Equal(wanted, found);
        var part = new byte[512];
        bits.OrInto(32768 + 64, part);
        Assert.Equal(stored[((32768 + 64) / 8)..][..512], part);
        Assert.Equal(wanted, bits.Ranges().SelectMany(r => Enumerable.Range((int)(r.Offset.Value >> granularityBits), (int)((r.Length + 511) >> granularityBits))));
        Assert.All(bits.Ranges(), r => Assert.True(r.Offset.Value + r.Length <= size));

        var both = DirtyRanges.UnionAsync(bits.Ranges().Where((_, i) => i % 2 == 0).ToAsyncEnumerable(), bits.Ranges());
        Assert.Equal(bits.Ranges(), await both.ToListAsync());
    }

    [Fact]
    public void A_range_beyond_the_end_sets_what_lies_before_it()
    {
        var bits = new DirtyBits(1000, 9);
        bits.Set(new(600), long.MaxValue);
        Assert.Equal([new DirtyRange(new(512), 488)], bits.Ranges());
        bits.Set(new(5000), 10);
        bits.Set(GuestOffset.Zero, 0);
        Assert.Equal([new DirtyRange(new(512), 488)], bits.Ranges());
        Assert.Empty(new DirtyBits(0, 16).Ranges());
    }

    [Fact]
    public async Task Lists_that_overlap_and_touch_become_one()
    {
        DirtyRange[] left = [new(new(0), 10), new(new(30), 10)], right = [new(new(5), 10), new(new(15), 5), new(new(40), 1), new(new(60), 1)];
        Assert.Equal([new(new(0), 20), new(new(30), 11), new DirtyRange(new(60), 1)], await DirtyRanges.UnionAsync(left.ToAsyncEnumerable(), right).ToListAsync());
    }
}
