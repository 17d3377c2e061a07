using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Operations.Offline;
using Platter.TestKit;

namespace Platter.Tests.CrashSim;

/// <summary>An overlay gets another backing file, or none. At any cut the disk reads the same, stands on the old one or the new one, and the rebase can be run again.</summary>
/// <param name="shape">The overlay.</param>
/// <param name="flattens">None.</param>
internal sealed class Rebases(DiskShape shape, bool flattens = false) : CrashScenario
{
    private const string Other = "another-backing-file-with-a-longer-name.raw";
    private const string Done = "rebased";

    public override string Name => $"{(flattens ? "flatten" : "rebase")}-{shape.Name}";

    public override string Operation => "rebase";

    public override int SampledStates => 100;

    public override CrashImage Prepare(Random random)
    {
        var image = shape.Build(random);
        var other = image.Files[CrashImage.Base].ToArray();
        for (var i = 0; i < 6; i++)
        {
            var at = random.Next(other.Length / 512) * 512;
            var length = Math.Min(random.Next(1, 40) * 512, other.Length - at);
            if (random.Next(3) == 0)
            {
                other.AsSpan(at, length).Clear();
            }
            else
            {
                TestContent.Make(2000 + i, at, length).CopyTo(other, at);
            }
        }

        Array.Resize(ref other, other.Length + (random.Next(-4, 4) * 512));
        return image with { Files = new Dictionary<string, byte[]>(image.Files) { [Other] = other } };
    }

    public override async Task RunAsync(CrashRun run)
    {
        await RebaseAsync(run.Storages);
        run.Mark(Done);
    }

    public override async Task VerifyAsync(CrashVerifier verifier)
    {
        await verifier.CheckAsync("after the cut");
        CrashViolation.ThrowIf(verifier.Run.Guest.Compare(verifier.State.Time, await verifier.ReadAsync()));
        var name = await BackingOfAsync(verifier.Storages);
        var wanted = flattens ? null : Other;
        CrashViolation.ThrowIf(
            name == wanted || (name == CrashImage.Base && !verifier.Run.Happened(Done, verifier.State)) ? null : $"the backing file is '{name}'");
        if (name != wanted)
        {
            await RebaseAsync(verifier.Storages);
            name = await BackingOfAsync(verifier.Storages);
            CrashViolation.ThrowIf(name == wanted ? null : $"the backing file is '{name}' after the second run");
        }

        await verifier.VerifyAsync();
    }

    private static async Task<string?> BackingOfAsync(NamedStorages storages)
    {
        await using var node = await storages.OpenAsync(CrashImage.Top, metadataOnly: true);
        return (await node.GetInfoAsync()).BackingName;
    }

    private async Task RebaseAsync(NamedStorages storages)
    {
        await using var node = (ImageNode)await storages.OpenAsync(CrashImage.Top, writable: true);
        var below = flattens ? null : await storages.OpenAsync(Other);
        await RebaseOperation.CopyDifferencesAsync(node, below);
        await node.ChangeBackingAsync(flattens ? null : Other, flattens ? null : "raw");
        if (below is not null)
        {
            await below.DisposeAsync();
        }
    }
}
