using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Formats.Parallels.Bundle;
using Platter.TestKit;
using Platter.Tests.Unit.Formats.Parallels;
using Xunit;

namespace Platter.Tests.Unit.Formats.Editing;

public sealed class SnapshotEditTests
{
    private const int Cluster = 128 * 512;

    public static TheoryData<string> Shapes { get; } = ["expandable", "plain", "split", "v2", "top-guid", "odd-clusters", "legacy"];

    [Fact]
    public async Task Bitmaps_go_on_with_the_current_state()
    {
        const string Name = "01020304-0506-0708-090a-0b0c0d0e0f10";
        var fixture = EditFixture.Of(Build("expandable", out var model));
        await using (var node = await fixture.OpenAsync())
        {
            await node.AddBitmapsAsync([new(Name, 65536)]);
            Assert.Equal(Name, Assert.Single(node.Bitmaps).Name);
            await EditFixture.FillAsync(node, model, 1, 0, 512);
            await TakeAsync(node, "one", model);
            Assert.Equal([(0, 128)], await ParallelsBitmapTests.RangesAsync(node, Name));
            await EditFixture.FillAsync(node, model, 2, 3 * Cluster, 512);
        }

        await using (var node = await fixture.OpenAsync())
        {
            Assert.Equal([(0, 128), (3 * 128, 128)], await ParallelsBitmapTests.RangesAsync(node, Name));
            await node.DeleteSnapshotAsync(SnapshotSelector.Parse("one"));
            var ranges = await ParallelsBitmapTests.RangesAsync(node, Name);
            Assert.Contains(ranges, r => r.Item1 == 0);
            await node.ClearBitmapAsync(Name);
            Assert.Empty(await ParallelsBitmapTests.RangesAsync(node, Name));
            await TakeAsync(node, "two", model);
            Assert.Empty(fixture.Warnings);
            await node.ApplySnapshotAsync(SnapshotSelector.Parse("two"));
            Assert.Empty(node.Bitmaps);
            Assert.Contains($"gone: dirty bitmap {Name}: ", Assert.Single(fixture.Warnings), StringComparison.Ordinal);
            await node.DeleteSnapshotAsync(SnapshotSelector.Parse("two"));
            await node.AddBitmapsAsync([new("11020304-0506-0708-090a-0b0c0d0e0f10")]);
            await node.RemoveBitmapAsync("11020304-0506-0708-090a-0b0c0d0e0f10");
        }

        await fixture.AssertCleanAsync();
        await fixture.AssertReadsAsync(model);
    }

    [Fact]
    public async Task Bitmaps_of_a_split_disk_are_not_changed()
    {
        var fixture = EditFixture.Of(Build("split", out _));
        await using var node = await fixture.OpenAsync();
        var refused = await Assert.ThrowsAsync<BlockException>(async () => await node.AddBitmapsAsync([new("01020304-0506-0708-090a-0b0c0d0e0f10")]));
        Assert.Equal(BlockErrorKind.Unsupported, refused.Kind);
        Assert.EndsWith("bitmaps of a split disk cannot be changed", refused.Message);
    }

    [Theory]
    [MemberData(nameof(Shapes))]
    public async Task Snapshots_are_taken_applied_and_deleted_and_all_others_read_the_same(string shape)
    {
        var fixture = EditFixture.Of(Build(shape, out var model));
        var saved = new Dictionary<string, byte[]>();
        await using (var node = await fixture.OpenAsync())
        {
            await EditFixture.FillAsync(node, model, 1, 0x3000, 5000);
            saved["one"] = await TakeAsync(node, "one", model);
            await EditFixture.FillAsync(node, model, 2, model.Length - 70_000, 70_000);
            await EditFixture.FillAsync(node, model, 3, 0x2000, 3 * Cluster);
            saved["two"] = await TakeAsync(node, "two", model);
            await EditFixture.FillAsync(node, model, 4, 2 * Cluster, 512);
            await node.WriteZeroesAsync(new(0x2000), Cluster);
            model.AsSpan(0x2000, Cluster).Clear();
            saved["three"] = await TakeAsync(node, "three", model);
            await EditFixture.FillAsync(node, model, 5, 7 * Cluster, 100);
        }

        await VerifyAsync();

        // A branch: back to the first, and on from there.
        await using (var node = await fixture.OpenAsync())
        {
            await node.ApplySnapshotAsync(SnapshotSelector.Parse("one"));
            model = (byte[])saved["one"].Clone();
            EditFixture.AssertSame(model, await Opening.ReadAllAsync(node), "applied");
            await EditFixture.FillAsync(node, model, 6, 4 * Cluster + 512, 2 * Cluster);
            saved["four"] = await TakeAsync(node, "four", model);
            await EditFixture.FillAsync(node, model, 7, 0, 512);
        }

        await VerifyAsync();

        // Two stand on the first: it goes, what they see stays.
        foreach (var name in new[] { "one", "three", "two", "four" })
        {
            await using (var node = await fixture.OpenAsync())
            {
                var id = IdOf(node, name);
                await node.DeleteSnapshotAsync(SnapshotSelector.Parse(id));
                saved.Remove(name);
                EditFixture.AssertSame(model, await Opening.ReadAllAsync(node), $"without {name}");
            }

            await VerifyAsync(mayNote: true);
        }

        // All in one image again.
        Assert.Empty(fixture.Warnings);
        await fixture.AssertCleanAsync();
        var parts = shape == "split" ? 2 : 1;
        Assert.Equal(parts, fixture.Directory.ListFiles().Count(f => f.EndsWith(".hds", StringComparison.Ordinal)));

        async Task VerifyAsync(bool mayNote = false)
        {
            await fixture.AssertReadsAsync(model);
            await using var node = await fixture.OpenAsync(writable: false);
            Assert.Equal(saved.Keys.Order(StringComparer.Ordinal), node.Snapshots.Select(s => s.Name).Order(StringComparer.Ordinal));
            foreach (var (name, content) in saved)
            {
                await fixture.AssertReadsAsync(content, IdOf(node, name));
            }

            if (!mayNote)
            {
                await fixture.AssertCleanAsync();
            }
        }
    }

