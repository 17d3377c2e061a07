using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Storages;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Formats.Qcow2.Writing;

/// <summary>Goal: a table address that leads to other metadata, or behind the end of the file, costs nothing but the request that would have written there. Method: images
/// with one wrong address; whatever is tried, the file keeps every byte behind its header, and says that it is corrupt.</summary>
public sealed class OverlappingTableTests
{
    private const int Cluster = 4096, PerTable = 512;
    private const long TableBytes = (long)Cluster * PerTable, Far = 1L << 40;
    private const ulong Copied = 1UL << 63;

    public static TheoryData<string, string> Requests()
    {
        var result = new TheoryData<string, string>();
        foreach (var address in new[] { "refcount table", "refcount block", "L1 table", "L2 table", "snapshot table", "snapshot L1 table" })
        {
            foreach (var request in new[] { "write", "read and write", "zero", "discard", "snapshot", "shrink" })
            {
                result.Add(address, request);
            }
        }

        return result;
    }

    [Theory]
    [MemberData(nameof(Requests))]
    public async Task An_L2_table_in_other_metadata_is_not_written_to(string address, string request)
    {
        var image = Build();
        image.SetL1(3, Copied | (ulong)AddressOf(image, address));
        await RefusedAsync(image, request, 3 * TableBytes);
    }

    [Theory]
    [InlineData("write")]
    [InlineData("read and write")]
    [InlineData("zero")]
    public async Task Neither_of_two_L1_entries_writes_to_the_table_that_both_own(string request)
    {
        var image = Build();
        image.SetL1(3, Copied | (ulong)image.L2TableAt[0]);
        await RefusedAsync(image, request, 3 * TableBytes);
        image = Build();
        image.SetL1(3, Copied | (ulong)image.L2TableAt[0]);
        await RefusedAsync(image, request, 0);
    }

    [Fact]
    public async Task A_table_that_two_L1_entries_share_and_none_owns_is_copied()
    {
        var image = Build(snapshot: false);
        image.SetL1(0, (ulong)image.L2TableAt[0]).SetL1(3, (ulong)image.L2TableAt[0]).SetRefcount(image.L2TableAt[0], 2).SetL2(0, image.L2(0) & ~Copied).SetRefcount((long)(image.L2(0) & ~Copied), 2);
        var storage = Storage(image);
        var old = Guest(image);
        old.AsSpan(0, Cluster).CopyTo(old.AsSpan((int)(3 * TableBytes)));
        await using (var node = await WriteFixture.OpenAsync(storage))
        {
            await WriteFixture.AssertReadsAsync(node, old);
            await node.WriteAsync(new(3 * TableBytes), new byte[Cluster]);
            await node.WriteAsync(new(100), new byte[10]);
        }

        old.AsSpan((int)(3 * TableBytes), Cluster).Clear();
        old.AsSpan(100, 10).Clear();
        await using var reopened = await WriteFixture.OpenAsync(storage);
        await WriteFixture.AssertReadsAsync(reopened, old);
    }

    [Fact]
    public async Task A_table_that_a_snapshot_has_too_is_copied_whatever_its_flag_says()
    {
        var image = Build();
        var table = (long)(image.Bytes.U64Be(image.Snapshots[0].L1At + (2 * 8)) & ~Copied);
        image.SetL1(3, Copied | (ulong)table).SetRefcount(table, 2);
        var before = image.Bytes.Slice(table, Cluster);
        var storage = Storage(image);
        await using (var node = await WriteFixture.OpenAsync(storage))
        {
            await node.WriteAsync(new((3 * TableBytes) + (5 * Cluster)), TestContent.Make(9, 0, Cluster));
        }

        Assert.Equal(before, storage.ToArray().AsSpan((int)table, Cluster).ToArray());
    }

    [Theory]
    [InlineData(Far)]
    [InlineData(1L << 50)]
    [InlineData(-1)]
    public async Task A_refcount_block_behind_the_end_of_the_file_is_refused_before_anything_is_allocated(long at)
    {
        foreach (var request in new[] { "write", "zero", "discard", "snapshot", "grow" })
        {
            var image = Build();
            image.Bytes.PutU64Be(image.RefcountTableAt, (ulong)(at < 0 ? image.Bytes.Length : at));
            await RefusedAsync(image, request, 7 * Cluster);
        }
    }

