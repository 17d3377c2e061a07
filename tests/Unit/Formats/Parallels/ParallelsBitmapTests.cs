using Platter.Core.Bitmaps;
using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Formats.Parallels;

public class ParallelsBitmapTests
{
    private const string Name = "10325476-98ba-dcfe-0102-030405060708";

    internal static async Task<List<(long, long)>> RangesAsync(BlockNode node, string name)
    {
        List<(long, long)> ranges = [];
        await foreach (var range in node.ReadBitmapAsync(name))
        {
            ranges.Add((range.Offset.Value / 512, range.Length / 512));
        }

        return ranges;
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Bitmaps_read_as_they_were_set(bool stored)
    {
        // A cluster of bits (4 KiB) stands for 32768 sectors: the fourth is all set, the fifth all clear, the last one cut.
        var bitmap = new ParallelsBitmap { GranularitySectors = 1, StoreUniformClusters = stored }
            .Set(0, 1).Set(2, 62).Set(64, 2).Set(127, 2).Set(32767, 2).Set(3 * 32768, 32768).Set(5 * 32768, 1).Set((5 * 32768) + 1000, 5);
        var image = new ParallelsImageBuilder { ClusterSectors = 8, SizeSectors = (5 * 32768) + 1005 }.Fill(1, 3).AddBitmap(bitmap).Build();
        await using var node = await Opening.OpenAsync(image.ToStorage(), "parallels");

        Assert.Equal([new BitmapInfo(Name, 512, false, true)], node.Bitmaps);
        Assert.Equal(
            [(0, 1), (2, 64), (127, 2), (32767, 2), (3 * 32768, 32768), (5 * 32768, 1), ((5 * 32768) + 1000, 5)],
            await RangesAsync(node, Name.ToUpperInvariant()));
        await ParallelsReadTests.SameAsModel(node, image.Model);
    }

    [Fact]
    public async Task The_last_bit_is_cut_at_the_end_of_the_disk()
    {
        var image = new ParallelsImageBuilder { ClusterSectors = 64, SizeSectors = 1000 }
            .AddBitmap(new ParallelsBitmap { GranularitySectors = 128 }.Set(0, 1000)).Build();
        await using var node = await Opening.OpenAsync(image.ToStorage(), "parallels");
        Assert.Equal([(0, 1000)], await RangesAsync(node, Name));
    }

    [Fact]
    public async Task Random_bitmaps_read_as_their_bits()
    {
        for (var seed = 1; seed <= 20; seed++)
        {
            var random = new Random(seed);
            var bitmap = new ParallelsBitmap { GranularitySectors = 1u << random.Next(4) };
            const int Sectors = 600_000;
            var expected = new bool[Sectors];
            for (var i = random.Next(200); i > 0; i--)
            {
                var first = random.Next(Sectors);
                bitmap.Set(first, random.Next(1, Math.Min(Sectors - first + 1, i % 10 == 0 ? 100_000 : 100)));
            }

            var bits = bitmap.ToBits(Sectors);
            for (var i = 0; i < Sectors; i++)
            {
                var bit = i / (int)bitmap.GranularitySectors;
                expected[i] = (bits[bit / 8] >> (bit % 8) & 1) != 0;
            }

            var image = new ParallelsImageBuilder { ClusterSectors = 3, SizeSectors = Sectors, Magic = (ParallelsMagic)(seed % 2) }.AddBitmap(bitmap).Build();
            await using var node = await Opening.OpenAsync(image.ToStorage(), "parallels");
            var actual = new bool[Sectors];
            long last = -1;
            foreach (var (first, count) in await RangesAsync(node, Name))
            {
                Assert.True(first > last, $"seed {seed}: ranges are not merged");
                actual.AsSpan((int)first, (int)count).Fill(true);
                last = first + count;
            }

            Assert.True(expected.AsSpan().SequenceEqual(actual), $"seed {seed}");
        }
    }

    [Fact]
    public async Task Several_bitmaps_have_their_own_bits()
    {
        var other = new ParallelsBitmap { Id = [.. Enumerable.Range(1, 16).Select(i => (byte)i)], GranularitySectors = 8 }.Set(80, 8);
        var image = Builder().AddBitmap(new ParallelsBitmap().Set(0, 128)).AddBitmap(other).Build();
        await using var node = await Opening.OpenAsync(image.ToStorage(), "parallels");
        Assert.Equal([Name, "01020304-0506-0708-090a-0b0c0d0e0f10"], node.Bitmaps.Select(b => b.Name));
        Assert.Equal([(0, 128)], await RangesAsync(node, Name));
        Assert.Equal([(80, 8)], await RangesAsync(node, node.Bitmaps[1].Name));
    }

    [Theory]
    [InlineData(0u, "the image was closed by software that does not keep it (in_use 0x0)")]
    [InlineData(0x37316470u, "the image was closed by software that does not keep it (in_use 0x37316470)")]
    public async Task An_extension_counts_only_when_software_that_knows_it_closed_the_image(uint inUse, string reason)
    {
        var image = Builder().AddBitmap(new ParallelsBitmap().Set(0, 128)).Build().Set(ParallelsField.InUse, inUse);
        var (node, warnings) = await OpenAsync(image);
        await using var closing = node;
        Assert.Empty(node.Bitmaps);
        Assert.Equal(["test.hds: its Format Extension (dirty bitmaps) is ignored: " + reason], warnings);
        var error = await Assert.ThrowsAsync<BlockException>(() => RangesAsync(node, Name));
        Assert.Equal((BlockErrorKind.NotFound, $"test.hds: no bitmap '{Name}'"), (error.Kind, error.Message));
    }

    [Fact]
    public async Task A_dirty_image_has_no_bitmaps()
    {
        var (node, warnings) = await OpenAsync(
            Builder().AddBitmap(new ParallelsBitmap().Set(0, 128)).Build().Set(ParallelsField.InUse, ParallelsImageBuilder.InUseOpen));
        await using var closing = node;
        Assert.Empty(node.Bitmaps);
        Assert.Equal("test.hds: its Format Extension (dirty bitmaps) is ignored: the image was not closed correctly", warnings[1]);
    }

    public static TheoryData<string, Action<ParallelsImage>, string> Damages => new()
    {
        { "magic", i => i.Bytes.FlipBit(i.ExtensionAt, 0), "Format Extension at 0x10000: magic 0xab234cef23dcea86: must be 0xab234cef23dcea87" },
        { "checksum", i => i.Bytes.FlipBit(i.ExtensionAt + 5000, 0), "is not the MD5 of the cluster" },
        { "necessary", i => Fix(i, x => { x.Bytes.PutU64Le(x.FeatureAt[0], 77); x.Bytes.PutU64Le(x.FeatureAt[0] + 8, 1); }), "feature 0x4d is unknown and necessary: the image must not be changed" },
        { "data_size", i => Fix(i, x => x.Bytes.PutU32Le(x.FeatureAt[0] + 16, 0xFFFFFFF8)), "data_size of feature 0x20385fae252cb34a 4294967288: the data reach beyond the cluster" },
        { "no end", i => Fix(i, x => x.Bytes.PutU32Le(x.FeatureAt[0] + 16, 32768 - 48)), "features: the list has no end" },
        { "short feature", i => Fix(i, x => { x.Bytes.PutU32Le(x.FeatureAt[0] + 16, 8); x.Bytes.Zero(x.FeatureAt[0] + 32, 24); }), "dirty bitmap at 0x10030: the file ends after 8 of its 32 bytes" },
        { "size", i => Fix(i, x => x.Bytes.PutU64Le(x.FeatureAt[0] + 24, 641)), "dirty bitmap at 0x10030: size 641: the disk has 640 sectors" },
        { "granularity 0", i => Fix(i, x => x.Bytes.PutU32Le(x.FeatureAt[0] + 48, 0)), "granularity 0: must be a power of two from 1 to 4194304 sectors" },
        { "granularity 3", i => Fix(i, x => x.Bytes.PutU32Le(x.FeatureAt[0] + 48, 3)), "granularity 3: must be a power of two from 1 to 4194304 sectors" },
        { "granularity large", i => Fix(i, x => x.Bytes.PutU32Le(x.FeatureAt[0] + 48, 1u << 23)), "granularity 8388608: must be a power of two from 1 to 4194304 sectors" },
        { "l1_size", i => Fix(i, x => x.Bytes.PutU32Le(x.FeatureAt[0] + 52, 0xFFFFFFFF)), "l1_size 4294967295: the L1 table reaches beyond the feature's data" },
        { "l1_size 0", i => Fix(i, x => x.Bytes.PutU32Le(x.FeatureAt[0] + 52, 0)), "l1_size 0: the disk needs 1" },
        { "l1 huge", i => Fix(i, x => x.Bytes.PutU64Le(x.BitmapL1At[0], ulong.MaxValue)), "L1 entry 0 0xffffffffffffffff: is too large" },
        { "l1 beyond", i => Fix(i, x => x.Bytes.PutU64Le(x.BitmapL1At[0], 64 * 100)), "L1 entry 0 0x1900: lies beyond the end of the file at 0x20000" },
        { "l1 header", i => Fix(i, x => x.Bytes.PutU64Le(x.BitmapL1At[0], 2)), "L1 entry 0 0x2: lies before the data area at 0x8000" },
        { "l1 unaligned", i => Fix(i, x => x.Bytes.PutU64Le(x.BitmapL1At[0], 65)), "is not a whole number of clusters (0x8000 bytes) behind the data area's start at 0x8000" },
        { "l1 is the extension", i => Fix(i, x => x.Bytes.PutU64Le(x.BitmapL1At[0], (ulong)x.ExtensionAt / 512)), "L1 entry 0x80: the cluster is part of the Format Extension already" },
        { "ext_off beyond", i => i.Set(ParallelsField.ExtensionOffset, 64 * 100), "header at 0x38: ext_off 0x1900: lies beyond the end of the file at 0x20000" },
        { "ext_off huge", i => i.Set(ParallelsField.ExtensionOffset, ulong.MaxValue), "header at 0x38: ext_off 0xffffffffffffffff: is too large" },
        { "ext_off in header", i => i.Set(ParallelsField.ExtensionOffset, 1), "header at 0x38: ext_off 0x1: lies before the data area at 0x8000" },
        { "truncated", i => i.Truncate(i.ExtensionAt + 1000), "Format Extension at 0x10000: the file ends after 1000 of its 32768 bytes" },
    };

    [Theory]
    [MemberData(nameof(Damages))]
    public async Task Damage_costs_the_bitmaps_and_never_the_disk(string what, Action<ParallelsImage> damage, string problem)
    {
        var image = Builder().AddBitmap(new ParallelsBitmap { GranularitySectors = 1, StoreUniformClusters = true }.Set(0, 100)).Build();
        damage(image);
        var (node, warnings) = await OpenAsync(image);
        await using var closing = node;

        Assert.Empty(node.Bitmaps);
        Assert.NotEmpty(what);
        var warning = Assert.Single(warnings);
        Assert.StartsWith("test.hds: part of its Format Extension is ignored: ", warning);
        Assert.EndsWith(problem, warning);
        await ParallelsReadTests.SameAsModel(node, image.Model);

        List<CheckFinding> findings = [];
        var report = await node.CheckAsync(findings.Add);
        Assert.Equal(1, report.Corruptions);
        Assert.EndsWith(problem, findings[0].Message);
    }

    [Theory]
    [InlineData(0ul, "feature 0x4d of the Format Extension is unknown, and will be gone when the image is changed")]
    [InlineData(2ul, "feature 0x4d of the Format Extension is unknown, and is to be left as it is")]
    public async Task An_unknown_feature_that_is_not_necessary_is_no_damage(ulong flags, string note)
    {
        var image = Builder().AddFeature(77, flags, [1, 2, 3]).AddBitmap(new ParallelsBitmap().Set(0, 128)).Build();
        var (node, warnings) = await OpenAsync(image);
        await using var closing = node;
        Assert.Empty(warnings);
        Assert.Equal([(0, 128)], await RangesAsync(node, Name));

        List<CheckFinding> findings = [];
        var report = await node.CheckAsync(findings.Add);
        Assert.True(report is { Corruptions: 0, Leaks: 0, Errors: 0 });
        Assert.Equal(note, Assert.Single(findings).Message);
    }

    [Fact]
    public async Task A_damaged_bitmap_leaves_its_neighbours()
    {
        var other = new ParallelsBitmap { Id = [.. Enumerable.Range(1, 16).Select(i => (byte)i)], GranularitySectors = 8 }.Set(80, 8);
        var image = Builder().AddBitmap(new ParallelsBitmap().Set(0, 128)).AddBitmap(other).Build();
        Fix(image, x => x.Bytes.PutU32Le(x.FeatureAt[0] + 48, 3));
        var (node, warnings) = await OpenAsync(image);
        await using var closing = node;
        Assert.Single(warnings);
        Assert.Equal("01020304-0506-0708-090a-0b0c0d0e0f10", Assert.Single(node.Bitmaps).Name);
    }

    [Fact]
    public async Task Two_bitmaps_of_one_name_are_one_too_many()
    {
        var image = Builder().AddBitmap(new ParallelsBitmap().Set(0, 128)).AddBitmap(new ParallelsBitmap().Set(128, 128)).Build();
        var (node, warnings) = await OpenAsync(image);
        await using var closing = node;
        Assert.EndsWith($"id {Name}: another bitmap has the same", Assert.Single(warnings));
        Assert.Equal([(0, 128)], await RangesAsync(node, Name));
    }

    private static ParallelsImageBuilder Builder() => new ParallelsImageBuilder { ClusterSectors = 64, SizeSectors = 640 }.Fill(1, 4);

    private static void Fix(ParallelsImage image, Action<ParallelsImage> damage)
    {
        damage(image);
        image.FixExtensionChecksum();
    }

    private static async Task<(ImageNode Node, List<string> Warnings)> OpenAsync(ParallelsImage image)
    {
        List<string> warnings = [];
        return (await Opening.OpenAsync(image.ToStorage(), "parallels", warnings: warnings), warnings);
    }
}
