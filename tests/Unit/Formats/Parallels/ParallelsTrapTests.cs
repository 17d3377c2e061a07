using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Units;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Formats.Parallels;

/// <summary>What real and hostile images do to readers, one by one, with the exact words.</summary>
public class ParallelsTrapTests
{
    private const uint Ynot = ParallelsImageBuilder.InUseOpen;

    private static ParallelsImageBuilder Builder(ParallelsMagic magic = ParallelsMagic.WithoutFreeSpace, uint inUse = 0) =>
        new() { Magic = magic, ClusterSectors = 64, SizeSectors = 64 * 10, InUse = inUse };

    [Theory]
    [InlineData(ParallelsField.Version, 1UL, "header at 0x10: version 1: must be 2")]
    [InlineData(ParallelsField.Version, 3UL, "header at 0x10: version 3: must be 2")]
    [InlineData(ParallelsField.Tracks, 0UL, "header at 0x1c: tracks 0: the cluster size must be 1 to 4186127 sectors")]
    [InlineData(ParallelsField.Tracks, 4186128UL, "header at 0x1c: tracks 4186128: the cluster size must be 1 to 4186127 sectors")]
    [InlineData(ParallelsField.Tracks, 0xFFFFFFFFUL, "header at 0x1c: tracks 4294967295: the cluster size must be 1 to 4186127 sectors")]
    [InlineData(ParallelsField.BatEntries, 0x1FFFFFFFUL, "header at 0x20: nb_bat_entries 536870911: the BAT ends at 0x8000003c, the file at 0x58000")]
    [InlineData(ParallelsField.BatEntries, 0x20000000UL, "header at 0x20: nb_bat_entries 536870912: must be at most 536870911")]
    [InlineData(ParallelsField.BatEntries, 0xFFFFFFFFUL, "header at 0x20: nb_bat_entries 4294967295: must be at most 536870911")]
    [InlineData(ParallelsField.Flags, 0xFFFFFFFFUL, "header at 0x34: flags 0xffffffff: the word is not valid")]
    public async Task A_header_that_cannot_be_is_refused(ParallelsField field, ulong value, string message)
    {
        var image = Builder().Fill(1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9).Build().Set(field, value);
        var error = await Assert.ThrowsAsync<ImageFormatException>(() => Opening.OpenAsync(image.ToStorage(), "parallels"));
        Assert.Equal("test.hds: " + message, error.Message);
    }

    [Theory]
    [InlineData(long.MaxValue / 512, null)]
    [InlineData((long.MaxValue / 512) + 1, "test.hds: header at 0x24: nb_sectors 18014398509481984: must be at most 18014398509481983")]
    [InlineData(-1, "test.hds: header at 0x24: nb_sectors 18446744073709551615: must be at most 18014398509481983")]
    public async Task A_v2_size_has_a_limit(long sectors, string? message)
    {
        var image = Builder(ParallelsMagic.WithouFreSpacExt).Fill(1, 0).Build().Set(ParallelsField.Sectors, (ulong)sectors);
        if (message is null)
        {
            await using var node = await Opening.OpenAsync(image.ToStorage(), "parallels");
            Assert.Equal(sectors * 512, node.VirtualSize);
            var last = await node.MapAsync(new GuestOffset(node.VirtualSize - 1), long.MaxValue);
            Assert.Equal((1L, ExtentKind.Unallocated), (last.Length, last.Kind));
        }
        else
        {
            Assert.Equal(message, (await Assert.ThrowsAsync<ImageFormatException>(() => Opening.OpenAsync(image.ToStorage(), "parallels"))).Message);
        }
    }

    [Fact]
    public async Task The_high_half_of_a_v1_size_is_ignored()
    {
        var image = Builder().FillRandom(1).Build().Set(ParallelsField.SectorsHigh, 0xDEADBEEF);
        await using var node = await Opening.OpenAsync(image.ToStorage(), "parallels");
        await ParallelsReadTests.SameAsModel(node, image.Model);
    }

