using System.Text;
using Platter.Core.Errors;
using Platter.Formats.Parallels.Bundle;
using Platter.Formats.Parallels.Bundle.Editing;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Formats.Editing;

public sealed class DescriptorEditorTests
{
    private static readonly Guid s_new = new("0a0a0a0a-1111-4222-8333-444444444444");

    // As Parallels Desktop writes it, with what it should not have and what nobody knows.
    private const string RealLooking = """
        <?xml version="1.0" encoding="UTF-8"?>
        <!-- written by hand -->
        <Parallels_disk_image   Version='1.0'>
            <Disk_Parameters>
                <Disk_size>134217728</Disk_size>
                <Cylinders>133152</Cylinders>
                <PhysicalSectorSize>4096</PhysicalSectorSize>
                <Heads>16</Heads>
                <Sectors>63</Sectors>
                <Padding>0</Padding>
                <Encryption>
                    <Engine>{00000000-0000-0000-0000-000000000000}</Engine>
                    <Data></Data>
                </Encryption>
                <UID>{c8f5e9a8-2d8a-4b9c-9b9e-0a6d3a1f1b11}</UID>
                <Name>Wîndows &amp; Co</Name>
                <Miscellaneous><CompatLevel>level2</CompatLevel><Bootable>1</Bootable></Miscellaneous>
            </Disk_Parameters>
            <StorageData>
                <Storage>
                    <Start>0</Start>
                    <End>134217728</End>
                    <Blocksize>2048</Blocksize>
                    <Image>
                        <GUID>{5FBAABE3-6958-40ff-92a7-860e329aab41}</GUID>
                        <Type>Compressed</Type>
                        <File> Windows.hdd.0.{5fbaabe3-6958-40ff-92a7-860e329aab41}.hds </File>
                        <Secret attribute="a > b"/>
                    </Image>
                </Storage>
            </StorageData>
            <Snapshots>
                <Shot>
                    <GUID>{5fbaabe3-6958-40ff-92a7-860e329aab41}</GUID>
                    <ParentGUID>{00000000-0000-0000-0000-000000000000}</ParentGUID>
                    <![CDATA[ <Shot> ]]>
                </Shot>
            </Snapshots>
            <VendorData><x:Blob xmlns:x="urn:x">]]&gt;</x:Blob></VendorData>
        </Parallels_disk_image>

        """;

    public static TheoryData<string, string> Looks { get; } = new()
    {
        { "utf-8", "\n" }, { "utf-8", "\r\n" }, { "utf-16", "\n" }, { "utf-16BE", "\r\n" }, { "iso-8859-1", "\n" }, { "with a mark", "\n" },
    };

    [Theory]
    [MemberData(nameof(Looks))]
    public void What_is_not_changed_stays_to_the_last_byte(string encodingName, string lineEnd)
    {
        Encoding encoding = encodingName switch
        {
            "with a mark" => new UTF8Encoding(true),
            "iso-8859-1" => Encoding.Latin1,
            "utf-16" => new UnicodeEncoding(false, true),
            "utf-16BE" => new UnicodeEncoding(true, true),
            _ => new UTF8Encoding(false),
        };
        var text = RealLooking.ReplaceLineEndings(lineEnd).Replace("UTF-8", encodingName is "with a mark" ? "utf-8" : encodingName.Replace("BE", ""), StringComparison.Ordinal);
        byte[] bytes = [.. encoding.GetPreamble(), .. encoding.GetBytes(text)];
        Assert.Equal(bytes, DescriptorEditor.Parse(bytes, "x").Finish().Bytes);

        var (editor, descriptor, tree) = Open(bytes);
        TakeSnapshot(editor, descriptor, tree);
        var (after, parsed, _) = editor.Finish();
        Assert.Equal(2, parsed.Shots.Count);
        Assert.Equal(2, parsed.Storages[0].Images.Count);
        var lines = encoding.GetString(after)[encoding.GetPreamble().Length.CompareTo(0)..].Split(lineEnd);
        var old = text.Split(lineEnd);
        Assert.Equal(
            [
                "<GUID>{0a0a0a0a-1111-4222-8333-444444444444}</GUID>", "<Image>", "<GUID>{5FBAABE3-6958-40ff-92a7-860e329aab41}</GUID>", "<Type>Compressed</Type>",
                "<File> new.hds </File>", "<Secret attribute=\"a > b\"/>", "</Image>", "<GUID>{0a0a0a0a-1111-4222-8333-444444444444}</GUID>", "<Shot>",
                "<GUID>{5fbaabe3-6958-40ff-92a7-860e329aab41}</GUID>", "<ParentGUID>{0a0a0a0a-1111-4222-8333-444444444444}</ParentGUID>", "<![CDATA[ <Shot> ]]>", "</Shot>",
            ],
            Added(old, lines).Select(l => l.Trim()));

        // And back again.
        editor.RemoveImage(descriptor.Storages[0], s_new);
        editor.RemoveShot(s_new);
        editor.SetFile(descriptor.Storages[0], SnapshotTree.PredefinedTop, descriptor.Storages[0].Images[SnapshotTree.PredefinedTop].File, DescriptorImageType.Compressed);
        editor.SetParent(SnapshotTree.PredefinedTop, Guid.Empty);
        Assert.Equal(encoding.GetString(bytes), encoding.GetString(editor.Finish().Bytes));
    }

