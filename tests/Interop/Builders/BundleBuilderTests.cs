using System.Text.Json.Nodes;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Builders;

/// <summary>The peer knows no bundles, but it reads a chain of images that is spelled out to it: each storage of each snapshot equals the model.</summary>
public sealed class BundleBuilderTests
{
    [Theory]
    [InlineData(1, ParallelsMagic.WithoutFreeSpace, 16u, false)]
    [InlineData(2, ParallelsMagic.WithouFreSpacExt, 63u, true)]
    [InlineData(3, ParallelsMagic.WithoutFreeSpace, 2048u, true)]
    public void Peer_reads_every_storage_of_every_snapshot(int seed, ParallelsMagic magic, uint clusterSectors, bool plainRoot)
    {
        ToolRunner.RequireOrSkip("qemu-img");
        using var folder = new TempFolder();
        var builder = new BundleBuilder("disk", clusterSectors * 40L, clusterSectors, clusterSectors * 13L, clusterSectors * 20L) { Magic = magic };
        var root = builder.AddLayer().FillRandom(seed);
        root.Plain = plainRoot;
        builder.AddLayer(BundleBuilder.BackupId).FillRandom(seed + 100, 0.2);
        builder.AddLayer(null, root).FillRandom(seed + 200, 0.2);
        builder.AddTop().FillRandom(seed + 300, 0.1);
        var bundle = builder.Build();
        var path = bundle.SaveTo(folder.Path);
        foreach (var layer in bundle.Layers)
        {
            for (var storage = 0; storage < builder.Storages.Count; storage++)
            {
                var chain = Chain(path, bundle, layer, storage).ToJsonString();
                ToolRunner.RunChecked("qemu-img", "convert", "-O", "raw", "json:" + chain, folder["part.raw"]);
                layer.Model.AssertEqual(builder.Storages[storage].StartSector * 512, File.ReadAllBytes(folder["part.raw"]));
            }
        }
    }

    private static JsonObject Chain(string path, BuiltBundle bundle, BundleLayer layer, int storage)
    {
        var node = new JsonObject
        {
            ["driver"] = layer.Plain ? "raw" : "parallels",
            ["file"] = new JsonObject { ["driver"] = "file", ["filename"] = Path.Combine(path, bundle.ImageName(layer, storage)) },
        };
        if (layer.Parent is not null)
        {
            node["backing"] = Chain(path, bundle, layer.Parent, storage);
        }

        return node;
    }
}