    [Theory]
    [InlineData(0u)]
    [InlineData(ParallelsImageBuilder.InUseClosed)]
    [InlineData(0x37316470u)] // "pd17", as Parallels Desktop writes
    [InlineData(0x32326470u)] // "pd22"
    [InlineData(0xFFFFFFFFu)]
    public async Task Any_in_use_is_read(uint inUse)
    {
        List<string> warnings = [];
        var image = Builder(inUse: inUse).FillRandom(1).Build();
        await using var node = await Opening.OpenAsync(image.ToStorage(), "parallels", warnings: warnings);
        await ParallelsReadTests.SameAsModel(node, image.Model);
        Assert.Empty(warnings);
        Assert.Null((await node.GetInfoAsync()).Dirty);
    }

    [Fact]
    public async Task A_dirty_image_is_read_with_a_warning()
    {
        List<string> warnings = [];
        var image = Builder(inUse: Ynot).FillRandom(1).Build();
        await using var node = await Opening.OpenAsync(image.ToStorage(), "parallels", warnings: warnings);
        await ParallelsReadTests.SameAsModel(node, image.Model);
        Assert.Equal(["test.hds: was not closed correctly (in_use is \"Ynot\"); it may be inconsistent, 'check' tells"], warnings);
        Assert.True((await node.GetInfoAsync()).Dirty);
    }

    [Fact]
    public async Task A_half_converted_image_is_refused()
    {
        var image = Builder(inUse: Ynot).FillRandom(1).Build().Set(ParallelsField.Flags, 2);
        var error = await Assert.ThrowsAsync<ImageFormatException>(() => Opening.OpenAsync(image.ToStorage(), "parallels"));
        Assert.Equal(
            "test.hds: header at 0x34: flags 0x2: a conversion between the two magics was interrupted, BAT entries may be in either unit", error.Message);
        await using var closed = await Opening.OpenAsync(image.Set(ParallelsField.InUse, 0).ToStorage(), "parallels");
        await ParallelsReadTests.SameAsModel(closed, image.Model);
    }

    [Fact]
    public async Task The_empty_bit_makes_an_image_clear()
    {
        var image = Builder().Fill(1, 1, 2).Build().Set(ParallelsField.Flags, 1);
        await using var node = await Opening.OpenAsync(image.ToStorage(), "parallels");
        Assert.Equal(ExtentKind.Unallocated, Assert.Single(await Opening.MapAllAsync(node)).Kind);
        Assert.All(await Opening.ReadAllAsync(node), b => Assert.Equal(0, b));
    }

    [Theory]
    [InlineData(2u, 63u, "test.hds: BAT entry 2 at 0x48: value 0x3f: the cluster at 0x7e00 lies before the data area at 0x8000")]
    [InlineData(9u, 1u, "test.hds: BAT entry 9 at 0x64: value 0x1: the cluster at 0x200 lies before the data area at 0x8000")]
    [InlineData(2u, 65u, "test.hds: BAT entry 2 at 0x48: value 0x41: the cluster at 0x8200 is not a whole number of clusters (0x8000 bytes) behind the data area's start at 0x8000")]
    [InlineData(2u, 256u, "test.hds: BAT entry 2 at 0x48: value 0x100: the cluster at 0x20000 lies beyond the end of the file at 0x20000")]
    [InlineData(2u, 0xFFFFFFFFu, "test.hds: BAT entry 2 at 0x48: value 0xffffffff: the cluster at 0x1fffffffe00 lies beyond the end of the file at 0x20000")]
    public async Task A_bad_entry_of_a_v1_BAT_fails_where_it_is_mapped(uint index, uint value, string message)
    {
        var image = Builder().Fill(1, 0, 1, 3).Build().SetBat(index, value);
        await using var node = await Opening.OpenAsync(image.ToStorage(), "parallels");
        var error = await Assert.ThrowsAsync<ImageFormatException>(async () => await node.MapAsync(new GuestOffset(index * 64 * 512), 1));
        Assert.Equal(message, error.Message);
        Assert.Equal(BlockErrorKind.CorruptImage, error.Kind);

        // Its neighbours are none the worse.
        var buffer = new byte[2 * 64 * 512];
        await node.ReadAsync(GuestOffset.Zero, buffer);
        Assert.Equal(image.Model.Slice(0, buffer.Length), buffer);
    }

