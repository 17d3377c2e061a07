using System.Buffers.Binary;
using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Formats.Qcow2;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Formats.Qcow2.Writing;

/// <summary>Goal: an error in the middle of making refcount blocks and a longer refcount table lets nobody use what is half made. Method: an image whose table is full of
/// blocks that are not in memory yet grows by thousands of clusters; each of the requests that needs fails in turn.</summary>
public sealed class RefcountGrowthFaultTests
{
    // Clusters of 512 bytes and refcounts of 64 bits: 64 in a block, 64 blocks in a table of one cluster.
    private const int Cluster = 512, PerBlock = 64, Written = 60 * Cluster;
    private const long Small = 100 * Cluster, Large = 9L << 30;

    [Theory]
    [InlineData("r", BlockErrorKind.Io)]
    [InlineData("wfl", BlockErrorKind.Io)]
    [InlineData("wfl", BlockErrorKind.NoSpace)]
    public async Task An_error_while_the_refcount_table_grows_leaves_nothing_half_made(string kinds, BlockErrorKind kind)
    {
        var image = await BuildAsync();
        var n = 0;
        for (var failed = true; failed; n++)
        {
            var memory = new MemoryStorage("test.qcow2", image.Bytes.ToArray());
            var storage = new FailingStorage(memory, kinds, kind, goesOn: false);
            BlockException? error = null;
            try
            {
                await using var node = await WriteFixture.OpenAsync(storage);
                storage.FailAfter(n);
                try
                {
                    await node.ResizeAsync(Large);
                }
                catch (BlockException e)
                {
                    error = e;
                    await GoOnAsync(node, image.Content);
                }
            }
            catch (BlockException e)
            {
                // Closing it failed.
                error ??= e;
            }

            failed = storage.Failed is not null;
            Assert.True((failed && kinds == "r") || failed == error is not null, $"request {n}, {storage.Failed}: {error?.Message ?? "the error was kept from the caller"}");
            await AssertWholeAsync(memory, image.Content, failed ? Small : Large, $"request {n}, {storage.Failed}");
        }

        Assert.True(n > 20, $"only {n} requests");
    }

    [Fact]
    public async Task Clusters_that_are_given_up_together_with_one_whose_refcount_lies_are_free_and_nothing_else()
    {
        var (bytes, content) = await BuildAsync();
        var memory = new MemoryStorage("test.qcow2", bytes);
        await using (var node = await WriteFixture.OpenAsync(memory))
        {
            var at = (await node.MapAsync(new(20 * Cluster), Cluster, MapDetail.Metadata)).HostOffset.Value / Cluster;
            var block = (int)BinaryPrimitives.ReadUInt64BigEndian(bytes.AsSpan(Cluster + (int)(at / PerBlock * 8)));
            await memory.WriteAsync(new(block + (at % PerBlock * 8)), new byte[8]);

            await node.DiscardAsync(default, Written);
            await Assert.ThrowsAsync<ImageFormatException>(async () => await node.FlushAsync());
            await node.FlushAsync();
            await node.WriteAsync(default, content);
        }

        await using var reopened = await WriteFixture.OpenAsync(memory, writable: false);
        var findings = new List<string>();
        await reopened.CheckAsync(f => findings.Add(f.Message));
        Assert.DoesNotContain(findings, f => f.Contains("has refcount 2", StringComparison.Ordinal));
        await WriteFixture.AssertReadsAsync(reopened, content);
    }

    // Rewrites one cluster in place and needs a new one; both may be refused, and what is refused must not be half done.
    private static async Task GoOnAsync(ImageNode node, byte[] content)
    {
        try
        {
            await node.WriteAsync(new(Written), content.AsMemory(Written, 20 * Cluster));
            await node.FlushAsync();
        }
        catch (BlockException)
        {
            // What is on the disk is looked at in any case.
        }
    }

    private static async Task AssertWholeAsync(MemoryStorage memory, byte[] content, long size, string when)
    {
        await using var node = await WriteFixture.OpenAsync(memory, writable: false);
        var findings = new List<string>();
        var report = await node.CheckAsync(f => findings.Add(f.Message));
        Assert.True(report is { Corruptions: 0, Errors: 0 }, $"{when}: {string.Join("\n", findings.Where(f => !f.Contains("eak", StringComparison.Ordinal)).Take(10))}");
        Assert.True(node.VirtualSize == size || node.VirtualSize == Large, $"{when}: the disk has {node.VirtualSize} bytes");
        var found = new byte[Small];
        await node.ReadAsync(default, found);
        Assert.True(found.AsSpan(0, Written).SequenceEqual(content.AsSpan(0, Written)), $"{when}: the disk reads otherwise");
    }

    // Every entry of its table has a block, nearly all of them empty, and the guest's clusters, side by side, begin in the last ones of a block.
    private static async Task<(byte[] Bytes, byte[] Content)> BuildAsync()
    {
        var created = new MemoryStorage("test.qcow2", []);
        var format = new Qcow2Format();
        await format.CreateAsync(created, Small, NodeOptions.ParseKeyValues($"cluster_size={Cluster},refcount_bits=64"), new CreateContext());
        var bytes = created.ToArray();
        var table = (int)BinaryPrimitives.ReadUInt64BigEndian(bytes.AsSpan(48));
        var next = (bytes.Length + Cluster - 1) / Cluster;
        var end = ((next + PerBlock) | (PerBlock - 1)) - 1;
        Array.Resize(ref bytes, end * Cluster);
        for (var index = 0; index < PerBlock; index++)
        {
            if (Entry(index) == 0)
            {
                BinaryPrimitives.WriteUInt64BigEndian(bytes.AsSpan(table + (index * 8)), (ulong)(next++ * Cluster));
            }
        }

        // Whatever is in the file counts, used or not.
        for (var cluster = 0; cluster < end; cluster++)
        {
            BinaryPrimitives.WriteUInt64BigEndian(bytes.AsSpan((int)Entry(cluster / PerBlock) + (cluster % PerBlock * 8)), 1);
        }

        var storage = new MemoryStorage("test.qcow2", bytes);
        var content = new byte[Small];
        TestContent.Make(3, 0, Written).CopyTo(content, 0);
        await using (var node = await WriteFixture.OpenAsync(storage))
        {
            await node.WriteAsync(default, content.AsMemory(0, Written));
        }

        return (storage.ToArray(), content);

        ulong Entry(int index) => BinaryPrimitives.ReadUInt64BigEndian(bytes.AsSpan(table + (index * 8)));
    }
}
