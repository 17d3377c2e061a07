using System.Text;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Formats.Parallels.Bundle;
using Platter.Formats.Parallels.Bundle.Editing;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Formats.Editing;

/// <summary>What an interrupted change leaves is told as wasted space, and nothing else is taken for it.</summary>
public sealed class LeftoverTests
{
    [Theory]
    [InlineData("take")]
    [InlineData("apply")]
    [InlineData("delete")]
    [InlineData("commit")]
    [InlineData("grow")]
    [InlineData("shrink")]
    [InlineData("grow-split")]
    [InlineData("shrink-split")]
    public async Task Killed_at_any_step_a_check_finds_leaks_at_worst_and_a_repair_gives_them_back(string edit)
    {
        var leaks = 0;
        for (var last = 0; ; last++)
        {
            var builder = new BundleBuilder("vm", 200, 8, edit.EndsWith("split", StringComparison.Ordinal) ? [80, 160] : []);
            var first = edit is "grow" or "shrink" or "shrink-split" ? null : builder.AddLayer().FillRandom(1, 0.7);
            builder.AddTop().FillRandom(2, 0.4);
            var built = builder.Build();
            var fixture = EditFixture.Of(built);
            var before = built.Current.ToArray();
            var after = edit == "apply" ? first!.Model.ToArray() : before.ToArray();
            Array.Resize(ref after, edit switch { "grow" or "grow-split" => 300 * 512, "shrink" or "shrink-split" => 77 * 512, _ => after.Length });
            var node = await fixture.OpenAsync();
            var step = 0;
            fixture.Directory.OnChange = (_, name) =>
            {
                // Whoever was killed does not tidy up either.
                if (step++ >= last)
                {
                    throw new BlockException(BlockErrorKind.Io, $"{name}: simulated");
                }
            };
            var id = first is null ? string.Empty : $"{first.Id:B}";
            _ = await Record.ExceptionAsync(async () => await (edit switch
            {
                "take" => node.CreateSnapshotAsync("taken", DateTimeOffset.UnixEpoch),
                "apply" => node.ApplySnapshotAsync(SnapshotSelector.Parse(id)),
                "delete" => node.DeleteSnapshotAsync(SnapshotSelector.Parse(id)),
                "commit" => node.CommitAsync(),
                _ => node.ResizeAsync(after.Length),
            }));
            fixture.Directory.OnChange = null;
            await node.DisposeAsync();
            var found = await fixture.ReadAsync();
            var findings = await CheckAsync(fixture);
            Assert.DoesNotContain(findings, f => f.Severity is CheckSeverity.Corruption or CheckSeverity.Error || IsStray(f));
            leaks += findings.Count(f => f.Severity == CheckSeverity.Leak);

            var report = await RepairAsync(fixture, RepairMode.Leaks);
            Assert.Equal((0, 0, 0), (report.Check.Corruptions, report.Check.Leaks, report.Check.Errors));
            Assert.Equal(findings.Any(f => f.Severity == CheckSeverity.Leak), report.IsChanged);
            Assert.DoesNotContain(await CheckAsync(fixture), f => f.Severity != CheckSeverity.Note || IsStray(f));
            await fixture.AssertReadsAsync(found);
            Assert.True(found.AsSpan().SequenceEqual(before) || found.AsSpan().SequenceEqual(after));
            await fixture.AssertCleanAsync();
            if (step <= last)
            {
                Assert.True(leaks > 3);
                return;
            }
        }
    }

    [Fact]
    public async Task An_image_that_was_not_closed_in_a_merge_is_a_leak_and_what_else_is_wrong_with_it_is_not()
    {
        var fixture = EditFixture.Of(Unmerged(open: true, breakIt: false));
        var findings = await CheckAsync(fixture);
        Assert.Equal([CheckSeverity.Leak, CheckSeverity.Leak], findings.Where(f => f.Severity != CheckSeverity.Note).Select(f => f.Severity));
        Assert.Contains(findings, f => f.Message.Contains("was not closed, because a change", StringComparison.Ordinal));
        await RepairAsync(fixture, RepairMode.Leaks);
        await fixture.AssertCleanAsync();

        fixture = EditFixture.Of(Unmerged(open: true, breakIt: true));
        findings = await CheckAsync(fixture);
        Assert.Equal([CheckSeverity.Corruption, CheckSeverity.Leak, CheckSeverity.Leak], findings.Where(f => f.Severity != CheckSeverity.Note).Select(f => f.Severity).Order());
        var report = await RepairAsync(fixture, RepairMode.Leaks);
        Assert.True(report.Check.Corruptions > 0);
        await RepairAsync(fixture, RepairMode.All);
        Assert.DoesNotContain(await CheckAsync(fixture), f => f.Severity != CheckSeverity.Note);
    }

