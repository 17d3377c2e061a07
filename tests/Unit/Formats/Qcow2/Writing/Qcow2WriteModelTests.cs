using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Formats.Qcow2.Writing;

/// <summary>Random requests to an image and to a model of bytes: both read the same at any time, and the image checks clean after each closing.</summary>
public sealed class Qcow2WriteModelTests
{
    /// <summary>version, cluster bits, refcount order, extended L2, backing, snapshot, data file (0 none, 1 plain, 2 raw), lazy.</summary>
    public static TheoryData<int, int, int, bool, bool, bool, int, bool> Shapes() => new()
    {
        { 3, 16, 4, false, false, false, 0, false },
        { 3, 12, 4, false, true, false, 0, false },
        { 3, 9, 4, false, false, true, 0, false },
        { 3, 9, 6, false, true, true, 0, true },
        { 3, 14, 4, true, true, true, 0, false },
        { 3, 16, 1, true, false, false, 0, false },
        { 3, 21, 3, false, true, false, 0, false },
        { 3, 10, 0, false, true, false, 0, false },
        { 2, 12, 4, false, true, true, 0, false },
        { 2, 16, 4, false, false, false, 0, false },
        { 3, 12, 4, false, false, false, 1, false },
        { 3, 12, 4, false, false, false, 2, false },
        { 3, 15, 4, true, true, false, 1, false },
        { 3, 13, 2, false, true, true, 0, true },
    };

    [Theory]
    [MemberData(nameof(Shapes))]
    public async Task Random_requests_leave_what_the_model_has(
        int version, int bits, int order, bool extended, bool backing, bool snapshot, int dataFile, bool lazy)
    {
        var seed = Environment.GetEnvironmentVariable("PLATTER_MODEL_SEED") is { } given ? int.Parse(given) : (bits * 100) + order;
        TestContext.Current.SendDiagnosticMessage($"seed {seed}");
        var size = ((bits < 18 ? 53L : 9L) << bits) + (seed % 2 * 512);
        var below = backing ? new ReferenceDisk(size - (3L << 9)) : null;
        below?.Fill(99, 0, (int)Math.Min(below.Size, 4 << 20));
        var builder = new Qcow2Builder
        {
            Version = version, ClusterBits = bits, RefcountOrder = order, ExtendedL2 = extended, Size = size, Seed = seed, FreeClusters = 3,
            Backing = below, BackingFile = backing ? "base" : null, ExternalData = dataFile > 0, DataFileName = dataFile > 0 ? "data" : null,
            DataFileRaw = dataFile == 2, CompatibleFeatures = lazy ? 1UL : 0, TrimEnd = seed % 3 == 0,
        };
        if (dataFile == 0)
        {
            builder.FillRandom(seed, 0.4, compressed: order > 2);
        }

        if (snapshot)
        {
            builder.AddSnapshot("1", "one");
            builder.FillRandom(seed + 1, 0.2, compressed: order > 2);
        }

        var image = builder.Build();
        var storage = new MemoryStorage("test.qcow2", image.Bytes.ToArray());
        var data = dataFile > 0 ? new MemoryStorage("data", (image.DataFile ?? new SparseBytes(0)).ToArray()) : null;
        var model = new byte[size];
        image.Model.Read(0, model);
        var random = new Random(seed);
        for (var round = 0; round < 6; round++)
        {
            await using (var node = await WriteFixture.OpenAsync(storage, data, below))
            {
                await WriteFixture.AssertReadsAsync(node, model);
                for (var i = 0; i < 60; i++)
                {
                    await RequestAsync(node, model, random, bits, version == 2 && backing);
                }

                await WriteFixture.AssertReadsAsync(node, model);
            }

            await WriteFixture.AssertCleanAsync(storage, data, below);
            await using var reopened = await WriteFixture.OpenAsync(storage, data, below, writable: false);
            await WriteFixture.AssertReadsAsync(reopened, model);
            if (dataFile == 2)
            {
                var raw = new byte[size];
                _ = await data!.ReadAsync(default, raw);
                Assert.True(raw.AsSpan().SequenceEqual(model), "the raw data file is not the disk");
            }

            if (snapshot)
            {
                var driver = reopened.Driver;
                await using var old = new ImageNode(await driver.OpenSnapshotAsync(SnapshotSelector.Parse("one")), WriteFixture.Backing(below));
                var was = new byte[size];
                image.Snapshots[0].Model.Read(0, was);
                await WriteFixture.AssertReadsAsync(old, was);
            }
        }
    }

