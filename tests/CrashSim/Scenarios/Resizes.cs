using Platter.Core.Images;

namespace Platter.Tests.CrashSim;

/// <summary>The disk grows and shrinks between requests; the L1 table moves when it has to.</summary>
internal sealed class Resizes(GuestShape shape, bool preallocates = false) : CrashScenario
{
    public override string Name => $"resize-{(preallocates ? "preallocated-" : string.Empty)}{shape.Name}";

    public override string Operation => "resize";

    public override CrashImage Prepare(Random random) => shape.Build(random);

    public override async Task RunAsync(CrashRun run)
    {
        await using var guest = await run.OpenAsync();
        for (var i = 0; i < 6; i++)
        {
            for (var k = run.Random.Next(8); k > 0; k--)
            {
                await guest.RequestAsync(run.Random, shape.ClusterBytes);
            }

            var most = shape.Clusters * shape.ClusterBytes / 512 * 2;
            var size = run.Random.Next(1, most) * 512L;
            var mode = preallocates && size >= guest.Node.VirtualSize ? (ResizePreallocation)run.Random.Next(4) : ResizePreallocation.Off;
            await guest.ResizeAsync(size, mode);
            await guest.CompareAsync();
        }
    }
}
