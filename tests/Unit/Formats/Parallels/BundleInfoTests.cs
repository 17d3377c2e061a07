using System.Xml.Linq;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Formats.Parallels.Bundle;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Formats.Parallels;

public class BundleInfoTests
{
    private static OpenContext MetadataOnly => new()
    {
        Formats = Opening.Formats, Storages = Opening.Context().Storages, Gate = new ClosedGate("tests"), MetadataOnly = true,
    };

    [Fact]
    public async Task Info_tells_the_tree_of_layers()
    {
        var builder = new BundleBuilder("disk", 640, 64, 320) { Magic = ParallelsMagic.WithouFreSpacExt };
        var root = builder.AddLayer();
        root.Plain = true;
        var second = builder.AddLayer(parent: root).FillRandom(2);
        second.InUse = ParallelsImageBuilder.InUseOpen;
        builder.AddTop(root).FillRandom(3).Bitmaps.Add(new ParallelsBitmap());
        var machine = new MachineBuilder("vm").Add(builder.Build()).AddSnapshot(second.Id, "try", new DateTime(2024, 2, 3, 4, 5, 6)).Build();
        var directory = (SparseDirectory)machine.ToDirectory();
        await using var node = await BundleReadTests.OpenAsync(directory, context: MetadataOnly);
        var info = await node.GetInfoAsync();

        Assert.Equal(("vm.pvm/disk.hdd", "parallels-bundle", 640 * 512L, 64 * 512L, true), (info.FileName, info.Format, info.VirtualSize, info.ClusterSize, info.Dirty));
        Assert.Equal(
            """
            {"type":"parallels-bundle","data":{"name":"disk","uid":"{0b0e5ac6-1f5e-4d6b-9d67-0d2b7a2f2c11}",
            "top-guid":"{5fbaabe3-6958-40ff-92a7-860e329aab41}","opened-guid":"{5fbaabe3-6958-40ff-92a7-860e329aab41}",
            "storages":[{"start":0,"end":163840,"cluster-size":32768},{"start":163840,"end":327680,"cluster-size":32768}],
            "layers":[
            {"guid":"{00000001-0000-4000-8000-000000000001}","depth":0,"top":false,"opened":false,"in-chain":true,"images":[
            {"storage":0,"file":"disk.hdd.0.{00000001-0000-4000-8000-000000000001}.hds","type":"Plain","virtual-size":163840},
            {"storage":1,"file":"disk.hdd.1.{00000001-0000-4000-8000-000000000001}.hds","type":"Plain","virtual-size":163840}]},
            {"guid":"{00000002-0000-4000-8000-000000000002}","parent-guid":"{00000001-0000-4000-8000-000000000001}","depth":1,"top":false,"opened":false,"in-chain":false,
            "name":"try","date":"2024-02-03T04:05:06Z","images":[
            {"storage":0,"file":"disk.hdd.0.{00000002-0000-4000-8000-000000000002}.hds","type":"Compressed","virtual-size":163840,"cluster-size":32768,"dirty-flag":true},
            {"storage":1,"file":"disk.hdd.1.{00000002-0000-4000-8000-000000000002}.hds","type":"Compressed","virtual-size":163840,"cluster-size":32768,"dirty-flag":true}]},
            {"guid":"{5fbaabe3-6958-40ff-92a7-860e329aab41}","parent-guid":"{00000001-0000-4000-8000-000000000001}","depth":1,"top":true,"opened":true,"in-chain":true,"images":[
            {"storage":0,"file":"disk.hdd.0.{5fbaabe3-6958-40ff-92a7-860e329aab41}.hds","type":"Compressed","virtual-size":163840,"cluster-size":32768,"dirty-flag":false,"bitmaps":[{"name":"10325476-98ba-dcfe-0102-030405060708","granularity":65536}]},
            {"storage":1,"file":"disk.hdd.1.{5fbaabe3-6958-40ff-92a7-860e329aab41}.hds","type":"Compressed","virtual-size":163840,"cluster-size":32768,"dirty-flag":false}]}
            ]}}
            """.Replace("\n", "", StringComparison.Ordinal),
            info.FormatSpecific!.ToJsonString().Replace("\\u007B", "{", StringComparison.OrdinalIgnoreCase));
        Assert.Equal(["{00000001-0000-4000-8000-000000000001}", "{00000002-0000-4000-8000-000000000002}"], info.Snapshots.Select(s => s.Id));

        // The same through an open chain; and nothing but the machine's own files was touched.
        await using var open = await BundleReadTests.OpenAsync(directory, context: Opening.Context());
        Assert.Equal(info.FormatSpecific!.ToJsonString(), (await open.GetInfoAsync()).FormatSpecific!.ToJsonString());
    }

