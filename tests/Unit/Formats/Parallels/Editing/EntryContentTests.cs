using System.Text;
using System.Text.RegularExpressions;
using System.Xml.Linq;
using Platter.Core.Images;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Formats.Editing;

/// <summary>What nobody specifies inside the entries of a state (its <c>Image</c>s and its <c>Shot</c>) is that state's, whatever is done to the bundle.</summary>
public sealed partial class EntryContentTests
{
    public static TheoryData<string, bool> Shapes { get; } = new()
    {
        { "one", false }, { "one", true }, { "plain", false }, { "split", false }, { "split", true }, { "top-guid", false }, { "top-guid", true }, { "not-last", false }, { "not-last", true },
    };

    [Theory]
    [MemberData(nameof(Shapes))]
    public async Task Taking_and_deleting_a_snapshot_gives_the_descriptor_back(string shape, bool goesUp)
    {
        var fixture = EditFixture.Of(Build(shape));
        var before = Descriptor(fixture);
        await using (var node = await fixture.OpenAsync())
        {
            await node.CreateSnapshotAsync("x", DateTimeOffset.UnixEpoch);
            var between = Descriptor(fixture);
            Assert.Equal(2 * Count(before, "<Extra of=\"top"), Count(between, "<Extra of=\"top"));
            Assert.Equal(2 * Count(before, "<!-- about top"), Count(between, "<!-- about top"));
            if (goesUp)
            {
                // More is in the upper images than below: those stay.
                await EditFixture.FillAsync(node, new byte[node.VirtualSize], 1, 0, (int)node.VirtualSize);
            }

            await node.DeleteSnapshotAsync(SnapshotSelector.Parse("x"));
            await node.CreateSnapshotAsync("y", DateTimeOffset.UnixEpoch);
            await node.CreateSnapshotAsync("z", DateTimeOffset.UnixEpoch);
            await node.DeleteSnapshotAsync(SnapshotSelector.Parse("y"));
            await node.DeleteSnapshotAsync(SnapshotSelector.Parse("z"));
        }

        Assert.Equal(WithoutIds(before), WithoutIds(Descriptor(fixture)));
    }

    [Fact]
    public async Task Applying_a_snapshot_leaves_each_state_what_is_its_own()
    {
        var built = Build("snapshot");
        var fixture = EditFixture.Of(built);
        var before = Descriptor(fixture);
        await using (var node = await fixture.OpenAsync())
        {
            await node.ApplySnapshotAsync(SnapshotSelector.Parse($"{built.Layers[0].Id:B}"));
        }

        Assert.Equal(WithoutIds(before), WithoutIds(Descriptor(fixture)));
    }

    [Fact]
    public async Task Commit_leaves_each_state_what_is_its_own()
    {
        var fixture = EditFixture.Of(Build("snapshot"));
        var before = Descriptor(fixture);
        await using (var node = await fixture.OpenAsync())
        {
            await node.CommitAsync();
        }

        Assert.Equal(WithoutIds(before), WithoutIds(Descriptor(fixture)));
    }

    [Fact]
    public async Task What_belongs_to_a_snapshot_goes_with_it()
    {
        var built = Build("snapshot");
        var fixture = EditFixture.Of(built);
        await using (var node = await fixture.OpenAsync())
        {
            await node.DeleteSnapshotAsync(SnapshotSelector.Parse($"{built.Layers[0].Id:B}"));
        }

        var after = Descriptor(fixture);
        Assert.Equal((0, 2), (Count(after, "<Extra of=\"0"), Count(after, "<Extra of=\"top")));
    }

    [Theory]
    [InlineData("one")]
    [InlineData("split")]
    public async Task A_new_size_changes_numbers_and_nothing_else(string shape)
    {
        var fixture = EditFixture.Of(Build(shape));
        var before = Descriptor(fixture);
        await using (var node = await fixture.OpenAsync())
        {
            await node.ResizeAsync(node.VirtualSize + 512);
            Assert.NotEqual(before, Descriptor(fixture));
            await node.ResizeAsync(node.VirtualSize - 512);
        }

        Assert.Equal(WithoutGeometry(before), WithoutGeometry(Descriptor(fixture)));
    }

    private static BuiltBundle Build(string shape)
    {
        var top = shape == "top-guid" ? new Guid("11111111-2222-4333-8444-555555555555") : BundleBuilder.PredefinedTop;
        var builder = new BundleBuilder("vm", 200, 8, shape == "split" ? [64, 128] : [])
        {
            WithUnknownContent = true,
            WriteTopGuid = shape == "top-guid",
            EditDescriptor = root =>
            {
                foreach (var entry in root.Descendants().Where(e => e.Name.LocalName is "Image" or "Shot"))
                {
                    var of = entry.Element("GUID")!.Value == $"{top:B}" ? "top" : "0";
                    entry.SetAttributeValue("vendor", of);
                    entry.AddFirst(new XComment($" about {of} "));
                    entry.Add(new XElement("Extra", new XAttribute("of", of), new XElement("GUID", "{not one}"), new XComment(" > "), "text"));
                    entry.Element("GUID")!.SetAttributeValue("kind", of);
                }
            },
        };
        if (shape is "snapshot" or "not-last")
        {
            builder.AddLayer().FillRandom(1, 0.2);
        }

        var layer = builder.AddLayer(top);
        (layer.Plain, builder.Top) = (shape == "plain", layer);
        layer.FillRandom(2, 0.4);
        if (shape == "not-last")
        {
            builder.AddLayer(null, builder.Build().Layers[0]).FillRandom(3, 0.2);
        }

        return builder.Build();
    }

    private static string Descriptor(EditFixture fixture) => Encoding.UTF8.GetString(fixture.Directory.Bytes("DiskDescriptor.xml"));

    private static int Count(string text, string part) => text.Split(part).Length - 1;

    private static string WithoutIds(string text) => Ids().Replace(text, "{}");

    private static string WithoutGeometry(string text) => Geometry().Replace(text, "$1");

    [GeneratedRegex(@"\{[0-9a-f-]{36}\}")]
    private static partial Regex Ids();

    [GeneratedRegex("<(Cylinders|Heads|Sectors)>[0-9]+")]
    private static partial Regex Geometry();
}