    [Theory]
    [InlineData(4u, "test.hds: BAT entry 2 at 0x48: value 0x4: the cluster at 0x20000 lies beyond the end of the file at 0x20000")]
    [InlineData(0xFFFFFFFFu, "test.hds: BAT entry 2 at 0x48: value 0xffffffff: the cluster at 0x7fffffff8000 lies beyond the end of the file at 0x20000")]
    public async Task A_bad_entry_of_a_v2_BAT_fails_where_it_is_mapped(uint value, string message)
    {
        var image = Builder(ParallelsMagic.WithouFreSpacExt).Fill(1, 0, 1, 3).Build().SetBat(2, value);
        await using var node = await Opening.OpenAsync(image.ToStorage(), "parallels");
        Assert.Equal(message, (await Assert.ThrowsAsync<ImageFormatException>(async () => await node.MapAsync(new GuestOffset(2 * 64 * 512), 1))).Message);
    }

    [Fact]
    public async Task The_largest_offset_of_all_does_not_overflow()
    {
        var image = new ParallelsImageBuilder { Magic = ParallelsMagic.WithouFreSpacExt, ClusterSectors = 4186127, SizeSectors = 4186127L * 2 }.Build();
        image.SetBat(1, uint.MaxValue).Truncate(long.MaxValue);
        await using var node = await Opening.OpenAsync(image.ToStorage(), "parallels");
        var extent = await node.MapAsync(new GuestOffset(4186127L * 512), long.MaxValue);
        Assert.Equal((long)uint.MaxValue * 4186127 * 512, extent.HostOffset.Value);
    }

    [Fact]
    public async Task A_file_that_ends_inside_its_last_cluster_is_completed_with_zeros()
    {
        var image = Builder().Fill(1, 0, 1, 2).Build();
        image.Truncate(image.DataAt + (2 * 64 * 512) + 1000);
        await using var node = await Opening.OpenAsync(image.ToStorage(), "parallels");
        var bytes = await Opening.ReadAllAsync(node);
        Assert.Equal(image.Model.Slice(0, (2 * 64 * 512) + 1000), bytes[..((2 * 64 * 512) + 1000)]);
        Assert.All(bytes[((2 * 64 * 512) + 1000)..], b => Assert.Equal(0, b));
    }

    [Fact]
    public async Task A_BAT_that_is_too_short_leaves_the_rest_unallocated()
    {
        List<string> warnings = [];
        var image = Builder().Fill(1, 0, 1, 2, 9).Build().Set(ParallelsField.BatEntries, 3);
        await using var node = await Opening.OpenAsync(image.ToStorage(), "parallels", warnings: warnings);
        Assert.Equal(64 * 10 * 512, node.VirtualSize);
        Assert.Equal(["test.hds: its BAT ends at 0x18000, the disk at 0x50000; the rest is taken as not allocated"], warnings);
        var map = await Opening.MapAllAsync(node);
        Assert.Equal([(0L, 3 * 32768L, ExtentKind.Data), (3 * 32768, 7 * 32768, ExtentKind.Unallocated)], map.Select(e => (e.Offset.Value, e.Length, e.Kind)));
    }

    [Theory]
    [InlineData(1u)]
    [InlineData(63u)]
    [InlineData(100_000u)]
    public async Task A_data_off_that_cannot_be_is_worked_around(uint dataOffset)
    {
        List<string> warnings = [];
        var image = Builder(dataOffset < 2 ? ParallelsMagic.WithouFreSpacExt : ParallelsMagic.WithoutFreeSpace).FillRandom(2, 0.5).Build();
        image.Set(ParallelsField.DataOffset, dataOffset == 63 ? 0xFFFFFFFF : dataOffset);
        await using var node = await Opening.OpenAsync(image.ToStorage(), "parallels", warnings: warnings);
        await ParallelsReadTests.SameAsModel(node, image.Model);
        Assert.EndsWith("in its header cannot be right; it is taken from the size of the BAT", Assert.Single(warnings));
    }

    [Fact]
    public async Task Contiguous_clusters_are_one_extent()
    {
        var image = Builder().Fill(1, 1, 2, 3, 5).Build();
        await using var node = await Opening.OpenAsync(image.ToStorage(), "parallels");
        var map = await Opening.MapAllAsync(node);
        Assert.Equal(
            [
                (0L, 32768L, ExtentKind.Unallocated, 0L), (32768, 3 * 32768, ExtentKind.Data, image.DataAt), (4 * 32768, 32768, ExtentKind.Unallocated, 0),
                (5 * 32768, 32768, ExtentKind.Data, image.DataAt + (3 * 32768)), (6 * 32768, 4 * 32768, ExtentKind.Unallocated, 0),
            ],
            map.Select(e => (e.Offset.Value, e.Length, e.Kind, e.HostOffset.Value)));
    }

