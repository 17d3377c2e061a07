using System.Buffers.Binary;
using Platter.Core.Bitmaps;
using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Storages;
using Platter.Operations.Offline;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Formats.Qcow2.Writing;

/// <summary>Bitmaps of writable images: when they are in use, what is refused, and what an error leaves.</summary>
public sealed class Qcow2BitmapTests
{
    private const long Size = 10 << 20;

    [Fact]
    public async Task An_image_that_is_opened_and_not_written_to_keeps_every_byte()
    {
        var image = new Qcow2Builder { Size = Size }.AddBitmap(new Qcow2Bitmap("on").Set(0, 100000)).FillRandom(1, 0.3).Build();
        var before = image.Bytes.ToArray();
        var storage = new MemoryStorage("test.qcow2", [.. before]);
        await using (var node = await WriteFixture.OpenAsync(storage))
        {
            await node.FlushAsync();
        }

        Assert.Equal(before, await BytesAsync(storage));
    }

    [Fact]
    public async Task Enabled_bitmaps_are_in_use_from_the_first_write_until_they_are_stored()
    {
        var storage = Build(new Qcow2Bitmap("on"), new Qcow2Bitmap("off") { Flags = 0 });
        await using (var node = await WriteFixture.OpenAsync(storage))
        {
            Assert.Equal([false, false], await InUseAsync(storage));
            await node.WriteAsync(new(5), new byte[1]);
            Assert.Equal([true, false], await InUseAsync(storage));
            Assert.Equal([false, false], node.Bitmaps.Select(b => b.InUse));
            await node.FlushAsync();
            Assert.Equal([true, false], await InUseAsync(storage));
            await node.StoreBitmapsAsync();
            Assert.Equal([false, false], await InUseAsync(storage));
            Assert.Equal([new DirtyRange(new(0), 65536)], await ReadAsync(storage, "on"));
            await node.WriteZeroesAsync(new(1 << 20), 512);
            Assert.Equal([true, false], await InUseAsync(storage));
        }

        Assert.Equal([new DirtyRange(new(0), 65536), new(new(1 << 20), 65536)], await ReadAsync(storage, "on"));
        Assert.Empty(await ReadAsync(storage, "off"));
        await WriteFixture.AssertCleanAsync(storage);
    }

    [Fact]
    public async Task With_the_last_bitmap_the_header_extension_goes()
    {
        var storage = Build(new Qcow2Bitmap("on"));
        await using (var node = await WriteFixture.OpenAsync(storage))
        {
            await node.RemoveBitmapAsync("on");
        }

        Assert.Equal(-1, storage.ToArray().AsSpan(0, 1024).IndexOf(new byte[] { 0x23, 0x85, 0x28, 0x75 }));
        await WriteFixture.AssertCleanAsync(storage);
    }

    [Fact]
    public async Task Storing_again_and_again_does_not_make_the_file_grow()
    {
        var storage = Build(new Qcow2Bitmap("on") { GranularityBits = 9 });
        var length = 0L;
        for (var i = 0; i < 10; i++)
        {
            await using (var node = await WriteFixture.OpenAsync(storage))
            {
                await node.WriteAsync(new(i * 512), new byte[512]);
            }

            length = i == 0 ? storage.Length : length;
        }

        Assert.Equal(length, storage.Length);
        Assert.Equal([new DirtyRange(new(0), 5120)], await ReadAsync(storage, "on"));
    }

    [Fact]
    public async Task What_is_not_known_of_a_bitmap_is_kept()
    {
        var storage = Build(
            new Qcow2Bitmap("used") { Flags = Qcow2Bitmap.Auto | Qcow2Bitmap.ExtraDataCompatible, ExtraData = [1, 2, 3, 4, 5] },
            new Qcow2Bitmap("odd") { Flags = 0, ExtraData = [7, 8, 9] });
        await using (var node = await WriteFixture.OpenAsync(storage))
        {
            await node.WriteAsync(new(0), new byte[1]);
            await node.AddBitmapsAsync([new("new")]);
            var error = await Assert.ThrowsAsync<BlockException>(async () => await node.ClearBitmapAsync("odd"));
            Assert.Equal(BlockErrorKind.Unsupported, error.Kind);
        }

        Assert.Equal(["used", "odd", "new"], await NamesAsync(storage));
        var bytes = await BytesAsync(storage);
        Assert.True(bytes.AsSpan().LastIndexOf((ReadOnlySpan<byte>)[1, 2, 3, 4, 5, (byte)'u', (byte)'s', (byte)'e', (byte)'d']) > 0);
        Assert.True(bytes.AsSpan().LastIndexOf((ReadOnlySpan<byte>)[7, 8, 9, (byte)'o', (byte)'d', (byte)'d']) > 0);
        Assert.Equal([new DirtyRange(new(0), 65536)], await ReadAsync(storage, "used"));
        await WriteFixture.AssertCleanAsync(storage);
    }

