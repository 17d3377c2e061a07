using Platter.Core.Bitmaps;
using Platter.Core.Graph;
using Platter.Core.Units;
using Platter.TestKit;

namespace Platter.Tests.CrashSim;

/// <summary>Bitmaps are added, removed, cleared, merged, enabled and disabled, with writes between; each of these happens wholly or not at all, and a bitmap that does
/// not say that it is inconsistent has exactly its bits.</summary>
internal sealed class BitmapEdits(DiskShape shape, bool exhaustive) : CrashScenario
{
    public override string Name => $"bitmaps-{(exhaustive ? "few-" : string.Empty)}{shape.Name}";

    public override string Operation => "bitmap --add, --remove, --clear, --merge, --enable, --disable";

    public override bool IsExhaustive => exhaustive;

    public override int ExhaustiveBound => 150;

    public override CrashImage Prepare(Random random) => shape.Build(random);

    public override Task VerifyAsync(CrashVerifier verifier) => verifier.VerifyWorldAsync();

    public override async Task RunAsync(CrashRun run)
    {
        run.ChangesBitmaps = true;
        run.MayLoseBitmaps = shape.FeatureNames > 0;
        var random = run.Random;
        await using var node = (ImageNode)await run.Storages.OpenAsync(CrashImage.Top, writable: true);
        var world = new CrashWorld("opened", run.Image.Content, run.Image.Snapshots) { Bitmaps = await ListAsync(node) };
        await run.StepAsync(world, () => Task.CompletedTask);
        for (var i = 0; i < (exhaustive ? 4 : 14); i++)
        {
            var bitmaps = world.Bitmaps!.ToList();
            var index = bitmaps.Count == 0 ? -1 : random.Next(bitmaps.Count);
            var chosen = index < 0 ? null : bitmaps[index];
            switch (random.Next(index < 0 ? 3 : 8))
            {
                case 0:
                    world = await WriteAsync(run, node, world);
                    continue;
                case 1 or 2:
                    var added = new CrashBitmap($"new {i}", 512 << random.Next(4), random.Next(3) > 0, new HashSet<long>());
                    if (random.Next(2) == 0)
                    {
                        added = added.Set(random.NextInt64(world.Content.Length / 2), 4000);
                    }

                    bitmaps.Add(added);
                    world = world with { Name = $"added {i}", Bitmaps = bitmaps };
                    await run.StepAsync(world, async () => await node.AddBitmapsAsync([new(added.Name, added.Granularity, added.Enabled, RangesOf(added))]));
                    break;
                case 3:
                    bitmaps.RemoveAt(index);
                    world = world with { Name = $"removed '{chosen!.Name}'", Bitmaps = bitmaps };
                    await run.StepAsync(world, async () => await node.RemoveBitmapAsync(chosen.Name));
                    break;
                case 4:
                    bitmaps[index] = chosen! with { Bits = new HashSet<long>() };
                    world = world with { Name = $"cleared '{chosen!.Name}'", Bitmaps = bitmaps };
                    await run.StepAsync(world, async () => await node.ClearBitmapAsync(chosen.Name));
                    break;
                case 5:
                    bitmaps[index] = chosen! with { Enabled = !chosen.Enabled };
                    world = world with { Name = $"turned '{chosen!.Name}'", Bitmaps = bitmaps };
                    await run.StepAsync(world, async () => await node.SetBitmapEnabledAsync(chosen.Name, !chosen.Enabled));
                    break;
                case 6:
                    var at = random.NextInt64(world.Content.Length / 2);
                    bitmaps[index] = chosen!.Set(at, 2000);
                    world = world with { Name = $"merged into '{chosen!.Name}'", Bitmaps = bitmaps };
                    await run.StepAsync(world, async () => await node.MergeBitmapAsync(chosen.Name, One(at, 2000)));
                    break;
                default:
                    await run.StepAsync(world, async () => await node.StoreBitmapsAsync());
                    break;
            }
        }
    }

    private async Task<CrashWorld> WriteAsync(CrashRun run, BlockNode node, CrashWorld world)
    {
        var (offset, length) = CrashGuest.Range(run.Random, shape.ClusterBytes, world.Content.Length);
        var content = world.Content.ToArray();
        var bytes = TestContent.Make(run.NextContent(), offset, length);
        bytes.CopyTo(content.AsSpan((int)offset));
        var bitmaps = world.Bitmaps!.Select(b => b.Enabled ? b.Set(offset, length) : b).ToList();
        var next = world with { Name = "wrote", Content = content, Mixes = world.Content, Bitmaps = bitmaps };
        await run.StepAsync(next, async () =>
        {
            await node.WriteAsync(new(offset), bytes);
            await node.FlushAsync();
        });
        return next with { Mixes = null };
    }

    internal static async Task<List<CrashBitmap>> ListAsync(BlockNode node)
    {
        var result = new List<CrashBitmap>();
        foreach (var info in node.Bitmaps)
        {
            var bitmap = new CrashBitmap(info.Name, info.Granularity, info.Enabled, new HashSet<long>());
            await foreach (var range in node.ReadBitmapAsync(info.Name))
            {
                bitmap = bitmap.Set(range.Offset.Value, range.Length);
            }

            result.Add(bitmap);
        }

        return result;
    }

    internal static IAsyncEnumerable<DirtyRange> RangesOf(CrashBitmap bitmap) =>
        bitmap.Bits.Select(bit => new DirtyRange(new GuestOffset(bit * bitmap.Granularity), bitmap.Granularity)).ToAsyncEnumerable();

    internal static IAsyncEnumerable<DirtyRange> One(long at, long length) => new[] { new DirtyRange(new(at), length) }.ToAsyncEnumerable();
}
