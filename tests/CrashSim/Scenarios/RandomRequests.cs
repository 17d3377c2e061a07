namespace Platter.Tests.CrashSim;

/// <summary>Writes, zeros, discards, flushes and writes with forced unit access at random, with the disk closed and opened again on the way; sampled.</summary>
internal sealed class RandomRequests(GuestShape shape) : CrashScenario
{
    private const int Openings = 2, Requests = 45;

    public override string Name => $"requests-{shape.Name}";

    public override string Operation => "requests of a guest";

    public override CrashImage Prepare(Random random) => shape.Build(random);

    public override async Task RunAsync(CrashRun run)
    {
        for (var opening = 0; opening < Openings; opening++)
        {
            await using var guest = await run.OpenAsync();
            var flushEvery = run.Random.Next(3) switch { 0 => 4, 1 => 12, _ => 0 };
            for (var i = 0; i < Requests; i++)
            {
                await guest.RequestAsync(run.Random, shape.ClusterBytes, flushEvery);
            }

            await guest.CompareAsync();
        }
    }
}
