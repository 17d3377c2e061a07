using Platter.Core.Images;
using Platter.Core.Units;
using Platter.Formats.Qcow2;
using Platter.TestKit;
using Xunit;
using static Platter.Tests.Unit.Formats.Qcow2.Qcow2Fixture;

namespace Platter.Tests.Unit.Formats.Qcow2;

/// <summary>Mappings are merged, cheap, and bounded in memory.</summary>
public sealed class Qcow2MappingTests
{
    [Fact]
    public async Task Contiguous_clusters_are_one_extent_across_L2_slices()
    {
        // 512-byte clusters: 64 to an L2 table. Data first in the file makes them contiguous.
        var builder = new Qcow2Builder { ClusterBits = 9, Size = 1 << 20, Layout = Qcow2HostLayout.DataFirst };
        var image = builder.Fill(1, [.. Enumerable.Range(10, 500).Select(i => (long)i)]).Build();
        await using var node = await OpenAsync(image);
        var extent = await node.MapAsync(new(10 * 512), long.MaxValue);
        Assert.Equal((ExtentKind.Data, 500L * 512), (extent.Kind, extent.Length));
        var inside = await node.MapAsync(new((100 * 512) + 3), 700);
        Assert.Equal((700L, extent.HostOffset + ((90 * 512) + 3)), (inside.Length, inside.HostOffset));
    }

    [Fact]
    public async Task Unallocated_space_is_one_extent_whatever_tables_it_spans()
    {
        var image = new Qcow2Builder { ClusterBits = 9, Size = 64 << 20 }.Fill(1, 0, 100_000).ZeroPlain(1).Build();
        await using var node = await OpenAsync(image);
        var hole = await node.MapAsync(new(1024), long.MaxValue);
        Assert.Equal((ExtentKind.Unallocated, (100_000L - 2) * 512), (hole.Kind, hole.Length));
        var rest = await node.MapAsync(new(100_001L * 512), long.MaxValue);
        Assert.Equal((64L << 20) - (100_001L * 512), rest.Length);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_mapping_that_is_cached_is_synchronous_and_allocates_nothing(bool fragmented)
    {
        var builder = new Qcow2Builder { ClusterBits = 12, Size = 16 << 20, Layout = fragmented ? Qcow2HostLayout.Shuffled : Qcow2HostLayout.MetadataFirst };
        var image = builder.Fill(1, [.. Enumerable.Range(0, 3000).Select(i => (long)(fragmented ? (i * 7) % 4000 : i))]).Build();
        await using var driver = await OpenDriverAsync(image);
        for (long at = 0; at < driver.VirtualSize; at += 4096)
        {
            await driver.MapAsync(new(at), 4096);
        }

        var offsets = Enumerable.Range(0, 1000).Select(i => (long)i * 250_007 % ((16 << 20) - 4096)).ToArray();

        // The runtime may allocate for itself now and then, but not every time.
        var least = long.MaxValue;
        for (var round = 0; round < 10; round++)
        {
            var before = GC.GetAllocatedBytesForCurrentThread();
            foreach (var at in offsets)
            {
                var mapping = driver.MapAsync(new(at), 2000);
                Assert.True(mapping.IsCompletedSuccessfully);
                await mapping;
            }

            least = Math.Min(least, GC.GetAllocatedBytesForCurrentThread() - before);
        }

        Assert.Equal(0, least);
    }

    [Fact]
    public async Task A_disk_of_64_TiB_opens_and_reads_with_little_io_and_bounded_memory()
    {
        const long size = 64L << 40;
        var image = new Qcow2Builder { Size = size }.Fill(1, 0, 5_000_000, (size >> 16) - 1).Build();
        var storage = (SparseStorage)image.ToStorage();
        await using var driver = await new Qcow2Format().OpenAsync(storage, new NodeOptions(), Context(cacheBytes: 1 << 20));
        Assert.True(storage.BytesRead < 256 << 10, $"opening read {storage.BytesRead} bytes");
        await driver.MapAsync(new(5_000_000L << 16), 4096);
        Assert.True(storage.BytesRead < 512 << 10, $"opening and one mapping read {storage.BytesRead} bytes");

        // Over a storage in memory everything happens on this thread, so that other tests do not count.
        var before = GC.GetAllocatedBytesForCurrentThread();
        var extents = 0;
        for (var at = GuestOffset.Zero; at.Value < size; extents++)
        {
            at = (await driver.MapAsync(at, long.MaxValue)).End;
        }

        Assert.Equal(5, extents);
        var allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        Assert.True(allocated < 4 << 20, $"mapping the disk allocated {allocated} bytes");
    }

    [Fact]
    public async Task Small_reads_of_a_compressed_cluster_decode_it_once()
    {
        var image = new Qcow2Builder { Size = 1 << 20 }.FillCompressed(1, 0, 1, 2, 3).Build();
        var storage = (SparseStorage)image.ToStorage();
        await using var node = new Platter.Core.Graph.ImageNode(await new Qcow2Format().OpenAsync(storage, new NodeOptions(), Context()), null);
        var buffer = new byte[4096];
        await node.ReadAsync(default, buffer);
        var before = storage.Reads;
        for (var at = 0; at < 65536; at += buffer.Length)
        {
            await node.ReadAsync(new(at), buffer);
        }

        Assert.Equal(before, storage.Reads);
    }

    [Fact]
    public async Task A_cache_much_smaller_than_the_tables_is_enough()
    {
        var image = new Qcow2Builder { ClusterBits = 9, Size = 16 << 20, Layout = Qcow2HostLayout.Shuffled }
            .Fill(1, [.. Enumerable.Range(0, 2000).Select(i => (long)i * 15)]).Build();
        await using var node = await OpenAsync(image, Context(cacheBytes: 32 << 10));
        await AssertReadsAsAsync(node, image.Model, 1);
    }

    [Fact]
    public async Task Many_readers_at_once_read_the_same()
    {
        var image = new Qcow2Builder { ClusterBits = 12, Size = 8 << 20 }.FillRandom(4, 0.8).Build();
        await using var node = await OpenAsync(image, Context(cacheBytes: 256 << 10));
        var expected = image.Model.ToArray();
        await Task.WhenAll(Enumerable.Range(0, 4).Select(seed => Task.Run(async () =>
        {
            var random = new Random(seed);
            var buffer = new byte[100_000];
            for (var i = 0; i < 200; i++)
            {
                var at = random.Next(expected.Length);
                var part = buffer.AsMemory(0, Math.Min(random.Next(1, buffer.Length), expected.Length - at));
                await node.ReadAsync(new(at), part);
                Assert.True(part.Span.SequenceEqual(expected.AsSpan(at, part.Length)), $"seed {seed}: {part.Length} bytes at {at}");
            }
        })));
    }
}
