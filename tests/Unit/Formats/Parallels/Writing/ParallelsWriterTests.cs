using System.Buffers.Binary;
using Platter.Core.Bitmaps;
using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Parallels.Layout;
using Platter.TestKit;
using Platter.Tests.Unit.Formats.Qcow2.Writing;
using Xunit;

namespace Platter.Tests.Unit.Formats.Parallels.Writing;

public sealed class ParallelsWriterTests
{
    private const ulong Unknown = 0x1234567890ABCDEF;

    [Fact]
    public async Task Nothing_is_written_before_something_changes()
    {
        var image = new ParallelsImageBuilder { ClusterSectors = 8, SizeSectors = 80 }.Fill(1, 2, 5).AddBitmap(new ParallelsBitmap().Set(1, 2)).Build();
        var before = image.Bytes.ToArray();
        var storage = new MemoryStorage("x", [.. before]);
        await using (var node = await ParallelsFixture.OpenAsync(storage))
        {
            await node.ReadAsync(default, new byte[5000]);
            await node.FlushAsync();
        }

        Assert.Equal(before, storage.ToArray());
    }

    [Fact]
    public async Task The_header_says_Ynot_from_the_first_change_to_the_closing()
    {
        var storage = await ParallelsFixture.CreateAsync(1 << 20, "cluster_size=4k");
        await using (var node = await ParallelsFixture.OpenAsync(storage))
        {
            Assert.Equal(0u, (await ParallelsFixture.HeaderAsync(storage)).InUse);
            await node.WriteAsync(new(5), new byte[1]);
            Assert.Equal(ParallelsHeader.InUseOpen, (await ParallelsFixture.HeaderAsync(storage)).InUse);
            await node.FlushAsync();
            Assert.Equal(ParallelsHeader.InUseOpen, (await ParallelsFixture.HeaderAsync(storage)).InUse);
        }

        Assert.Equal(0u, (await ParallelsFixture.HeaderAsync(storage)).InUse);
    }

    [Theory]
    [InlineData("pd17")]
    [InlineData("v2.1")]
    [InlineData("Ynot")]
    public async Task Whoever_closed_it_we_close_it_as_clean(string inUse)
    {
        var image = new ParallelsImageBuilder
        {
            ClusterSectors = 8, SizeSectors = 80, LeakedTailClusters = 3, InUse = BinaryPrimitives.ReadUInt32LittleEndian(System.Text.Encoding.ASCII.GetBytes(inUse)),
        }.Fill(1, 2, 5).Build();
        var storage = new MemoryStorage("x", image.Bytes.ToArray());
        await using (var node = await ParallelsFixture.OpenAsync(storage))
        {
            if (inUse != "Ynot")
            {
                await node.WriteAsync(default, new byte[1]);
            }
        }

        await ParallelsFixture.AssertCleanAsync(storage);
    }

    [Fact]
    public async Task The_file_grows_ahead_of_need_but_never_beyond_the_disk()
    {
        var storage = await ParallelsFixture.CreateAsync(64 << 20, "cluster_size=64k");
        await using (var node = await ParallelsFixture.OpenAsync(storage, options: new NodeOptions { ["prealloc-size"] = "1M" }))
        {
            await node.WriteAsync(new(30 << 20), new byte[10]);
            Assert.Equal(65536 + 65536 + (1 << 20), storage.Length);
        }

        Assert.Equal(2 * 65536, storage.Length);
        await using (var node = await ParallelsFixture.OpenAsync(storage))
        {
            await node.WriteAsync(default, new byte[10]);
            Assert.Equal(65536L * 1025, storage.Length - 65536);
        }

        Assert.Equal(3 * 65536, storage.Length);
    }

    [Theory]
    [InlineData("prealloc-size", "much", "option 'prealloc-size' is 'much': expected a size")]
    [InlineData("prealloc-mode", "full", "option 'prealloc-mode' is 'full': expected falloc or truncate")]
    public async Task Options_of_growth_are_judged(string key, string value, string message)
    {
        var storage = await ParallelsFixture.CreateAsync(1 << 20);
        var error = await Assert.ThrowsAsync<BlockException>(() => ParallelsFixture.OpenAsync(storage, options: new NodeOptions { [key] = value }));
        Assert.Equal($"test.hds: {message}", error.Message);
    }

