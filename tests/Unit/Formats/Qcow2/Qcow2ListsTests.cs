using Platter.Core.Bitmaps;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.TestKit;
using Xunit;
using static Platter.Tests.Unit.Formats.Qcow2.Qcow2Fixture;

namespace Platter.Tests.Unit.Formats.Qcow2;

/// <summary>Names, snapshots and bitmaps that an image lists.</summary>
public sealed class Qcow2ListsTests
{
    [Theory]
    [InlineData("base.qcow2", "qcow2")]
    [InlineData("json:{\"driver\":\"raw\"}", null)]
    [InlineData("../b\u00e4se with spaces", "raw")]
    [InlineData("nbd://host/export", "raw")]
    public async Task The_backing_file_is_named_as_it_is_stored(string name, string? format)
    {
        var image = new Qcow2Builder { Size = 1 << 20, BackingFile = name, BackingFormat = format }.Build();
        await using var driver = await OpenDriverAsync(image);
        Assert.Equal((ReferenceKind.Backing, name, format), (driver.Backing!.Kind, driver.Backing.Name, driver.Backing.Format));
        Assert.Equal(name, (await driver.GetInfoAsync()).BackingName);
    }

    [Fact]
    public async Task The_longest_backing_name_is_read()
    {
        var name = new string('x', 1023);
        var image = new Qcow2Builder { Size = 1 << 20, BackingFile = name }.Build();
        await using var driver = await OpenDriverAsync(image);
        Assert.Equal(name, driver.Backing!.Name);
    }

    [Fact]
    public async Task A_backing_name_of_no_bytes_names_nothing()
    {
        var image = new Qcow2Builder { Size = 1 << 20, BackingFile = "x" }.Build().Set(Qcow2Field.BackingFileSize, 0);
        await using var driver = await OpenDriverAsync(image);
        Assert.Null(driver.Backing);
    }

    [Fact]
    public async Task A_backing_format_under_another_number_is_an_unknown_extension()
    {
        var image = new Qcow2Builder { Size = 1 << 20, BackingFile = "x", BackingFormat = "raw", BackingFormatType = 0xe279268f }.Build();
        await using var driver = await OpenDriverAsync(image);
        Assert.Null(driver.Backing!.Format);
    }

    [Fact]
    public async Task Snapshots_are_listed_with_everything_they_record()
    {
        var snapshot = new Qcow2Snapshot("42", "before \u2192 after")
        {
            DateSeconds = 4_000_000_000, DateNanoseconds = 999_999_999, VmClockNanoseconds = ulong.MaxValue, InstructionCount = 7, VmState = new byte[100],
        };
        var image = new Qcow2Builder { Size = 1 << 20 }.AddSnapshot(snapshot).Build();
        await using var driver = await OpenDriverAsync(image);
        var found = Assert.Single(driver.Snapshots);
        Assert.Equal(
            new SnapshotInfo
            {
                Id = "42", Name = "before \u2192 after", Date = DateTimeOffset.FromUnixTimeSeconds(4_000_000_000), DateNanoseconds = 999_999_999,
                VmClockNanoseconds = ulong.MaxValue, InstructionCount = 7, VmStateSize = found.VmStateSize, VirtualSize = 1 << 20,
            },
            found);
        Assert.True(found.VmStateSize >= 100);
    }

    [Fact]
    public async Task Bitmaps_are_listed_and_read_with_neighbours_merged()
    {
        const long size = (5L << 30) + 12345 * 512;
        var image = new Qcow2Builder { Size = size }
            .AddBitmap(new Qcow2Bitmap("all") { GranularityBits = 9 }.Set(0, size))
            .AddBitmap(new Qcow2Bitmap("none") { Flags = 0, StoreUniformClusters = true })
            .AddBitmap(new Qcow2Bitmap("some") { GranularityBits = 12, StoreUniformClusters = true }.Set(0, 1).Set(1 << 30, 3L << 30).Set(size - 1, 1))
            .AddBitmap(new Qcow2Bitmap("edges") { GranularityBits = 16 }.Set(65536 * 7, 65536 * 2).Set(65536 * 15, 65536).Set(65536 * 16, 65536 * 8))
            .Build();
        await using var driver = await OpenDriverAsync(image);
        Assert.Equal(
            [new BitmapInfo("all", 512, false, true), new("none", 65536, false, false), new("some", 4096, false, true), new("edges", 65536, false, true)],
            driver.Bitmaps);
        Assert.Equal([new DirtyRange(new(0), size)], await ReadAsync(driver, "all"));
        Assert.Empty(await ReadAsync(driver, "none"));
        var last = (size - 1) / 4096 * 4096;
        Assert.Equal([new(new(0), 4096), new(new(1 << 30), 3L << 30), new DirtyRange(new(last), size - last)], await ReadAsync(driver, "some"));
        Assert.Equal([new(new(65536 * 7), 65536 * 2), new DirtyRange(new(65536 * 15), 65536 * 9)], await ReadAsync(driver, "edges"));
        var error = Assert.Throws<BlockException>(() => driver.ReadBitmapAsync("other"));
        Assert.Equal(BlockErrorKind.NotFound, error.Kind);
    }

    [Fact]
    public async Task Random_bitmaps_read_as_they_were_set()
    {
        const int seed = 5;
        var random = new Random(seed);
        var expected = new HashSet<long>();
        var bitmap = new Qcow2Bitmap("b") { GranularityBits = 9, StoreUniformClusters = true };
        const long size = 40L << 20;
        for (var i = 0; i < 3000; i++)
        {
            var bit = random.NextInt64(size >> 9);
            expected.Add(bit);
            bitmap.Set(bit << 9, 512);
        }

        var image = new Qcow2Builder { ClusterBits = 9, Size = size }.AddBitmap(bitmap).Build();
        await using var driver = await OpenDriverAsync(image);
        var found = (await ReadAsync(driver, "b")).SelectMany(r => Enumerable.Range(0, (int)(r.Length >> 9)).Select(i => (r.Offset.Value >> 9) + i));
        Assert.Equal(expected.Order(), found);
    }

