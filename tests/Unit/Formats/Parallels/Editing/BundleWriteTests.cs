using System.Text;
using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Units;
using Platter.Formats.Parallels.Bundle;
using Platter.Formats.Parallels.Bundle.Editing;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Formats.Editing;

public sealed class BundleWriteTests
{
    private const long Sectors = 1500;

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public async Task Random_requests_reach_the_current_state_and_nothing_else(int seed)
    {
        TestContext.Current.TestOutputHelper?.WriteLine($"seed {seed}");
        var random = new Random(seed);
        var builder = new BundleBuilder("vm", Sectors, (uint)random.Next(1, 200), seed == 1 ? [] : [500, 900]) { WithUnknownContent = true };
        var root = builder.AddLayer();
        root.Plain = seed == 3;
        root.FillRandom(seed, 0.5);
        builder.AddLayer().FillRandom(seed + 100, 0.3);
        builder.AddTop().FillRandom(seed + 200, 0.2);
        var built = builder.Build();
        var fixture = EditFixture.Of(built);
        var frozen = built.Layers.Take(2).SelectMany(layer => Enumerable.Range(0, builder.Storages.Count).Select(s => built.ImageName(layer, s))).ToDictionary(f => f, fixture.Directory.Bytes);
        var model = built.Current.ToArray();
        await using (var node = await fixture.OpenAsync())
        {
            for (var i = 0; i < 120; i++)
            {
                await RequestAsync(node, model, random, i);
            }

            EditFixture.AssertSame(model, await Opening.ReadAllAsync(node), "the open disk");
        }

        await fixture.AssertReadsAsync(model);
        foreach (var (file, bytes) in frozen)
        {
            Assert.Equal(bytes, fixture.Directory.Bytes(file));
        }

        await fixture.AssertCleanAsync();
        Assert.Empty(fixture.Warnings);
    }

    public static TheoryData<string, string> Contradictions { get; } = new()
    {
        { "end", "ends at sector" }, { "size", "ends at sector" }, { "image", "the image has 1600 sectors" }, { "dirty", "was not closed correctly" }, { "child", "made on the current state" },
    };

    [Theory]
    [MemberData(nameof(Contradictions))]
    public async Task What_contradicts_itself_is_read_only(string what, string words)
    {
        var builder = new BundleBuilder("vm", Sectors, 8)
        {
            EditDescriptor = root =>
            {
                if (what is "end")
                {
                    root.Descendants("End").Last().Value = "1400";
                }
                else if (what is "size")
                {
                    root.Descendants("Disk_size").Single().Value = "1600";
                }
            },
        };
        var below = builder.AddLayer();
        below.InUse = what == "dirty" ? ParallelsImageBuilder.InUseOpen : null;
        var top = builder.AddTop();
        top.ImageSectors = what == "image" ? 1600 : null;
        if (what == "child")
        {
            builder.AddLayer(null, top);
            builder.Top = top;
        }

        var fixture = EditFixture.Of(builder.Build());
        var error = await Assert.ThrowsAsync<BlockException>(() => fixture.OpenAsync());
        Assert.Equal(BlockErrorKind.ReadOnly, error.Kind);
        Assert.Contains(words, error.Message, StringComparison.Ordinal);
        await using var node = await fixture.OpenAsync(writable: false);
        Assert.True(node.IsReadOnly);
        Assert.Equal(BlockErrorKind.ReadOnly, (await Assert.ThrowsAsync<BlockException>(async () => await node.WriteAsync(default, new byte[512]))).Kind);
        Assert.Equal(BlockErrorKind.ReadOnly, (await Assert.ThrowsAsync<BlockException>(async () => await node.CreateSnapshotAsync("x", default))).Kind);
        Assert.Equal(BlockErrorKind.ReadOnly, (await Assert.ThrowsAsync<BlockException>(async () => await node.ResizeAsync(1 << 20))).Kind);
    }

