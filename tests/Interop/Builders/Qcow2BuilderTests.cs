using System.Text.Json;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Builders;

/// <summary>The peer reads the builder's qcow2 images as the model says, and finds their refcounts right.</summary>
public sealed class Qcow2BuilderTests
{
    public static TheoryData<int, int, int, Qcow2HostLayout> Standard()
    {
        var data = new TheoryData<int, int, int, Qcow2HostLayout>();
        for (var bits = 9; bits <= 21; bits++)
        {
            data.Add(2, bits, 4, Qcow2HostLayout.Shuffled);
            data.Add(3, bits, bits % 7, Qcow2HostLayout.Shuffled);
        }

        for (var order = 0; order <= 6; order++)
        {
            data.Add(3, 9, order, Qcow2HostLayout.MetadataFirst);
            data.Add(3, 12, order, Qcow2HostLayout.DataFirst);
            data.Add(3, 16, order, Qcow2HostLayout.Shuffled);
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(Standard))]
    public void Peer_reads_standard_entries_of_every_width(int version, int clusterBits, int refcountOrder, Qcow2HostLayout layout)
    {
        using var folder = Begin();
        var builder = new Qcow2Builder
        {
            Version = version,
            ClusterBits = clusterBits,
            RefcountOrder = refcountOrder,
            Layout = layout,
            Size = Clusters(clusterBits) - 512,
            FreeClusters = 5,
            Seed = clusterBits,
            Packing = refcountOrder == 0 ? CompressedPacking.Clusters : CompressedPacking.Bytes,
        };

        // Streams packed by bytes share a cluster: as many references as a narrow refcount can count.
        builder.FillRandom(clusterBits, 0.7, compressed: refcountOrder is 0 or >= 3);
        AssertPeerAgrees(folder, builder.Build());
    }

    [Theory]
    [InlineData(14, 4)]
    [InlineData(16, 3)]
    [InlineData(18, 6)]
    [InlineData(21, 5)]
    public void Peer_reads_subclusters_in_every_state(int clusterBits, int refcountOrder)
    {
        using var folder = Begin();
        var backing = new Qcow2Builder { ClusterBits = 16, Size = Clusters(clusterBits) };
        backing.FillRandom(99, 0.5);
        backing.Build().SaveTo(folder["base.qcow2"]);
        var builder = new Qcow2Builder
        {
            ClusterBits = clusterBits,
            RefcountOrder = refcountOrder,
            ExtendedL2 = true,
            Layout = Qcow2HostLayout.Shuffled,
            Size = Clusters(clusterBits),
            BackingFile = "base.qcow2",
            BackingFormat = "qcow2",
            Backing = backing.Model,
        };
        builder.FillRandom(5, 0.6);

        // All four meanings of a pair of bits, with and without a host cluster.
        builder.SetSubclusters(0, 0x0000ffff, 0xff000000).SetSubclusters(1, 0, 0).SetSubclusters(2, 0, 0x0f0f0f0f).SetSubclusters(3, 0, 0xf0f0f0f0, withHost: false);
        AssertPeerAgrees(folder, builder.Build());
    }

    [Theory]
    [InlineData(9, CompressedPacking.Bytes, 0)]
    [InlineData(12, CompressedPacking.Bytes, 3)]
    [InlineData(16, CompressedPacking.Bytes, 0)]
    [InlineData(16, CompressedPacking.Sectors, 2)]
    [InlineData(16, CompressedPacking.Clusters, 0)]
    [InlineData(21, CompressedPacking.Bytes, 9)]
    public void Peer_reads_compressed_clusters_that_share_host_clusters(int clusterBits, CompressedPacking packing, int slack)
    {
        using var folder = Begin();
        var builder = new Qcow2Builder { ClusterBits = clusterBits, Size = Clusters(clusterBits) - 1024, Packing = packing };
        for (long cluster = 0; cluster < builder.ClusterCount; cluster++)
        {
            if (cluster == 6)
            {
                builder.StartCompressedRun();
            }

            var length = (int)Math.Min(builder.ClusterBytes, builder.Size - (cluster * builder.ClusterBytes));
            builder.Compress(cluster, TestContent.MakeCompressible((int)cluster, length), slack);
        }

        AssertPeerAgrees(folder, builder.Build());
    }

