using System.Text.Json.Nodes;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Host.Files;
using Platter.TestKit;
using Xunit;
using static Platter.Tests.Interop.Formats.Qcow2Interop;

namespace Platter.Tests.Interop.Formats;

/// <summary>Parallels images: what the real tool says of a file, we say too.</summary>
public sealed class ParallelsReadTests
{
    [Theory]
    [InlineData("cluster_size=4k", "5M")]
    [InlineData("cluster_size=64k", "67M")]
    [InlineData("cluster_size=129024", "10000000")] // 252 KiB, and a size that no cluster divides
    [InlineData("cluster_size=1M", "67M")]
    [InlineData("cluster_size=4M", "67M")]
    public async Task Images_of_the_peer_read_map_and_check_alike(string options, string size)
    {
        ToolRunner.RequireOrSkip("qemu-img", "qemu-io");
        using var folder = new TempFolder();
        var image = folder["a.hds"];
        QemuImg("create", "-f", "parallels", "-o", options, image, size);

        // 7.2 takes the end of the header's own cluster for the end of an empty image, and the rest of a larger BAT for leaked.
        await AssertAlikeAsync(image, folder, withCheck: options != "cluster_size=4k");
        QemuIo(image, "write -P 1 3M 512", "write -P 2 0 1M", "write -P 3 2M 1M", "write -P 4 4000k 300k", "write -P 5 100k 100k");
        await AssertAlikeAsync(image, folder);
    }

    public static TheoryData<ParallelsMagic, uint, HostPlacement, uint?> Layouts()
    {
        var data = new TheoryData<ParallelsMagic, uint, HostPlacement, uint?>();
        foreach (var cluster in new uint[] { 8, 63, 504, 512 })
        {
            data.Add(ParallelsMagic.WithoutFreeSpace, cluster, HostPlacement.Shuffled, null);
            data.Add(ParallelsMagic.WithouFreSpacExt, cluster, HostPlacement.Descending, null);
            data.Add(ParallelsMagic.WithoutFreeSpace, cluster, HostPlacement.Ascending, cluster * 3);
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(Layouts))]
    public async Task Images_of_any_layout_read_map_and_check_alike(ParallelsMagic magic, uint cluster, HostPlacement placement, uint? dataOffset)
    {
        ToolRunner.RequireOrSkip("qemu-img");
        using var folder = new TempFolder();
        new ParallelsImageBuilder
        {
            Magic = magic, ClusterSectors = cluster, SizeSectors = (cluster * 60) + 7, Placement = placement, DataOffsetSectors = dataOffset, InUse = 0,
        }.FillRandom(5, 0.5).AddHoles(2, 3).Build().SaveTo(folder["a.hds"]);
        await AssertAlikeAsync(folder["a.hds"], folder);
    }

    public static TheoryData<string, Action<ParallelsImage>> Damages => new()
    {
        { "dirty", i => i.Set(ParallelsField.InUse, ParallelsImageBuilder.InUseOpen) },
        { "leak", i => i.Truncate(i.Bytes.Length + (5 * 32768) + 1) },
        { "outside", i => i.SetBat(7, 5000) },
        { "outside twice", i => i.SetBat(7, 5000).SetBat(8, 5001) },
        { "outside and dirty and leak", i => i.SetBat(0, 5000).Set(ParallelsField.InUse, ParallelsImageBuilder.InUseOpen) },
        { "no BAT", i => i.Set(ParallelsField.BatEntries, 0).Set(ParallelsField.Sectors, 0).Truncate(i.DataAt) },
        { "in_use of a Desktop", i => i.Set(ParallelsField.InUse, 0x37316470) },
        { "disk shorter than its BAT", i => i.Set(ParallelsField.Sectors, 100) },
    };

    [Theory]
    [MemberData(nameof(Damages))]
    public async Task Damage_is_counted_as_the_peer_counts_it(string what, Action<ParallelsImage> damage)
    {
        Assert.NotEmpty(what);
        ToolRunner.RequireOrSkip("qemu-img");
        using var folder = new TempFolder();
        var image = new ParallelsImageBuilder
        {
            Magic = ParallelsMagic.WithouFreSpacExt, ClusterSectors = 64, SizeSectors = 64 * 20, InUse = 0, Placement = HostPlacement.Shuffled,
        }.FillRandom(5, 0.6).Build();
        damage(image);
        image.SaveTo(folder["a.hds"]);
        await using var node = await OpenFileAsync(folder["a.hds"]);
        await AssertSameCheckAsync(node, folder["a.hds"]);
    }

