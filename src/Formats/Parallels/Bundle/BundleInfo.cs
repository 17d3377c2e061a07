using System.Globalization;
using System.Text.Json.Nodes;
using Platter.Core.Bitmaps;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Units;

namespace Platter.Formats.Parallels.Bundle;

/// <summary>What <c>info</c> tells of a bundle: the disk, and every layer with its files, also of snapshots that are not open.</summary>
internal static class BundleInfo
{
    // Looking into an image is a millisecond or more of work, and a descriptor that is not 100 KB long can name thousands.
    private const int MaxImages = 1024;

    /// <summary>Gathers it. Images outside the opened chain are opened for their header and closed again; one that cannot be opened gets an
    /// <c>error</c> instead of sizes.</summary>
    public static async ValueTask<ImageInfo> MakeAsync(
        BundleNode node,
        BundleFiles files,
        BundleState state,
        CancellationToken cancellationToken)
    {
        var (descriptor, tree, names, opened, segments) = state;
        var open = segments.SelectMany(s => s.Layers).ToDictionary(layer => (object)layer.Image, layer => layer.Driver, ReferenceEqualityComparer.Instance);
        var (quiet, look) = (files.Quiet(), files.ForLook());
        var chain = tree.ChainOf(opened).Select(s => s.Id).ToHashSet();
        var depths = tree.Depths();
        var imagesOf = descriptor.Storages.SelectMany((s, i) => s.Images.Values.Select(image => (Storage: i, Image: image))).ToLookup(pair => pair.Image.Id);
        long allocated = 0;
        var looks = 0;
        var seen = new HashSet<string>(StringComparer.Ordinal);
        var dirty = false;
        var clusterSizes = new HashSet<long>();
        var layers = new JsonArray();
        foreach (var shot in InTreeOrder(tree))
        {
            var images = new JsonArray();
            foreach (var (storage, image) in imagesOf[shot.Id])
            {
                images.Add(await DescribeAsync(storage, image).ConfigureAwait(false));
            }

            layers.Add((JsonNode)Layer(shot, depths[shot.Id], shot.Id == tree.TopId, shot.Id == opened.Id, chain.Contains(shot.Id), names, images));
        }

        return new ImageInfo
        {
            FileName = node.Name,
            Format = node.FormatName,
            VirtualSize = node.VirtualSize,
            AllocatedSize = allocated,
            ClusterSize = clusterSizes.Count == 1 ? clusterSizes.First() : null,
            Dirty = dirty,
            Snapshots = node.Snapshots,
            FormatSpecific = new JsonObject { ["type"] = node.FormatName, ["data"] = Disk(descriptor, tree, opened, layers) },
        };

        async ValueTask<JsonNode> DescribeAsync(int storage, DescriptorImage image)
        {
            var inside = files.NameInside(image);
            var parent = inside is null ? files.ParentOf(image) : null;
            var json = new JsonObject
            {
                ["storage"] = storage,
                ["file"] = SafeText.Clean(inside ?? image.File),
                ["type"] = image.Type.ToString(),
            };
            Add(json, "parent-bundle", parent is null ? null : SafeText.Clean(parent));
            try
            {
                if (open.TryGetValue(image, out var driver))
                {
                    Measure(json, driver, parent is null);
                    return json;
                }

                if (parent is not null && !files.FollowsParents)
                {
                    // It is what it should be; whoever asked does not want other directories to be looked into.
                    return json;
                }

                if (!seen.Add(inside ?? image.File))
                {
                    json["error"] = "another image has this file already";
                    return json;
                }

                if (looks++ >= MaxImages && image.Id != opened.Id)
                {
                    json["error"] = string.Create(CultureInfo.InvariantCulture, $"was not looked into: the disk has more than {MaxImages} images");
                    return json;
                }

                var other = await (image.Id == opened.Id ? quiet : look).OpenAsync(descriptor, image, cancellationToken).ConfigureAwait(false);
                await using (other.ConfigureAwait(false))
                {
                    Measure(json, other, parent is null);
                }
            }
            catch (BlockException e)
            {
                json["error"] = SafeText.Clean(e.Message);
            }

            return json;
        }

        void Measure(JsonObject json, ImageDriver driver, bool isOwn)
        {
            json["virtual-size"] = driver.VirtualSize;
            if (driver.Storage.AllocatedSize is { } size)
            {
                json["actual-size"] = size;
                allocated += isOwn ? size : 0;
            }

            if (driver is ParallelsImage image)
            {
                json["cluster-size"] = image.ClusterSize;
                json["dirty-flag"] = image.IsDirty;
                dirty |= image.IsDirty;
                clusterSizes.Add(image.ClusterSize);
                if (image.Bitmaps.Count > 0)
                {
                    json["bitmaps"] = new JsonArray([.. image.Bitmaps.Select(Bitmap)]);
                }
            }
        }
    }