    [Fact]
    public void Peer_reads_zstd_frames_made_by_hand()
    {
        using var folder = Begin();
        var builder = new Qcow2Builder { ClusterBits = 16, Size = 10 << 16, CompressionType = 1 };
        var content = TestContent.Make(1, 0, 65536);
        content.AsSpan(10_000, 40_000).Fill(0x55);
        builder.Compress(0, content);
        builder.SetCompressed(1, ZstdFrames.Frame(content, declareSize: false), content);

        // Two frames for one cluster.
        builder.SetCompressed(2, [.. ZstdFrames.Frame(content.AsSpan(0, 30_000)), .. ZstdFrames.Frame(content.AsSpan(30_000))], content);
        AssertPeerAgrees(folder, builder.Build());
    }

    [Fact]
    public void Peer_reads_a_backing_chain_of_other_sizes()
    {
        using var folder = Begin();
        var bottom = new Qcow2Builder { ClusterBits = 12, Size = 300 << 12 };
        bottom.FillRandom(1, 0.5).Build().SaveTo(folder["0.qcow2"]);
        var middle = new Qcow2Builder { ClusterBits = 16, Size = 10 << 16, BackingFile = "0.qcow2", BackingFormat = "qcow2", Backing = bottom.Model };
        middle.FillRandom(2, 0.5).Build().SaveTo(folder["1.qcow2"]);
        var top = new Qcow2Builder { Version = 2, ClusterBits = 9, Size = 700_416, BackingFile = "1.qcow2", BackingFormat = "qcow2", Backing = middle.Model };
        AssertPeerAgrees(folder, top.FillRandom(3, 0.3).Build());
    }

    [Theory]
    [InlineData(2, 16, 4, false)]
    [InlineData(3, 9, 5, false)]
    [InlineData(3, 16, 2, false)]
    [InlineData(3, 16, 4, true)]
    public void Peer_reads_snapshots_that_share_clusters(int version, int clusterBits, int refcountOrder, bool extended)
    {
        using var folder = Begin();
        var builder = new Qcow2Builder
        {
            Version = version,
            ClusterBits = clusterBits,
            RefcountOrder = refcountOrder,
            ExtendedL2 = extended,
            Size = 200L << clusterBits,
            Layout = Qcow2HostLayout.Shuffled,
            Packing = CompressedPacking.Clusters,
        };
        builder.FillRandom(1, 0.5).AddSnapshot("1", "first");
        builder.FillRandom(2, 0.2).AddSnapshot(new Qcow2Snapshot("7", "with state") { VmState = TestContent.Make(4, 0, 70_000), ExtraDataSize = 16 });
        builder.FillRandom(3, 0.1);
        var image = builder.Build();
        AssertPeerAgrees(folder, image);
        foreach (var snapshot in image.Snapshots)
        {
            var id = System.Text.Encoding.UTF8.GetString(snapshot.Snapshot.Id);
            ToolRunner.RunChecked("qemu-img", "convert", "-l", $"snapshot.id={id}", "-O", "raw", folder["a.qcow2"], folder["s.raw"]);
            snapshot.Model.AssertEqualsFile(folder["s.raw"]);
        }

        var list = JsonDocument.Parse(ToolRunner.RunChecked("qemu-img", "info", "--output=json", folder["a.qcow2"]).Text).RootElement.GetProperty("snapshots");
        Assert.Equal(["first", "with state"], list.EnumerateArray().Select(s => s.GetProperty("name").GetString()));
        Assert.Equal(70_000, list[1].GetProperty("vm-state-size").GetInt64());
    }

