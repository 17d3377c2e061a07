using Platter.Core.Bitmaps;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Formats.Qcow2.Writing;

/// <summary>Random requests and changes of bitmaps: every bitmap has exactly the bits of the requests, in memory and after each closing, and the image checks clean.</summary>
public sealed class Qcow2BitmapModelTests
{
    /// <summary>cluster bits, refcount order, extended L2, data file (0 none, 1 plain, 2 raw), lazy refcounts, backing name.</summary>
    public static TheoryData<int, int, bool, int, bool, bool> Shapes() => new()
    {
        { 16, 4, false, 0, false, false },
        { 9, 4, false, 0, false, false },
        { 9, 6, false, 0, true, false },
        { 12, 1, false, 0, false, true },
        { 14, 4, true, 0, false, true },
        { 12, 4, false, 1, false, false },
        { 10, 4, false, 2, true, false },
        { 21, 3, false, 0, false, false },
    };

    [Theory]
    [MemberData(nameof(Shapes))]
    public async Task Bitmaps_have_the_bits_of_every_request(int bits, int order, bool extended, int dataFile, bool lazy, bool backing)
    {
        var seed = Environment.GetEnvironmentVariable("PLATTER_MODEL_SEED") is { } given ? int.Parse(given) : (bits * 10) + order;
        TestContext.Current.SendDiagnosticMessage($"seed {seed}");
        var random = new Random(seed);
        var size = ((bits < 18 ? 157L : 5L) << bits) + (random.Next(3) * 512);
        var below = backing ? new ReferenceDisk(size) : null;
        var models = new List<BitmapModel>
        {
            new("one", size, 9, true), new("two", size, 16, true), new("off", size, 12, false),
        };
        var builder = new Qcow2Builder
        {
            ClusterBits = bits, RefcountOrder = order, ExtendedL2 = extended, Size = size, Seed = seed, FreeClusters = 2, ExternalData = dataFile > 0,
            DataFileName = dataFile > 0 ? "data" : null, DataFileRaw = dataFile == 2, CompatibleFeatures = lazy ? 1UL : 0, BackingFile = backing ? "base" : null,
            Backing = below,
        };
        foreach (var model in models)
        {
            var bitmap = new Qcow2Bitmap(model.Name)
            {
                GranularityBits = model.GranularityBits, Flags = model.Enabled ? Qcow2Bitmap.Auto : 0, StoreUniformClusters = random.Next(2) == 0,
            };
            var at = random.Next((int)size);
            model.Set(at, 70000);
            bitmap.Set(at, 70000);
            builder.AddBitmap(bitmap);
        }

        var image = builder.Build();
        var storage = new MemoryStorage("test.qcow2", image.Bytes.ToArray());
        var data = dataFile > 0 ? new MemoryStorage("data", (image.DataFile ?? new SparseBytes(0)).ToArray()) : null;
        for (var round = 0; round < 8; round++)
        {
            await using (var node = await WriteFixture.OpenAsync(storage, data, below))
            {
                await BitmapModel.AssertSameAsync(node, models);
                for (var i = 0; i < 30; i++)
                {
                    await RequestAsync(node, models, random, bits);
                    if (random.Next(6) == 0)
                    {
                        models = await ChangeAsync(node, models, random, $"r{round}-{i}", dataFile == 0);
                    }
                }

                await BitmapModel.AssertSameAsync(node, models);
            }

            await WriteFixture.AssertCleanAsync(storage, data, below);
            await using var reopened = await WriteFixture.OpenAsync(storage, data, below, writable: false);
            await BitmapModel.AssertSameAsync(reopened, models);
        }
    }

    private static async Task RequestAsync(ImageNode node, List<BitmapModel> models, Random random, int bits)
    {
        var cluster = 1 << bits;
        var size = (int)node.VirtualSize;
        var at = random.Next(size);
        var length = random.Next(4) switch { 0 => random.Next(0, 2000), 1 => cluster, 2 => random.Next(1, 5 * cluster), _ => 512 };
        at &= random.Next(3) switch { 0 => ~511, 1 => ~(cluster - 1), _ => ~0 };
        length = Math.Min(length, size - at);
        switch (random.Next(6))
        {
            case 0:
                await node.FlushAsync();
                return;
            case 1:
                await node.WriteZeroesAsync(new(at), length, random.Next(2) == 0 ? WriteFlags.MayUnmap : WriteFlags.None);
                break;
            case 2:
                await node.DiscardAsync(new(at), length);
                break;
            default:
                await node.WriteAsync(new(at), TestContent.Make(random.Next(), at, length));
                break;
        }

        models.ForEach(m => m.Track(at, length));
    }

    private static async Task<List<BitmapModel>> ChangeAsync(ImageNode node, List<BitmapModel> models, Random random, string name, bool snapshots)
    {
        var some = models.Count > 0 ? models[random.Next(models.Count)] : null;
        switch (random.Next(9))
        {
            case 0 or 1:
                var added = new BitmapModel(name, node.VirtualSize, random.Next(9, 18), random.Next(3) > 0);
                if (random.Next(2) == 0)
                {
                    added.Set(random.Next((int)node.VirtualSize), 100000);
                }

                await node.AddBitmapsAsync([new(name, 1L << added.GranularityBits, added.Enabled, added.Ranges().ToAsyncEnumerable())]);
                models.Add(added);
                break;
            case 2 when some is not null:
                await node.RemoveBitmapAsync(some.Name);
                models.Remove(some);
                break;
            case 3 when some is not null:
                await node.ClearBitmapAsync(some.Name);
                some.Clear();
                break;
            case 4 when some is not null:
                some.Enabled = !some.Enabled;
                await node.SetBitmapEnabledAsync(some.Name, some.Enabled);
                break;
            case 5 when some is not null:
                var source = models[random.Next(models.Count)];
                await node.MergeBitmapAsync(some.Name, node.ReadBitmapAsync(source.Name));
                foreach (var range in source.Ranges().ToList())
                {
                    some.Set(range.Offset.Value, range.Length);
                }

                break;
            case 6:
                var size = Math.Max(512, (node.VirtualSize / 512 * random.Next(50, 150) / 100) * 512);
                await node.ResizeAsync(size);
                return [.. models.Select(m => m.Resized(size))];
            case 7 when snapshots:
                if (node.Snapshots.Count == 2)
                {
                    // More than that does not fit into two bits.
                    await node.DeleteSnapshotAsync(SnapshotSelector.Parse(node.Snapshots[0].Id));
                }

                await node.CreateSnapshotAsync(name, DateTimeOffset.UnixEpoch);

                break;
            case 8:
                await node.StoreBitmapsAsync();
                break;
        }

        return models;
    }
}
