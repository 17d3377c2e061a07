using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Operations.Offline;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Formats.Qcow2.Writing;

/// <summary>Goal: repair, amend, commit and rebase tell every I/O error, leave the guest's view and the snapshots as they were and leaks at worst, and can be run again to their
/// end. Method: <see cref="FaultWalk"/>.</summary>
public sealed class OfflineFaultWalkTests
{
    private const string Other = "another-backing-file.raw", Undo = "disk.undo";

    public static TheoryData<string, int> Damages() => new()
    {
        { "plain", 1 }, { "plain", 2 }, { "plain", 3 }, { "v2", 4 }, { "tiny", 5 }, { "tiny", 6 }, { "extended", 7 },
    };

    [Theory]
    [MemberData(nameof(Damages))]
    public async Task Errors_during_a_repair_leave_an_image_that_can_be_repaired(string shape, int seed)
    {
        var random = new Random(seed);
        var walk = new FaultWalk(Shape(shape, backing: false), image => ImageDamage.Damage(image, random));
        walk.Add(Undo, []);
        await walk.RunAsync(
            async disk =>
            {
                await using var node = await disk.Failing.OpenAsync(FaultWalk.Top, forRepair: true);
                await node.RepairAsync(new(RepairMode.All) { BeforeSwitch = async (undo, token) => await KeepAsync(disk, undo, token) }, static _ => { });
            },
            async (disk, when, _) =>
            {
                await walk.AssertSameAsync(disk, when);
                await using (var node = await disk.Healthy.OpenAsync(FaultWalk.Top, forRepair: true))
                {
                    var report = await node.RepairAsync(new(RepairMode.All), static _ => { });
                    Assert.True(report.Check is { Corruptions: 0, Leaks: 0, Errors: 0 }, $"{when}: the second repair leaves {report.Check}");
                }

                await walk.AssertSameAsync(disk, $"{when}, repaired");
                await FaultWalk.AssertUsableAsync(disk, when);
            });
    }

    [Fact]
    public async Task Errors_while_a_repair_is_taken_back_leave_an_image_that_can_be_repaired()
    {
        var random = new Random(11);
        var walk = new FaultWalk(Shape("plain", backing: false), image => ImageDamage.Damage(image, random));
        RepairUndo? undo = null;
        await walk.RunAsync(
            async disk =>
            {
                await using (var node = await disk.Healthy.OpenAsync(FaultWalk.Top, forRepair: true))
                {
                    await node.RepairAsync(new(RepairMode.All) { BeforeSwitch = (made, _) => { undo = made; return default; } }, static _ => { });
                }

                await using var storage = await disk.Failing.OpenAsync(NodeOptions.ForFile(FaultWalk.Top), new StorageOpenMode { Writable = true });
                await undo!.ApplyAsync(storage);
            },
            async (disk, when, _) =>
            {
                await walk.AssertSameAsync(disk, when);
                await using (var node = await disk.Healthy.OpenAsync(FaultWalk.Top, forRepair: true))
                {
                    await node.RepairAsync(new(RepairMode.All), static _ => { });
                }

                await FaultWalk.AssertUncorruptedAsync(disk, when, leaksToo: true);
                await walk.AssertSameAsync(disk, $"{when}, repaired");
            },
            least: 2);
    }

    [Theory]
    [InlineData("v2", "compat=1.1", "compat=1.1,refcount_bits=32")]
    [InlineData("plain", "compat=0.10,refcount_bits=16", "compat=0.10")]
    [InlineData("tiny", "compat=1.1,refcount_bits=8", "compat=1.1,refcount_bits=64")]
    [InlineData("plain", "lazy_refcounts=on", "lazy_refcounts=off")]
    [InlineData("backing", "compat=0.10,refcount_bits=16", "compat=1.1,lazy_refcounts=on,refcount_bits=64")]
    public async Task Errors_while_options_are_changed_change_nothing_else(string shape, string options, string then)
    {
        var walk = new FaultWalk(Shape(shape, backing: shape == "backing"));
        await walk.RunAsync(
            async disk =>
            {
                await AmendAsync(disk.Failing, options);
                await AmendAsync(disk.Failing, then);
            },
            async (disk, when, _) =>
            {
                await FaultWalk.AssertUncorruptedAsync(disk, when);
                await walk.AssertSameAsync(disk, when);
                await AmendAsync(disk.Healthy, options);
                await AmendAsync(disk.Healthy, then);
                await FaultWalk.AssertUncorruptedAsync(disk, $"{when}, run again");
                await walk.AssertSameAsync(disk, $"{when}, run again");
                await FaultWalk.AssertUsableAsync(disk, when);
            });
    }

