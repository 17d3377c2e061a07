using Platter.Core.Bitmaps;
using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.TestKit;
using Platter.Tests.Unit.Formats.Qcow2.Writing;
using Xunit;

namespace Platter.Tests.Unit.Formats.Parallels.Writing;

/// <summary>Random requests, resizes and changes of bitmaps, to an image and to a model of bytes and bits: both read the same at any time, and the image checks clean
/// after each closing, not a byte longer than it must be.</summary>
public sealed class ParallelsWriteModelTests
{
    /// <summary>magic, cluster in sectors, data_off (null: aligned), backing, bitmaps, holes, flags.</summary>
    public static TheoryData<int, uint, uint?, bool, bool, bool, uint> Shapes() => new()
    {
        { 1, 8, null, false, false, false, 0 },
        { 2, 8, null, false, false, true, 0 },
        { 1, 63, 0, false, true, true, 0 },
        { 1, 1, 0, false, false, true, 0 },
        { 2, 1, null, true, false, false, 0 },
        { 2, 63, null, true, true, true, 0 },
        { 1, 504, 5, true, true, false, 0 },
        { 1, 128, 0, false, true, false, 0 },
        { 2, 128, null, false, true, true, 1 },
        { 1, 8, 0, true, true, true, 1 },
        { 2, 2048, null, true, true, false, 0 },
        { 1, 16, 7, false, true, true, 0 },
    };

    [Theory]
    [MemberData(nameof(Shapes))]
    public async Task Whatever_is_asked_the_image_has_what_the_model_has(
        int magic, uint cluster, uint? dataOffset, bool backing, bool bitmaps, bool holes, uint flags)
    {
        var seed = Environment.GetEnvironmentVariable("PLATTER_MODEL_SEED") is { } given ? int.Parse(given) : (int)(cluster * 10) + magic;
        TestContext.Current.SendDiagnosticMessage($"seed {seed}");
        var sectors = (Math.Min(47, 20000 / cluster) * cluster) + (seed % 3);
        var below = backing ? new ReferenceDisk((sectors - 3) * 512) : null;
        below?.Fill(99, 0, (int)Math.Min(below.Size, 1 << 20));
        var builder = new ParallelsImageBuilder
        {
            Magic = magic == 1 ? ParallelsMagic.WithoutFreeSpace : ParallelsMagic.WithouFreSpacExt, ClusterSectors = cluster, SizeSectors = sectors,
            DataOffsetSectors = dataOffset, Placement = HostPlacement.Shuffled, Seed = seed, Backing = below, LeakedTailClusters = seed % 2 * 2,
            InUse = bitmaps ? ParallelsImageBuilder.InUseClosed : 0, Flags = flags, BatEntries = seed % 3 == 0 ? (uint)((sectors / cluster) + 9) : null,
        };
        builder.FillRandom(seed, 0.4);
        if (holes)
        {
            builder.AddHoles(1, 2, 5);
        }

        if (bitmaps)
        {
            builder.AddBitmap(new ParallelsBitmap { GranularitySectors = 16 }.Set(5, 30).Set(100, 2));
        }

        var image = builder.Build();
        var storage = new MemoryStorage("test.hds", image.Bytes.ToArray());
        var model = new Model(image.Model.ToArray(), below);
        if (flags == 1)
        {
            below?.ToArray().CopyTo(model.Bytes, 0);
            model.Bytes.AsSpan((int)(below?.Size ?? 0)).Clear();
        }

        if (bitmaps)
        {
            model.Bitmaps.Add(new BitmapModel("10325476-98ba-dcfe-0102-030405060708", model.Bytes.Length, 13, enabled: true).Set(5 * 512, 30 * 512).Set(100 * 512, 2 * 512));
        }

        var random = new Random(seed);
        for (var round = 0; round < 6; round++)
        {
            await using (var node = await ParallelsFixture.OpenAsync(storage, below))
            {
                await model.AssertSameAsync(node);
                for (var i = 0; i < 50; i++)
                {
                    await model.RequestAsync(node, random, (int)cluster * 512, bitmaps);
                }

                await model.AssertSameAsync(node);
            }

            await ParallelsFixture.AssertCleanAsync(storage);
            await using var reopened = await ParallelsFixture.OpenAsync(storage, below, writable: false);
            await model.AssertSameAsync(reopened);
        }
    }