    [Fact]
    public async Task Clusters_that_were_given_up_are_used_again_after_a_flush_and_not_before()
    {
        var storage = await ParallelsFixture.CreateAsync(1 << 20, "cluster_size=4k");
        await using var node = await ParallelsFixture.OpenAsync(storage, options: new NodeOptions { ["prealloc-size"] = "0" });
        await node.WriteAsync(default, new byte[8192]);
        await node.DiscardAsync(default, 4096);
        await node.WriteAsync(new(40_960), new byte[4096]);
        Assert.Equal(12288, await HostOfAsync(node, 40_960));
        await node.FlushAsync();
        await node.WriteAsync(new(81_920), new byte[4096]);
        Assert.Equal(4096, await HostOfAsync(node, 81_920));
    }

    [Theory]
    [InlineData("discard", 4096, 2)]
    [InlineData("discard", 63 * 512, 1)]
    [InlineData("zero", 65_536, 2)]
    [InlineData("discard, keeping", 4096, 2)]
    public async Task What_a_guest_gives_up_goes_back_to_the_host(string how, int cluster, int version)
    {
        const int Size = 1 << 20;
        var (from, length) = (2 * cluster, Size / 2 / cluster * cluster);
        var disk = new SmallDiskStorage(await ParallelsFixture.CreateAsync(Size, $"cluster_size={cluster},version={version}"), 1000);
        var model = TestContent.Make(3, 0, Size);
        await using (var node = await ParallelsFixture.OpenAsync(disk))
        {
            await node.WriteAsync(default, model);
        }

        var keeps = how.Contains("keeping", StringComparison.Ordinal);
        var before = disk.Used;
        await using (var node = await ParallelsFixture.OpenAsync(disk, options: new NodeOptions { ["discard"] = keeps ? "ignore" : "unmap" }))
        {
            await (how == "zero" ? node.WriteZeroesAsync(new(from), length, WriteFlags.MayUnmap) : node.DiscardAsync(new(from), length));
            model.AsSpan(from, length).Clear();
            Assert.InRange(disk.Used, before, before + 1);

            await node.FlushAsync();
            Assert.InRange(disk.Used, keeps ? before : 0, keeps ? before + 1 : before - (length / 4096) + 2);

            // Handed out again, they are not punched again, and show nothing of what they held.
            await node.WriteAsync(new(from + 100_000), new byte[] { 1, 2, 3 });
            new byte[] { 1, 2, 3 }.CopyTo(model, from + 100_000);
            await node.FlushAsync();
            await WriteFixture.AssertReadsAsync(node, model);
        }

        await using var reopened = await ParallelsFixture.OpenAsync(disk.Inner, writable: false);
        await WriteFixture.AssertReadsAsync(reopened, model);
    }

    [Fact]
    public async Task A_cluster_is_punched_after_its_entry_is_off_the_disk()
    {
        var memory = await ParallelsFixture.CreateAsync(1 << 20, "cluster_size=4k");
        await using (var node = await ParallelsFixture.OpenAsync(memory))
        {
            await node.WriteAsync(default, TestContent.Make(1, 0, 1 << 20));
        }

        var storage = new Steps(memory);
        await using (var node = await ParallelsFixture.OpenAsync(storage))
        {
            await node.DiscardAsync(new(8192), 4096);
            await node.DiscardAsync(new(4096), 4096);
            await node.DiscardAsync(new(40_960), 4096);
            storage.Log.Clear();
            await node.FlushAsync();
            Assert.Equal(["flush", "write 0x40", "flush", "discard 0x2000 0x2000", "discard 0xb000 0x1000"], storage.Log);
        }
    }

