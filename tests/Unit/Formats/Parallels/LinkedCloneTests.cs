using System.Xml.Linq;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Formats.Parallels.Bundle;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Formats.Parallels;

/// <summary>Bundles that stand on another bundle: opened through the gate, never around it.</summary>
public class LinkedCloneTests
{
    private const string RootFile = "base.hdd.0.{00000001-0000-4000-8000-000000000001}.hds";

    /// <summary>The parent, and a clone whose root image is the parent's, by an absolute name as Parallels Desktop writes it.</summary>
    private static (BuiltBundle Parent, BuiltBundle Clone) ByFile()
    {
        var parent = new BundleBuilder("base", 640, 64);
        var root = parent.AddLayer().FillRandom(1, 0.6);
        parent.AddTop(root).FillRandom(2, 0.6);

        var clone = new BundleBuilder("clone", 640, 64);
        var same = clone.AddLayer(root.Id).FillRandom(1, 0.6);
        clone.AddTop(same).FillRandom(3, 0.3);
        var built = clone.Build();
        built.Remove(built.ImageName(same));
        built.EditDescriptor(x => x.Descendants("File").First().Value = $"/vms/base.pvm/base.hdd/{RootFile}");
        return (parent.Build(), built);
    }

    private static (BuiltBundle Parent, BuiltBundle Clone) ByVolume(string name = "../base.hdd/DiskDescriptor.xml")
    {
        var parent = new BundleBuilder("base", 640, 64);
        var root = parent.AddLayer().FillRandom(1, 0.6);
        parent.AddTop(root).FillRandom(2, 0.6);

        var clone = new BundleBuilder("clone", 640, 64);
        var below = clone.AddLayer(root.Id).FillRandom(1, 0.6);
        clone.AddTop(below).FillRandom(3, 0.3);
        var built = clone.Build();
        built.Remove(built.ImageName(below));
        built.EditDescriptor(x =>
        {
            x.Descendants("Image").First().Remove();
            x.Descendants("Shot").First().Remove();
            x.Descendants("ParentGUID").First().Value = Guid.Empty.ToString("B");
            x.Element("StorageData")!.Add(new XElement("Volume", new XElement("Parent", name), new XElement("SnapshotGUID", root.Id.ToString("B"))));
        });
        return (parent.Build(), built);
    }

    [Fact]
    public async Task An_image_in_another_bundle_is_read_through_the_gate()
    {
        var (parent, clone) = ByFile();
        var world = new World(parent);
        await using var node = await BundleReadTests.OpenAsync(clone.ToDirectory(), context: Opening.Context(gate: world.Gate, storages: world));
        await ParallelsReadTests.SameAsModel(node, clone.Current);
        Assert.Equal([(ReferenceKind.ParentBundle, "/vms/base.pvm/base.hdd", "clone.hdd")], world.Asked.Select(r => (r.Kind, r.Name, r.BaseDirectory)));
    }

    [Fact]
    public async Task A_snapshot_of_another_bundle_lies_under_the_root_of_a_ploop_clone()
    {
        var (parent, clone) = ByVolume();
        var world = new World(parent);
        await using var node = await BundleReadTests.OpenAsync(clone.ToDirectory(), context: Opening.Context(gate: world.Gate, storages: world));
        await ParallelsReadTests.SameAsModel(node, clone.Current);
        Assert.Equal("../base.hdd", Assert.Single(world.Asked).Name);
        Assert.Contains(await Opening.MapAllAsync(node), e => e is { Kind: ExtentKind.Data, Depth: 1 });
    }