    [Fact]
    public async Task Taking_a_snapshot_leaves_the_current_state_its_guid_and_the_files_their_names()
    {
        var built = Build("expandable", out _);
        var fixture = EditFixture.Of(built);
        var before = fixture.Directory.ListFiles();
        await using (var node = await fixture.OpenAsync())
        {
            await node.CreateSnapshotAsync("x", DateTimeOffset.UnixEpoch);
        }

        await using var after = await fixture.OpenAsync(writable: false);
        Assert.Equal("{5fbaabe3-6958-40ff-92a7-860e329aab41}", after.OpenedSnapshot);
        Assert.Subset(fixture.Directory.ListFiles().ToHashSet(), before.ToHashSet());
        Assert.Equal(before.Count + 2, fixture.Directory.ListFiles().Count);
    }

    [Fact]
    public async Task Names_and_dates_are_kept_and_follow_the_tree()
    {
        var fixture = EditFixture.Of(Build("expandable", out _));
        var date = new DateTimeOffset(2024, 5, 6, 7, 8, 9, TimeSpan.Zero);
        await using var node = await fixture.OpenAsync();
        await node.CreateSnapshotAsync("a <&> \"ü\"", date);
        await node.CreateSnapshotAsync("b", date);
        await node.CreateSnapshotAsync("c", date);
        Assert.Equal(["a <&> \"ü\"", "b", "c"], node.Snapshots.Select(s => s.Name));
        Assert.All(node.Snapshots, s => Assert.Equal(date, s.Date));
        await node.DeleteSnapshotAsync(SnapshotSelector.Parse("b"));
        Assert.Equal(["a <&> \"ü\"", "c"], node.Snapshots.Select(s => s.Name));
        await Assert.ThrowsAsync<BlockException>(async () => await node.DeleteSnapshotAsync(SnapshotSelector.Parse("b")));
        await Assert.ThrowsAsync<BlockException>(async () => await node.ApplySnapshotAsync(SnapshotSelector.Parse("{5fbaabe3-6958-40ff-92a7-860e329aab41}")));
        Assert.Equal(BlockErrorKind.InvalidRequest, (await Assert.ThrowsAsync<BlockException>(async () => await node.DeleteSnapshotAsync(SnapshotSelector.Parse(node.OpenedSnapshot)))).Kind);
    }

    [Fact]
    public async Task Names_go_into_the_machines_own_list_which_stays_as_it_was()
    {
        var disk = Build("expandable", out _);
        var machine = new MachineBuilder("vm").Add(disk).AddSnapshot(disk.Layers[0].Id, "first", new DateTime(2024, 1, 1)).Build();
        var fixture = EditFixture.Of(machine);
        var before = fixture.Directory.Bytes("Snapshots.xml");
        await using (var node = await fixture.OpenAsync())
        {
            await node.CreateSnapshotAsync("second", DateTimeOffset.UnixEpoch);
            Assert.Contains("second", node.Snapshots.Select(s => s.Name));
            await node.DeleteSnapshotAsync(SnapshotSelector.Parse("second"));
        }

        Assert.Equal(before, fixture.Directory.Bytes("Snapshots.xml"));
        Assert.False(fixture.Directory.FileExists($"{disk.Name}/Snapshots.xml"));
    }

