using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.TestKit;

namespace Platter.Tests.CrashSim;

/// <summary>Internal snapshots are taken, applied and deleted, with writes between; each of these happens wholly or not at all.</summary>
/// <param name="shape">The disk.</param>
/// <param name="exhaustive">Few edits, every state of them.</param>
/// <param name="full">Snapshots are deleted while the host's disk is full.</param>
internal sealed class SnapshotEdits(DiskShape shape, bool exhaustive, bool full = false) : CrashScenario
{
    public override string Name => $"snapshots-{(exhaustive ? "few-" : string.Empty)}{(full ? "full-" : string.Empty)}{shape.Name}";

    public override string Operation => full ? "snapshot -d on a full disk" : "snapshot -c, -a, -d";

    public override bool IsExhaustive => exhaustive;

    public override int ExhaustiveBound => 150;

    public override CrashImage Prepare(Random random) => shape.Build(random);

    public override Task VerifyAsync(CrashVerifier verifier) => verifier.VerifyWorldAsync();

    public override async Task RunAsync(CrashRun run)
    {
        await using var node = (ImageNode)await run.Storages.OpenAsync(CrashImage.Top, writable: true);
        var world = new CrashWorld("before", run.Image.Content, run.Image.Snapshots);
        for (var i = 0; i < (exhaustive ? 3 : 12); i++)
        {
            var names = world.Snapshots.Keys.Order(StringComparer.Ordinal).ToArray();
            var chosen = names.Length == 0 ? string.Empty : names[run.Random.Next(names.Length)];
            var others = new Dictionary<string, byte[]>(world.Snapshots);
            switch (run.Random.Next(names.Length == 0 ? 3 : 5))
            {
                case 0 or 1:
                    others[$"new {i}"] = world.Content;
                    world = new($"created {i}", world.Content, others);
                    await run.StepAsync(world, async () => await node.CreateSnapshotAsync($"new {i}", DateTimeOffset.UnixEpoch));
                    break;
                case 2:
                    world = await WriteAsync(run, node, world);
                    break;
                case 3:
                    others.Remove(chosen);
                    world = await DeleteAsync(run, node, world, chosen, new($"deleted '{chosen}'", world.Content, others));
                    break;
                default:
                    world = new($"applied '{chosen}'", others[chosen], others);
                    await run.StepAsync(world, async () => await node.ApplySnapshotAsync(SnapshotSelector.Parse(chosen)));
                    break;
            }
        }
    }

    private async Task<CrashWorld> DeleteAsync(CrashRun run, BlockNode node, CrashWorld before, string chosen, CrashWorld after)
    {
        var file = run.Disk.Find(CrashImage.Top)!;
        file.Room = full ? file.Length : long.MaxValue;
        var done = false;
        await run.StepAsync(after, async () =>
        {
            try
            {
                await node.DeleteSnapshotAsync(SnapshotSelector.Parse(chosen));
                done = true;
            }
            catch (BlockException e) when (full && e.Kind == BlockErrorKind.NoSpace)
            {
                // Its list is too long to be changed where it is: it stays.
            }
        });
        file.Room = long.MaxValue;
        if (!done)
        {
            await run.StepAsync(before, () => Task.CompletedTask);
        }

        return done ? after : before;
    }

    private async Task<CrashWorld> WriteAsync(CrashRun run, BlockNode node, CrashWorld world)
    {
        var (offset, length) = CrashGuest.Range(run.Random, shape.ClusterBytes, world.Content.Length);
        var content = world.Content.ToArray();
        var bytes = TestContent.Make(run.NextContent(), offset, length);
        bytes.CopyTo(content.AsSpan((int)offset));
        var next = new CrashWorld("wrote", content, world.Snapshots) { Mixes = world.Content };
        await run.StepAsync(next, async () =>
        {
            await node.WriteAsync(new(offset), bytes);
            await node.FlushAsync();
        });
        return next with { Mixes = null };
    }
}