    [Theory]
    [InlineData("../../base.pvm/base.hdd")]
    [InlineData("../base.hdd")]
    public async Task A_parent_that_was_moved_with_its_clone_is_found_beside_it(string place)
    {
        var (parent, clone) = ByFile();
        var world = new World(parent) { Only = place };
        await using var node = await BundleReadTests.OpenAsync(clone.ToDirectory(), context: Opening.Context(gate: world.Gate, storages: world));
        await ParallelsReadTests.SameAsModel(node, clone.Current);
        Assert.Equal(place, world.Asked[^1].Name);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_closed_gate_keeps_the_parent_closed(bool byFile)
    {
        var (parent, clone) = byFile ? ByFile() : ByVolume();
        var world = new World(parent);
        var context = Opening.Context(gate: new ClosedGate("references are not followed with --untrusted"), storages: world);
        var error = await Assert.ThrowsAsync<BlockException>(() => BundleReadTests.OpenAsync(clone.ToDirectory(), context: context));
        var name = byFile ? "/vms/base.pvm/base.hdd" : "../base.hdd";
        Assert.Equal(
            (BlockErrorKind.NotAllowed, $"clone.hdd/DiskDescriptor.xml: parent bundle '{name}' is not opened: references are not followed with --untrusted"),
            (error.Kind, error.Message));
    }

    [Fact]
    public async Task Another_bundle_must_list_the_image_itself()
    {
        var (parent, clone) = ByFile();
        clone.EditDescriptor(x => x.Descendants("File").First().Value = "/vms/base.pvm/base.hdd/secret.hds");
        parent.Files["secret.hds"] = parent.Files[RootFile];
        var world = new World(parent);
        var error = await Assert.ThrowsAsync<ImageFormatException>(
            () => BundleReadTests.OpenAsync(clone.ToDirectory(), context: Opening.Context(gate: world.Gate, storages: world)));
        Assert.Equal(BlockErrorKind.NotAllowed, error.Kind);
        Assert.EndsWith(
            "/vms/base.pvm/base.hdd/secret.hds: the bundle base.hdd does not list this image under {00000001-0000-4000-8000-000000000001}", error.Message);
    }

    [Fact]
    public async Task A_parent_that_is_no_directory_is_named()
    {
        var (_, clone) = ByVolume("/nowhere/x.hdd");
        var world = new World();
        var error = await Assert.ThrowsAsync<ImageFormatException>(
            () => BundleReadTests.OpenAsync(clone.ToDirectory(), context: Opening.Context(gate: world.Gate, storages: world)));
        Assert.Equal(BlockErrorKind.NotFound, error.Kind);
        Assert.EndsWith("/nowhere/x.hdd: there is no bundle of that name", error.Message);
    }

    [Fact]
    public async Task Bundles_that_stand_on_each_other_end_at_the_limit()
    {
        var builder = new BundleBuilder("loop", 640, 64);
        builder.AddTop();
        var bundle = builder.Build().EditDescriptor(x => x.Element("StorageData")!.Add(
            new XElement("Volume", new XElement("Parent", "../loop.hdd"), new XElement("SnapshotGUID", BundleBuilder.PredefinedTop.ToString("B")))));
        var world = new World(bundle);
        var error = await Assert.ThrowsAsync<BlockException>(
            () => BundleReadTests.OpenAsync(bundle.ToDirectory(), context: Opening.Context(gate: world.Gate, storages: world)));
        Assert.Equal((BlockErrorKind.LimitExceeded, "loop.hdd/DiskDescriptor.xml: the snapshot stands on a chain of 65 images, the limit is 64"), (error.Kind, error.Message));
    }

    [Fact]
    public async Task A_linked_clone_of_a_split_disk_is_refused_by_name()
    {
        var builder = new BundleBuilder("clone", 640, 64, 320);
        builder.AddTop();
        var bundle = builder.Build().EditDescriptor(x => x.Element("StorageData")!.Add(
            new XElement("Volume", new XElement("Parent", "../base.hdd"), new XElement("SnapshotGUID", BundleBuilder.PredefinedTop.ToString("B")))));
        var error = await Assert.ThrowsAsync<ImageFormatException>(() => BundleReadTests.OpenAsync(bundle.ToDirectory()));
        Assert.Equal(BlockErrorKind.Unsupported, error.Kind);
        Assert.EndsWith("../base.hdd: a linked clone of a split disk is not supported", error.Message);
    }

    [Fact]
    public async Task Info_and_check_stay_in_their_own_bundle()
    {
        foreach (var clone in new[] { ByFile().Clone, ByVolume().Clone })
        {
            var context = new OpenContext { Formats = Opening.Formats, Storages = new World(), Gate = new ClosedGate("info"), MetadataOnly = true };
            await using var node = await BundleReadTests.OpenAsync(clone.ToDirectory(), context: context);
            Assert.NotNull((await node.GetInfoAsync()).FormatSpecific);
            Assert.Equal(0, (await node.CheckAsync(_ => { })).Corruptions);
        }
    }

    [Theory]
    [InlineData(true, true)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(false, false)]
    public async Task A_clone_without_its_parent_is_not_good(bool byFile, bool isThere)
    {
        var (parent, clone) = byFile ? ByFile() : ByVolume();
        var world = isThere ? new World(parent) : new World();
        var context = new OpenContext { Formats = Opening.Formats, Storages = world, Gate = world.Gate, MetadataOnly = true };
        await using var node = await BundleReadTests.OpenAsync(clone.ToDirectory(), context: context);
        List<CheckFinding> findings = [];
        var report = await node.CheckAsync(findings.Add);
        Assert.Equal((isThere ? 0 : 1, 0), (report.Corruptions, report.Errors));
        var finding = Assert.Single(findings, f => f.File != BundleFiles.BackupName);
        Assert.EndsWith(isThere ? "not checked" : "there is no bundle of that name", finding.Message);
        if (byFile)
        {
            var image = (await node.GetInfoAsync()).FormatSpecific!["data"]!["layers"]![0]!["images"]![0]!;
            Assert.Equal("/vms/base.pvm/base.hdd", image["parent-bundle"]!.GetValue<string>());
            Assert.Equal(isThere, image["error"] is null);
            Assert.Equal(isThere, image["virtual-size"] is not null);
        }
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_clone_is_written_and_its_parent_never(bool byFile)
    {
        var (parent, clone) = byFile ? ByFile() : ByVolume();
        var world = new World(parent);
        var before = parent.Files.ToDictionary(f => f.Key, f => f.Value.Sha256());
        var directory = MemoryDirectory.Of(clone);
        var model = clone.Current.ToArray();
        await using var node = await new ParallelsBundleFormat().OpenAsync(
            directory, new NodeOptions(), writable: true, Opening.Context(gate: world.Gate, storages: world));
        TestContent.Make(9, 30_000, 50_000).CopyTo(model.AsSpan(30_000));
        await node.WriteAsync(new(30_000), model.AsMemory(30_000, 50_000));
        await node.CreateSnapshotAsync("mine", DateTimeOffset.UnixEpoch);
        var frozen = model.ToArray();
        model.AsSpan(0, 512).Fill(7);
        await node.WriteAsync(default, model.AsMemory(0, 512));
        await node.DeleteSnapshotAsync(SnapshotSelector.Parse("mine"));
        Assert.Equal(model, await Opening.ReadAllAsync(node));
        if (byFile)
        {
            // Without the parent's image the clone has all of it itself.
            await node.DeleteSnapshotAsync(SnapshotSelector.Parse(node.Snapshots[0].Id));
            Assert.Empty(node.Snapshots);
            Assert.Equal(model, await Opening.ReadAllAsync(node));
            await node.DisposeAsync();
            await using var alone = await BundleReadTests.OpenAsync(directory);
            Assert.Equal(model, await Opening.ReadAllAsync(alone));
        }

        Assert.Equal(before, parent.Files.ToDictionary(f => f.Key, f => f.Value.Sha256()));
        Assert.NotEqual(frozen, model);
    }

    /// <summary>Directories by the last part of their name; remembers what the gate was asked.</summary>
    private sealed class World(params BuiltBundle[] bundles) : StorageOpener
    {
        public List<ImageReference> Asked { get; } = [];

        public OpenGate Gate => new AskedGate(Asked);

        public override ValueTask<Storage> OpenAsync(NodeOptions options, StorageOpenMode mode, CancellationToken cancellationToken = default) =>
            throw new InvalidOperationException("a parent is a directory");

        public override bool IsDirectory(NodeOptions options) => Find(options["filename"]!) is not null;

        public override ValueTask<StorageDirectory> OpenDirectoryAsync(string path, CancellationToken cancellationToken = default) => new(Find(path)!.ToDirectory());

        public override bool IsStorageDriver(string driver) => driver is "file";

        public string? Only { get; init; }

        private BuiltBundle? Find(string path) => Only is not null && Only != path ? null : bundles.FirstOrDefault(b => b.Name == Path.GetFileName(path));

        private sealed class AskedGate(List<ImageReference> asked) : OpenGate
        {
            public override NodeOptions Resolve(ImageReference reference)
            {
                asked.Add(reference);
                return NodeOptions.ForFile(reference.Name);
            }
        }
    }
}
