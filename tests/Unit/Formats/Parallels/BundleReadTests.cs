using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Parallels.Bundle;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Formats.Parallels;

public class BundleReadTests
{
    internal static async Task<BundleNode> OpenAsync(
        StorageDirectory directory, string? snapshot = null, string? disk = null, List<string>? warnings = null, OpenContext? context = null)
    {
        var options = new NodeOptions();
        if (snapshot is not null)
        {
            options["snapshot"] = snapshot;
        }

        if (disk is not null)
        {
            options["disk"] = disk;
        }

        return (BundleNode)await new ParallelsBundleFormat().OpenAsync(directory, options, writable: false, context ?? Opening.Context(warnings));
    }

    /// <summary>Three snapshots in a row, a branch, and the current state.</summary>
    internal static BundleBuilder Tree(long sectors = 64 * 40, uint cluster = 64, params long[] splits)
    {
        var builder = new BundleBuilder("disk", sectors, cluster, splits);
        var root = builder.AddLayer().FillRandom(1, 0.5);
        var second = builder.AddLayer(parent: root).FillRandom(2, 0.3);
        builder.AddLayer(parent: root).FillRandom(3, 0.3);
        var third = builder.AddLayer(parent: second).FillRandom(4, 0.3);
        builder.AddTop(third).FillRandom(5, 0.2);
        return builder;
    }

    [Fact]
    public async Task Every_snapshot_reads_as_its_model()
    {
        var bundle = Tree().Build();
        await AllLayersAsync(bundle);
    }

    [Fact]
    public async Task A_split_disk_reads_as_one()
    {
        // Splits off cluster boundaries, as real ones are; a storage of its own cluster size.
        var builder = new BundleBuilder("disk", 64 * 40, 64, 333, 64 * 20);
        builder.SetClusterSectors(1, 63);
        builder.AddLayer().FillRandom(1, 0.5);
        builder.AddTop().FillRandom(2, 0.3);
        await AllLayersAsync(builder.Build());
    }

    [Fact]
    public async Task A_plain_root_under_expandable_layers_reads_as_its_model()
    {
        var builder = new BundleBuilder("disk", 64 * 40, 64, 64 * 10);
        var root = builder.AddLayer();
        root.Plain = true;
        root.PlainTrimmed = true;
        root.Fill(1, 5 * 512, 100 * 512).Fill(2, 64 * 512 * 20, 4096);
        builder.AddTop(root).FillRandom(2, 0.2);
        await AllLayersAsync(builder.Build());
    }

    [Theory]
    [InlineData(BundlePathStyle.Relative)]
    [InlineData(BundlePathStyle.DotRelative)]
    [InlineData(BundlePathStyle.AbsoluteMoved)]
    [InlineData(BundlePathStyle.BackslashedMoved)]
    [InlineData(BundlePathStyle.Backslashed)]
    public async Task Images_are_found_however_they_are_named(BundlePathStyle style)
    {
        var builder = new BundleBuilder("disk", 640, 64) { PathStyle = style, UpperCaseShots = true, WithUnknownContent = true };
        builder.AddLayer().FillRandom(1, 0.5);
        builder.AddTop().FillRandom(2, 0.5);
        await AllLayersAsync(builder.Build());
    }

    [Fact]
    public async Task A_magic_per_layer_is_fine()
    {
        var builder = new BundleBuilder("disk", 640, 64);
        builder.AddLayer().FillRandom(1, 0.5).Magic = ParallelsMagic.WithouFreSpacExt;
        builder.AddLayer().FillRandom(2, 0.5).Magic = ParallelsMagic.WithoutFreeSpace;
        builder.AddTop().FillRandom(3, 0.5).Magic = ParallelsMagic.WithouFreSpacExt;
        await AllLayersAsync(builder.Build());
    }

    [Fact]
    public async Task A_TopGUID_rules_over_the_predefined_GUID()
    {
        var builder = new BundleBuilder("disk", 640, 64) { WriteTopGuid = true };
        var predefined = builder.AddLayer(BundleBuilder.PredefinedTop).FillRandom(1, 0.5);
        var top = builder.AddLayer(parent: predefined).FillRandom(2, 0.5);
        var bundle = builder.Build();
        await using var node = await OpenAsync(bundle.ToDirectory());

        Assert.Equal($"{top.Id:B}", node.OpenedSnapshot);
        await ParallelsReadTests.SameAsModel(node, top.Model);
        await AllLayersAsync(bundle);
    }