    [Fact]
    public void Text_with_comments_and_references_is_read_and_changed_as_a_reader_sees_it()
    {
        var xml = XmlText.Parse("<a><b> <!-- x --> one&#x20;<!--y-->tw&#111; </b><c><![CDATA[in]]></c><d><!-- none --></d></a>"u8, "x");
        Assert.Equal(["one two", "in", ""], xml.Root.Children.Select(xml.TextOf));
        for (var i = 0; i < 3; i++)
        {
            xml.SetText(xml.Root.Children[i], "<new>");
        }

        Assert.Equal("<a><b> <!-- x --> &lt;new&gt;<!--y--> </b><c>&lt;new&gt;</c><d><!-- none -->&lt;new&gt;</d></a>", xml.Text);
        Assert.Equal(["<new>", "<new>", "<new>"], xml.Root.Children.Select(xml.TextOf));
    }

    [Fact]
    public void Marks_of_one_snapshot_are_not_given_to_another()
    {
        var text = RealLooking.Replace("<![CDATA[ <Shot> ]]>", "<Temporary/><TemporaryZero></TemporaryZero><Mine/>", StringComparison.Ordinal);
        var (editor, descriptor, tree) = Open(Encoding.UTF8.GetBytes(text));
        TakeSnapshot(editor, descriptor, tree);
        var after = Encoding.UTF8.GetString(editor.Finish().Bytes);
        Assert.Equal(2, after.Split("<Mine/>").Length - 1);
        Assert.Single(after.Split("<Temporary/>").Skip(1));
        Assert.EndsWith("<Temporary/>", after[..after.IndexOf("<TemporaryZero>", StringComparison.Ordinal)], StringComparison.Ordinal);
    }

    [Fact]
    public void New_elements_are_indented_as_their_neighbours()
    {
        var (editor, descriptor, tree) = Open(Encoding.UTF8.GetBytes(RealLooking));
        TakeSnapshot(editor, descriptor, tree);
        var text = Encoding.UTF8.GetString(editor.Finish().Bytes);
        Assert.Contains("\n            <Image>\n                <GUID>{5FBAABE3-6958-40ff-92a7-860e329aab41}</GUID>\n                <Type>Compressed</Type>\n                <File> new.hds </File>\n                <Secret attribute=\"a > b\"/>\n            </Image>\n        </Storage>", text, StringComparison.Ordinal);
        var one = Encoding.UTF8.GetBytes(string.Concat(RealLooking.Split('\n').Select(l => l.Trim())));
        (editor, descriptor, tree) = Open(one);
        TakeSnapshot(editor, descriptor, tree);
        Assert.DoesNotContain("\n", Encoding.UTF8.GetString(editor.Finish().Bytes), StringComparison.Ordinal);
    }

    [Fact]
    public void Old_descriptors_get_the_shots_they_lack()
    {
        var bytes = Encoding.UTF8.GetBytes(RealLooking[..RealLooking.IndexOf("    <Snapshots>", StringComparison.Ordinal)] + "</Parallels_disk_image>");
        var (editor, descriptor, tree) = Open(bytes);
        editor.CompleteShots(tree);
        TakeSnapshot(editor, descriptor, tree);
        var (_, _, after) = editor.Finish();
        Assert.Equal(SnapshotTree.PredefinedTop, after.TopId);
        Assert.Equal(s_new, after.Root.Id);
    }