    [Fact]
    public async Task Requests_of_many_threads_at_once_leave_what_each_of_them_wrote()
    {
        const int Threads = 8, Ops = 200, Size = 16 << 20;
        var storage = await ParallelsFixture.CreateAsync(Size, "cluster_size=32256");
        var model = new byte[Size];
        await using (var node = await ParallelsFixture.OpenAsync(storage))
        {
            // Each thread owns every eighth sector: neighbours share clusters.
            await Task.WhenAll(Enumerable.Range(0, Threads).Select(thread => Task.Run(async () =>
            {
                var random = new Random(thread);
                for (var i = 0; i < Ops; i++)
                {
                    var sector = (random.Next(Size / 512 / Threads) * Threads) + thread;
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

        await ParallelsFixture.AssertCleanAsync(storage);
        await using var reopened = await ParallelsFixture.OpenAsync(storage, writable: false);
        await WriteFixture.AssertReadsAsync(reopened, model);
    }

    private sealed class Model(byte[] bytes, ReferenceDisk? below)
    {
        public byte[] Bytes { get; private set; } = bytes;

        public List<BitmapModel> Bitmaps { get; } = [];

        public async Task AssertSameAsync(ImageNode node)
        {
            await WriteFixture.AssertReadsAsync(node, Bytes);
            await BitmapModel.AssertSameAsync(node, Bitmaps);
        }

        public async Task RequestAsync(ImageNode node, Random random, int cluster, bool bitmaps)
        {
            var offset = random.Next(Math.Max(1, Bytes.Length));
            var length = random.Next(4) switch { 0 => random.Next(1, 2000), 1 => cluster, 2 => random.Next(1, 5 * cluster), _ => 512 };
            offset -= random.Next(2) == 0 ? offset % 512 : 0;
            offset -= random.Next(4) == 0 ? offset % cluster : 0;
            length = Math.Min(length, Bytes.Length - offset);
            switch (random.Next(24))
            {
                case 0 or 1:
                    await node.FlushAsync();
                    break;
                case 2 or 3 or 4:
                    await node.WriteZeroesAsync(new(offset), length, random.Next(2) == 0 ? WriteFlags.MayUnmap : WriteFlags.None);
                    Bytes.AsSpan(offset, length).Clear();
                    Track(offset, length);
                    break;
                case 5 or 6 or 7:
                    await node.DiscardAsync(new(offset), length);
                    await TakeDiscardAsync(node, offset, length, cluster);
                    break;
                case 8 or 9:
                    var buffer = new byte[length];
                    await node.ReadAsync(new(offset), buffer);
                    Assert.True(buffer.AsSpan().SequenceEqual(Bytes.AsSpan(offset, length)), $"read of {length} at {offset}");
                    break;
                case 10:
                    await ResizeAsync(node, random, cluster);
                    break;
                case 11 when bitmaps:
                    await ChangeBitmapsAsync(node, random);
                    break;
                default:
                    var content = TestContent.Make(random.Next(), offset, length);
                    await node.WriteAsync(new(offset), content, random.Next(8) == 0 ? WriteFlags.ForceUnitAccess : WriteFlags.None);
                    content.CopyTo(Bytes.AsSpan(offset));
                    Track(offset, length);
                    break;
            }
        }

        // Whole clusters read as zeros where nothing is below; where something is, nothing changes.
        private async Task TakeDiscardAsync(ImageNode node, int offset, int length, int cluster)
        {
            var start = (offset + cluster - 1) / cluster * cluster;
            var end = offset + length == Bytes.Length ? Bytes.Length : (offset + length) / cluster * cluster;
            if (below is null && start < end)
            {
                Bytes.AsSpan(start..end).Clear();
            }

            Track(offset, length);
            var after = new byte[length];
            await node.ReadAsync(new(offset), after);
            Assert.True(after.AsSpan().SequenceEqual(Bytes.AsSpan(offset, length)), $"discard of {length} at {offset}");
        }

        private async Task ResizeAsync(ImageNode node, Random random, int cluster)
        {
            // By bytes, by clusters, and far enough to outgrow the first data offset now and then.
            var size = (random.Next(3) switch
            {
                0 => Bytes.Length - random.Next(2 * cluster),
                1 => Bytes.Length + random.Next(3 * cluster),
                _ => Bytes.Length + (cluster * random.Next(200)),
            }) / 512 * 512;
            size = Math.Clamp(size, 1024, 6 << 20);
            try
            {
                await node.ResizeAsync(size);
            }
            catch (BlockException e) when (e.Kind == BlockErrorKind.LimitExceeded && Bitmaps.Count > 0)
            {
                // Their L1 tables would not fit into one cluster.
                return;
            }

            var next = new byte[size];
            Bytes.AsSpan(0, Math.Min(size, Bytes.Length)).CopyTo(next);
            Bytes = next;
            for (var i = 0; i < Bitmaps.Count; i++)
            {
                Bitmaps[i] = Bitmaps[i].Resized(size);
            }
        }

        private async Task ChangeBitmapsAsync(ImageNode node, Random random)
        {
            var name = random.Next(2) == 0 ? ParallelsFixture.BitmapA : ParallelsFixture.BitmapB;
            var index = Bitmaps.FindIndex(b => b.Name == name);
            if (index < 0)
            {
                var granularity = random.Next(10, 16);
                var content = random.Next(2) == 0 ? new DirtyRange(new(700), 5000) : (DirtyRange?)null;
                try
                {
                    await node.AddBitmapsAsync([new NewBitmap(name, 1L << granularity, true, content is { } range ? Of(range) : null)]);
                }
                catch (BlockException e) when (e.Kind == BlockErrorKind.LimitExceeded)
                {
                    return;
                }

                var bitmap = new BitmapModel(name, Bytes.Length, granularity, enabled: true);
                Bitmaps.Add(content is { } dirty ? bitmap.Set(dirty.Offset.Value, dirty.Length) : bitmap);
                return;
            }

            switch (random.Next(4))
            {
                case 0:
                    await node.RemoveBitmapAsync(name);
                    Bitmaps.RemoveAt(index);
                    break;
                case 1:
                    await node.ClearBitmapAsync(name);
                    Bitmaps[index].Clear();
                    break;
                case 2:
                    await node.StoreBitmapsAsync();
                    break;
                default:
                    await node.MergeBitmapAsync(name, node.ReadBitmapAsync(Bitmaps[0].Name));
                    foreach (var range in Bitmaps[0].Ranges().ToList())
                    {
                        Bitmaps[index].Set(range.Offset.Value, range.Length);
                    }

                    break;
            }
        }

        private static async IAsyncEnumerable<DirtyRange> Of(DirtyRange range)
        {
            yield return range;
            await Task.CompletedTask;
        }

        private void Track(long at, long length)
        {
            foreach (var bitmap in Bitmaps)
            {
                bitmap.Track(at, length);
            }
        }
    }
}
