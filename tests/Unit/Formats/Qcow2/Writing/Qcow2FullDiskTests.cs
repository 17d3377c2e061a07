using Platter.Core.Bitmaps;
using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Formats.Qcow2.Writing;

/// <summary>An image on a disk that becomes full: what has not happened costs nothing, and what gives up space gives it to the disk.</summary>
public sealed class Qcow2FullDiskTests
{
    private const int Size = 2 << 20;

    [Theory]
    [InlineData(12, false)]
    [InlineData(9, false)]
    [InlineData(16, false)]
    [InlineData(14, true)]
    public async Task Requests_that_find_no_space_leave_nothing_behind(int clusterBits, bool extended)
    {
        var (disk, model) = Make(clusterBits, extended, 200);
        var failed = 0;
        var random = new Random(clusterBits);
        await using (var node = await WriteFixture.OpenAsync(disk))
        {
            for (var i = 0; i < 200 && failed < 5; i++)
            {
                var length = random.Next(1, 60000);
                var at = random.Next(Size - length);
                var bytes = TestContent.Make(i, at, length);
                try
                {
                    await node.WriteAsync(new(at), bytes);
                    bytes.CopyTo(model, at);
                }
                catch (BlockException e) when (e.Kind == BlockErrorKind.NoSpace)
                {
                    failed++;
                    await node.ReadAsync(new(at), model.AsMemory(at, length));
                }
            }

            await node.FlushAsync();
            await WriteFixture.AssertReadsAsync(node, model);
        }

        Assert.Equal(5, failed);
        await AssertGoodAsync(disk, model);
    }

    [Theory]
    [InlineData("full", 12)]
    [InlineData("falloc", 12)]
    [InlineData("full", 9)]
    [InlineData("full", 16)]
    [InlineData("falloc", 16)]
    public async Task A_disk_that_cannot_get_its_place_keeps_its_size_and_the_file_too(string mode, int clusterBits)
    {
        var (disk, model) = Make(clusterBits, false, 250);
        var length = disk.Length;
        await using (var node = await WriteFixture.OpenAsync(disk))
        {
            var error = await Assert.ThrowsAsync<BlockException>(
                async () => await node.ResizeAsync(2 * Size, Enum.Parse<ResizePreallocation>(mode, ignoreCase: true)));
            Assert.Equal(BlockErrorKind.NoSpace, error.Kind);
        }

        await AssertGoodAsync(disk, model);
        Assert.InRange(disk.Length, length, length + (3 << Math.Max(clusterBits, 15)));
    }

    [Theory]
    [InlineData("snapshot")]
    [InlineData("refcount_bits=64")]
    public async Task What_happens_wholly_or_not_at_all_leaves_the_file_as_long_as_it_was(string what)
    {
        var (disk, model) = Make(12, false, 0);
        disk.Pages = disk.Used + 1;
        var length = disk.Length;
        await using (var node = await WriteFixture.OpenAsync(disk))
        {
            await Assert.ThrowsAsync<BlockException>(async () =>
            {
                if (what == "snapshot")
                {
                    await node.CreateSnapshotAsync("one", DateTimeOffset.UnixEpoch);
                }
                else
                {
                    await node.AmendAsync(NodeOptions.ParseKeyValues(what), new AmendContext());
                }
            });
        }

        Assert.Equal(length, disk.Length);
        await AssertGoodAsync(disk, model);
    }

    [Theory]
    [InlineData(12)]
    [InlineData(16)]
    [InlineData(9)]
    public async Task What_an_interrupted_opening_left_is_given_back(int clusterBits)
    {
        var (disk, model) = Make(clusterBits, false, 10000);
        var length = disk.Length;
        MemoryStorage killed;
        await using (var node = await WriteFixture.OpenAsync(disk))
        {
            await node.WriteAsync(default, new byte[100]);
            model.AsSpan(0, 100).Clear();
            await node.FlushAsync();
            length = disk.Length;
            await node.WriteAsync(new(Size / 2), TestContent.Make(5, 0, Size / 2));

            // As if the process had ended here, when only the refcounts had been written.
            killed = new("killed.qcow2", disk.Inner.ToArray());
        }

        await using (var node = await WriteFixture.OpenAsync(killed))
        {
            await node.GiveUpLeaksAsync();
            Assert.InRange(killed.Length, 1, length + (1 << clusterBits));
            var found = new byte[Size / 2];
            await node.ReadAsync(default, found);
            Assert.Equal(model[..(Size / 2)], found);
            await node.WriteAsync(new(Size / 2), TestContent.Make(5, 0, Size / 2));
            TestContent.Make(5, 0, Size / 2).CopyTo(model, Size / 2);
        }

        await WriteFixture.AssertCleanAsync(killed);
        await using var again = await WriteFixture.OpenAsync(killed, writable: false);
        await WriteFixture.AssertReadsAsync(again, model);
        Assert.InRange(killed.Length, 1, disk.Length + (1 << clusterBits));
    }

