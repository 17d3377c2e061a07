namespace Platter.Tests.CrashSim;

/// <summary>A handful of requests, a flush, a few more, closing: short enough for every state to be tried.</summary>
internal sealed class FewRequests(GuestShape shape) : CrashScenario
{
    public override string Name => $"few-{shape.Name}";

    public override string Operation => "a few requests of a guest";

    public override bool IsExhaustive => true;

    public override CrashImage Prepare(Random random) => shape.Build(random);

    public override async Task RunAsync(CrashRun run)
    {
        await using var guest = await run.OpenAsync();
        for (var i = run.Random.Next(1, 4); i > 0; i--)
        {
            await guest.RequestAsync(run.Random, shape.ClusterBytes, flushEvery: 0);
        }

        await guest.FlushAsync();
        for (var i = run.Random.Next(1, 4); i > 0; i--)
        {
            await guest.RequestAsync(run.Random, shape.ClusterBytes, flushEvery: 0);
        }

        await guest.CompareAsync();
    }
}