    [Fact]
    public async Task A_file_that_a_snapshot_shares_with_the_current_state_is_not_written_to()
    {
        var builder = new BundleBuilder("vm", Sectors, 8) { EditDescriptor = root => root.Descendants("File").ElementAt(1).Value = root.Descendants("File").Last().Value };
        var below = builder.AddLayer();
        builder.AddLayer(null, below);
        builder.AddTop(below).Fill(1, 0, 4096);
        var fixture = EditFixture.Of(builder.Build());
        var error = await Assert.ThrowsAsync<BlockException>(() => fixture.OpenAsync());
        Assert.Equal(BlockErrorKind.ReadOnly, error.Kind);
        Assert.Contains("name one file", error.Message, StringComparison.Ordinal);
        await using var node = await fixture.OpenAsync(writable: false);
    }

    [Fact]
    public async Task A_snapshot_is_not_written_to()
    {
        var builder = new BundleBuilder("vm", Sectors, 8);
        var snapshot = builder.AddLayer();
        builder.AddTop();
        var fixture = EditFixture.Of(builder.Build());
        Assert.Equal(BlockErrorKind.ReadOnly, (await Assert.ThrowsAsync<BlockException>(() => fixture.OpenAsync(snapshot: $"{snapshot.Id:B}"))).Kind);
    }

    [Theory]
    [InlineData("DiskDescriptor.xml")]
    [InlineData("./diskdescriptor.xml.backup")]
    [InlineData("../vm.hdd/Snapshots.xml")]
    public async Task A_file_of_the_bundles_own_is_not_written_to_as_an_image(string file)
    {
        var builder = new BundleBuilder("vm", 4) { EditDescriptor = root => root.Descendants("File").Single().Value = file };
        builder.AddTop().Plain = true;
        var fixture = EditFixture.Of(builder.Build());
        fixture.Directory.Put("Snapshots.xml", new byte[2048]);
        var before = fixture.Directory.ListFiles().ToDictionary(f => f, fixture.Directory.Bytes);
        Assert.Equal(BlockErrorKind.NotAllowed, (await Assert.ThrowsAsync<ImageFormatException>(() => fixture.OpenAsync())).Kind);
        Assert.Equal(before, fixture.Directory.ListFiles().ToDictionary(f => f, fixture.Directory.Bytes));
    }

    [Fact]
    public async Task A_plain_image_that_is_short_is_filled_up_when_it_is_written_to()
    {
        var builder = new BundleBuilder("vm", Sectors);
        var top = builder.AddTop();
        (top.Plain, top.PlainTrimmed) = (true, true);
        top.Fill(1, 0, 4096);
        var built = builder.Build();
        var fixture = EditFixture.Of(built);
        var model = built.Current.ToArray();
        await using (var node = await fixture.OpenAsync())
        {
            await EditFixture.FillAsync(node, model, 2, model.Length - 512, 512);
        }

        await fixture.AssertReadsAsync(model);
    }