    [Theory]
    [InlineData("discard", 12)]
    [InlineData("discard", 16)]
    [InlineData("zero", 12)]
    [InlineData("zero", 16)]
    [InlineData("discard and flush", 12)]
    [InlineData("discard, keeping", 12)]
    public async Task What_a_guest_gives_up_goes_back_to_the_host(string how, int clusterBits)
    {
        var (disk, model) = await FullAsync(clusterBits);
        var before = disk.Used;
        await using (var node = await WriteFixture.OpenAsync(disk, keepsSpace: how.Contains("keeping", StringComparison.Ordinal)))
        {
            if (how == "zero")
            {
                await node.WriteZeroesAsync(new(1 << 16), Size / 2, WriteFlags.MayUnmap);
            }
            else
            {
                await node.DiscardAsync(new(1 << 16), Size / 2);
            }

            model.AsSpan(1 << 16, Size / 2).Clear();
            if (how.Contains("flush", StringComparison.Ordinal))
            {
                await node.FlushAsync();
                Assert.InRange(disk.Used, 0, before - (Size / 2 / 4096) + 3);

                // Handed out again, they are not punched again.
                await node.WriteAsync(new(1 << 17), TestContent.Make(6, 0, Size / 8));
                TestContent.Make(6, 0, Size / 8).CopyTo(model, 1 << 17);
                before += Size / 8 / 4096;
            }

            await WriteFixture.AssertReadsAsync(node, model);
        }

        await AssertGoodAsync(disk, model);
        if (how.Contains("keeping", StringComparison.Ordinal))
        {
            Assert.InRange(disk.Used, before, before + 3);
        }
        else
        {
            Assert.InRange(disk.Used, 0, before - (Size / 2 / 4096) + 3);
        }
    }

    [Fact]
    public async Task What_refcounts_say_in_error_is_not_given_back()
    {
        var (disk, model) = await FullAsync(12);
        var before = disk.Used;

        // The last clusters are said to be free, and are not.
        var end = await LastAsync(disk);
        await ClearRefcountAsync(disk, end - 3);
        await using (var node = await WriteFixture.OpenAsync(disk))
        {
            await node.DiscardAsync(default, Size / 4);
            model.AsSpan(0, Size / 4).Clear();
        }

        Assert.InRange(disk.Used, before, before + 3);
        await using var again = await WriteFixture.OpenAsync(disk, writable: false);
        await WriteFixture.AssertReadsAsync(again, model);
    }

    [Theory]
    [InlineData(12)]
    [InlineData(16)]
    public async Task A_smaller_disk_and_an_emptied_one_have_smaller_files(int clusterBits)
    {
        var (disk, model) = await FullAsync(clusterBits);
        var before = disk.Length;
        await using (var node = await WriteFixture.OpenAsync(disk))
        {
            await node.ResizeAsync(Size / 4);
        }

        model = model[..(Size / 4)];
        await AssertGoodAsync(disk, model);
        Assert.InRange(disk.Length, Size / 4, before - (Size * 3 / 4) + (1 << clusterBits));
        await using (var node = await WriteFixture.OpenAsync(disk))
        {
            await node.MakeEmptyAsync();
        }

        await AssertGoodAsync(disk, new byte[Size / 4]);
        Assert.InRange(disk.Length, 0, 8 << clusterBits);
    }

    [Theory]
    [InlineData(12, 1)]
    [InlineData(16, 1)]
    [InlineData(12, 3)]
    public async Task A_deleted_snapshot_gives_its_space_back(int clusterBits, int snapshots)
    {
        var (disk, model) = await FullAsync(clusterBits);
        var before = disk.Used;
        await AddSnapshotsAsync(disk, model, snapshots);
        await using (var node = await WriteFixture.OpenAsync(disk))
        {
            for (var i = 0; i < snapshots; i++)
            {
                await node.DeleteSnapshotAsync(SnapshotSelector.Parse($"s{i}"));
            }
        }

        Assert.InRange(disk.Used, 0, before + (8 << (clusterBits - 12)));
        await AssertGoodAsync(disk, model);
    }

    [Theory]
    [InlineData(12, 1, 0)]
    [InlineData(16, 1, 0)]
    [InlineData(12, 3, 0)]
    [InlineData(12, 3, 2)]
    [InlineData(16, 3, 1)]
    public async Task A_snapshot_can_be_deleted_on_a_full_disk(int clusterBits, int snapshots, int which)
    {
        var (disk, model) = await FullAsync(clusterBits);
        var states = await AddSnapshotsAsync(disk, model, snapshots);
        disk.Pages = disk.Used;
        await using (var node = await WriteFixture.OpenAsync(disk))
        {
            await node.DeleteSnapshotAsync(SnapshotSelector.Parse($"s{which}"));
            Assert.Equal(snapshots - 1, node.Snapshots.Count);
            await WriteFixture.AssertReadsAsync(node, model);
        }

        Assert.True(disk.Used < disk.Pages, "nothing was given back");
        await AssertGoodAsync(disk, model);
        await using var reopened = await WriteFixture.OpenAsync(disk, writable: false);
        for (var i = 0; i < snapshots; i++)
        {
            if (i != which)
            {
                await using var snapshot = new ImageNode(await reopened.Driver.OpenSnapshotAsync(SnapshotSelector.Parse($"s{i}")), null);
                await WriteFixture.AssertReadsAsync(snapshot, states[i]);
            }
        }
    }

