using Platter.TestKit;

namespace Platter.Tests.CrashSim;

/// <summary>An image with lazy refcounts that was not closed is opened for writing, which repairs it, and a guest uses it.</summary>
internal sealed class DirtyOpenings(DiskShape shape) : CrashScenario
{
    public override string Name => $"dirty-{shape.Name}";

    public override string Operation => "opening a dirty image";

    public override int SampledStates => 100;

    public override int BoundedSeeds => 4;

    public override CrashImage Prepare(Random random) => shape.Build(random, built => ImageDamage.MakeDirty(built, random));

    public override async Task RunAsync(CrashRun run)
    {
        await using var guest = await run.OpenAsync();
        for (var i = 0; i < 12; i++)
        {
            await guest.RequestAsync(run.Random, shape.ClusterBytes);
        }
    }
}