    [Fact]
    public async Task An_unreadable_layer_is_told_and_hides_nothing()
    {
        var builder = new BundleBuilder("disk", 640, 64);
        builder.AddLayer();
        builder.AddTop();
        var bundle = builder.Build();
        bundle.Remove(bundle.ImageName(bundle.Layers[0]));
        await using var node = await BundleReadTests.OpenAsync(bundle.ToDirectory(), context: MetadataOnly);
        var layers = (await node.GetInfoAsync()).FormatSpecific!["data"]!["layers"]!.AsArray();
        Assert.EndsWith("there is no such file in this bundle", (string?)layers[0]!["images"]![0]!["error"]);
        Assert.Equal(640 * 512, (long)layers[1]!["images"]![0]!["virtual-size"]!);
    }

    [Fact]
    public async Task An_unreadable_current_state_is_told_and_hides_nothing()
    {
        var builder = new BundleBuilder("disk", 640, 64);
        builder.AddTop();
        var bundle = builder.Build();
        bundle.Remove(bundle.ImageName(bundle.Layers[0]));
        await using var node = await BundleReadTests.OpenAsync(bundle.ToDirectory(), context: MetadataOnly);
        var layers = (await node.GetInfoAsync()).FormatSpecific!["data"]!["layers"]!.AsArray();
        Assert.EndsWith("there is no such file in this bundle", (string?)layers[0]!["images"]![0]!["error"]);
    }

    [Fact]
    public async Task Of_a_thousand_images_and_more_no_file_is_looked_into_twice_and_not_all_are()
    {
        var builder = new BundleBuilder("disk", 640, 64);
        builder.AddTop();
        var bundle = builder.Build().EditDescriptor(root =>
        {
            var image = root.Descendants("Image").Single();
            var shot = root.Descendants("Shot").Single();
            var parent = BundleBuilder.PredefinedTop;
            for (var i = 1; i <= 3000; i++)
            {
                var id = new Guid($"{i:x8}-0000-4000-8000-{i:x12}");
                image.Parent!.Add(new XElement("Image", new XElement("GUID", id.ToString("B")), new XElement("Type", "Compressed"),
                    new XElement("File", i % 2 == 0 ? image.Element("File")!.Value : $"missing{i}.hds")));
                shot.Parent!.Add(new XElement("Shot", new XElement("GUID", id.ToString("B")), new XElement("ParentGUID", parent.ToString("B"))));
                parent = id;
            }
        });
        await using var node = await BundleReadTests.OpenAsync(bundle.ToDirectory(), context: MetadataOnly);
        var layers = (await node.GetInfoAsync()).FormatSpecific!["data"]!["layers"]!.AsArray();
        Assert.Equal(3001, layers.Count);
        var errors = layers.Select(layer => (string?)layer!["images"]![0]!["error"]).CountBy(error => error is null ? "none" : error.Contains("no such file", StringComparison.Ordinal) ? "missing" : error)
            .ToDictionary();
        Assert.Equal(1, errors["none"]);
        Assert.Equal(1500, errors["another image has this file already"]);
        Assert.Equal(1023, errors["missing"]);
        Assert.Equal(477, errors["was not looked into: the disk has more than 1024 images"]);
    }

