using Platter.Core.Codecs;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.TestKit;
using Xunit;
using static Platter.Tests.Unit.Formats.Qcow2.Qcow2Fixture;

namespace Platter.Tests.Unit.Formats.Qcow2;

/// <summary>Images of every legal shape read as their models say.</summary>
public sealed class Qcow2ModelTests
{
    public static TheoryData<int, int, bool, byte, Qcow2HostLayout, CompressedPacking> Shapes()
    {
        var data = new TheoryData<int, int, bool, byte, Qcow2HostLayout, CompressedPacking>();
        var random = new Random(7);
        for (var bits = 9; bits <= 21; bits++)
        {
            data.Add(bits, random.Next(7), false, 0, (Qcow2HostLayout)(bits % 3), (CompressedPacking)(bits % 3));
            data.Add(bits, 4, bits >= 14, 1, (Qcow2HostLayout)((bits + 1) % 3), CompressedPacking.Bytes);
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(Shapes))]
    public async Task Any_shape_reads_as_its_model(int bits, int order, bool extended, byte compression, Qcow2HostLayout layout, CompressedPacking packing)
    {
        var image = new Qcow2Builder
        {
            ClusterBits = bits, RefcountOrder = order, ExtendedL2 = extended, CompressionType = compression, Layout = layout, Packing = packing,
            Size = ((bits < 18 ? 41L : 9L) << bits) + 512, Seed = bits, FreeClusters = 3, TrimEnd = bits % 2 == 0,
        }.FillRandom(bits * 31, 0.7, compressed: order > 2).Build();
        await using var node = await OpenAsync(image);
        await AssertReadsAsAsync(node, image.Model, bits);
    }

    [Theory]
    [InlineData(9)]
    [InlineData(16)]
    [InlineData(21)]
    public async Task Version_2_reads_as_its_model(int bits)
    {
        var image = new Qcow2Builder { Version = 2, ClusterBits = bits, Size = 9L << bits }.FillRandom(5, 0.6).Build();
        await using var node = await OpenAsync(image);
        await AssertReadsAsAsync(node, image.Model, 1);
    }

    [Theory]
    [InlineData(104)]
    [InlineData(112)]
    [InlineData(208)]
    public async Task Headers_of_any_length_are_read(int length)
    {
        var image = new Qcow2Builder { HeaderLength = length, Size = 1 << 20, EndExtension = length != 208 }.FillRandom(3).Build();
        await using var node = await OpenAsync(image);
        await AssertReadsAsAsync(node, image.Model, 1);
    }

    [Theory]
    [InlineData(false, 9)]
    [InlineData(true, 16)]
    [InlineData(false, 21)]
    public async Task Data_files_read_as_the_model(bool extended, int bits)
    {
        var image = new Qcow2Builder
        {
            ClusterBits = bits, ExtendedL2 = extended, Size = 9L << bits, ExternalData = true, DataFileName = "data.raw",
        }.Fill(1, 0).FillRandom(9, 0.6).Build();
        await using var node = await OpenAsync(image);
        await AssertReadsAsAsync(node, image.Model, 1);
        var first = await node.MapAsync(default, 1);
        Assert.Equal("data.raw", first.Storage!.Name);
        Assert.Contains(node.Driver.References, r => r is { Kind: ReferenceKind.DataFile, Name: "data.raw" });
    }

    [Fact]
    public async Task A_data_file_is_not_opened_for_metadata_only()
    {
        var image = new Qcow2Builder { Size = 1 << 20, ExternalData = true, DataFileName = "gone.raw" }.Fill(1, 0).Build();
        await using var node = await OpenAsync(image, Context(metadataOnly: true));
        Assert.Equal("gone.raw", (await node.GetInfoAsync()).FormatSpecific!["data-file"]!.GetValue<string>());
        var error = await Assert.ThrowsAsync<BlockException>(async () => await node.MapAsync(default, 1));
        Assert.Equal(BlockErrorKind.InvalidRequest, error.Kind);
    }