    [Fact]
    public async Task An_enabled_bitmap_that_nobody_could_keep_right_forbids_writing()
    {
        await RefusedAsync(Build(new Qcow2Bitmap("odd") { ExtraData = [7, 8, 9] }), "extra data");

        var tooShort = new Qcow2Builder { Size = 64 << 20, ClusterBits = 9 }.AddBitmap(new Qcow2Bitmap("b") { GranularityBits = 10 }).Build();
        tooShort.Bytes.Write(tooShort.BitmapEntryAt[0] + 11, new byte[] { 1 });
        await RefusedAsync(new("test.qcow2", tooShort.Bytes.ToArray()), "needs 16 entries");
    }

    [Fact]
    public async Task Bitmaps_that_lie_where_other_metadata_are_forbid_writing()
    {
        foreach (var find in new Func<Qcow2Image, long>[] { i => i.L1At, i => i.RefcountTableAt, i => i.BitmapDirectoryAt })
        {
            var image = Image(new Qcow2Bitmap("b"));
            image.Bytes.Write(image.BitmapEntryAt[0], BigEndian((ulong)find(image)));
            await RefusedAsync(new("test.qcow2", image.Bytes.ToArray()), "other metadata");
            image = Image(new Qcow2Bitmap("b") { StoreUniformClusters = true });
            image.Bytes.Write(image.BitmapTableAt[0], BigEndian((ulong)find(image)));
            await RefusedAsync(new("test.qcow2", image.Bytes.ToArray()), "other metadata");
        }
    }

    [Theory]
    [InlineData(0, 512)]
    [InlineData(1, 576)]
    [InlineData(10, 1008)]
    [InlineData(40, 2448)]
    public async Task The_extension_is_switched_wherever_it_lies(int names, long at)
    {
        // Names of features push it about, once over the border of two sectors; a backing file's name stands behind it.
        var builder = new Qcow2Builder
        {
            Size = Size, BackingFile = "base", BackingFormat = names > 0 ? "raw" : null, Backing = new ReferenceDisk(Size),
            FeatureNames = [.. Enumerable.Range(0, names).Select(i => ((byte)1, (byte)(i + 8), $"feature {i}"))],
        };
        builder.AddExtension(0x12345678, new byte[100]).AddBitmap(new Qcow2Bitmap("one").Set(0, 1));
        Assert.Equal(at, builder.Build().ExtensionAt[0x23852875] + 8);
        var storage = new MemoryStorage("test.qcow2", builder.Build().Bytes.ToArray());
        string[] last = ["a", "b"];
        foreach (var name in last)
        {
            await using (var node = await WriteFixture.OpenAsync(storage, below: builder.Backing))
            {
                await node.AddBitmapsAsync([new(name)]);
                await node.WriteAsync(new(70000), new byte[1]);
            }

            await WriteFixture.AssertCleanAsync(storage, below: builder.Backing);
        }

        Assert.Equal(["one", "a", "b"], await NamesAsync(storage, builder.Backing));
        await using (var node = await WriteFixture.OpenAsync(storage, below: builder.Backing))
        {
            foreach (var name in new[] { "one", "a", "b" })
            {
                await node.RemoveBitmapAsync(name);
            }

            Assert.Empty(node.Bitmaps);
            await node.AddBitmapsAsync([new("again", 512)]);
        }

        Assert.Equal(["again"], await NamesAsync(storage, builder.Backing));
        await WriteFixture.AssertCleanAsync(storage, below: builder.Backing);
        await using var reopened = await WriteFixture.OpenAsync(storage, below: builder.Backing, writable: false);
        Assert.Equal("base", reopened.Driver.Backing!.Name);
        Assert.True((await BytesAsync(storage)).AsSpan(0, 65536).IndexOf((ReadOnlySpan<byte>)[0x12, 0x34, 0x56, 0x78]) > 0);
    }

    [Fact]
    public async Task Bitmaps_that_do_not_count_any_more_are_replaced()
    {
        var image = new Qcow2Builder { Size = Size, BitmapsNotConsistent = true }.AddBitmap(new Qcow2Bitmap("old")).Build();
        var storage = new MemoryStorage("test.qcow2", image.Bytes.ToArray());
        await using (var node = await WriteFixture.OpenAsync(storage))
        {
            Assert.Empty(node.Bitmaps);
            await node.AddBitmapsAsync([new("new")]);
        }

        Assert.Equal(["new"], await NamesAsync(storage));
    }

