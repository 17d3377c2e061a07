using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.TestKit;

namespace Platter.Tests.CrashSim;

/// <summary>A damaged image is repaired, and some of the repairs are taken back: the guest sees the same at any time, a repair always comes to its end, and what
/// counts can be taken back to the first byte.</summary>
internal sealed class Repairs(DiskShape shape, bool exhaustive) : CrashScenario
{
    private const string Undo = "disk.undo";
    private const string Repaired = "repaired";

    public override string Name => $"repair-{(exhaustive ? "few-" : string.Empty)}{shape.Name}";

    public override string Operation => "check -r, check --undo";

    public override bool IsExhaustive => exhaustive;

    public override int ExhaustiveBound => 150;

    public override int BoundedSeeds => 8;

    public override int SampledStates => 60;

    public override CrashImage Prepare(Random random)
    {
        var image = shape.Build(random, built => ImageDamage.Damage(built, random));
        return image with { Files = new Dictionary<string, byte[]>(image.Files) { [Undo] = [] } };
    }

    public override async Task RunAsync(CrashRun run)
    {
        RepairUndo? undo = null;
        await using (var node = await run.Storages.OpenAsync(CrashImage.Top, forRepair: true))
        {
            await node.RepairAsync(new(RepairMode.All) { BeforeSwitch = KeepAsync }, static _ => { });
        }

        run.Mark(Repaired);
        if (undo is not null && run.Random.Next(2) == 0)
        {
            await using var storage = run.Disk.Find(CrashImage.Top)!.Open(writable: true);
            await undo.ApplyAsync(storage);
        }

        async ValueTask KeepAsync(RepairUndo made, CancellationToken token)
        {
            undo = made;
            await using var file = run.Disk.Find(Undo)!.Open(writable: true);
            await file.WriteAsync(default, ((SwitchUndo)made).ToBytes(), token);
            await file.FlushAsync(token);
        }
    }

    public override async Task VerifyAsync(CrashVerifier verifier)
    {
        var (run, state) = (verifier.Run, verifier.State);
        CrashViolation.ThrowIf(run.Guest.Compare(state.Time, await verifier.ReadAsync()));
        var before = run.Image.Files[CrashImage.Top];
        var isOld = state.Bytes(CrashImage.Top).AsSpan(0, 512).SequenceEqual(before.AsSpan(0, 512));
        if (!isOld)
        {
            await verifier.CheckAsync("after the repair");
            if (state.Time % 2 == 0)
            {
                await TakeBackAsync(state);
                CrashViolation.ThrowIf(state.Bytes(CrashImage.Top).AsSpan().SequenceEqual(before) ? null : "the repair was taken back, and the image is not what it was");
            }
        }

        await using (var node = await verifier.Storages.OpenAsync(CrashImage.Top, forRepair: true))
        {
            var report = await node.RepairAsync(new(RepairMode.All), static _ => { });
            CrashViolation.ThrowIf(report.Check is { Corruptions: 0, Leaks: 0, Errors: 0 } ? null : $"the second repair leaves {report.Check}");
        }

        await verifier.VerifyAsync();
    }

    private static async Task TakeBackAsync(CrashState state)
    {
        var undo = SwitchUndo.Parse(state.Bytes(Undo), Undo);
        await using var storage = state.Open(CrashImage.Top, writable: true)!;
        try
        {
            await undo.ApplyAsync(storage);
        }
        catch (Core.Errors.BlockException e)
        {
            throw new CrashViolation($"the repair counts, and cannot be taken back: {e.Message}");
        }
    }
}