    [Fact]
    public async Task A_bundle_without_Snapshots_is_its_only_image()
    {
        var builder = new BundleBuilder("disk", 640, 64) { WithoutSnapshots = true };
        builder.AddTop().FillRandom(1, 0.5);
        await AllLayersAsync(builder.Build());
    }

    [Fact]
    public async Task Only_the_chain_of_the_chosen_snapshot_is_opened_and_each_file_once()
    {
        var bundle = Tree().Build();
        var directory = (SparseDirectory)bundle.ToDirectory();
        var second = bundle.Layers[1];
        await using (await OpenAsync(directory, $"{second.Id:B}"))
        {
        }

        Assert.Equal(
            ["DiskDescriptor.xml", bundle.ImageName(second), bundle.ImageName(bundle.Layers[0])],
            directory.Opened);
    }

    [Fact]
    public async Task Depth_counts_the_layers_from_the_opened_one()
    {
        var builder = new BundleBuilder("disk", 64 * 4, 64);
        var root = builder.AddLayer().Fill(1, 0, 512);
        var middle = builder.AddLayer(parent: root).Fill(1, 64 * 512, 512);
        builder.AddTop(middle).Fill(1, 64 * 512 * 2, 512);
        await using var node = await OpenAsync(builder.Build().ToDirectory());
        var map = await Opening.MapAllAsync(node);

        Assert.Equal([(0L, 2, ExtentKind.Data), (64 * 512, 1, ExtentKind.Data), (64 * 1024, 0, ExtentKind.Data), (64 * 1536, 2, ExtentKind.Unallocated)],
            map.Select(e => (e.Offset.Value, e.Depth, e.Kind)));
    }

    [Theory]
    [InlineData("{00000002-0000-4000-8000-000000000002}")]
    [InlineData("00000002-0000-4000-8000-000000000002")]
    [InlineData("before the update")]
    public async Task A_snapshot_is_chosen_by_GUID_or_by_name(string snapshot)
    {
        var disk = Tree().Build();
        var machine = new MachineBuilder("vm").Add(disk)
            .AddSnapshot(disk.Layers[0].Id, "fresh", new DateTime(2024, 1, 2, 3, 4, 5))
            .AddSnapshot(disk.Layers[1].Id, "before the update", new DateTime(2024, 5, 6, 7, 8, 9), disk.Layers[0].Id)
            .Build();
        await using var node = await OpenAsync(machine.ToDirectory(), snapshot);

        await ParallelsReadTests.SameAsModel(node, disk.Layers[1].Model);
        Assert.Equal(4, node.Snapshots.Count);
        Assert.Equal("before the update", node.Snapshots[1].Name);
        Assert.Equal(new DateTimeOffset(2024, 5, 6, 7, 8, 9, TimeSpan.Zero), node.Snapshots[1].Date);
    }

    [Fact]
    public async Task A_machine_with_several_disks_wants_a_choice()
    {
        var first = new BundleBuilder("first", 640, 64);
        first.AddTop().FillRandom(1, 0.5);
        var second = new BundleBuilder("second", 640, 64);
        var layer = second.AddTop().FillRandom(2, 0.5);
        var directory = new MachineBuilder("vm").Add(first.Build()).Add(second.Build()).Build().ToDirectory();

        var error = await Assert.ThrowsAsync<BlockException>(() => OpenAsync(directory));
        Assert.Equal("vm.pvm: has 2 disks, choose one with --disk (option 'disk'): first.hdd, second.hdd", error.Message);
        await using var node = await OpenAsync(directory, disk: "second");
        await ParallelsReadTests.SameAsModel(node, layer.Model);
    }

    private static async Task AllLayersAsync(BuiltBundle bundle)
    {
        foreach (var layer in bundle.Layers)
        {
            List<string> warnings = [];
            await using var node = await OpenAsync(bundle.ToDirectory(), layer.Id.ToString("B").ToUpperInvariant(), warnings: warnings);
            Assert.Equal(layer.Model.Size, node.VirtualSize);
            await ParallelsReadTests.SameAsModel(node, layer.Model);
            Assert.Empty(warnings);
        }

        await using var current = await OpenAsync(bundle.ToDirectory());
        await ParallelsReadTests.SameAsModel(current, bundle.Current);
    }
}