    [Fact]
    public async Task Errors_at_any_change_leave_bitmaps_that_are_right_or_say_that_they_are_not()
    {
        var image = new Qcow2Builder { Size = 1 << 20, ClusterBits = 10, FreeClusters = 2 }
            .AddBitmap(new Qcow2Bitmap("on") { GranularityBits = 9, StoreUniformClusters = true }.Set(0, 4096)).AddBitmap(new Qcow2Bitmap("off") { Flags = 0 })
            .FillRandom(7, 0.3).Build();
        var hasFailed = true;
        for (var failing = 0; hasFailed; failing++)
        {
            var inner = new MemoryStorage("test.qcow2", image.Bytes.ToArray());
            var storage = new StumblingStorage(inner, failing);
            var model = new BitmapModel("on", 1 << 20, 9, true).Set(0, 4096);
            await TryAsync(async () =>
            {
                await using var node = await WriteFixture.OpenAsync(storage);
                if (await TryAsync(() => node.WriteAsync(new(300000), new byte[5000])))
                {
                    model.Set(300000, 5000);
                }

                await TryAsync(() => node.AddBitmapsAsync([new("new", 512)]));
                await TryAsync(() => node.MergeBitmapAsync("off", node.ReadBitmapAsync("on")));
                if (await TryAsync(() => node.WriteAsync(new(800000), new byte[5000])))
                {
                    model.Set(800000, 5000);
                }

                await TryAsync(() => node.ResizeAsync(900 << 10));
                await TryAsync(() => node.RemoveBitmapAsync("new"));
                await TryAsync(() => node.SetBitmapEnabledAsync("off", true));
                await TryAsync(() => node.ClearBitmapAsync("off"));
            });
            hasFailed = storage.HasFailed;
            await using var found = await WriteFixture.OpenAsync(inner, writable: false);
            var report = await found.CheckAsync(_ => { });
            Assert.True(report is { Corruptions: 0, Errors: 0 }, $"change {failing}: {report}");
            var on = found.Bitmaps.Single(b => b.Name == "on");
            if (!on.InUse)
            {
                // A write that failed may be in it as well.
                var dirty = await ReadAsync(inner, "on");
                Assert.All(model.Resized(found.VirtualSize).Ranges(), r => Assert.Contains(dirty, d => d.Offset <= r.Offset && d.Offset + d.Length >= r.Offset + r.Length));
            }

            Assert.True(hasFailed || found.Bitmaps.All(b => !b.InUse));
        }
    }

    [Fact]
    public async Task Requests_of_many_threads_at_once_are_all_tracked()
    {
        const int Threads = 8;
        var storage = Build(new Qcow2Bitmap("fine") { GranularityBits = 9 }, new Qcow2Bitmap("coarse"));
        var models = new[] { new BitmapModel("fine", Size, 9, true), new BitmapModel("coarse", Size, 16, true) };
        await using (var node = await WriteFixture.OpenAsync(storage))
        {
            await Task.WhenAll(Enumerable.Range(0, Threads).Select(thread => Task.Run(async () =>
            {
                var random = new Random(thread);
                for (var i = 0; i < 100; i++)
                {
                    var at = random.Next((int)Size - 512);
                    await node.WriteAsync(new(at), new byte[300]);
                    lock (models)
                    {
                        Array.ForEach(models, m => m.Set(at, 300));
                    }

                    if (i % 30 == 0)
                    {
                        await node.StoreBitmapsAsync();
                    }
                }
            })));
        }

        await using var reopened = await WriteFixture.OpenAsync(storage, writable: false);
        await BitmapModel.AssertSameAsync(reopened, models);
    }