    [Theory]
    [InlineData("plain")]
    [InlineData("tiny")]
    [InlineData("extended")]
    public async Task Errors_during_a_commit_lose_nothing_and_it_can_be_run_again(string shape)
    {
        var walk = new FaultWalk(Shape(shape, backing: true, snapshot: false));
        await walk.RunAsync(
            disk => CommitAsync(disk.Failing),
            async (disk, when, failed) =>
            {
                await FaultWalk.AssertUncorruptedAsync(disk, when);
                await walk.AssertSameAsync(disk, when);
                if (failed)
                {
                    await CommitAsync(disk.Healthy);
                    await FaultWalk.AssertUncorruptedAsync(disk, $"{when}, run again");
                    await walk.AssertSameAsync(disk, $"{when}, run again");
                }

                FaultWalk.AssertEqual(walk.Content, disk.Bytes(FaultWalk.Base)[..walk.Content.Length], $"{when}: the backing file");
                await FaultWalk.AssertUsableAsync(disk, when);
            });
    }

    [Theory]
    [InlineData("plain", Other)]
    [InlineData("tiny", Other)]
    [InlineData("extended", Other)]
    [InlineData("plain", null)]
    public async Task Errors_during_a_rebase_lose_nothing_and_it_can_be_run_again(string shape, string? target)
    {
        var walk = new FaultWalk(Shape(shape, backing: true, snapshot: false));
        var other = TestContent.Make(31, 0, walk.Content.Length - 4096);
        walk.Content.AsSpan(0, 20_000).CopyTo(other);
        walk.Add(Other, other);
        await walk.RunAsync(
            disk => RebaseAsync(disk.Failing, target),
            async (disk, when, failed) =>
            {
                await FaultWalk.AssertUncorruptedAsync(disk, when);
                await walk.AssertSameAsync(disk, when);
                if (failed)
                {
                    await RebaseAsync(disk.Healthy, target);
                    await FaultWalk.AssertUncorruptedAsync(disk, $"{when}, run again");
                    await walk.AssertSameAsync(disk, $"{when}, run again");
                }

                await using (var node = await disk.Healthy.OpenAsync(FaultWalk.Top, metadataOnly: true))
                {
                    Assert.Equal(target, (await node.GetInfoAsync()).BackingName);
                }

                await FaultWalk.AssertUsableAsync(disk, when);
            });
    }

    private static Qcow2Builder Shape(string name, bool backing, bool snapshot = true)
    {
        const int Size = 100 * 512;
        var bits = name switch { "tiny" => 9, "extended" => 14, "plain" => 11, _ => 10 };
        var below = backing ? new ReferenceDisk(Size - 1024) : null;
        below?.Fill(99, 0, (int)below.Size);
        var builder = new Qcow2Builder
        {
            Version = name == "v2" ? 2 : 3, ClusterBits = bits, RefcountOrder = name == "tiny" ? 6 : 4, ExtendedL2 = name == "extended", Size = Size, Seed = 3,
            FreeClusters = 3, Backing = below, BackingFile = backing ? FaultWalk.Base : null, BackingFormat = backing ? "raw" : null,
        };
        builder.FillRandom(5, 0.4, compressed: true);
        if (snapshot && name != "plain")
        {
            builder.AddSnapshot("1", "one");
            builder.FillRandom(6, 0.2, compressed: true);
        }

        return builder;
    }

    private static async ValueTask KeepAsync(WalkDisk disk, RepairUndo undo, CancellationToken token)
    {
        await using var file = await disk.Failing.OpenAsync(NodeOptions.ForFile(Undo), new StorageOpenMode { Writable = true }, token);
        await file.WriteAsync(default, undo.ToBytes(), token);
        await file.FlushAsync(token);
    }

    private static async Task AmendAsync(NamedStorages storages, string text)
    {
        var options = NodeOptions.ParseKeyValues(text);
        while (options.Keys.Count > 0)
        {
            await using var node = (ImageNode)await storages.OpenAsync(FaultWalk.Top, writable: true);
            options = await node.AmendAsync(options, new AmendContext());
        }
    }

    private static async Task CommitAsync(NamedStorages storages)
    {
        await using var node = (ImageNode)await new ImageOpener(storages.Context()).OpenAsync(
            new OpenRequest { Options = NodeOptions.ForFile(FaultWalk.Top), Writable = true, WritableBacking = 1 });
        await CommitOperation.CopyDownAsync(node, node.Backing!);
        await node.MakeEmptyAsync();
    }

    private static async Task RebaseAsync(NamedStorages storages, string? target)
    {
        await using var node = (ImageNode)await storages.OpenAsync(FaultWalk.Top, writable: true);
        if (target is null)
        {
            await RebaseOperation.CopyDifferencesAsync(node, null);
            await node.ChangeBackingAsync(null, null);
            return;
        }

        await using var below = await storages.OpenAsync(target);
        await RebaseOperation.CopyDifferencesAsync(node, below);
        await node.ChangeBackingAsync(target, "raw");
    }
}
