using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.TestKit;

namespace Platter.Tests.CrashSim;

/// <summary>Snapshots of a bundle are taken, applied, deleted and committed into, the disk grows, with writes between; each of these happens wholly or not at all.</summary>
internal class BundleEdits(string shape) : CrashScenario
{
    private const int Sectors = 200;

    protected const int ClusterBytes = 8 * 512;

    public override string Name => $"bundle-{shape}";

    public override string Operation => "bundles: snapshot, commit, resize";

    public override int SampledStates => 60;

    protected string Top => shape == "machine" ? "vm.pvm" : "vm.hdd";

    private string Disk => shape == "machine" ? "vm.pvm/vm.hdd" : "vm.hdd";

    public override CrashImage Prepare(Random random) => From(Build(random, withSnapshots: shape == "machine"));

    public override Task VerifyAsync(CrashVerifier verifier) => new BundleVerifier(verifier, Top, Disk) { MayBeOpen = !IsExhaustive }.VerifyAsync();

    public override async Task RunAsync(CrashRun run)
    {
        await using var node = await run.Storages.OpenAsync(Top, writable: true);
        var world = new CrashWorld("before", run.Image.Content, run.Image.Snapshots);
        for (var i = 0; i < 10; i++)
        {
            var names = world.Snapshots.Keys.Order(StringComparer.Ordinal).ToArray();
            var chosen = names.Length == 0 ? string.Empty : names[run.Random.Next(names.Length)];
            world = run.Random.Next(names.Length == 0 ? 3 : 9) switch
            {
                0 => await TakeAsync(run, node, world, $"new {i}"),
                1 or 2 => await WriteAsync(run, node, world),
                3 or 4 => await DeleteAsync(run, node, world, chosen),
                5 => await ApplyAsync(run, node, world, chosen),
                6 => await GrowAsync(run, node, world, world.Content.Length + (run.Random.Next(1, 30) * 512)),
                7 when node.Snapshots.Count > 0 && CanCommit(node) => await CommitAsync(run, node, world),
                _ => await WriteAsync(run, node, world),
            };
        }
    }

    protected static async Task<CrashWorld> TakeAsync(CrashRun run, BlockNode node, CrashWorld world, string name)
    {
        var next = new CrashWorld($"took '{name}'", world.Content, new Dictionary<string, byte[]>(world.Snapshots) { [name] = world.Content });
        await run.StepAsync(next, async () => await node.CreateSnapshotAsync(name, DateTimeOffset.UnixEpoch));
        return next;
    }

    protected static async Task<CrashWorld> DeleteAsync(CrashRun run, BlockNode node, CrashWorld world, string name)
    {
        var others = new Dictionary<string, byte[]>(world.Snapshots);
        others.Remove(name);
        var next = new CrashWorld($"deleted '{name}'", world.Content, others);
        await run.StepAsync(next, async () => await node.DeleteSnapshotAsync(SnapshotSelector.Parse(name)));
        return next;
    }

    protected static async Task<CrashWorld> ApplyAsync(CrashRun run, BlockNode node, CrashWorld world, string name)
    {
        // The size is the disk's, not the snapshot's.
        var content = world.Snapshots[name].ToArray();
        Array.Resize(ref content, world.Content.Length);
        var next = new CrashWorld($"applied '{name}'", content, world.Snapshots);
        await run.StepAsync(next, async () => await node.ApplySnapshotAsync(SnapshotSelector.Parse(name)));
        return next;
    }

    protected static async Task<CrashWorld> CommitAsync(CrashRun run, BlockNode node, CrashWorld world)
    {
        var name = ParentOf(node)!;
        var next = new CrashWorld($"committed into '{name}'", world.Content, new Dictionary<string, byte[]>(world.Snapshots) { [name] = world.Content });
        await run.StepAsync(next, async () => await node.CommitAsync());
        return next;
    }

    protected static async Task<CrashWorld> GrowAsync(CrashRun run, BlockNode node, CrashWorld world, int size)
    {
        var content = world.Content.ToArray();
        Array.Resize(ref content, size);
        var next = new CrashWorld($"resized to {size}", content, world.Snapshots);
        await run.StepAsync(next, async () => await node.ResizeAsync(size));
        return next;
    }

    protected static async Task<CrashWorld> WriteAsync(CrashRun run, BlockNode node, CrashWorld world)
    {
        var (offset, length) = CrashGuest.Range(run.Random, ClusterBytes, world.Content.Length);
        var content = world.Content.ToArray();
        var bytes = TestContent.Make(run.NextContent(), offset, length);
        bytes.CopyTo(content.AsSpan((int)offset));
        var next = new CrashWorld("wrote", content, world.Snapshots) { Mixes = world.Content };
        await run.StepAsync(next, async () =>
        {
            await node.WriteAsync(new(offset), bytes);
            await node.FlushAsync();
        });
        return next with { Mixes = null };
    }

