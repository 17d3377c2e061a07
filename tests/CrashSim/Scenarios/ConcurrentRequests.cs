using Platter.TestKit;

namespace Platter.Tests.CrashSim;

/// <summary>Several guests' threads at once, each in sectors of its own, so that they share clusters and tables; flushes run into each other.</summary>
internal sealed class ConcurrentRequests(GuestShape shape) : CrashScenario
{
    private const int Threads = 4, Requests = 25;

    public override string Name => $"concurrent-{shape.Name}";

    public override string Operation => "requests of several threads at once";

    public override bool IsSlow => true;

    public override CrashImage Prepare(Random random) => shape.Build(random);

    public override async Task RunAsync(CrashRun run)
    {
        await using var guest = await run.OpenAsync();
        var seeds = Enumerable.Range(0, Threads).Select(_ => run.Random.Next()).ToArray();
        await Task.WhenAll(seeds.Select((seed, thread) => Task.Run(() => ThreadAsync(run, guest, thread, new Random(seed)))));
        await guest.CompareAsync();
    }

    private async Task ThreadAsync(CrashRun run, CrashGuest guest, int thread, Random random)
    {
        // Sectors go round in groups of two: every cluster of 4 KiB and more is everybody's.
        const int Group = 2;
        for (var i = 0; i < Requests; i++)
        {
            if (random.Next(6) == 0)
            {
                await guest.FlushAsync();
                continue;
            }

            var group = (random.Next((int)(run.Guest.Size / 512 / Group / Threads)) * Threads) + thread;
            var (offset, length) = (group * Group * 512L, random.Next(1, Group + 1) * 512);
            await (random.Next(5) switch
            {
                0 => guest.ZeroAsync(offset, length, mayUnmap: true),
                1 => guest.WriteAsync(offset, length, forceUnitAccess: true),
                _ => guest.WriteAsync(offset, length),
            });
        }
    }
}