    [Fact]
    public async Task The_current_state_has_the_bitmaps_of_its_images()
    {
        var builder = new BundleBuilder("disk", 64 * 40, 64);
        var root = builder.AddLayer().FillRandom(1);
        root.Bitmaps.Add(new ParallelsBitmap { GranularitySectors = 8 }.Set(0, 8));
        builder.AddTop(root).FillRandom(2).Bitmaps.Add(new ParallelsBitmap { GranularitySectors = 8 }.Set(16, 24).Set(2552, 8));
        var bundle = builder.Build();
        await using var node = await BundleReadTests.OpenAsync(bundle.ToDirectory());
        var bitmap = Assert.Single(node.Bitmaps);
        Assert.Equal(4096, bitmap.Granularity);
        Assert.Equal([(16, 24), (2552, 8)], await ParallelsBitmapTests.RangesAsync(node, bitmap.Name));

        await using var snapshot = await BundleReadTests.OpenAsync(bundle.ToDirectory(), $"{root.Id:B}");
        Assert.Empty(snapshot.Bitmaps);
        Assert.Equal(BlockErrorKind.NotFound, (await Assert.ThrowsAsync<BlockException>(() => ParallelsBitmapTests.RangesAsync(snapshot, bitmap.Name))).Kind);
    }

    [Fact]
    public async Task Bitmaps_of_a_split_disk_are_one_where_every_storage_has_it()
    {
        var builder = new BundleBuilder("disk", 640, 64, 320);
        builder.AddTop().Fill(1, 0, 512);
        var bundle = builder.Build();
        for (var storage = 0; storage < 2; storage++)
        {
            bundle.Files[bundle.ImageName(bundle.Layers[0], storage)] = new ParallelsImageBuilder { ClusterSectors = 64, SizeSectors = 320 }
                .AddBitmap(storage == 0 ? new ParallelsBitmap { GranularitySectors = 32 }.Set(0, 32).Set(288, 32) : new ParallelsBitmap { GranularitySectors = 32 }.Set(0, 64).Set(128, 32))
                .Build().Bytes;
        }

        await using var node = await BundleReadTests.OpenAsync(bundle.ToDirectory());
        Assert.Equal([(0, 32), (288, 96), (448, 32)], await ParallelsBitmapTests.RangesAsync(node, Assert.Single(node.Bitmaps).Name));
    }

    [Fact]
    public async Task Everything_is_closed_with_the_disk_and_when_opening_fails()
    {
        var bundle = BundleReadTests.Tree().Build();
        var directory = new WatchedDirectory(bundle);
        await using (await BundleReadTests.OpenAsync(directory))
        {
            Assert.Equal(4, directory.Opened.Count(s => !s.IsDisposed));
        }

        Assert.All(directory.Opened, s => Assert.True(s.IsDisposed, s.Name));

        // The root is opened last and is broken.
        bundle.ImageOf(bundle.Layers[0]).PutU8(0, 0);
        directory = new WatchedDirectory(bundle);
        await Assert.ThrowsAsync<ImageFormatException>(() => BundleReadTests.OpenAsync(directory));
        Assert.Equal(5, directory.Opened.Count);
        Assert.All(directory.Opened, s => Assert.True(s.IsDisposed, s.Name));

        // Info and check open what is not open, and close it.
        directory = new WatchedDirectory(BundleReadTests.Tree().Build());
        await using (var node = await BundleReadTests.OpenAsync(directory))
        {
            await node.GetInfoAsync();
            await node.CheckAsync(_ => { });
            Assert.Equal(4, directory.Opened.Count(s => !s.IsDisposed));
        }

        Assert.All(directory.Opened, s => Assert.True(s.IsDisposed, s.Name));
    }

    private sealed class WatchedDirectory(BuiltBundle bundle) : Platter.Core.Storages.StorageDirectory
    {
        private readonly Platter.Core.Storages.StorageDirectory _inner = bundle.ToDirectory();

        public List<SparseStorage> Opened { get; } = [];

        public override string Name => _inner.Name;

        public override IReadOnlyList<string> ListFiles() => _inner.ListFiles();

        public override IReadOnlyList<string> ListDirectories() => _inner.ListDirectories();

        public override bool FileExists(string name) => _inner.FileExists(name);

        public override async ValueTask<Platter.Core.Storages.Storage> OpenFileAsync(string name, CancellationToken cancellationToken = default)
        {
            var storage = (SparseStorage)await _inner.OpenFileAsync(name, cancellationToken);
            Opened.Add(storage);
            return storage;
        }

        public override ValueTask<Platter.Core.Storages.StorageDirectory> OpenDirectoryAsync(string name, CancellationToken cancellationToken = default) =>
            _inner.OpenDirectoryAsync(name, cancellationToken);
    }
}