    [Fact]
    public async Task Nothing_else_is_taken_for_a_leftover()
    {
        // Open, and no change of ours says why; a size that disagrees; a file that nobody lists.
        var builder = new BundleBuilder("vm", 200, 8);
        builder.AddLayer().FillRandom(1, 0.4).InUse = ParallelsImageBuilder.InUseOpen;
        var top = builder.AddTop().FillRandom(2, 0.4);
        top.ImageSectors = 300;
        var fixture = EditFixture.Of(builder.Build());
        fixture.Directory.Put("vm.hdd.0.{deadbeef-0000-4000-8000-000000000001}.hds", new byte[512]);
        var findings = await CheckAsync(fixture);
        Assert.Equal(2, findings.Count(f => f.Severity == CheckSeverity.Corruption));
        Assert.DoesNotContain(findings, f => f.Severity == CheckSeverity.Leak);
        await RepairAsync(fixture, RepairMode.All);
        Assert.True(fixture.Directory.FileExists("vm.hdd.0.{deadbeef-0000-4000-8000-000000000001}.hds"));

        // A journal of a snapshot explains neither.
        fixture.Directory.Put(BundleJournal.FileName, Encoding.UTF8.GetBytes("file x.hds\n"));
        findings = await CheckAsync(fixture);
        Assert.Contains(findings, f => f.Severity == CheckSeverity.Corruption);
        Assert.Equal([BundleJournal.FileName], findings.Where(f => f.Severity == CheckSeverity.Leak).Select(f => f.File));
    }

    [Fact]
    public async Task A_deleted_snapshot_that_several_states_need_is_only_noted()
    {
        var builder = new BundleBuilder("vm", 200, 8);
        var first = builder.AddLayer().FillRandom(1, 0.4);
        builder.AddLayer(null, first);
        builder.AddTop(first);
        var fixture = EditFixture.Of(builder.Build());
        await using (var node = await fixture.OpenAsync())
        {
            await node.DeleteSnapshotAsync(SnapshotSelector.Parse($"{first.Id:B}"));
        }

        Assert.Equal([CheckSeverity.Note], (await CheckAsync(fixture)).Select(f => f.Severity));
        Assert.False((await RepairAsync(fixture, RepairMode.All)).IsChanged);
    }

    private static bool IsStray(CheckFinding finding) => finding.Message.Contains("no image of the descriptor names", StringComparison.Ordinal);

    private static BuiltBundle Unmerged(bool open, bool breakIt)
    {
        var builder = new BundleBuilder("vm", 200, 8);
        var layer = builder.AddLayer().FillRandom(1, 0.4);
        layer.InUse = open ? ParallelsImageBuilder.InUseOpen : layer.InUse;
        layer.Edit = breakIt ? (_, image) => image.SetBat(24, 8u * 1000) : layer.Edit;
        builder.AddTop();
        return builder.Build().EditDescriptorText(text => text.Insert(text.IndexOf("</Shot>", StringComparison.Ordinal), "<Merging/>"));
    }

    private static async Task<List<CheckFinding>> CheckAsync(EditFixture fixture)
    {
        var findings = new List<CheckFinding>();
        await using var node = await new ParallelsBundleFormat().OpenAsync(fixture.Directory, new NodeOptions(), writable: false, fixture.Context(metadataOnly: true), TestContext.Current.CancellationToken);
        await node.CheckAsync(findings.Add, null, TestContext.Current.CancellationToken);
        return findings;
    }

    private static async Task<RepairReport> RepairAsync(EditFixture fixture, RepairMode mode)
    {
        await using var node = await new ParallelsBundleFormat().OpenAsync(fixture.Directory, new NodeOptions(), writable: false, fixture.Context(forRepair: true), TestContext.Current.CancellationToken);
        return await node.RepairAsync(new RepairOptions(mode), _ => { }, null, TestContext.Current.CancellationToken);
    }
}
