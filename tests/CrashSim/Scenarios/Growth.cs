using Platter.TestKit;

namespace Platter.Tests.CrashSim;

/// <summary>Small clusters and much data: refcount blocks come, and the refcount table grows and moves.</summary>
internal sealed class Growth(DiskShape shape) : CrashScenario
{
    public override string Name => $"growth-{shape.Name}";

    public override string Operation => "growth of refcount blocks and tables";

    public override int SampledStates => 100;

    public override CrashImage Prepare(Random random) => shape.Build(random);

    public override async Task RunAsync(CrashRun run)
    {
        await using var guest = await run.OpenAsync();

        // Something to use again, before there is something new.
        for (var i = 0; i < 4; i++)
        {
            var (offset, length) = CrashGuest.Range(run.Random, shape.ClusterBytes * 4, run.Guest.Size);
            await guest.DiscardAsync(offset, length);
        }

        await guest.FlushAsync();
        for (var at = 0L; at < run.Guest.Size;)
        {
            var length = (int)Math.Min(run.Guest.Size - at, run.Random.Next(1, 64) * 512);
            await guest.WriteAsync(at, length);
            at += length;
            if (run.Random.Next(12) == 0)
            {
                await guest.FlushAsync();
            }
        }

        await guest.CompareAsync();
    }
}
