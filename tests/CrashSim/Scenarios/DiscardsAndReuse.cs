using Platter.Core.Images;
using Platter.Core.Units;

namespace Platter.Tests.CrashSim;

/// <summary>What was discarded becomes holes of the file and is used again for something else, written to in part: short enough for every state to be tried.</summary>
internal sealed class DiscardsAndReuse(HdsShape shape) : CrashScenario
{
    public override string Name => $"reuse-{shape.Name}";

    public override string Operation => "discards, and their clusters used again";

    public override bool IsExhaustive => true;

    public override CrashImage Prepare(Random random) => shape.Build(random);

    public override async Task RunAsync(CrashRun run)
    {
        await using var guest = await run.OpenAsync();
        for (var round = 0; round < 2; round++)
        {
            var (stored, absent) = await SortAsync(guest, run.Random);
            foreach (var at in stored.Take(2))
            {
                await guest.DiscardAsync(at, shape.ClusterBytes);
            }

            // Before the entries are off the disk, so not into these; and more than the holes that there are.
            foreach (var at in absent.Take(run.Random.Next(4)))
            {
                await guest.WriteAsync(at + (run.Random.Next((int)shape.ClusterSectors) * 512), 512);
            }

            await guest.FlushAsync();

            // Into these.
            foreach (var at in stored.Take(1))
            {
                await guest.WriteAsync(at + 512, 512);
            }
        }

        await guest.CompareAsync();
    }

    // The whole clusters that have a place and those that have none, shuffled.
    private async Task<(long[] Stored, long[] Absent)> SortAsync(CrashGuest guest, Random random)
    {
        List<long> stored = [], absent = [];
        for (long at = 0; at + shape.ClusterBytes <= guest.Node.VirtualSize; at += shape.ClusterBytes)
        {
            var extent = await guest.Node.MapAsync(new GuestOffset(at), shape.ClusterBytes);
            (extent.Kind == ExtentKind.Data ? stored : absent).Add(at);
        }

        var (first, second) = (stored.ToArray(), absent.ToArray());
        random.Shuffle(first);
        random.Shuffle(second);
        return (first, second);
    }
}