    [Theory]
    [InlineData("plain")]
    [InlineData("expandable")]
    [InlineData("split")]
    public async Task Size_goes_up_and_down(string shape)
    {
        var builder = new BundleBuilder("vm", 1000, 8, shape == "split" ? [400, 800] : []);
        var top = builder.AddTop();
        top.Plain = shape == "plain";
        top.FillRandom(1, 0.6);
        var built = builder.Build();
        var fixture = EditFixture.Of(built);
        var model = built.Current.ToArray();
        await using (var node = await fixture.OpenAsync())
        {
            foreach (var sectors in new[] { 1001, 3000, 900, 2000, 500, 2500, 1, 700 })
            {
                await node.ResizeAsync(sectors * 512);
                Array.Resize(ref model, sectors * 512);
                EditFixture.AssertSame(model, await Opening.ReadAllAsync(node), $"with {sectors} sectors");
                await EditFixture.FillAsync(node, model, sectors, model.Length - 512, 512);
            }

            Assert.Equal(BlockErrorKind.InvalidRequest, (await Assert.ThrowsAsync<BlockException>(async () => await node.ResizeAsync(0))).Kind);
        }

        await fixture.AssertReadsAsync(model);
        await fixture.AssertCleanAsync();
        Assert.Single(fixture.Directory.ListFiles(), f => f.EndsWith(".hds", StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_disk_with_snapshots_grows_and_does_not_shrink()
    {
        var builder = new BundleBuilder("vm", 1000, 8);
        var first = builder.AddLayer().FillRandom(1, 0.6);
        builder.AddTop().FillRandom(2, 0.1);
        var built = builder.Build();
        var fixture = EditFixture.Of(built);
        var model = built.Current.ToArray();
        Array.Resize(ref model, 1400 * 512);
        await using (var node = await fixture.OpenAsync())
        {
            await node.ResizeAsync(1400 * 512);
            var error = await Assert.ThrowsAsync<BlockException>(async () => await node.ResizeAsync(1000 * 512));
            Assert.Equal(BlockErrorKind.InvalidRequest, error.Kind);
            await node.CreateSnapshotAsync("larger", DateTimeOffset.UnixEpoch);
            await node.ApplySnapshotAsync(SnapshotSelector.Parse($"{first.Id:B}"));
            await node.ApplySnapshotAsync(SnapshotSelector.Parse("larger"));
            await node.DeleteSnapshotAsync(SnapshotSelector.Parse($"{first.Id:B}"));
            EditFixture.AssertSame(model, await Opening.ReadAllAsync(node), "the disk");
        }

        await fixture.AssertReadsAsync(model);
    }

    [Fact]
    public async Task What_was_cut_off_below_does_not_come_back_when_layers_are_merged()
    {
        // Root of 1000 sectors, then 300, then 1000 again: what the root has behind 300 must stay hidden.
        var builder = new BundleBuilder("vm", 1000, 8);
        builder.AddLayer().Fill(1, 0, 1000 * 512);
        var middle = builder.AddLayer();
        middle.ImageSectors = 300;
        builder.AddTop();
        var fixture = EditFixture.Of(builder.Build());
        var model = await fixture.ReadAsync();
        Assert.DoesNotContain(model.AsSpan(300 * 512).ToArray(), b => b != 0);
        await using (var node = await fixture.OpenAsync())
        {
            await node.DeleteSnapshotAsync(SnapshotSelector.Parse($"{middle.Id:B}"));
            Assert.Single(node.Snapshots);
        }

        await fixture.AssertReadsAsync(model);
        await fixture.AssertCleanAsync();
    }

    [Fact]
    public async Task A_list_of_leftovers_removes_nothing_that_is_needed_or_elsewhere_or_no_image()
    {
        var builder = new BundleBuilder("vm", Sectors, 8);
        builder.AddTop();
        var built = builder.Build();
        var fixture = EditFixture.Of(built);
        fixture.Directory.Put("stray.hds", [1]);
        fixture.Directory.Put("other.hds", [1]);
        fixture.Directory.Put("sub/x.hds", [1]);
        fixture.Directory.Put("notes.txt", [1]);
        fixture.Directory.Put(BundleJournal.FileName, Encoding.UTF8.GetBytes(
            $"file {built.ImageName(built.Layers[0])}\nfile stray.hds\nfile sub/x.hds\nfile ../x.hds\nfile notes.txt\nfile DiskDescriptor.xml\nsize -3\nsize 99999999999999999999\nsize 0\nwhat else\n"));
        await using (var node = await fixture.OpenAsync())
        {
            Assert.Equal(Sectors * 512, node.VirtualSize);
        }

        Assert.Equal(
            ["DiskDescriptor.xml", "DiskDescriptor.xml.Backup", "notes.txt", "other.hds", "vm.hdd", built.ImageName(built.Layers[0])],
            fixture.Directory.ListFiles().Order(StringComparer.Ordinal));
        Assert.True(fixture.Directory.FileExists("sub/x.hds"));
    }

    [Fact]
    public async Task A_descriptor_that_changes_while_the_disk_is_opened_is_noticed()
    {
        var builder = new BundleBuilder("vm", Sectors, 8);
        builder.AddTop();
        var built = builder.Build();
        var fixture = EditFixture.Of(built);
        fixture.Directory.OnChange = (what, name) =>
        {
            if (what == "write" && name.EndsWith(".hds", StringComparison.Ordinal))
            {
                fixture.Directory.Put("DiskDescriptor.xml", Encoding.UTF8.GetBytes(built.DescriptorText.Replace("Disk_Parameters>\n", "Disk_Parameters>\n\n", StringComparison.Ordinal)));
            }
        };
        Assert.Equal(BlockErrorKind.Locked, (await Assert.ThrowsAsync<BlockException>(() => fixture.OpenAsync())).Kind);
    }

    [Theory]
    [InlineData("take")]
    [InlineData("apply")]
    [InlineData("delete")]
    [InlineData("commit")]
    [InlineData("grow")]
    [InlineData("shrink")]
    [InlineData("grow-split")]
    [InlineData("shrink-split")]
    public async Task An_error_at_any_step_leaves_the_old_state_or_the_new_one_and_the_next_change_cleans_up(string edit)
    {
        for (var failing = 0; ; failing++)
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
            string? failed = null;
            fixture.Directory.OnChange = (what, name) =>
            {
                if (step++ == failing)
                {
                    failed = $"{what} {name}";
                    throw new BlockException(BlockErrorKind.Io, $"{name}: simulated");
                }
            };
            var id = first is null ? string.Empty : $"{first.Id:B}";
            var error = await Record.ExceptionAsync(async () => await (edit switch
            {
                "take" => node.CreateSnapshotAsync("taken", DateTimeOffset.UnixEpoch),
                "apply" => node.ApplySnapshotAsync(SnapshotSelector.Parse(id)),
                "delete" => node.DeleteSnapshotAsync(SnapshotSelector.Parse(id)),
                "commit" => node.CommitAsync(),
                _ => node.ResizeAsync(after.Length),
            }));
            Assert.True(error is null or BlockException, $"{failed}: {error}");
            fixture.Directory.OnChange = null;
            await node.DisposeAsync();
            var found = await fixture.ReadAsync();
            var isNew = found.AsSpan().SequenceEqual(after);
            Assert.True(isNew || found.AsSpan().SequenceEqual(before), $"{edit} with an error at {failed}: neither the old state nor the new one");
            Assert.True(error is not null || isNew, $"{edit} with an error at {failed}: nobody was told");
            await using (var again = await fixture.OpenAsync())
            {
                found = await Opening.ReadAllAsync(again);
                Assert.True(found.AsSpan().SequenceEqual(after) || found.AsSpan().SequenceEqual(before), failed);
                if (first is not null && again.Snapshots.Any(s => s.Id == id))
                {
                    var old = first.Model.ToArray();
                    Array.Resize(ref old, found.Length);
                    await fixture.AssertReadsAsync(edit == "commit" && await IsCommittedAsync(fixture, id, before) ? before : old, id);
                }

                await again.CreateSnapshotAsync("again", DateTimeOffset.UnixEpoch);
                await again.DeleteSnapshotAsync(SnapshotSelector.Parse("again"));
            }

            await fixture.AssertReadsAsync(found);
            await fixture.AssertCleanAsync();
            if (failed is null)
            {
                Assert.True(failing > 3);
                return;
            }
        }
    }

    private static async Task<bool> IsCommittedAsync(EditFixture fixture, string id, byte[] content) => (await fixture.ReadAsync(id)).AsSpan().SequenceEqual(content);

    private static async Task RequestAsync(BlockNode node, byte[] model, Random random, int number)
    {
        var offset = random.NextInt64(model.Length);
        var length = (int)Math.Min(random.Next(4) == 0 ? random.Next(1, 300_000) : random.Next(1, 9000), model.Length - offset);
        switch (random.Next(8))
        {
            case 0:
                await node.WriteZeroesAsync(new(offset), length, random.Next(2) == 0 ? WriteFlags.MayUnmap : WriteFlags.None);
                model.AsSpan((int)offset, length).Clear();
                break;
            case 1:
                await node.DiscardAsync(new(offset), length);
                await node.ReadAsync(new(offset), model.AsMemory((int)offset, length));
                break;
            case 2:
                await node.FlushAsync();
                break;
            case 3:
                var found = new byte[length];
                await node.ReadAsync(new GuestOffset(offset), found);
                EditFixture.AssertSame(model.AsSpan((int)offset, length).ToArray(), found, $"request {number} at 0x{offset:x}");
                break;
            default:
                await EditFixture.FillAsync(node, model, number, offset, length);
                break;
        }
    }
}