    [Theory]
    [InlineData(2, 0)]
    [InlineData(3, 16)]
    [InlineData(3, 24)]
    [InlineData(3, 80)]
    public async Task Snapshots_read_as_the_disk_was(int version, int extraData)
    {
        var builder = new Qcow2Builder { Version = version, ClusterBits = 12, Size = 200 << 12 }.FillRandom(1, 0.4);
        builder.AddSnapshot(new Qcow2Snapshot("1", "first") { ExtraDataSize = extraData });
        builder.FillRandom(2, 0.3);
        builder.AddSnapshot(new Qcow2Snapshot("17", "second, with state") { ExtraDataSize = extraData, VmState = [1, 2, 3] });
        var image = builder.FillRandom(3, 0.3).Build();
        await using var node = await OpenAsync(image);
        await AssertReadsAsAsync(node, image.Model, 1);
        Assert.Equal(["1", "17"], node.Snapshots.Select(s => s.Id));
        foreach (var (selector, index) in new[] { ("1", 0), ("first", 0), ("17", 1), ("snapshot.name=second,, with state", 1) })
        {
            var driver = await node.Driver.OpenSnapshotAsync(SnapshotSelector.Parse(selector));
            await using var snapshot = new Platter.Core.Graph.ImageNode(driver, null);
            await AssertReadsAsAsync(snapshot, image.Snapshots[index].Model, 2);
        }

        var error = await Assert.ThrowsAsync<BlockException>(async () => await node.Driver.OpenSnapshotAsync(SnapshotSelector.Parse("third")));
        Assert.Equal(BlockErrorKind.NotFound, error.Kind);

        // Closing a snapshot leaves the image open.
        await AssertReadsAsAsync(node, image.Model, 3);
    }

    [Fact]
    public async Task A_snapshot_keeps_its_size_when_the_disk_is_resized()
    {
        var builder = new Qcow2Builder { ClusterBits = 12, Size = 64 << 12 }.FillRandom(1, 0.5);
        builder.AddSnapshot("1", "small").Resize(300 << 12);
        var image = builder.FillRandom(2, 0.5).Build();
        await using var node = await OpenAsync(image);
        await using var small = new Platter.Core.Graph.ImageNode(await node.Driver.OpenSnapshotAsync(SnapshotSelector.Parse("small")), null);
        await AssertReadsAsAsync(small, image.Snapshots[0].Model, 1);
    }

    [Fact]
    public async Task Portable_inflate_reads_the_same()
    {
        var image = new Qcow2Builder { Size = 1 << 20 }.FillCompressed(1, 0, 1, 5, 7).Build();
        await using var node = await OpenAsync(image, Context(codecs: PortableCodecs.Instance));
        await AssertReadsAsAsync(node, image.Model, 1);
    }

    [Fact]
    public async Task A_zstd_cluster_may_hold_several_frames_and_end_in_garbage()
    {
        var content = TestContent.MakeCompressible(1, 65536);
        byte[] stream =
        [
            .. ZstdFrames.Frame(content.AsSpan(0, 1000)), .. ZstdFrames.Skippable(new byte[20]), .. ZstdFrames.Frame([]),
            .. ZstdFrames.Frame(content.AsSpan(1000), declareSize: false), 1, 2, 3,
        ];
        var image = new Qcow2Builder { CompressionType = 1, Size = 1 << 20 }.SetCompressed(2, stream, content, slackSectors: 1).Build();
        await using var node = await OpenAsync(image);
        await AssertReadsAsAsync(node, image.Model, 1);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public async Task A_stream_that_goes_on_after_a_cluster_is_cut_there(byte compression)
    {
        var content = TestContent.MakeCompressible(1, 4 * 65536);
        var stream = compression == 0 ? Qcow2Builder.Deflate(content) : ZstdFrames.Frame(content);
        if (stream.Length > 100_000)
        {
            // An entry can declare two clusters at most.
            content = new byte[content.Length];
            stream = compression == 0 ? Qcow2Builder.Deflate(content) : ZstdFrames.Frame(content);
        }

        var image = new Qcow2Builder { CompressionType = compression, Size = 1 << 20 }.SetCompressed(1, stream, content.AsSpan(0, 65536)).Build();
        await using var node = await OpenAsync(image);
        await AssertReadsAsAsync(node, image.Model, 1);
    }
}