    [Fact]
    public async Task A_bundle_reads_at_every_snapshot_as_the_peer_reads_the_chain_that_it_is_told()
    {
        ToolRunner.RequireOrSkip("qemu-img");
        using var folder = new TempFolder();
        var builder = new BundleBuilder("disk", 64 * 100, 64) { InUse = 0 };
        var root = builder.AddLayer().FillRandom(1, 0.5);
        var second = builder.AddLayer(parent: root).FillRandom(2, 0.3);
        builder.AddLayer(parent: root).FillRandom(3, 0.3).Magic = ParallelsMagic.WithouFreSpacExt;
        builder.AddTop(second).FillRandom(4, 0.2);
        var bundle = builder.Build();
        var path = bundle.SaveTo(folder.Path);
        foreach (var layer in bundle.Layers)
        {
            await using var disk = await Disk.OpenAsync(path, new DiskOpenOptions { Snapshot = SnapshotSelector.Parse($"{layer.Id:B}") });
            await AssertSameContentAsync(disk.Node, Chain(path, bundle, layer), folder);
            await AssertSameMapAsync(disk.Node, Chain(path, bundle, layer));
        }

        // The directory, its descriptor and the machine around it all mean the same disk.
        await using var byDescriptor = await Disk.OpenAsync(System.IO.Path.Combine(path, "DiskDescriptor.xml"));
        await AssertSameContentAsync(byDescriptor.Node, Chain(path, bundle, bundle.TopLayer!), folder);
    }

    [Fact]
    public async Task A_plain_root_is_a_raw_file_to_the_peer()
    {
        ToolRunner.RequireOrSkip("qemu-img");
        using var folder = new TempFolder();
        var builder = new BundleBuilder("disk", 64 * 100, 64) { InUse = 0 };
        var root = builder.AddLayer();
        root.Plain = true;
        root.PlainTrimmed = true;
        root.Fill(1, 0, 100_000).Fill(2, 1_000_000, 777_777);
        builder.AddTop(root).FillRandom(4, 0.2);
        var bundle = builder.Build();
        var path = bundle.SaveTo(folder.Path);
        await using var disk = await Disk.OpenAsync(path);
        await AssertSameContentAsync(disk.Node, Chain(path, bundle, bundle.TopLayer!), folder);
    }

    private static string Chain(string path, BuiltBundle bundle, BundleLayer layer)
    {
        var json = new JsonObject
        {
            ["driver"] = layer.Plain ? "raw" : "parallels",
            ["file"] = new JsonObject { ["driver"] = "file", ["filename"] = System.IO.Path.Combine(path, bundle.ImageName(layer)) },
        };
        if (layer.Parent is { } parent)
        {
            json["backing"] = JsonNode.Parse(Chain(path, bundle, parent)["json:".Length..]);
        }

        return "json:" + json.ToJsonString();
    }

    private static async ValueTask<BlockNode> OpenFileAsync(string path) => (await Disk.OpenAsync(path)).Node;

    private static async Task AssertAlikeAsync(string image, TempFolder folder, bool withCheck = true)
    {
        await using var node = await OpenFileAsync(image);
        Assert.Equal("parallels", node.FormatName);
        await AssertSameContentAsync(node, image, folder);
        await AssertSameMapAsync(node, image);
        if (withCheck)
        {
            await AssertSameCheckAsync(node, image);
        }

        var info = await node.GetInfoAsync();
        var theirs = JsonNode.Parse(QemuImg("info", "--output=json", image).Text)!;
        Assert.Equal(
            ((long)theirs["virtual-size"]!, (string)theirs["format"]!, (long)theirs["actual-size"]!),
            (info.VirtualSize, info.Format, info.AllocatedSize!.Value));
        Assert.Equal(
            (theirs["cluster-size"] is null, theirs["dirty-flag"] is null, theirs["format-specific"] is null),
            (info.ClusterSize is null, info.Dirty is null, info.FormatSpecific is null));
    }

    private static async Task AssertSameCheckAsync(BlockNode node, string image)
    {
        var theirs = JsonNode.Parse(ToolRunner.Run("qemu-img", "check", "-f", "parallels", "--output=json", image).Text)!;
        var ours = await node.CheckAsync(_ => { });
        long Value(string key) => (long?)theirs[key] ?? 0;
        Assert.Equal(
            new CheckReport
            {
                Corruptions = Value("corruptions"),
                Leaks = Value("leaks"),
                Errors = Value("check-errors"),
                ImageEndOffset = Value("image-end-offset"),
                TotalClusters = Value("total-clusters"),
                AllocatedClusters = Value("allocated-clusters"),
                FragmentedClusters = Value("fragmented-clusters"),
            },
            ours);
    }
}
