using System.Buffers.Binary;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.TestKit;

namespace Platter.Tests.CrashSim;

/// <summary>A damaged Parallels image is repaired, and some of the repairs are taken back. The format has no second place for its table, so a cut leaves some of it mended: the
/// guest sees the same at any time, a repair always comes to its end, and wherever it was cut, it can be taken back to the first byte.</summary>
internal sealed class HdsRepairs(HdsShape shape, bool exhaustive) : CrashScenario
{
    private const string Undo = "disk.undo";

    public override string Name => $"repair-{(exhaustive ? "few-" : string.Empty)}{shape.Name}";

    public override string Operation => "check -r, check --undo (Parallels)";

    public override bool IsExhaustive => exhaustive;

    public override int ExhaustiveBound => 150;

    public override int BoundedSeeds => 6;

    public override int SampledStates => 60;

    public override CrashImage Prepare(Random random)
    {
        var image = shape.Build(random);
        var (bytes, content) = (image.Files[CrashImage.Top].ToArray(), image.Content.ToArray());
        var clusters = content.Length / shape.ClusterBytes;
        var damaged = new HashSet<int>();
        for (var tries = 0; tries < (exhaustive ? 3 : 20); tries++)
        {
            // One cluster for two: the guest reads the same bytes twice.
            var (one, other) = (random.Next(clusters), random.Next(clusters));
            if (one != other && Entry(other) != 0 && !damaged.Contains(other) && damaged.Add(one))
            {
                damaged.Add(other);
                BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(64 + (4 * one)), Entry(other));
                content.AsSpan(other * shape.ClusterBytes, shape.ClusterBytes).CopyTo(content.AsSpan(one * shape.ClusterBytes));
            }
        }

        if (random.Next(2) == 0)
        {
            "Ynot"u8.CopyTo(bytes.AsSpan(44));
        }

        var tail = new byte[random.Next(3) * 1000];
        random.NextBytes(tail);
        return image with { Files = new Dictionary<string, byte[]>(image.Files) { [CrashImage.Top] = [.. bytes, .. tail], [Undo] = [] }, Content = content };

        uint Entry(int index) => BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(64 + (4 * index)));
    }

    public override async Task RunAsync(CrashRun run)
    {
        var isKept = false;
        await using (var node = await run.Storages.OpenAsync(CrashImage.Top, forRepair: true))
        {
            await node.RepairAsync(new(run.Random.Next(4) == 0 ? RepairMode.Leaks : RepairMode.All) { BeforeSwitch = KeepAsync }, static _ => { });
        }

        if (isKept && run.Random.Next(2) == 0)
        {
            await using var file = run.Disk.Find(Undo)!.Open(writable: false);
            await using var storage = run.Disk.Find(CrashImage.Top)!.Open(writable: true);
            await (await RepairUndo.ReadAsync(file)).ApplyAsync(storage);
        }

        async ValueTask KeepAsync(RepairUndo made, CancellationToken token)
        {
            isKept = true;
            using var stream = new MemoryStream();
            await made.WriteToAsync(stream, token);
            await using var file = run.Disk.Find(Undo)!.Open(writable: true);
            await file.WriteAsync(default, stream.ToArray(), token);
            await file.FlushAsync(token);
        }
    }

    public override async Task VerifyAsync(CrashVerifier verifier)
    {
        var (run, state) = (verifier.Run, verifier.State);
        CrashViolation.ThrowIf(run.Guest.Compare(state.Time, await verifier.ReadAsync()));
        if (state.Time % 2 == 0 && await TakeBackAsync(state))
        {
            CrashViolation.ThrowIf(
                state.Bytes(CrashImage.Top).AsSpan().SequenceEqual(run.Image.Files[CrashImage.Top]) ? null : "the repair was taken back, and the image is not what it was");
        }

        await using (var node = await verifier.Storages.OpenAsync(CrashImage.Top, forRepair: true))
        {
            var report = await node.RepairAsync(new(RepairMode.All), static _ => { });
            CrashViolation.ThrowIf(report.Check is { Corruptions: 0, Leaks: 0, Errors: 0 } ? null : $"the second repair leaves {report.Check}");
        }

        await verifier.VerifyAsync();
    }

    // False when there is nothing to take back: the undo file did not get there, or it has been done.
    private static async Task<bool> TakeBackAsync(CrashState state)
    {
        await using var storage = state.Open(CrashImage.Top, writable: true)!;
        await using var file = state.Open(Undo, writable: false)!;
        RepairUndo undo;
        try
        {
            undo = await RepairUndo.ReadAsync(file);
        }
        catch (BlockException)
        {
            return false;
        }

        try
        {
            await undo.ApplyAsync(storage);
            return true;
        }
        catch (BlockException e) when (e.Message.Contains("taken back already", StringComparison.Ordinal))
        {
            return true;
        }
        catch (BlockException e)
        {
            throw new CrashViolation($"the undo file is there, and the repair cannot be taken back: {e.Message}");
        }
    }
}
