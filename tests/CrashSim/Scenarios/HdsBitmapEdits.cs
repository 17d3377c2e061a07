using Platter.Core.Bitmaps;
using Platter.Core.Graph;
using Platter.Core.Units;
using Platter.TestKit;

namespace Platter.Tests.CrashSim;

/// <summary>Bitmaps of a Parallels image are added, removed, cleared, merged and stored, with writes between. Each change happens wholly or not at all; from the first
/// write on there are none, until they are stored again.</summary>
internal sealed class HdsBitmapEdits(HdsShape shape, bool exhaustive) : CrashScenario
{
    public override string Name => $"bitmaps-{(exhaustive ? "few-" : string.Empty)}{shape.Name}";

    public override string Operation => "bitmap --add, --remove, --clear, --merge (Parallels)";

    public override bool IsExhaustive => exhaustive;

    public override int ExhaustiveBound => 150;

    public override CrashImage Prepare(Random random) => shape.Build(random);

    public override Task VerifyAsync(CrashVerifier verifier) => verifier.VerifyWorldAsync();

    public override async Task RunAsync(CrashRun run)
    {
        run.ChangesBitmaps = true;
        var random = run.Random;
        var node = (ImageNode)await run.Storages.OpenAsync(CrashImage.Top, writable: true);
        var bitmaps = await BitmapEdits.ListAsync(node);
        var world = new CrashWorld("opened", run.Image.Content, run.Image.Snapshots) { Bitmaps = bitmaps };
        await run.StepAsync(world, () => Task.CompletedTask);
        for (var i = 0; i < (exhaustive ? 4 : 14); i++)
        {
            bitmaps = [.. bitmaps];
            var index = bitmaps.Count == 0 ? -1 : random.Next(bitmaps.Count);
            var chosen = index < 0 ? null : bitmaps[index];
            switch (random.Next(index < 0 ? 3 : 7))
            {
                case 0:
                    (world, bitmaps) = await WriteAsync(run, node, world, bitmaps);
                    continue;
                case 1 or 2 when bitmaps.Count < 3:
                    var id = new byte[16];
                    random.NextBytes(id);
                    var added = new CrashBitmap(new Guid(id).ToString("D"), 512 << random.Next(2, 6), true, new HashSet<long>());
                    if (random.Next(2) == 0)
                    {
                        added = added.Set(random.NextInt64(world.Content.Length / 2), 3000);
                    }

                    bitmaps.Add(added);
                    world = world with { Name = $"added {i}", Bitmaps = bitmaps };
                    await run.StepAsync(world, async () => await node.AddBitmapsAsync([new(added.Name, added.Granularity, true, BitmapEdits.RangesOf(added))]));
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
                    var at = random.NextInt64(world.Content.Length / 2);
                    bitmaps[index] = chosen!.Set(at, 2000);
                    world = world with { Name = $"merged into '{chosen!.Name}'", Bitmaps = bitmaps };
                    await run.StepAsync(world, async () => await node.MergeBitmapAsync(chosen.Name, BitmapEdits.One(at, 2000)));
                    break;
                default:
                    world = world with { Name = "stored", Bitmaps = bitmaps };
                    await run.StepAsync(world, async () => await node.StoreBitmapsAsync());
                    break;
            }
        }

        await run.StepAsync(world with { Name = "closed", Bitmaps = bitmaps }, async () => await node.DisposeAsync());
    }

    private async Task<(CrashWorld World, List<CrashBitmap> Bitmaps)> WriteAsync(CrashRun run, BlockNode node, CrashWorld world, List<CrashBitmap> bitmaps)
    {
        var (offset, length) = CrashGuest.Range(run.Random, shape.ClusterBytes, world.Content.Length);
        var content = world.Content.ToArray();
        var bytes = TestContent.Make(run.NextContent(), offset, length);
        bytes.CopyTo(content.AsSpan((int)offset));
        var next = world with { Name = "wrote", Content = content, Mixes = world.Content, Bitmaps = [] };
        await run.StepAsync(next, async () =>
        {
            await node.WriteAsync(new(offset), bytes);
            await node.FlushAsync();
        });
        return (next with { Mixes = null }, [.. bitmaps.Select(b => b.Set(offset, length))]);
    }
}