    [Theory]
    [InlineData("refcount table")]
    [InlineData("L1 table")]
    [InlineData("L2 table")]
    [InlineData("snapshot table")]
    [InlineData("snapshot L1 table")]
    public async Task A_refcount_block_in_other_metadata_is_refused_before_anything_is_allocated(string address)
    {
        foreach (var request in new[] { "write", "zero", "discard", "snapshot", "grow" })
        {
            // The block of far clusters.
            var image = Build();
            image.Bytes.PutU64Be(image.RefcountTableAt + 8, (ulong)AddressOf(image, address));
            await RefusedAsync(image, request, 7 * Cluster);
        }
    }

    [Fact]
    public async Task Two_refcount_blocks_in_one_place_are_refused()
    {
        var image = Build();
        image.Bytes.PutU64Be(image.RefcountTableAt + 8, (ulong)image.RefcountBlockAt(0));
        await RefusedAsync(image, "write", 7 * Cluster);
    }

    [Theory]
    [InlineData("zero")]
    [InlineData("discard")]
    [InlineData("write")]
    public async Task An_L2_entry_that_leads_to_metadata_takes_no_reference_from_it(string request)
    {
        foreach (var flag in new[] { Copied, 0UL })
        {
            var image = Build();
            image.SetL2(0, flag | (ulong)image.L1At);
            await RefusedAsync(image, request, 0);
        }
    }

    [Fact]
    public async Task Version_2_has_no_mark_and_refuses_all_the_same()
    {
        var image = Build(version: 2);
        image.SetL1(3, Copied | (ulong)image.RefcountTableAt);
        var storage = Storage(image);
        var before = storage.ToArray();
        var node = await WriteFixture.OpenAsync(storage);
        var error = await Assert.ThrowsAsync<BlockException>(async () => await node.WriteAsync(new(3 * TableBytes), new byte[Cluster]));
        await node.DisposeAsync();
        Assert.Equal(BlockErrorKind.CorruptImage, error.Kind);
        Assert.DoesNotContain("marked", error.Message, StringComparison.Ordinal);
        Assert.Equal(before, storage.ToArray());
    }

    private static Qcow2Image Build(bool snapshot = true, int version = 3)
    {
        var builder = new Qcow2Builder { ClusterBits = 12, Size = 8 * TableBytes, Version = version };
        if (snapshot)
        {
            builder.Fill(3, 2 * PerTable).AddSnapshot("1", "one").Fill(4, 2 * PerTable);
        }

        return builder.Fill(1, 0).Build();
    }

    private static MemoryStorage Storage(Qcow2Image image) => new("test.qcow2", image.Bytes.Slice(0, (int)image.Bytes.Length));

    private static byte[] Guest(Qcow2Image image) => image.Model.Slice(0, (int)image.Model.Size);

    private static long AddressOf(Qcow2Image image, string structure) => structure switch
    {
        "refcount table" => image.RefcountTableAt,
        "refcount block" => image.RefcountBlockAt(0),
        "L1 table" => image.L1At,
        "L2 table" => image.L2TableAt[0],
        "snapshot table" => image.SnapshotTableAt,
        "snapshot L1 table" => image.Snapshots[0].L1At,
        _ => 0,
    };

    private static async Task RefusedAsync(Qcow2Image image, string request, long at)
    {
        var storage = Storage(image);
        var before = storage.ToArray();
        var node = await WriteFixture.OpenAsync(storage);
        if (request == "read and write")
        {
            try
            {
                await node.ReadAsync(new(at), new byte[Cluster]);
            }
            catch (BlockException)
            {
                // What such a table says may be nonsense.
            }
        }

        var error = await Assert.ThrowsAnyAsync<BlockException>(async () => await RequestAsync(node, request, at));
        await node.DisposeAsync();
        Assert.True(error.Kind == BlockErrorKind.CorruptImage && error.Message.Contains("marked corrupt", StringComparison.Ordinal), $"{request}: {error.Message}");
        var after = storage.ToArray();
        Assert.Equal(2, after[79] & 2);
        Assert.True(before.AsSpan(Cluster).SequenceEqual(after.AsSpan(Cluster)), $"{request} changed something");
        await Assert.ThrowsAnyAsync<BlockException>(async () => await WriteFixture.OpenAsync(storage));
    }

    private static async Task RequestAsync(ImageNode node, string request, long at)
    {
        switch (request)
        {
            case "zero":
                await node.WriteZeroesAsync(new(at), Cluster);
                break;
            case "discard":
                await node.DiscardAsync(new(at), Cluster);
                await node.FlushAsync();
                break;
            case "snapshot":
                await node.CreateSnapshotAsync("two", default, default);
                break;
            case "shrink":
                await node.ResizeAsync(TableBytes);
                break;
            case "grow":
                await node.ResizeAsync(64L << 30);
                break;
            default:
                await node.WriteAsync(new(at), TestContent.Make(8, 0, Cluster));
                break;
        }
    }
}
