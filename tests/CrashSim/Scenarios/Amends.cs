using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.TestKit;

namespace Platter.Tests.CrashSim;

/// <summary>Options of an image change, to and fro. No cut changes what the disk and its snapshots read, and the change that was cut can be run again.</summary>
internal sealed class Amends(DiskShape shape) : CrashScenario
{
    private static readonly string[] s_changes =
    [
        "compat=1.1,refcount_bits=32", "compat=0.10,refcount_bits=16", "compat=1.1", "compat=1.1,lazy_refcounts=on", "compat=1.1,refcount_bits=8",
        "compat=0.10,refcount_bits=16,lazy_refcounts=off", "compat=1.1,refcount_bits=64,lazy_refcounts=off",
    ];

    public override string Name => $"amend-{shape.Name}";

    public override string Operation => "amend";

    public override int SampledStates => 120;

    public override CrashImage Prepare(Random random) => shape.Build(random);

    public override async Task RunAsync(CrashRun run)
    {
        for (var i = 0; i < 5; i++)
        {
            await AmendAsync(run.Storages, s_changes[run.Random.Next(s_changes.Length)]);
        }
    }

    public override async Task VerifyAsync(CrashVerifier verifier)
    {
        await verifier.CheckAsync("after the cut");
        CrashViolation.ThrowIf(verifier.Run.Guest.Compare(verifier.State.Time, await verifier.ReadAsync()));
        await AmendAsync(verifier.Storages, s_changes[0]);
        await AmendAsync(verifier.Storages, s_changes[1]);
        await verifier.VerifyAsync();
    }

    private static async Task AmendAsync(NamedStorages storages, string text)
    {
        var options = NodeOptions.ParseKeyValues(text);
        while (options.Keys.Count > 0)
        {
            await using var node = (ImageNode)await storages.OpenAsync(CrashImage.Top, writable: true);
            options = await node.AmendAsync(options, new AmendContext());
        }
    }
}
