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
            Assert.InRange(killed.Length, 1, length);
            await WriteFixture.AssertReadsAsync(node, model);
            await node.WriteAsync(new(Size / 2), TestContent.Make(5, 0, Size / 2));
            TestContent.Make(5, 0, Size / 2).CopyTo(model, Size / 2);
        }

        await WriteFixture.AssertCleanAsync(killed);
        await using var again = await WriteFixture.OpenAsync(killed, writable: false);
        await WriteFixture.AssertReadsAsync(again, model);
        Assert.InRange(killed.Length, 1, disk.Length);
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