    [Fact]
    public async Task A_snapshot_that_alone_has_nothing_can_be_deleted_on_a_full_disk()
    {
        var (disk, model) = await FullAsync(12);
        await using (var node = await WriteFixture.OpenAsync(disk))
        {
            await node.CreateSnapshotAsync("s", DateTimeOffset.UnixEpoch);
        }

        disk.Pages = disk.Used;
        await using (var node = await WriteFixture.OpenAsync(disk))
        {
            await node.DeleteSnapshotAsync(SnapshotSelector.Parse("s"));
        }

        // What it shared may be leaked.
        await using var again = await WriteFixture.OpenAsync(disk, writable: false);
        Assert.Empty(again.Snapshots);
        await WriteFixture.AssertReadsAsync(again, model);
        var report = await again.CheckAsync(static _ => { });
        Assert.True(report is { Corruptions: 0, Errors: 0 }, report.ToString());
    }

    [Fact]
    public async Task A_bitmap_can_be_removed_on_a_full_disk()
    {
        var (disk, model) = await FullAsync(12);
        await using (var node = await WriteFixture.OpenAsync(disk))
        {
            await node.AddBitmapsAsync([new NewBitmap("one")]);
            await node.AddBitmapsAsync([new NewBitmap("two")]);
            await node.WriteAsync(default, model.AsMemory(0, 1 << 20));
        }

        disk.Pages = disk.Used;
        await using (var node = await WriteFixture.OpenAsync(disk))
        {
            await node.RemoveBitmapAsync("one");
            Assert.Equal("two", Assert.Single(node.Bitmaps).Name);
        }

        await using (var node = await WriteFixture.OpenAsync(disk))
        {
            await node.RemoveBitmapAsync("two");
        }

        await AssertGoodAsync(disk, model);
    }

    private static async Task<List<byte[]>> AddSnapshotsAsync(SmallDiskStorage disk, byte[] model, int count)
    {
        var states = new List<byte[]>();
        await using var node = await WriteFixture.OpenAsync(disk);
        for (var i = 0; i < count; i++)
        {
            await node.CreateSnapshotAsync($"s{i}", DateTimeOffset.UnixEpoch);
            states.Add([.. model]);
            var bytes = TestContent.Make(20 + i, 0, 600000);
            await node.WriteAsync(new(i * 400000), bytes);
            bytes.CopyTo(model, i * 400000);
        }

        return states;
    }

    // Every guest cluster is stored.
    private static async Task<(SmallDiskStorage Disk, byte[] Model)> FullAsync(int clusterBits)
    {
        var image = new Qcow2Builder { ClusterBits = clusterBits, Size = Size }.Build();
        var disk = new SmallDiskStorage(new MemoryStorage("test.qcow2", image.Bytes.ToArray()), int.MaxValue);
        var model = TestContent.Make(8, 0, Size);
        await using (var node = await WriteFixture.OpenAsync(disk))
        {
            await node.WriteAsync(default, model);
        }

        return (disk, model);
    }

    private static async Task<long> LastAsync(SmallDiskStorage disk)
    {
        await using var node = await WriteFixture.OpenAsync(disk, writable: false);
        return ((await node.CheckAsync(static _ => { })).ImageEndOffset ?? 0) / 4096;
    }

    private static async Task ClearRefcountAsync(SmallDiskStorage disk, long cluster)
    {
        var header = disk.Inner.ToArray();
        var table = (int)System.Buffers.Binary.BinaryPrimitives.ReadInt64BigEndian(header.AsSpan(48));
        var block = System.Buffers.Binary.BinaryPrimitives.ReadInt64BigEndian(header.AsSpan(table));
        await disk.Inner.WriteAsync(new(block + (cluster * 2)), new byte[2]);
    }

    private static (SmallDiskStorage Disk, byte[] Model) Make(int clusterBits, bool extended, int pagesLeft)
    {
        var image = new Qcow2Builder { ClusterBits = clusterBits, ExtendedL2 = extended, Size = Size }.FillRandom(3, 0.2).Build();
        var disk = new SmallDiskStorage(new MemoryStorage("test.qcow2", image.Bytes.ToArray()), int.MaxValue);
        disk.Pages = disk.Used + pagesLeft;
        return (disk, image.Model.ToArray());
    }

    private static async Task AssertGoodAsync(SmallDiskStorage disk, byte[] model)
    {
        await WriteFixture.AssertCleanAsync(disk);
        await using var node = await WriteFixture.OpenAsync(disk, writable: false);
        await WriteFixture.AssertReadsAsync(node, model);
    }
}