    protected BuiltBundle Build(Random random, bool withSnapshots)
    {
        var builder = new BundleBuilder("vm", Sectors, ClusterBytes / 512, shape == "split" ? [64, 128] : []) { WriteTopGuid = shape == "top-guid" };
        if (withSnapshots)
        {
            builder.AddLayer().FillRandom(random.Next(), 0.5);
        }

        var top = shape == "top-guid" ? builder.AddLayer(new Guid("11111111-2222-4333-8444-555555555555")) : builder.AddTop();
        top.Plain = shape == "plain";
        top.FillRandom(random.Next(), 0.3);
        var built = builder.Build();
        return shape != "machine" ? built
            : new MachineBuilder("vm").Add(built).AddSnapshot(built.Layers[0].Id, "first", new DateTime(2024, 1, 1)).Build();
    }

    protected static CrashImage From(BuiltBundle built) => new()
    {
        Files = built.Files.ToDictionary(f => $"{built.Name}/{f.Key}", f => f.Value.ToArray()),
        Content = built.Current.ToArray(),
        Snapshots = built.Layers.Count > 1 ? new Dictionary<string, byte[]> { ["first"] = built.Layers[0].Model.ToArray() } : new Dictionary<string, byte[]>(),
    };

    private static bool CanCommit(BlockNode node) => ParentOf(node) is not null;

    // The nearest snapshot under the current state that is one still.
    private static string? ParentOf(BlockNode node)
    {
        var info = node.GetInfoAsync().AsTask().GetAwaiter().GetResult();
        var layers = info.FormatSpecific!["data"]!["layers"]!.AsArray();
        var at = layers.First(l => (bool)l!["top"]!)!["parent-guid"]?.ToString();
        while (at is not null)
        {
            var layer = layers.First(l => l!["guid"]!.ToString() == at)!;
            if (layer["deleted"] is null)
            {
                return layer["name"]?.ToString();
            }

            at = layer["parent-guid"]?.ToString();
        }

        return null;
    }
}

/// <summary>One change of a bundle, and every state that a cut can leave.</summary>
internal sealed class FewBundleEdits(string edit) : BundleEdits("one")
{
    public override string Name => $"bundle-few-{edit}";

    public override bool IsExhaustive => true;

    public override int ExhaustiveBound => 250;

    public override int BoundedSeeds => 1;

    public override CrashImage Prepare(Random random)
    {
        var builder = new BundleBuilder("vm", 60, 8, edit.Contains("split", StringComparison.Ordinal) ? [24, 48] : []);
        var first = edit is "grow" or "shrink" or "grow-split" or "shrink-split" ? null : builder.AddLayer();
        first?.FillRandom(1, edit == "delete-up" ? 0.1 : 0.9);
        var top = builder.AddTop();
        top.FillRandom(2, edit == "delete-up" ? 0.8 : 0.2);
        if (edit == "delete-leaf")
        {
            builder.AddLayer(null, first).FillRandom(3, 0.4);
            builder.Top = top;
        }

        var built = builder.Build();
        var machine = new MachineBuilder("vm").Add(built);
        foreach (var (layer, i) in built.Layers.Select((l, i) => (l, i)).Where(l => l.l != top))
        {
            machine.AddSnapshot(layer.Id, i == 0 ? "first" : "leaf", new DateTime(2024, 1, 1));
        }

        var image = From(built);
        var snapshots = new Dictionary<string, byte[]>();
        if (first is not null)
        {
            snapshots["first"] = first.Model.ToArray();
        }

        if (edit == "delete-leaf")
        {
            snapshots["leaf"] = built.Layers[2].Model.ToArray();
        }

        var files = new Dictionary<string, byte[]>(image.Files);
        if (snapshots.Count > 0)
        {
            files["vm.hdd/Snapshots.xml"] = machine.Build().Files["Snapshots.xml"].ToArray();
        }

        return image with { Files = files, Snapshots = snapshots };
    }

    public override async Task RunAsync(CrashRun run)
    {
        await using var node = await run.Storages.OpenAsync(Top, writable: true);
        var world = new CrashWorld("before", run.Image.Content, run.Image.Snapshots);
        _ = edit switch
        {
            "take" => await TakeAsync(run, node, world, "taken"),
            "apply" => await ApplyAsync(run, node, world, "first"),
            "commit" => await CommitAsync(run, node, world),
            "grow" or "grow-split" or "grow-split-snapshot" => await GrowAsync(run, node, world, 90 * 512),
            "shrink" or "shrink-split" => await GrowAsync(run, node, world, 33 * 512),
            "delete-leaf" => await DeleteAsync(run, node, world, "leaf"),
            _ => await DeleteAsync(run, node, world, "first"),
        };
    }
}