    [Fact]
    public async Task A_hole_that_was_there_is_filled_as_a_whole()
    {
        var image = new ParallelsImageBuilder { ClusterSectors = 8, SizeSectors = 80 }.Fill(1, 2, 5).AddHoles(0).Build();
        var storage = new MemoryStorage("x", image.Bytes.ToArray());
        var model = image.Model.ToArray();
        await using (var node = await ParallelsFixture.OpenAsync(storage))
        {
            await node.WriteAsync(new(100), new byte[] { 1, 2, 3 });
            Assert.Equal(image.DataAt, await HostOfAsync(node, 0));
        }

        new byte[] { 1, 2, 3 }.CopyTo(model, 100);
        await using var reopened = await ParallelsFixture.OpenAsync(storage, writable: false);
        await WriteFixture.AssertReadsAsync(reopened, model);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Zeros_and_discards_never_show_what_is_below(bool mayUnmap)
    {
        var below = new ReferenceDisk(40_960);
        below.Fill(7, 0, 40_960);
        var storage = await ParallelsFixture.CreateAsync(40_960, "cluster_size=4k");
        var model = below.ToArray();
        await using (var node = await ParallelsFixture.OpenAsync(storage, below))
        {
            await node.WriteAsync(new(8192), TestContent.Make(1, 8192, 8192));
            TestContent.Make(1, 8192, 8192).CopyTo(model, 8192);
            await node.DiscardAsync(default, 40_960);
            await WriteFixture.AssertReadsAsync(node, model);
            await node.WriteZeroesAsync(new(4096), 16_384, mayUnmap ? WriteFlags.MayUnmap : WriteFlags.None);
            model.AsSpan(4096, 16_384).Clear();
            await WriteFixture.AssertReadsAsync(node, model);
        }

        await ParallelsFixture.AssertCleanAsync(storage);
        await using var reopened = await ParallelsFixture.OpenAsync(storage, below, writable: false);
        await WriteFixture.AssertReadsAsync(reopened, model);
    }

    [Fact]
    public async Task A_growing_disk_does_not_show_what_is_below()
    {
        var below = new ReferenceDisk(100_000 / 512 * 512);
        below.Fill(7, 0, (int)below.Size);
        var storage = await ParallelsFixture.CreateAsync(10_240, "cluster_size=4k");
        var model = new byte[204_800];
        below.ToArray().AsSpan(0, 10_240).CopyTo(model);
        await using (var node = await ParallelsFixture.OpenAsync(storage, below))
        {
            await node.ResizeAsync(204_800);
            await WriteFixture.AssertReadsAsync(node, model);
        }

        await ParallelsFixture.AssertCleanAsync(storage);
        await using var reopened = await ParallelsFixture.OpenAsync(storage, below, writable: false);
        await WriteFixture.AssertReadsAsync(reopened, model);
    }

    [Theory]
    [InlineData(1, 0u)]
    [InlineData(1, 5u)]
    [InlineData(2, null)]
    public async Task A_BAT_that_outgrows_its_place_takes_that_of_the_first_clusters(int magic, uint? dataOffset)
    {
        var image = new ParallelsImageBuilder
        {
            Magic = magic == 1 ? ParallelsMagic.WithoutFreeSpace : ParallelsMagic.WithouFreSpacExt, ClusterSectors = 3, SizeSectors = 60, DataOffsetSectors = dataOffset,
        }.FillRandom(1, 0.8).AddBitmap(new ParallelsBitmap { GranularitySectors = 16 }.Set(0, 5)).Build();
        var storage = new MemoryStorage("x", image.Bytes.ToArray());
        await using (var node = await ParallelsFixture.OpenAsync(storage))
        {
            await node.ResizeAsync(7_000 * 512);
        }

        var header = await ParallelsFixture.HeaderAsync(storage);
        Assert.Equal(2334u, header.BatEntryCount);
        Assert.True(header.DataOffsetSectors * 512 >= 64 + (4 * 2334));
        Assert.Equal(image.DataAt % 1536, header.DataOffsetSectors * 512 % 1536);
        await ParallelsFixture.AssertCleanAsync(storage);
        await using var reopened = await ParallelsFixture.OpenAsync(storage, writable: false);
        var model = new byte[7_000 * 512];
        image.Model.ToArray().CopyTo(model, 0);
        await WriteFixture.AssertReadsAsync(reopened, model);
        Assert.Equal([(0, 16)], await ParallelsBitmapTests.RangesAsync(reopened, reopened.Bitmaps[0].Name));
    }

    [Theory]
    [InlineData("duplicate", "BAT entry 5 at 0x54: value 0x8: the cluster at 0x1000 belongs to another entry as well; the image cannot be written to; 'check -r all' repairs it")]
    [InlineData("outside", "BAT entry 5 at 0x54: value 0x8000: the cluster at 0x1000000 lies beyond the end of the file at 0x3000; the image cannot be written to; 'check -r all' repairs it")]
    [InlineData("before", "BAT entry 5 at 0x54: value 0x1: the cluster at 0x200 lies before the data area at 0x1000; the image cannot be written to; 'check -r all' repairs it")]
    [InlineData("unaligned", "BAT entry 5 at 0x54: value 0x9: the cluster at 0x1200 is not a whole number of clusters (0x1000 bytes) behind the data area's start at 0x1000; the image cannot be written to; 'check -r all' repairs it")]
    [InlineData("data_off", "header at 0x30: data_off 4096: cannot be true; the image cannot be written to; 'check -r all' repairs it")]
    [InlineData("short", "header at 0x20: nb_bat_entries 9: the disk needs more; the image cannot be written to; 'check -r all' repairs it")]
    [InlineData("conversion", "header at 0x34: flags 0x2: a conversion between the two magics has not come to its end; the image cannot be written to")]
    public async Task A_damaged_image_is_refused_with_nothing_written(string damage, string message)
    {
        var image = new ParallelsImageBuilder { ClusterSectors = 8, SizeSectors = 80, InUse = 0 }.Fill(1, 2, 5).Build();
        _ = damage switch
        {
            "duplicate" => image.SetBat(5, 8),
            "outside" => image.SetBat(5, 0x8000),
            "before" => image.SetBat(5, 1),
            "unaligned" => image.SetBat(5, 9),
            "data_off" => image.Set(ParallelsField.DataOffset, 4096),
            "short" => image.Set(ParallelsField.BatEntries, 9),
            _ => image.Set(ParallelsField.Flags, 2),
        };
        var before = image.Bytes.ToArray();
        var storage = new MemoryStorage("x", [.. before]);
        var error = await Assert.ThrowsAsync<ImageFormatException>(() => ParallelsFixture.OpenAsync(storage));
        Assert.Equal((BlockErrorKind.CorruptImage, $"x: {message}"), (error.Kind, error.Message));
        Assert.Equal(before, storage.ToArray());
    }

    [Fact]
    public async Task A_stale_extension_is_gone_after_writing()
    {
        var image = new ParallelsImageBuilder { ClusterSectors = 8, SizeSectors = 80, InUse = 0 }.Fill(1, 2).AddBitmap(new ParallelsBitmap { GranularitySectors = 1 }.Set(1, 2)).Build();
        var storage = new MemoryStorage("x", image.Bytes.ToArray());
        await using (var node = await ParallelsFixture.OpenAsync(storage))
        {
            await node.WriteAsync(default, new byte[1]);
        }

        await ParallelsFixture.AssertCleanAsync(storage);
        Assert.Equal(0ul, (await ParallelsFixture.HeaderAsync(storage)).ExtensionOffsetSectors);
    }

    [Theory]
    [InlineData(1ul, true)]
    [InlineData(3ul, true)]
    [InlineData(2ul, false)]
    [InlineData(0ul, false)]
    public async Task Unknown_sections_forbid_writing_are_kept_or_are_dropped_as_their_flags_say(ulong flags, bool forbids)
    {
        byte[] data = [1, 2, 3, 4, 5];
        var image = new ParallelsImageBuilder { ClusterSectors = 8, SizeSectors = 80 }.Fill(1, 2)
            .AddFeature(Unknown, flags, data).AddBitmap(new ParallelsBitmap { GranularitySectors = 1, Flags = 2 }.Set(1, 2)).Build();
        var storage = new MemoryStorage("x", image.Bytes.ToArray());
        if (forbids)
        {
            var error = await Assert.ThrowsAsync<ImageFormatException>(() => ParallelsFixture.OpenAsync(storage));
            Assert.Equal(BlockErrorKind.Unsupported, error.Kind);
            return;
        }

        List<string> warnings = [];
        await using (var node = await ParallelsFixture.OpenAsync(storage, warnings: warnings))
        {
            await node.WriteAsync(new(20_480), new byte[1]);
        }

        Assert.Equal(flags == 2 ? [] : [$"x: feature 0x{Unknown:x} of its Format Extension is unknown, and will be gone when the image is changed"], warnings);
        var at = (int)(await ParallelsFixture.HeaderAsync(storage)).ExtensionOffsetSectors * 512;
        var features = FormatExtension.Parse(storage.ToArray().AsSpan(at, 4096), "x", new(at));
        Assert.Equal(flags == 2 ? [(Unknown, 2ul), (ExtensionFeature.DirtyBitmapMagic, 2ul)] : [(ExtensionFeature.DirtyBitmapMagic, 2ul)], features.Select(f => (f.Magic, f.Flags)));
        if (flags == 2)
        {
            Assert.Equal(data, storage.ToArray().AsSpan(at + features[0].DataAt, features[0].DataSize).ToArray());
        }
    }

    [Fact]
    public async Task A_damaged_extension_keeps_the_image_from_being_written_to()
    {
        var image = new ParallelsImageBuilder { ClusterSectors = 8, SizeSectors = 80 }.AddBitmap(new ParallelsBitmap().Set(1, 2)).Build();
        image.Bytes.Write(image.ExtensionAt + 100, [0xFF]);
        var error = await Assert.ThrowsAsync<ImageFormatException>(() => ParallelsFixture.OpenAsync(new MemoryStorage("x", image.Bytes.ToArray())));
        Assert.Contains("is not the MD5 of the cluster", error.Message, StringComparison.Ordinal);
        Assert.EndsWith("the image cannot be written to; 'check -r all' repairs it", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("foo", null, true, "Bitmap name 'foo' is not a UUID, which is the only name that a bitmap of this format has (such as ")]
    [InlineData("", null, true, "Bitmap name '' is not a UUID")]
    [InlineData(ParallelsFixture.BitmapA, 700L, true, "Granularity must be power of 2 and at least 512")]
    [InlineData(ParallelsFixture.BitmapA, 4L << 30, true, "Granularity must be power of 2 and at least 512")]
    [InlineData(ParallelsFixture.BitmapA, null, false, "bitmap '8c3b0b5e-90dd-4e5e-a4a6-0d4f0d2f2ea1' is disabled, and a bitmap of this format cannot be")]
    [InlineData("{11111111-2222-3333-4444-555555555555}", null, true, "Bitmap already exists: {11111111-2222-3333-4444-555555555555}")]
    public async Task What_is_no_bitmap_of_this_format_is_refused(string name, long? granularity, bool enabled, string message)
    {
        var storage = await ParallelsFixture.CreateAsync(1 << 20);
        await using var node = await ParallelsFixture.OpenAsync(storage);
        await node.AddBitmapsAsync([new(ParallelsFixture.BitmapB)]);
        var error = await Assert.ThrowsAsync<BlockException>(async () => await node.AddBitmapsAsync([new(name, granularity, enabled)]));
        Assert.StartsWith($"test.hds: {message}", error.Message, StringComparison.Ordinal);
        Assert.Single(node.Bitmaps);
    }

    [Fact]
    public async Task Bitmaps_that_the_extension_cannot_hold_are_refused()
    {
        // 512 bytes: one bitmap with 54 L1 entries at most.
        var storage = await ParallelsFixture.CreateAsync(128 << 20, "cluster_size=512,version=1");
        await using var node = await ParallelsFixture.OpenAsync(storage);
        var error = await Assert.ThrowsAsync<BlockException>(async () => await node.AddBitmapsAsync([new(ParallelsFixture.BitmapA, 512)]));
        Assert.Equal(BlockErrorKind.LimitExceeded, error.Kind);
        await node.AddBitmapsAsync([new(ParallelsFixture.BitmapA, 4096)]);
        error = await Assert.ThrowsAsync<BlockException>(async () => await node.ResizeAsync(1L << 30));
        Assert.Equal(BlockErrorKind.LimitExceeded, error.Kind);
        Assert.Equal(128 << 20, node.VirtualSize);
    }

    [Fact]
    public async Task Stored_bitmaps_count_until_the_next_write()
    {
        var storage = await ParallelsFixture.CreateAsync(1 << 20, "cluster_size=4k");
        await using var node = await ParallelsFixture.OpenAsync(storage);
        await node.AddBitmapsAsync([new(ParallelsFixture.BitmapA, 512)]);
        Assert.Equal([], await StoredAsync());
        await node.WriteAsync(new(5000), new byte[1000]);
        Assert.Null(await StoredAsync());
        await node.StoreBitmapsAsync();
        Assert.Equal([(9, 3)], await StoredAsync());
        await node.DiscardAsync(new(100_000), 10);
        Assert.Null(await StoredAsync());

        async Task<List<(long, long)>?> StoredAsync()
        {
            await using var now = await ParallelsFixture.OpenAsync(new MemoryStorage("now", storage.ToArray(), readOnly: true));
            return now.Bitmaps.Count == 0 ? null : await ParallelsBitmapTests.RangesAsync(now, ParallelsFixture.BitmapA);
        }
    }

    [Fact]
    public async Task A_cluster_in_sector_1_is_none_for_bits()
    {
        // Header and BAT fit into a sector: the first cluster is sector 1, which in an L1 table means that all bits are set.
        var image = new ParallelsImageBuilder { ClusterSectors = 1, SizeSectors = 20, DataOffsetSectors = 0 }.Build();
        var storage = new MemoryStorage("x", image.Bytes.ToArray());
        await using (var node = await ParallelsFixture.OpenAsync(storage))
        {
            await node.AddBitmapsAsync([new(ParallelsFixture.BitmapA, 512, Content: new[] { new DirtyRange(new(1024), 512) }.ToAsyncEnumerable())]);
        }

        await using var reopened = await ParallelsFixture.OpenAsync(storage, writable: false);
        Assert.Equal([(2, 1)], await ParallelsBitmapTests.RangesAsync(reopened, ParallelsFixture.BitmapA));
    }

    [Fact]
    public async Task Clusters_of_many_megabytes_are_filled_piece_by_piece()
    {
        const int Cluster = 24 << 20;
        var below = new ReferenceDisk(60 << 20);
        below.Fill(3, 5 << 20, 1000);
        below.Fill(3, 47 << 20, 5 << 20);
        var storage = await ParallelsFixture.CreateAsync(60 << 20, $"cluster_size={Cluster}");
        var model = below.ToArray();
        await using (var node = await ParallelsFixture.OpenAsync(storage, below, options: new NodeOptions { ["prealloc-size"] = "0" }))
        {
            foreach (var at in new[] { 30 << 20, 6 << 20, (60 << 20) - 700 })
            {
                await node.WriteAsync(new(at), TestContent.Make(at, at, 700));
                TestContent.Make(at, at, 700).CopyTo(model, at);
            }

            await WriteFixture.AssertReadsAsync(node, model);
        }

        await ParallelsFixture.AssertCleanAsync(storage);
        Assert.Equal(Cluster * 4L, storage.Length);
    }

    [Fact]
    public async Task A_v1_image_ends_at_2_TiB_and_says_so()
    {
        var storage = new LongStorage();
        await new Platter.Formats.Parallels.ParallelsFormat().CreateAsync(storage, 3L << 30, NodeOptions.ParseKeyValues("version=1,cluster_size=1G"), new CreateContext());
        storage.SetMany(uint.MaxValue * 512L);
        await using var node = await ParallelsFixture.OpenAsync(storage);
        var error = await Assert.ThrowsAsync<BlockException>(async () => await node.ResizeAsync(2L << 40));
        Assert.Equal(BlockErrorKind.LimitExceeded, error.Kind);
    }

    private static async Task<long> HostOfAsync(BlockNode node, long at)
    {
        var extent = await node.MapAsync(new GuestOffset(at), 1);
        Assert.Equal(ExtentKind.Data, extent.Kind);
        return extent.HostOffset.Value;
    }

    // Notes what changes the file, and where.
    private sealed class Steps(MemoryStorage inner) : Storage
    {
        public List<string> Log { get; } = [];

        public override string Name => inner.Name;

        public override long Length => inner.Length;

        public override bool IsReadOnly => false;

        public override ValueTask<int> ReadAsync(HostOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default) =>
            inner.ReadAsync(at, buffer, cancellationToken);

        public override ValueTask WriteAsync(HostOffset at, ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
        {
            Log.Add($"write 0x{at.Value:x}");
            return inner.WriteAsync(at, buffer, cancellationToken);
        }

        public override ValueTask DiscardAsync(HostOffset at, long length, CancellationToken cancellationToken = default)
        {
            Log.Add($"discard 0x{at.Value:x} 0x{length:x}");
            return inner.DiscardAsync(at, length, cancellationToken);
        }

        public override ValueTask FlushAsync(CancellationToken cancellationToken = default)
        {
            Log.Add("flush");
            return ValueTask.CompletedTask;
        }

        public override ValueTask SetLengthAsync(long length, CancellationToken cancellationToken = default) => inner.SetLengthAsync(length, cancellationToken);
    }

    // A file that is only its first megabyte, and zeros.
    private sealed class LongStorage : Storage
    {
        private readonly MemoryStorage _start = new("long", new byte[1 << 20]);
        private long _length;

        public override string Name => "long";

        public override long Length => _length;

        public override bool IsReadOnly => false;

        public void SetMany(long length) => _length = length;

        public override ValueTask<int> ReadAsync(HostOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            buffer.Span.Clear();
            return at.Value < 1 << 20 ? _start.ReadAsync(at, buffer, cancellationToken) : new(buffer.Length);
        }

        public override ValueTask WriteAsync(HostOffset at, ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default) =>
            _start.WriteAsync(at, buffer, cancellationToken);

        public override ValueTask SetLengthAsync(long length, CancellationToken cancellationToken = default)
        {
            _length = length;
            return ValueTask.CompletedTask;
        }
    }
}