    private static JsonObject Disk(DiskDescriptor descriptor, SnapshotTree tree, DescriptorShot opened, JsonArray layers)
    {
        var json = new JsonObject();
        Add(json, "name", descriptor.Name);
        Add(json, "uid", descriptor.Uid);
        Add(json, "top-guid", tree.TopId?.ToString("B"));
        Add(json, "opened-guid", opened.Id.ToString("B"));
        Add(json, "parent-bundle", descriptor.Volume is { } volume ? SafeText.Clean(volume.Parent) : null);
        json["storages"] = new JsonArray([.. descriptor.Storages.Select(Storage)]);
        json["layers"] = layers;
        return json;
    }

    private static void Add(JsonObject json, string key, string? value)
    {
        if (!string.IsNullOrEmpty(value))
        {
            json[key] = value;
        }
    }

    private static JsonNode Bitmap(BitmapInfo bitmap) => new JsonObject { ["name"] = bitmap.Name, ["granularity"] = bitmap.Granularity };

    private static JsonNode Storage(DescriptorStorage storage) => new JsonObject
    {
        ["start"] = storage.StartSector * Sizes.SectorBytes,
        ["end"] = storage.EndSector * Sizes.SectorBytes,
        ["cluster-size"] = storage.BlockSizeSectors is { } sectors && Sizes.TryMultiply(sectors, Sizes.SectorBytes, out var bytes) ? bytes : null,
    };

    private static JsonObject Layer(
        DescriptorShot shot,
        int depth,
        bool isTop,
        bool isOpened,
        bool inChain,
        IReadOnlyDictionary<Guid, SnapshotNames.Entry> names,
        JsonArray images)
    {
        var json = new JsonObject { ["guid"] = shot.Id.ToString("B") };
        Add(json, "parent-guid", shot.ParentId == Guid.Empty ? null : shot.ParentId.ToString("B"));
        json["depth"] = depth;
        json["top"] = isTop;
        json["opened"] = isOpened;
        json["in-chain"] = inChain;
        if (shot.IsMerging)
        {
            json["deleted"] = true;
        }

        if (names.TryGetValue(shot.Id, out var entry))
        {
            Add(json, "name", entry.Name);
            Add(json, "date", entry.Date == SnapshotNames.NoDate ? null : entry.Date.ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", CultureInfo.InvariantCulture));
        }

        json["images"] = images;
        return json;
    }

    // Parents before children, children in the descriptor's order, so that a reader can draw the tree from depths alone.
    private static IEnumerable<DescriptorShot> InTreeOrder(SnapshotTree tree)
    {
        var children = tree.Shots.ToLookup(s => s.ParentId);
        var pending = new Stack<DescriptorShot>([tree.Root]);
        while (pending.TryPop(out var shot))
        {
            yield return shot;
            foreach (var child in children[shot.Id].Reverse())
            {
                pending.Push(child);
            }
        }
    }
}
