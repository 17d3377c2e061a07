using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Operations.Offline;
using Platter.TestKit;

namespace Platter.Tests.CrashSim;

/// <summary>What an overlay stores goes into its backing file, and the overlay is emptied. At any cut the disk reads the same, and the commit can be run again.</summary>
internal sealed class Commits(DiskShape shape) : CrashScenario
{
    private const string Done = "committed";

    public override string Name => $"commit-{shape.Name}";

    public override string Operation => "commit";

    public override int SampledStates => 100;

    public override CrashImage Prepare(Random random) => shape.Build(random);

    public override async Task RunAsync(CrashRun run)
    {
        await CommitAsync(run.Storages);
        run.Mark(Done);
    }

    public override async Task VerifyAsync(CrashVerifier verifier)
    {
        await verifier.CheckAsync("after the cut");
        CrashViolation.ThrowIf(verifier.Run.Guest.Compare(verifier.State.Time, await verifier.ReadAsync()));
        if (verifier.Run.Happened(Done, verifier.State))
        {
            VerifyBase(verifier);
        }
        else
        {
            await CommitAsync(verifier.Storages);
            VerifyBase(verifier);
        }

        await verifier.VerifyAsync();
    }

    private static void VerifyBase(CrashVerifier verifier)
    {
        var content = verifier.Run.Image.Content;
        var found = verifier.State.Bytes(CrashImage.Base);
        var same = content.AsSpan().CommonPrefixLength(found);
        CrashViolation.ThrowIf(same == content.Length ? null : $"the backing file does not have the disk's bytes at 0x{same:x} after the commit");
    }

    private static async Task CommitAsync(NamedStorages storages)
    {
        await using var node = (ImageNode)await new ImageOpener(storages.Context()).OpenAsync(
            new OpenRequest { Options = NodeOptions.ForFile(CrashImage.Top), Writable = true, WritableBacking = 1 });
        await CommitOperation.CopyDownAsync(node, node.Backing!);
        await node.MakeEmptyAsync();
    }
}
