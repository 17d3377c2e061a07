using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Xunit;

namespace Platter.Tests.Unit.Core;

public sealed class ImageNodeTests
{
    private static MemoryStorage Bytes(byte value, int count) => new($"mem{value}", Enumerable.Repeat(value, count).ToArray());

    [Fact]
    public async Task Unallocated_ranges_show_the_backing_file_and_zeros_beyond_its_end()
    {
        var bottom = new ImageNode(new FakeDriver(2048, Bytes(1, 2048), (2048, ExtentKind.Data, 0)), null);
        await using var top = new ImageNode(new FakeDriver(4096, Bytes(2, 512), (512, ExtentKind.Data, 0), (512, ExtentKind.Zero, 0)), bottom);
        var disk = new byte[4096];
        await top.ReadAsync(default, disk);
        Assert.All(disk[..512], b => Assert.Equal(2, b));
        Assert.All(disk[512..1024], b => Assert.Equal(0, b));
        Assert.All(disk[1024..2048], b => Assert.Equal(1, b));
        Assert.All(disk[2048..], b => Assert.Equal(0, b));

        var below = await top.MapAsync(new(1024), 4096);
        Assert.Equal((ExtentKind.Data, 1, 1024L), (below.Kind, below.Depth, below.Length));
        var beyond = await top.MapAsync(new(2048), 4096);
        Assert.Equal((ExtentKind.Unallocated, 0, 2048L), (beyond.Kind, beyond.Depth, beyond.Length));
    }

    [Fact]
    public async Task A_storage_that_ends_inside_its_last_cluster_reads_as_zeros_there()
    {
        await using var node = new ImageNode(new FakeDriver(1024, Bytes(7, 600), (1024, ExtentKind.Data, 0)), null);
        var disk = new byte[1024];
        Array.Fill(disk, (byte)0xee);
        await node.ReadAsync(default, disk);
        Assert.All(disk[..600], b => Assert.Equal(7, b));
        Assert.All(disk[600..], b => Assert.Equal(0, b));
    }

    [Theory]
    [InlineData(-1, 1)]
    [InlineData(1025, 0)]
    [InlineData(1024, 1)]
    [InlineData(long.MaxValue, 1)]
    [InlineData(0, 1025)]
    public async Task A_read_beyond_the_disk_is_refused(long at, int length)
    {
        await using var node = new ImageNode(new FakeDriver(1024, Bytes(7, 1024), (1024, ExtentKind.Data, 0)), null);
        var error = await Assert.ThrowsAsync<BlockException>(async () => await node.ReadAsync(new GuestOffset(at), new byte[length]));
        Assert.Equal(BlockErrorKind.InvalidRequest, error.Kind);
    }

    [Fact]
    public async Task Disks_one_after_the_other_read_as_one()
    {
        await using var node = new ConcatNode(
            "both",
            [
                new ImageNode(new FakeDriver(1000, Bytes(1, 1000), (1000, ExtentKind.Data, 0)), null),
                new ImageNode(new FakeDriver(0, Bytes(9, 0)), null),
                new ImageNode(new FakeDriver(24, Bytes(2, 24), (24, ExtentKind.Data, 0)), null),
            ]);
        Assert.Equal(1024, node.VirtualSize);
        var disk = new byte[1024];
        await node.ReadAsync(default, disk);
        Assert.All(disk[..1000], b => Assert.Equal(1, b));
        Assert.All(disk[1000..], b => Assert.Equal(2, b));
    }
}
