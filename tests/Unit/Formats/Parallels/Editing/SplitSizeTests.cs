using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Formats.Parallels.Bundle;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Formats.Editing;

/// <summary>A split disk that changes its size keeps its parts as large as they were meant to be.</summary>
public sealed class SplitSizeTests
{
    [Theory]
    [InlineData(false, 900, new long[] { 400, 800, 900 })]
    [InlineData(false, 1200, new long[] { 400, 800, 1200 })]
    [InlineData(false, 1201, new long[] { 400, 800, 1200, 1201 })]
    [InlineData(false, 2500, new long[] { 400, 800, 1200, 1600, 2000, 2400, 2500 })]
    [InlineData(true, 2500, new long[] { 400, 800, 1200, 1600, 2000, 2400, 2500 })]
    public async Task A_split_disk_grows_by_parts_of_its_own_size(bool plain, int sectors, long[] ends)
    {
        var fixture = EditFixture.Of(Build(plain, withSnapshot: false, out var model));
        await GrowAsync(fixture, sectors, model, ends);
        await using var node = await fixture.OpenAsync();

        // Whole parts go again.
        await node.ResizeAsync(401 * 512);
        Assert.Equal(new long[] { 400, 401 }, await EndsAsync(fixture));
        Assert.Equal(2, fixture.Directory.ListFiles().Count(f => f.EndsWith(".hds", StringComparison.Ordinal)));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task New_parts_have_an_image_for_every_state(bool plain)
    {
        var built = Build(plain, withSnapshot: true, out var model);
        var fixture = EditFixture.Of(built);
        var first = built.Layers[0].Model.ToArray();
        await GrowAsync(fixture, 1700, model, [400, 800, 1200, 1600, 1700]);
        Array.Resize(ref model, 1700 * 512);
        Array.Resize(ref first, 1700 * 512);
        await fixture.AssertReadsAsync(first, $"{built.Layers[0].Id:B}");
        Assert.Contains("vm.hdd.4.{00000001-0000-4000-8000-000000000001}.hds", fixture.Directory.ListFiles());
        await using var node = await fixture.OpenAsync();
        await node.ReadAsync(default, model);
        await EditFixture.FillAsync(node, model, 5, 1300 * 512, 300 * 512);
        await node.CreateSnapshotAsync("later", DateTimeOffset.UnixEpoch);
        await node.DeleteSnapshotAsync(SnapshotSelector.Parse($"{built.Layers[0].Id:B}"));
        EditFixture.AssertSame(model, await Opening.ReadAllAsync(node), "the disk");
        await node.DeleteSnapshotAsync(SnapshotSelector.Parse("later"));
        EditFixture.AssertSame(model, await Opening.ReadAllAsync(node), "the disk in the end");
        Assert.Equal(5, fixture.Directory.ListFiles().Count(f => f.EndsWith(".hds", StringComparison.Ordinal)));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task New_parts_get_the_place_that_was_asked_for_where_the_images_can(bool plain)
    {
        var fixture = EditFixture.Of(Build(plain, withSnapshot: false, out var model));
        var before = fixture.Directory.ListFiles();
        await using (var node = await fixture.OpenAsync())
        {
            var error = await Record.ExceptionAsync(async () => await node.ResizeAsync(2000 * 512, ResizePreallocation.Full));
            Assert.Equal(plain ? null : BlockErrorKind.Unsupported, (error as BlockException)?.Kind);
            Array.Resize(ref model, plain ? 2000 * 512 : model.Length);
            EditFixture.AssertSame(model, await Opening.ReadAllAsync(node), "the disk");
        }

        Assert.Equal(before.Count + (plain ? 2 : 0), fixture.Directory.ListFiles().Count);
        await fixture.AssertCleanAsync();
    }

    [Fact]
    public async Task Too_many_parts_are_refused_before_anything_is_made()
    {
        var fixture = EditFixture.Of(Build(plain: false, withSnapshot: false, out var model));
        var before = fixture.Directory.ListFiles();
        await using var node = await fixture.OpenAsync();
        var error = await Assert.ThrowsAsync<BlockException>(async () => await node.ResizeAsync(1L << 40));
        Assert.Equal(BlockErrorKind.InvalidRequest, error.Kind);
        Assert.Contains("204800 bytes", error.Message, StringComparison.Ordinal);
        Assert.Equal(before, fixture.Directory.ListFiles());
        EditFixture.AssertSame(model, await Opening.ReadAllAsync(node), "the disk");
    }

    [Fact]
    public async Task A_file_that_has_the_name_of_a_new_part_is_left_alone()
    {
        var fixture = EditFixture.Of(Build(plain: false, withSnapshot: false, out var model));
        const string Name = "vm.hdd.3.{5fbaabe3-6958-40ff-92a7-860e329aab41}.hds";
        fixture.Directory.Put(Name, [1, 2, 3]);
        await using (var node = await fixture.OpenAsync())
        {
            await node.ResizeAsync(1300 * 512);
        }

        Array.Resize(ref model, 1300 * 512);
        await fixture.AssertReadsAsync(model);
        Assert.Equal([1, 2, 3], fixture.Directory.Bytes(Name));
        Assert.Equal(2, fixture.Directory.ListFiles().Count(f => f.StartsWith("vm.hdd.3.", StringComparison.Ordinal)));
    }

    private static async Task GrowAsync(EditFixture fixture, int sectors, byte[] model, long[] ends)
    {
        Array.Resize(ref model, sectors * 512);
        await using (var node = await fixture.OpenAsync())
        {
            await node.ResizeAsync(model.Length);
            EditFixture.AssertSame(model, await Opening.ReadAllAsync(node), "grown");
            await EditFixture.FillAsync(node, model, 9, model.Length - 800, 800);
        }

        await fixture.AssertReadsAsync(model);
        Assert.Equal(ends, await EndsAsync(fixture));
        var findings = new List<CheckFinding>();
        await using var check = await fixture.OpenAsync(writable: false);
        await check.CheckAsync(findings.Add);
        Assert.DoesNotContain(findings, f => f.Severity != CheckSeverity.Note);
    }

    private static async Task<long[]> EndsAsync(EditFixture fixture) =>
        [.. (await new BundleFiles(fixture.Directory, fixture.Context()).ReadDescriptorAsync(TestContext.Current.CancellationToken)).Storages.Select(s => s.EndSector)];

    private static BuiltBundle Build(bool plain, bool withSnapshot, out byte[] model)
    {
        var builder = new BundleBuilder("vm", 1000, 8, 400, 800);
        if (withSnapshot)
        {
            var first = builder.AddLayer();
            first.Plain = plain;
            first.FillRandom(3, 0.5);
        }

        var top = builder.AddTop();
        top.Plain = plain && !withSnapshot;
        top.FillRandom(1, 0.6);
        var built = builder.Build();
        model = built.Current.ToArray();
        return built;
    }
}