    [Fact]
    public void A_size_brings_its_geometry_and_the_end_of_the_last_storage()
    {
        var built = Bundle();
        var (editor, descriptor, _) = Open(built);
        editor.SetSize(1 << 20, descriptor.Storages[^1], 1 << 20);
        var after = editor.Finish().Descriptor;
        Assert.Equal(1 << 20, after.DiskSizeSectors);
        Assert.Equal(1 << 20, after.GeometrySectors);
        Assert.Equal(1 << 20, after.Storages[^1].EndSector);
        Assert.Equal(descriptor.Storages[0].EndSector, after.Storages[0].EndSector);
    }

    [Fact]
    public void Top_mark_parent_file_and_storage_are_changed_where_they_are()
    {
        var (editor, descriptor, tree) = Open(Bundle());
        var first = tree.Root.Id;
        editor.MarkMerging(first);
        editor.SetFile(descriptor.Storages[1], first, "other.hds", DescriptorImageType.Plain);
        editor.SetTop(first);
        var (_, after, built) = editor.Finish();
        Assert.True(built.Root.IsMerging);
        Assert.Equal(first, after.TopId);
        Assert.Equal(("other.hds", DescriptorImageType.Plain), (after.Storages[1].Images[first].File, after.Storages[1].Images[first].Type));
        Assert.Equal(descriptor.Storages[0].Images[first].File, after.Storages[0].Images[first].File);
        editor.RemoveStorage(descriptor.Storages[1]);
        Assert.Single(editor.Finish().Descriptor.Storages);
    }

    [Fact]
    public void An_encoding_that_cannot_be_written_back_is_refused()
    {
        var bytes = Encoding.ASCII.GetBytes("<?xml version='1.0' encoding='windows-1252'?><a/>");
        Assert.Equal(BlockErrorKind.Unsupported, Assert.Throws<BlockException>(() => XmlText.Parse(bytes, "x")).Kind);
    }

    [Fact]
    public void Names_are_escaped_as_the_encoding_needs()
    {
        var ascii = XmlText.Parse("<?xml version='1.0' encoding='us-ascii'?><a><b/></a>"u8, "x");
        ascii.SetText(ascii.Root.Children[0], "a<b>&\"ü\u0001🙂");
        Assert.Equal("<?xml version='1.0' encoding='us-ascii'?><a><b>a&lt;b&gt;&amp;&quot;&#xFC; &#x1F642;</b></a>", ascii.Text);
        Assert.Equal("ü🙂", XmlText.Parse("<a/>"u8, "x").Escape("ü🙂"));
    }

    // Lines that the longer text has and the shorter has not, in order.
    private static IEnumerable<string> Added(string[] old, string[] lines)
    {
        var next = 0;
        foreach (var line in lines)
        {
            var at = Array.IndexOf(old, line, next);
            if (at < 0 || at > next + 1)
            {
                yield return line;
            }
            else
            {
                next = at + 1;
            }
        }
    }

    private static byte[] Bundle()
    {
        var builder = new BundleBuilder("vm", 65536, 128, 32768) { WithUnknownContent = true };
        builder.AddLayer();
        builder.AddTop();
        return builder.Build().Files["DiskDescriptor.xml"].ToArray();
    }

    private static void TakeSnapshot(DescriptorEditor editor, DiskDescriptor descriptor, SnapshotTree tree)
    {
        editor.Split(tree.TopId!.Value, s_new, SnapshotTree.PredefinedTop);
        editor.SetFile(descriptor.Storages[0], SnapshotTree.PredefinedTop, "new.hds", DescriptorImageType.Compressed);
        editor.SetParent(SnapshotTree.PredefinedTop, s_new);
    }

    private static (DescriptorEditor Editor, DiskDescriptor Descriptor, SnapshotTree Tree) Open(byte[] bytes)
    {
        var descriptor = DescriptorParser.Parse(XmlFile.Load(bytes, "x"), "x");
        return (DescriptorEditor.Parse(bytes, "x"), descriptor, SnapshotTree.Build(descriptor));
    }
}
