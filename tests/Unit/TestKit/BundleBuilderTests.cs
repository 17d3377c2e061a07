using System.Xml.Linq;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.TestKit;

public sealed class BundleBuilderTests
{
    [Fact]
    public void Chain_is_described_with_the_predefined_top()
    {
        var builder = new BundleBuilder("disk", 1000, 8);
        var root = builder.AddLayer().Fill(1, 0, 100_000);
        var top = builder.AddTop().Fill(2, 50_000, 10);
        var bundle = builder.Build();
        Assert.Equal(
            ["DiskDescriptor.xml", "DiskDescriptor.xml.Backup", "disk.hdd", $"disk.hdd.0.{root.Id:B}.hds", "disk.hdd.0.{5fbaabe3-6958-40ff-92a7-860e329aab41}.hds"],
            bundle.Files.Keys.Order(StringComparer.Ordinal).ToArray().Order(StringComparer.Ordinal));
        Assert.Equal(0, bundle.Files["disk.hdd"].Length);
        var xml = XElement.Parse(bundle.DescriptorText);
        Assert.Equal("1.0", xml.Attribute("Version")!.Value);
        Assert.Equal("1000", xml.Element("Disk_Parameters")!.Element("Disk_size")!.Value);
        var shots = xml.Element("Snapshots")!.Elements("Shot").ToArray();
        Assert.Equal("{00000000-0000-0000-0000-000000000000}", shots[0].Element("ParentGUID")!.Value);
        Assert.Equal(root.Id.ToString("B"), shots[1].Element("ParentGUID")!.Value);
        Assert.Equal(top.Id.ToString("B"), shots[1].Element("GUID")!.Value);
        Assert.Equal("8", xml.Descendants("Blocksize").Single().Value);
        Assert.Null(xml.Element("Snapshots")!.Element("TopGUID"));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void Reading_the_images_by_hand_gives_the_model_of_every_snapshot(int seed)
    {
        // Three storages, the second starting off any cluster grid; a chain of three layers over a plain root.
        var builder = new BundleBuilder("disk", 3000, 16, 1000, 1777) { Magic = ParallelsMagic.WithouFreSpacExt };
        var root = builder.AddLayer().FillRandom(seed);
        root.Plain = true;
        var middle = builder.AddLayer().FillRandom(seed + 10);
        middle.Magic = ParallelsMagic.WithoutFreeSpace;
        var top = builder.AddTop().FillRandom(seed + 20);
        var bundle = builder.Build();
        foreach (var layer in new[] { root, middle, top })
        {
            layer.Model.AssertEqual(ReadByHand(builder, bundle, layer));
        }
    }

    [Fact]
    public void Plain_root_may_end_behind_its_last_data()
    {
        var builder = new BundleBuilder("disk", 1000, 8);
        var root = builder.AddTop().Fill(1, 4096, 512);
        root.Plain = true;
        root.PlainTrimmed = true;
        Assert.Equal(4096 + 512, builder.Build().ImageOf(root).Length);
    }

    [Fact]
    public void Paths_are_written_in_every_style()
    {
        foreach (var (style, text) in new[]
        {
            (BundlePathStyle.Relative, "d.hdd.0."),
            (BundlePathStyle.DotRelative, "./d.hdd.0."),
            (BundlePathStyle.AbsoluteMoved, "/Users/somebody/Parallels/old.pvm/d.hdd/d.hdd.0."),
            (BundlePathStyle.BackslashedMoved, @"C:\Users\somebody\Parallels\old.pvm\d.hdd\d.hdd.0."),
            (BundlePathStyle.Backslashed, @".\d.hdd.0."),
            (BundlePathStyle.Absolute, "/here/d.hdd/d.hdd.0."),
        })
        {
            var builder = new BundleBuilder("d", 100, 8) { PathStyle = style, Folder = "/here" };
            builder.AddTop();
            Assert.StartsWith(text, XElement.Parse(builder.Build().DescriptorText).Descendants("File").Single().Value);
        }
    }

    [Fact]
    public void Descriptors_are_broken_in_one_line()
    {
        var builder = new BundleBuilder("d", 100, 8) { WithUnknownContent = true };
        builder.AddLayer();
        builder.AddTop();
        var bundle = builder.Build();

        // A cycle: the root's parent is the top.
        bundle.EditDescriptor(x => x.Descendants("ParentGUID").First().Value = BundleBuilder.PredefinedTop.ToString("B"));
        Assert.Contains("<ParentGUID>{5fbaabe3", bundle.DescriptorText);
        Assert.Contains("<!-- kept as it is -->", bundle.DescriptorText);
        bundle.EditDescriptorText(t => t[..100]);
        Assert.Equal(100, bundle.DescriptorText.Length);
        Assert.Contains("d.hdd.drh", bundle.Files.Keys);
    }

    [Fact]
    public async Task Machines_hold_their_disks_and_name_their_snapshots()
    {
        var builder = new BundleBuilder("harddisk", 100, 8);
        var first = builder.AddLayer();
        var second = builder.AddLayer();
        builder.AddTop();
        var machine = new MachineBuilder("vm").Add(builder.Build())
            .AddSnapshot(first.Id, "Clean", new DateTime(2024, 1, 2, 3, 4, 5))
            .AddSnapshot(second.Id, "Later & more", new DateTime(2024, 2, 2, 3, 4, 5), first.Id)
            .Build();
        var xml = XElement.Parse(System.Text.Encoding.UTF8.GetString(machine.Files["Snapshots.xml"].ToArray()));
        var item = xml.Element("SavedStateItem")!;
        Assert.Equal("Clean", item.Element("Name")!.Value);
        Assert.Equal("Later & more", item.Element("SavedStateItem")!.Element("Name")!.Value);
        var directory = machine.ToDirectory();
        Assert.Equal(["harddisk.hdd"], directory.ListDirectories());
        var disk = await directory.OpenDirectoryAsync("harddisk.hdd");
        Assert.True(disk.FileExists("DiskDescriptor.xml"));
    }

    private static byte[] ReadByHand(BundleBuilder builder, BuiltBundle bundle, BundleLayer layer)
    {
        var result = new byte[builder.SizeBytes];
        for (var storage = 0; storage < builder.Storages.Count; storage++)
        {
            var range = builder.Storages[storage];
            var part = result.AsSpan((int)range.StartSector * 512, (int)(range.EndSector - range.StartSector) * 512);
            var chain = new Stack<BundleLayer>();
            for (var l = layer; l is not null; l = l.Parent)
            {
                chain.Push(l);
            }

            foreach (var below in chain)
            {
                var image = bundle.ImageOf(below, storage);
                if (below.Plain)
                {
                    image.Read(0, part);
                    continue;
                }

                var cluster = (int)range.ClusterSectors * 512;
                var unit = image.U8(13) == (byte)'E' ? cluster : 512;
                for (var i = 0; i * cluster < part.Length; i++)
                {
                    var entry = image.U32Le(64 + (4 * i));
                    if (entry != 0)
                    {
                        image.Read((long)entry * unit, part.Slice(i * cluster, Math.Min(cluster, part.Length - (i * cluster))));
                    }
                }
            }
        }

        return result;
    }
}