    [Fact]
    public async Task Requests_of_many_threads_at_once_leave_what_each_of_them_wrote()
    {
        const int Threads = 8, Ops = 200;
        var image = new Qcow2Builder { Size = 64 << 20, ClusterBits = 12 }.FillRandom(3, 0.3).Build();
        var storage = new MemoryStorage("test.qcow2", image.Bytes.ToArray());
        var model = image.Model.ToArray();
        await using (var node = await WriteFixture.OpenAsync(storage))
        {
            // Each thread owns every eighth sector: neighbours share clusters.
            await Task.WhenAll(Enumerable.Range(0, Threads).Select(thread => Task.Run(async () =>
            {
                var random = new Random(thread);
                for (var i = 0; i < Ops; i++)
                {
                    var sector = (random.Next((64 << 20) / 512 / Threads) * Threads) + thread;
                    var bytes = TestContent.Make((thread * 1000) + i, sector * 512L, 512);
                    bytes.CopyTo(model.AsSpan(sector * 512));
                    await node.WriteAsync(new(sector * 512L), bytes);
                    if (i % 50 == 0)
                    {
                        await node.FlushAsync();
                    }
                }
            })));
            await WriteFixture.AssertReadsAsync(node, model);
        }

        await WriteFixture.AssertCleanAsync(storage);
        await using var reopened = await WriteFixture.OpenAsync(storage, writable: false);
        await WriteFixture.AssertReadsAsync(reopened, model);
    }

    private static async Task RequestAsync(BlockNode node, byte[] model, Random random, int bits, bool discardKeeps)
    {
        var cluster = 1 << bits;
        var offset = random.Next(model.Length);
        var length = random.Next(4) switch { 0 => random.Next(1, 2000), 1 => cluster, 2 => random.Next(1, 5 * cluster), _ => 512 };
        if (random.Next(2) == 0)
        {
            offset &= ~511;
        }

        if (random.Next(4) == 0)
        {
            offset &= ~(cluster - 1);
        }

        length = Math.Min(length, model.Length - offset);
        switch (random.Next(10))
        {
            case 0:
                await node.FlushAsync();
                break;
            case 1 or 2:
                await node.WriteZeroesAsync(new(offset), length, random.Next(2) == 0 ? WriteFlags.MayUnmap : WriteFlags.None);
                model.AsSpan(offset, length).Clear();
                break;
            case 3:
                await node.DiscardAsync(new(offset), length);

                // What a discarded range reads as is the format's choice; what lies outside is not.
                var after = new byte[length];
                await node.ReadAsync(new(offset), after);
                for (var i = 0; i < length; i++)
                {
                    Assert.True(after[i] == 0 || after[i] == model[offset + i] || discardKeeps, $"discard left something new at {offset + i}");
                }

                after.CopyTo(model, offset);
                break;
            case 4:
                var buffer = new byte[length];
                await node.ReadAsync(new(offset), buffer);
                Assert.True(buffer.AsSpan().SequenceEqual(model.AsSpan(offset, length)), $"read of {length} at {offset}");
                break;
            default:
                var bytes = TestContent.Make(random.Next(), offset, length);
                await node.WriteAsync(new(offset), bytes, random.Next(8) == 0 ? WriteFlags.ForceUnitAccess : WriteFlags.None);
                bytes.CopyTo(model.AsSpan(offset));
                break;
        }
    }
}