    [Fact]
    public async Task A_bitmap_in_use_or_with_unknown_data_is_listed_and_not_read()
    {
        var image = new Qcow2Builder { Size = 1 << 20 }
            .AddBitmap(new Qcow2Bitmap("busy") { Flags = Qcow2Bitmap.InUse | Qcow2Bitmap.Auto })
            .AddBitmap(new Qcow2Bitmap("odd") { Flags = 0, ExtraData = [1, 2, 3] })
            .AddBitmap(new Qcow2Bitmap("fine") { Flags = Qcow2Bitmap.ExtraDataCompatible, ExtraData = [1, 2, 3] }).Build();
        await using var driver = await OpenDriverAsync(image);
        Assert.True(driver.Bitmaps[0].InUse);
        Assert.Equal(BlockErrorKind.CorruptImage, Assert.Throws<BlockException>(() => driver.ReadBitmapAsync("busy")).Kind);
        Assert.Equal(BlockErrorKind.Unsupported, Assert.Throws<BlockException>(() => driver.ReadBitmapAsync("odd")).Kind);
        Assert.Empty(await ReadAsync(driver, "fine"));
    }

    [Fact]
    public async Task Bitmaps_without_their_autoclear_bit_are_ignored_with_a_warning()
    {
        var image = new Qcow2Builder { Size = 1 << 20, BitmapsNotConsistent = true }.AddBitmap(new Qcow2Bitmap("b")).Build();
        var warnings = new List<string>();
        await using var driver = await OpenDriverAsync(image, Context(warnings: warnings));
        Assert.Empty(driver.Bitmaps);
        Assert.Contains("bitmaps are ignored", Assert.Single(warnings), StringComparison.Ordinal);
    }

    public static TheoryData<int, int, ulong, BlockErrorKind, string> BadBitmaps() => new()
    {
        { 16, 1, 0, BlockErrorKind.Unsupported, "type" },
        { 16, 1, 2, BlockErrorKind.Unsupported, "type" },
        { 12, 4, 8, BlockErrorKind.Unsupported, "flags" },
        { 17, 1, 8, BlockErrorKind.Unsupported, "granularity_bits" },
        { 17, 1, 32, BlockErrorKind.Unsupported, "granularity_bits" },
        { 17, 1, 64, BlockErrorKind.CorruptImage, "granularity_bits" },
        { 18, 2, 0, BlockErrorKind.CorruptImage, "name_size" },
        { 8, 4, 0, BlockErrorKind.CorruptImage, "bitmap_table_size" },
        { 8, 4, 8193, BlockErrorKind.LimitExceeded, "bitmap_table_size" },
        { 8, 4, 0xffffffff, BlockErrorKind.LimitExceeded, "bitmap_table_size" },
        { 0, 8, 0, BlockErrorKind.CorruptImage, "bitmap_table_offset" },
        { 0, 8, 0x200, BlockErrorKind.CorruptImage, "bitmap_table_offset" },
        { 0, 8, 0xffffffffffff0000, BlockErrorKind.CorruptImage, "bitmap_table_offset" },
        { 20, 4, 0xffffffff, BlockErrorKind.CorruptImage, "" },
    };

    [Theory]
    [MemberData(nameof(BadBitmaps))]
    public async Task A_bad_bitmap_is_refused_by_field(int at, int size, ulong value, BlockErrorKind kind, string field)
    {
        var image = new Qcow2Builder { Size = 1 << 20 }.AddBitmap(new Qcow2Bitmap("b")).Build();
        image.Bytes.PutBigEndian(image.BitmapEntryAt[0] + at, value, size);
        await AssertRefusedAsync(image, kind, "bitmap directory entry 0", field);
    }

    [Theory]
    [InlineData(0, 0u)]
    [InlineData(0, 2u)]
    [InlineData(4, 1u)]
    [InlineData(12, 0u)]
    [InlineData(8, 1u)]
    [InlineData(20, 0x201u)]
    public async Task A_bad_bitmap_directory_is_refused(int at, uint value)
    {
        var image = new Qcow2Builder { Size = 1 << 20 }.AddBitmap(new Qcow2Bitmap("b")).Build();
        image.Bytes.PutU32Be(image.ExtensionAt[0x23852875] + 8 + at, value);
        var error = await Assert.ThrowsAsync<ImageFormatException>(async () => await OpenDriverAsync(image));
        Assert.Contains("bitmap", error.Structure, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_bitmap_table_entry_with_reserved_bits_is_refused()
    {
        var image = new Qcow2Builder { Size = 1 << 20 }.AddBitmap(new Qcow2Bitmap("b") { StoreUniformClusters = true }).Build();
        image.Bytes.PutU64Be(image.BitmapTableAt[0], image.Bytes.U64Be(image.BitmapTableAt[0]) | 1);
        await using var driver = await OpenDriverAsync(image);
        var error = await Assert.ThrowsAsync<ImageFormatException>(async () => await ReadAsync(driver, "b"));
        AssertSays(error, BlockErrorKind.CorruptImage, "entry 0 of the table of bitmap 'b'", "value");
    }

    private static async Task<List<DirtyRange>> ReadAsync(ImageDriver driver, string name)
    {
        var result = new List<DirtyRange>();
        await foreach (var range in driver.ReadBitmapAsync(name))
        {
            result.Add(range);
        }

        return result;
    }
}