    [Fact]
    public async Task Commit_makes_the_snapshot_what_the_disk_is_and_leaves_the_other_branch_alone()
    {
        var fixture = EditFixture.Of(Build("expandable", out var model));
        await using var node = await fixture.OpenAsync();
        var first = await TakeAsync(node, "first", model);
        await EditFixture.FillAsync(node, model, 1, Cluster, 3 * Cluster);
        var branch = await TakeAsync(node, "branch", model);
        await node.ApplySnapshotAsync(SnapshotSelector.Parse("first"));
        model = (byte[])first.Clone();
        await EditFixture.FillAsync(node, model, 2, 2 * Cluster, 2 * Cluster);
        await node.CommitAsync();
        EditFixture.AssertSame(model, await Opening.ReadAllAsync(node), "the disk");
        var committed = (byte[])model.Clone();
        await EditFixture.FillAsync(node, model, 3, 0, Cluster);
        await node.FlushAsync();
        Assert.Equal(["branch", "first"], node.Snapshots.Select(s => s.Name).Order(StringComparer.Ordinal));
        var (firstId, branchId) = (IdOf(node, "first"), IdOf(node, "branch"));
        await node.DisposeAsync();
        await fixture.AssertReadsAsync(committed, firstId);
        await fixture.AssertReadsAsync(branch, branchId);
        await fixture.AssertReadsAsync(model);
    }

    [Theory]
    [InlineData("take")]
    [InlineData("commit")]
    [InlineData("delete")]
    public async Task Images_that_were_not_closed_are_before_they_are_frozen(string edit)
    {
        var builder = new BundleBuilder("vm", 200, 8);
        var first = builder.AddLayer().FillRandom(1, 0.6);
        var top = builder.AddTop().FillRandom(2, 0.5);
        top.InUse = ParallelsImageBuilder.InUseOpen;
        var built = builder.Build();
        var fixture = EditFixture.Of(built);
        await using (var node = await fixture.OpenAsync())
        {
            await (edit switch
            {
                "take" => node.CreateSnapshotAsync("new", default),
                "commit" => node.CommitAsync(),
                _ => node.DeleteSnapshotAsync(SnapshotSelector.Parse($"{first.Id:B}")),
            });
        }

        await fixture.AssertReadsAsync(built.Current.ToArray());
        await fixture.AssertCleanAsync();
        await using var again = await fixture.OpenAsync();
        Assert.False(again.IsReadOnly);
    }

    [Fact]
    public async Task A_snapshot_too_many_is_not_taken()
    {
        var fixture = EditFixture.Of(new BundleBuilder("vm", 64, 8).With(b => b.AddTop()).Build());
        await using var node = await fixture.OpenAsync();
        for (var i = 1; i < 64; i++)
        {
            await node.CreateSnapshotAsync($"{i}", DateTimeOffset.UnixEpoch);
        }

        Assert.Equal(BlockErrorKind.LimitExceeded, (await Assert.ThrowsAsync<BlockException>(async () => await node.CreateSnapshotAsync("64", default))).Kind);
        Assert.Equal(63, node.Snapshots.Count);
        await fixture.AssertCleanAsync();
    }

    [Fact]
    public async Task Commit_needs_a_snapshot()
    {
        var fixture = EditFixture.Of(new BundleBuilder("vm", 4096, 128).With(b => b.AddTop()).Build());
        await using var node = await fixture.OpenAsync();
        Assert.Equal(BlockErrorKind.InvalidRequest, (await Assert.ThrowsAsync<BlockException>(async () => await node.CommitAsync())).Kind);
    }

    internal static string IdOf(BundleNode node, string name) => node.Snapshots.Single(s => s.Name == name).Id;

    private static async Task<byte[]> TakeAsync(BundleNode node, string name, byte[] model)
    {
        await node.CreateSnapshotAsync(name, DateTimeOffset.UnixEpoch);
        EditFixture.AssertSame(model, await Opening.ReadAllAsync(node), $"after {name}");
        return (byte[])model.Clone();
    }

    private static BuiltBundle Build(string shape, out byte[] model)
    {
        const long Sectors = 2000;
        long[] splits = shape == "split" ? [1024] : [];
        var builder = new BundleBuilder("vm", Sectors, shape == "odd-clusters" ? 63u : 128u, splits)
        {
            Magic = shape == "v2" ? ParallelsMagic.WithouFreSpacExt : ParallelsMagic.WithoutFreeSpace,
            WriteTopGuid = shape == "top-guid",
            WithUnknownContent = true,
            WithoutSnapshots = shape == "legacy",
        };
        var root = shape == "top-guid" ? builder.AddLayer(new Guid("11111111-2222-4333-8444-555555555555")) : builder.AddTop();
        root.Plain = shape == "plain";
        root.FillRandom(7, 0.4);
        var built = builder.Build();
        model = built.Current.Slice(0, (int)Sectors * 512);
        return built;
    }
}

internal static class WithExtension
{
    public static T With<T>(this T value, Action<T> change)
    {
        change(value);
        return value;
    }
}