    [Fact]
    public async Task Bitmaps_are_copied_with_all_that_they_are_and_inconsistent_ones_only_left_out()
    {
        var source = Build(
            new Qcow2Bitmap("on") { GranularityBits = 9 }.Set(12345, 100000), new Qcow2Bitmap("off") { Flags = 0, GranularityBits = 20 }.Set(0, 1),
            new Qcow2Bitmap("broken") { Flags = Qcow2Bitmap.InUse });
        var storage = new MemoryStorage("copy.qcow2", new Qcow2Builder { Size = Size, ClusterBits = 9 }.Build().Bytes.ToArray());
        await using var from = await WriteFixture.OpenAsync(source, writable: false);
        var error = Assert.Throws<BlockException>(() => BitmapCopy.Select(from));
        Assert.Contains("'broken'", error.Message);
        var warnings = new List<string>();
        var bitmaps = BitmapCopy.Select(from, skipInconsistent: true, warnings.Add);
        Assert.Equal("Skipping inconsistent bitmap 'broken'", Assert.Single(warnings));
        await using (var to = await WriteFixture.OpenAsync(storage))
        {
            await BitmapCopy.RunAsync(from, bitmaps, to);
        }

        await using var copy = await WriteFixture.OpenAsync(storage, writable: false);
        await BitmapModel.AssertSameAsync(
            copy, [new BitmapModel("on", Size, 9, true).Set(12345, 100000), new BitmapModel("off", Size, 20, false).Set(0, 1)]);
        await WriteFixture.AssertCleanAsync(storage);
    }

    [Fact]
    public async Task A_bitmap_that_would_be_too_large_is_refused_and_nothing_is_left_of_it()
    {
        var storage = new MemoryStorage("test.qcow2", new Qcow2Builder { Size = 4L << 40, L1Size = 8192 }.Build().Bytes.ToArray());
        var before = await BytesAsync(storage);
        await using (var node = await WriteFixture.OpenAsync(storage))
        {
            foreach (var (bitmap, kind) in new[]
            {
                (new NewBitmap("b", 512), BlockErrorKind.LimitExceeded), (new("b", 513), BlockErrorKind.InvalidRequest), (new("b", 256), BlockErrorKind.InvalidRequest),
                (new("b", 1L << 32), BlockErrorKind.InvalidRequest), (new(string.Empty), BlockErrorKind.InvalidRequest), (new(new string('\u00e4', 512)), BlockErrorKind.InvalidRequest),
            })
            {
                var error = await Assert.ThrowsAsync<BlockException>(async () => await node.AddBitmapsAsync([new("fine"), bitmap]));
                Assert.Equal(kind, error.Kind);
            }

            Assert.Empty(node.Bitmaps);
        }

        var report = await (await WriteFixture.OpenAsync(storage, writable: false)).CheckAsync(_ => { });
        Assert.Equal((0, 0, 0), (report.Corruptions, report.Leaks, report.Errors));
        Assert.Equal(before[..65536], (await BytesAsync(storage))[..65536]);
    }

    private static async ValueTask<bool> TryAsync(Func<ValueTask> action)
    {
        try
        {
            await action();
            return true;
        }
        catch (BlockException)
        {
            // As ordered.
            return false;
        }
    }

    private static async Task RefusedAsync(MemoryStorage storage, string why)
    {
        var before = await BytesAsync(storage);
        var error = await Assert.ThrowsAnyAsync<BlockException>(async () => await WriteFixture.OpenAsync(storage));
        Assert.Contains(why, error.Message);
        Assert.Equal(before, await BytesAsync(storage));
    }

    private static Qcow2Image Image(params Qcow2Bitmap[] bitmaps)
    {
        var builder = new Qcow2Builder { Size = Size };
        Array.ForEach(bitmaps, b => builder.AddBitmap(b));
        return builder.Build();
    }

    private static MemoryStorage Build(params Qcow2Bitmap[] bitmaps) => new("test.qcow2", Image(bitmaps).Bytes.ToArray());

    private static byte[] BigEndian(ulong value)
    {
        var bytes = new byte[8];
        BinaryPrimitives.WriteUInt64BigEndian(bytes, value);
        return bytes;
    }

    private static async Task<byte[]> BytesAsync(MemoryStorage storage)
    {
        var bytes = new byte[storage.Length];
        _ = await storage.ReadAsync(default, bytes);
        return bytes;
    }

    private static async Task<List<bool>> InUseAsync(MemoryStorage storage)
    {
        await using var node = await WriteFixture.OpenAsync(storage, writable: false);
        return [.. node.Bitmaps.Select(b => b.InUse)];
    }

    private static async Task<List<string>> NamesAsync(MemoryStorage storage, ReferenceDisk? below = null)
    {
        await using var node = await WriteFixture.OpenAsync(storage, below: below, writable: false);
        return [.. node.Bitmaps.Select(b => b.Name)];
    }

    private static async Task<List<DirtyRange>> ReadAsync(MemoryStorage storage, string name)
    {
        await using var node = await WriteFixture.OpenAsync(storage, writable: false);
        return await node.ReadBitmapAsync(name).ToListAsync();
    }
}
