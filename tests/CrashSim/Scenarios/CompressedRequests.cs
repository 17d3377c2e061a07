namespace Platter.Tests.CrashSim;

/// <summary>A guest whose clusters are written compressed, among ordinary writes, zeros and discards of the same places: packed clusters share host clusters, and lose them to each other.</summary>
/// <param name="shape">The image; its refcounts count to more than 1.</param>
/// <param name="exhaustive">A handful of requests, and every state.</param>
internal sealed class CompressedRequests(DiskShape shape, bool exhaustive) : CrashScenario
{
    public override string Name => $"compressed-{(exhaustive ? "few-" : string.Empty)}{shape.Name}";

    public override string Operation => "compressed writes of a guest";

    public override bool IsExhaustive => exhaustive;

    public override int ExhaustiveBound => 250;

    public override CrashImage Prepare(Random random) => shape.Build(random);

    public override async Task RunAsync(CrashRun run)
    {
        var random = run.Random;
        await using var guest = await run.OpenAsync();
        for (var i = exhaustive ? 4 : 45; i > 0; i--)
        {
            if (random.Next(3) == 0)
            {
                await guest.RequestAsync(random, shape.ClusterBytes, flushEvery: 6);
                continue;
            }

            var first = random.NextInt64((run.Guest.Size + shape.ClusterBytes - 1) / shape.ClusterBytes) * shape.ClusterBytes;
            await guest.CompressAsync(first, (int)Math.Min(random.Next(1, 4) * shape.ClusterBytes, run.Guest.Size - first), shape.ClusterBytes);
            if (exhaustive && i == 3)
            {
                await guest.FlushAsync();
            }
        }

        await guest.CompareAsync();
    }
}