    [Fact]
    public void Peer_reads_snapshots_of_another_size()
    {
        using var folder = Begin();
        var builder = new Qcow2Builder { ClusterBits = 12, Size = 1000 << 12 };
        builder.FillRandom(1, 0.3).AddSnapshot("1", "large").Resize(300 << 12);
        builder.FillRandom(2, 0.3).AddSnapshot("2", "small").Resize(600 << 12);
        builder.FillRandom(3, 0.1);
        AssertPeerAgrees(folder, builder.Build());
    }

    [Theory]
    [InlineData(false, false)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    public void Peer_reads_external_data_files(bool raw, bool extended)
    {
        using var folder = Begin();
        var builder = new Qcow2Builder
        {
            ClusterBits = 16,
            Size = 50 << 16,
            ExternalData = true,
            DataFileName = folder["a.data"],
            DataFileRaw = raw,
            ExtendedL2 = extended,
        };
        builder.FillRandom(1, 0.5).Fill(2, 0);
        var image = builder.Build();
        image.DataFile!.SaveTo(folder["a.data"]);
        AssertPeerAgrees(folder, image);
        if (raw)
        {
            builder.Model.AssertEqualsFile(folder["a.data"]);
        }
    }

    [Fact]
    public void Peer_lists_bitmaps_and_exports_their_bits()
    {
        ToolRunner.RequireOrSkip("qemu-img", "qemu-nbd", "nbdinfo");
        using var folder = new TempFolder();
        var builder = new Qcow2Builder { ClusterBits = 9, Size = 64 << 20 };
        builder.Fill(1, 3).AddBitmap(new Qcow2Bitmap("fine") { GranularityBits = 12 }.Set(4096, 8192).Set(16 << 20, 20 << 20))
            .AddBitmap(new Qcow2Bitmap("coarse") { GranularityBits = 20, Flags = 0 }.Set(0, 1))
            .AddBitmap(new Qcow2Bitmap("broken") { Flags = Qcow2Bitmap.InUse | Qcow2Bitmap.Auto });
        AssertPeerAgrees(folder, builder.Build());
        var info = JsonDocument.Parse(ToolRunner.RunChecked("qemu-img", "info", "--output=json", folder["a.qcow2"]).Text).RootElement;
        var bitmaps = info.GetProperty("format-specific").GetProperty("data").GetProperty("bitmaps");
        Assert.Equal(["fine:4096:auto", "coarse:1048576:", "broken:65536:in-use,auto"], bitmaps.EnumerateArray().Select(b =>
            $"{b.GetProperty("name").GetString()}:{b.GetProperty("granularity").GetInt64()}:{string.Join(',', b.GetProperty("flags").EnumerateArray().Select(f => f.GetString()))}"));
        using var server = NbdServer.QemuNbd(folder["a.qcow2"], "qcow2", folder, "-B", "fine");
        var map = ToolRunner.RunChecked("nbdinfo", "--map=qemu:dirty-bitmap:fine", server.Uri);
        var dirty = map.Lines.Select(l => l.Split(' ', StringSplitOptions.RemoveEmptyEntries)).Where(l => l[2] == "1")
            .Select(l => (long.Parse(l[0]), long.Parse(l[1]))).ToArray();
        Assert.Equal([(4096, 8192), (16 << 20, 20 << 20)], dirty);
    }

    [Fact]
    public void Peer_follows_clusters_far_out_in_the_file()
    {
        using var folder = Begin();
        var builder = new Qcow2Builder { ClusterBits = 16, Size = 100 << 16, FarGapClusters = (5L << 32) / 65536, SpareRefcountTableClusters = 2, TrimEnd = true };
        var image = builder.FillRandom(1).Build();
        Assert.True(image.Bytes.Length > 5L << 32);
        AssertPeerAgrees(folder, image);
    }

    [Theory]
    [InlineData(104, true)]
    [InlineData(112, false)]
    [InlineData(120, true)]
    [InlineData(4000, false)]
    public void Peer_accepts_headers_of_any_length_and_unknown_extensions(int headerLength, bool end)
    {
        using var folder = Begin();
        File.WriteAllBytes(folder["b.raw"], TestContent.Make(1, 0, 65536));
        var backing = new ReferenceDisk(65536);
        backing.Fill(1, 0, 65536);
        var builder = new Qcow2Builder
        {
            HeaderLength = headerLength,
            Size = 1 << 20,
            BackingFile = "b.raw",
            BackingFormat = "raw",
            Backing = backing,
            EndExtension = end,
            FeatureNames = [(1, 40, "something new")],
            CompatibleFeatures = (1UL << 40) | 1,
        };
        builder.AddExtension(0xe279268f, "raw"u8).AddExtension(0x12345678, [1, 2, 3]).Fill(2, 5);
        var image = builder.Build();
        AssertPeerAgrees(folder, image);
        Assert.Equal("b.raw", JsonDocument.Parse(ToolRunner.RunChecked("qemu-img", "info", "--output=json", folder["a.qcow2"]).Text)
            .RootElement.GetProperty("backing-filename").GetString());
        Assert.Equal(3u, image.Bytes.U32Be(image.ExtensionAt[0x12345678] + 4));
    }

    [Fact]
    public void Peer_reads_extensions_that_fill_the_cluster()
    {
        using var folder = Begin();
        AssertPeerAgrees(folder, new Qcow2Builder { ClusterBits = 12, Size = 1 << 20, EndExtension = false }.Fill(1, 3).Build());
    }

    [Fact]
    public void Peer_accepts_an_L1_table_larger_than_the_disk()
    {
        using var folder = Begin();
        AssertPeerAgrees(folder, new Qcow2Builder { Size = 1 << 20, L1Size = 100_000 }.Fill(1, 3).Build());
    }

    [Fact]
    public void Peer_finds_the_refcount_that_was_broken()
    {
        using var folder = Begin();
        var image = new Qcow2Builder { RefcountOrder = 1, ClusterBits = 12, Size = 1 << 20 }.Fill(1, 3, 4).Build();
        var host = (long)(image.L2(3) & 0x00fffffffffffe00);
        Assert.Equal(1u, image.Refcount(host));
        image.SetRefcount(host, 2).SaveTo(folder["a.qcow2"]);
        Assert.Contains("refcount=2 reference=1", ToolRunner.Run("qemu-img", "check", folder["a.qcow2"]).Error);
        image.SetRefcount(host, 0).SaveTo(folder["a.qcow2"]);
        Assert.Contains("ERROR cluster", ToolRunner.Run("qemu-img", "check", folder["a.qcow2"]).Expect(2).Error);
    }

    private static TempFolder Begin()
    {
        ToolRunner.RequireOrSkip("qemu-img");
        return new TempFolder();
    }

    // Enough clusters for several L2 tables where clusters are small, and not too many bytes where they are large.
    private static long Clusters(int clusterBits) => clusterBits switch
    {
        < 12 => 700L << clusterBits,
        < 17 => 60L << clusterBits,
        _ => 14L << clusterBits,
    };

    private static void AssertPeerAgrees(TempFolder folder, Qcow2Image image)
    {
        image.SaveTo(folder["a.qcow2"]);
        var check = ToolRunner.Run("qemu-img", "check", "-f", "qcow2", folder["a.qcow2"]).Expect();
        Assert.Contains("No errors were found", check.Text);
        ToolRunner.RunChecked("qemu-img", "convert", "-f", "qcow2", "-O", "raw", folder["a.qcow2"], folder["a.raw"]);
        image.Model.AssertEqualsFile(folder["a.raw"]);
        File.Delete(folder["a.raw"]);
    }
}
