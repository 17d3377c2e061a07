using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Formats.Parallels.Bundle;
using Platter.TestKit;

namespace Platter.Tests.CrashSim;

/// <summary>A bundle is made in an empty directory: until that has come to its end there may be none, and then it is whole.</summary>
internal sealed class BundleCreations : CrashScenario
{
    public override string Name => "bundle-create";

    public override string Operation => "bundles: create";

    public override bool IsExhaustive => true;

    public override int ExhaustiveBound => 300;

    public override int BoundedSeeds => 1;

    public override CrashImage Prepare(Random random) => new()
    {
        Files = new Dictionary<string, byte[]> { ["vm.hdd/x"] = [] },
        Content = new byte[100 * 512],
    };

    public override async Task RunAsync(CrashRun run)
    {
        var directory = run.Disk.Directories["vm.hdd"];
        await directory.RemoveFileAsync("x");
        await directory.SynchroniseAsync();
        await new ParallelsBundleFormat().CreateAsync(directory, 100 * 512, new NodeOptions { ["cluster_size"] = "4096", ["split_size"] = "32768" }, new CreateContext());
        run.Mark("made");
    }

    public override async Task VerifyAsync(CrashVerifier verifier)
    {
        try
        {
            await using var node = await verifier.Storages.OpenAsync("vm.hdd");
        }
        catch (BlockException) when (!verifier.Run.Happened("made", verifier.State))
        {
            return;
        }

        await new BundleVerifier(verifier, "vm.hdd", "vm.hdd").VerifyAsync();
    }
}