    [Fact]
    public async Task A_disk_of_64_TiB_opens_without_reading_its_BAT()
    {
        const long Clusters = 64L << 20;
        var image = new ParallelsImageBuilder { Magic = ParallelsMagic.WithouFreSpacExt, SizeSectors = Clusters * 2048 }
            .Fill(1, 0, Clusters / 2, Clusters - 1).Build();
        var storage = (SparseStorage)image.ToStorage();
        await using var node = await Opening.OpenAsync(storage, "parallels");
        Assert.Equal(64, storage.BytesRead);

        var bytes = new byte[1 << 20];
        foreach (var cluster in new[] { 0, Clusters / 2, Clusters - 1 })
        {
            await node.ReadAsync(new GuestOffset(cluster << 20), bytes);
            image.Model.AssertEqual(cluster << 20, bytes);
        }

        Assert.InRange(storage.BytesRead, 0, (3 << 20) + (3 << 16) + 64);
    }

    [Fact]
    public async Task Every_truncation_opens_or_fails_by_name()
    {
        var image = Builder(inUse: ParallelsImageBuilder.InUseClosed).Fill(1, 0, 3, 9).AddBitmap(new ParallelsBitmap { GranularitySectors = 1 }.Set(3, 9)).Build();
        for (var length = image.Bytes.Length; length >= 0; length -= length > 4096 ? 511 : 1)
        {
            image.Truncate(length);
            await TryEverythingAsync(image);
        }
    }

    [Fact]
    public async Task No_header_or_entry_makes_anything_but_a_BlockException()
    {
        var random = new Random(20240811);
        ulong[] values = [0, 1, 2, 3, 63, 64, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF, ulong.MaxValue, ulong.MaxValue / 512, long.MaxValue];
        for (var round = 0; round < 3000; round++)
        {
            var image = Builder(round % 2 == 0 ? ParallelsMagic.WithoutFreeSpace : ParallelsMagic.WithouFreSpacExt, ParallelsImageBuilder.InUseClosed)
                .Fill(1, 0, 3, 9).AddBitmap(new ParallelsBitmap { GranularitySectors = 1 }.Set(3, 9)).Build();
            for (var i = 0; i <= random.Next(3); i++)
            {
                var value = random.Next(2) == 0 ? values[random.Next(values.Length)] : (ulong)random.NextInt64();
                switch (random.Next(4))
                {
                    case 0:
                        image.SetBat(random.Next(10), (uint)value);
                        break;
                    case 1:
                        image.Bytes.PutLittleEndian(image.ExtensionAt + random.Next(128), value, 4);
                        image.FixExtensionChecksum();
                        break;
                    default:
                        var fields = Enum.GetValues<ParallelsField>();
                        image.Set(fields[random.Next(fields.Length)], value);
                        break;
                }
            }

            await TryEverythingAsync(image);
        }
    }

    private static async Task TryEverythingAsync(ParallelsImage image)
    {
        try
        {
            await using var node = await Opening.OpenAsync(image.ToStorage(), "parallels");
            await node.GetInfoAsync();
            await node.CheckAsync(_ => { });
            foreach (var bitmap in node.Bitmaps)
            {
                var count = 0;
                await foreach (var range in node.ReadBitmapAsync(bitmap.Name))
                {
                    Assert.InRange(range.Offset.Value + range.Length, 1, node.VirtualSize);
                    if (++count == 100)
                    {
                        break;
                    }
                }
            }

            var at = GuestOffset.Zero;
            for (var i = 0; i < 50 && at.Value < node.VirtualSize; i++)
            {
                var extent = await node.MapAsync(at, long.MaxValue);
                Assert.True(extent.Length > 0 && extent.Length <= node.VirtualSize - at.Value);
                await node.ReadAsync(at, new byte[Math.Min(extent.Length, 100)]);
                at = extent.End;
            }
        }
        catch (BlockException e)
        {
            Assert.StartsWith("test.hds: ", e.Message);
            Assert.DoesNotContain('\n', e.Message);
        }
    }
}
