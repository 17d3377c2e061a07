using System.Text;
using System.Xml.Linq;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Formats.Parallels.Bundle;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Formats.Parallels;

/// <summary>What a descriptor may not say, with the exact words; and what it may, though no tool should write it.</summary>
public class BundleDescriptorTests
{
    private const string Where = "disk.hdd/DiskDescriptor.xml: ";

    /// <summary>A root and the current state, split in two storages.</summary>
    private static BuiltBundle Bundle(bool withTopGuid = false)
    {
        var builder = new BundleBuilder("disk", 640, 64, 320) { WriteTopGuid = withTopGuid };
        builder.AddLayer().FillRandom(1, 0.5);
        builder.AddTop().FillRandom(2, 0.5);
        return builder.Build();
    }

    public static TheoryData<string, string, string, string> Replacements => new()
    {
        // what is replaced, by what, the message
        { "root name", "Parallels_disk_image", "Parallels_disk", "Parallels_disk at line 2: the root element must be Parallels_disk_image" },
        { "version", "Version=\"1.0\"", "Version=\"2.0\"", "Version at line 2: 2.0: only version 1.0 is known" },
        { "no size", "<Disk_size>640</Disk_size>", "", "Disk_Parameters/Disk_size at line 3: is missing" },
        { "two sizes", "<Disk_size>640</Disk_size>", "<Disk_size>640</Disk_size><Disk_size>640</Disk_size>", "Disk_Parameters/Disk_size at line 4: is there twice" },
        { "size text", "<Disk_size>640<", "<Disk_size>many<", "Disk_Parameters/Disk_size at line 4: many: is not a number" },
        { "size negative", "<Disk_size>640<", "<Disk_size>-640<", "Disk_Parameters/Disk_size at line 4: -640: is not a number" },
        { "size empty", "<Disk_size>640<", "<Disk_size><", "Disk_Parameters/Disk_size at line 4: is not a number" },
        { "size element", "<Disk_size>640<", "<Disk_size><a>640</a><", "Disk_Parameters/Disk_size at line 4: must hold text and no elements" },
        { "size octal", "<Disk_size>640<", "<Disk_size>0640<", "Disk_Parameters/Disk_size at line 4: 0640: is ambiguous with its leading zero" },
        { "size large", "<Disk_size>640<", "<Disk_size>18014398509481984<", "Disk_Parameters/Disk_size at line 4: 18014398509481984: must be at most 18014398509481983" },
        { "size huge", "<Disk_size>640<", "<Disk_size>9223372036854775808<", "Disk_Parameters/Disk_size at line 4: 9223372036854775808: must be at most 18014398509481983" },
        { "size beyond 64 bits", "<Disk_size>640<", "<Disk_size>99999999999999999999<", "Disk_Parameters/Disk_size at line 4: 99999999999999999999: is not a number" },
        { "size hex huge", "<Disk_size>640<", "<Disk_size>0xFFFFFFFFFFFFFFFF<", "Disk_Parameters/Disk_size at line 4: 0xFFFFFFFFFFFFFFFF: must be at most 18014398509481983" },
        { "padding", "<Padding>0<", "<Padding>1<", "Disk_Parameters/Padding at line 9: 1: a disk with padding cannot be read: nobody outside Parallels knows its layout" },
        { "encryption engine", "<Padding>0</Padding>", "<Encryption><Engine>{12345678-0000-0000-0000-000000000000}</Engine><Data></Data></Encryption>", "Disk_Parameters/Encryption/Engine at line 9: {12345678-0000-0000-0000-000000000000}: the disk is encrypted, which is not supported" },
        { "encryption data", "<Padding>0</Padding>", "<Encryption><Engine>{00000000-0000-0000-0000-000000000000}</Engine><Data>AAAA</Data></Encryption>", "Disk_Parameters/Encryption/Data at line 9: AAAA: the disk is encrypted, which is not supported" },
        { "encryption key id", "<Padding>0</Padding>", "<Encryption><KeyId>k1</KeyId></Encryption>", "Disk_Parameters/Encryption/KeyId at line 9: k1: the disk is encrypted, which is not supported" },
        { "encryption text", "<Padding>0</Padding>", "<Encryption>yes</Encryption>", "Disk_Parameters/Encryption at line 9: yes: the disk is encrypted, which is not supported" },
        { "no StorageData", "StorageData>", "Other>", "StorageData at line 2: is missing" },
        { "no Storage", "Storage>", "Store>", "StorageData at line 18: has no Storage" },
        { "first start", "<Start>0<", "<Start>1<", "Storage[1]/Start at line 20: 1: the first storage must start at sector 0" },
        { "gap", "<Start>320<", "<Start>321<", "Storage[2]/Start at line 35: 321: leaves a gap behind Storage[1], which ends at sector 320" },
        { "overlap", "<Start>320<", "<Start>0x100<", "Storage[2]/Start at line 35: 256: overlaps Storage[1], which ends at sector 320" },
        { "end before start", "<End>640<", "<End>320<", "Storage[2]/End at line 36: 320: must be greater than Start (320)" },
        { "no image", "Image>", "Picture>", "Storage[1] at line 19: has no Image" },
        { "image type", "<Type>Compressed<", "<Type>CompressedV2<", "Storage[1]/Image[1]/Type at line 25: CompressedV2: only Plain and Compressed images are known" },
        { "image type case", "<Type>Compressed<", "<Type>compressed<", "Storage[1]/Image[1]/Type at line 25: compressed: only Plain and Compressed images are known" },
        { "image guid", "<GUID>{00000001-0000-4000-8000-000000000001}<", "<GUID>{00000001-0000-4000-8000}<", "Storage[1]/Image[1]/GUID at line 24: {00000001-0000-4000-8000}: is not a GUID" },
        { "image null guid", "<GUID>{00000001-0000-4000-8000-000000000001}<", "<GUID>{00000000-0000-0000-0000-000000000000}<", "Storage[1]/Image[1]/GUID at line 24: {00000000-0000-0000-0000-000000000000}: an image cannot have the GUID that means \"no parent\"" },
        { "two images", "<GUID>{00000001-0000-4000-8000-000000000001}<", "<GUID>{5FBAABE3-6958-40ff-92a7-860e329aab41}<", "Storage[1]/Image[2]/GUID at line 29: {5fbaabe3-6958-40ff-92a7-860e329aab41}: Storage[1]/Image[1] has the same GUID" },
        { "no file", "<File>disk.hdd.1.{00000001-0000-4000-8000-000000000001}.hds</File>", "", "Storage[2]/Image[1]/File at line 38: is missing" },
        { "empty file", "<File>disk.hdd.1.{00000001-0000-4000-8000-000000000001}.hds<", "<File> <", "Storage[2]/Image[1]/File at line 41: must be a name of 1 to 4096 characters" },
        { "two roots", "<ParentGUID>{00000001-0000-4000-8000-000000000001}<", "<ParentGUID>{00000000-0000-0000-0000-000000000000}<", "Snapshots/Shot[2]/ParentGUID at line 55: {00000000-0000-0000-0000-000000000000}: there can be one root only, and Snapshots/Shot[1] is one already" },
        { "orphan", "<ParentGUID>{00000001-0000-4000-8000-000000000001}<", "<ParentGUID>{00000009-0000-4000-8000-000000000001}<", "Snapshots/Shot[2]/ParentGUID at line 55: {00000009-0000-4000-8000-000000000001}: there is no such snapshot" },
        { "own parent", "<ParentGUID>{00000001-0000-4000-8000-000000000001}<", "<ParentGUID>{5fbaabe3-6958-40ff-92a7-860e329aab41}<", "Snapshots/Shot[2]/ParentGUID at line 55: {5fbaabe3-6958-40ff-92a7-860e329aab41}: the snapshot is its own ancestor" },
        { "loop", "<ParentGUID>{00000000-0000-0000-0000-000000000000}<", "<ParentGUID>{5fbaabe3-6958-40ff-92a7-860e329aab41}<", "Snapshots/Shot[1]/ParentGUID at line 51: {5fbaabe3-6958-40ff-92a7-860e329aab41}: the snapshot is its own ancestor" },
    };

    [Theory]
    [MemberData(nameof(Replacements))]
    public async Task A_descriptor_that_breaks_the_rules_is_refused_by_element_line_and_value(string what, string from, string to, string message)
    {
        Assert.NotEmpty(what);
        var bundle = Bundle().EditDescriptorText(text =>
        {
            Assert.Contains(from, text, StringComparison.Ordinal);
            return text.Replace(from, to, StringComparison.Ordinal);
        });
        var error = await Assert.ThrowsAsync<ImageFormatException>(() => BundleReadTests.OpenAsync(bundle.ToDirectory()));
        Assert.Equal(Where + message, error.Message);
        var expected = what switch
        {
            "root name" => BlockErrorKind.WrongFormat,
            "version" or "padding" or "image type" or "image type case" => BlockErrorKind.Unsupported,
            _ when what.StartsWith("encryption", StringComparison.Ordinal) => BlockErrorKind.Unsupported,
            _ => BlockErrorKind.CorruptImage,
        };
        Assert.Equal(expected, error.Kind);
    }

    [Theory]
    [InlineData("{704718e1-2314-44c8-9087-d78ed36b0f4e}", "this GUID is reserved for backups and cannot be the current state")]
    [InlineData("{00000007-0000-4000-8000-000000000001}", "there is no such snapshot")]
    [InlineData("top", "is not a GUID")]
    public async Task A_TopGUID_that_cannot_be_is_refused(string guid, string problem)
    {
        var bundle = Bundle(withTopGuid: true).EditDescriptor(root => root.Element("Snapshots")!.Element("TopGUID")!.Value = guid);
        var error = await Assert.ThrowsAsync<ImageFormatException>(() => BundleReadTests.OpenAsync(bundle.ToDirectory()));
        Assert.Equal($"{Where}Snapshots/TopGUID at line {error.Line}: {guid}: {problem}", error.Message);
    }

    [Fact]
    public async Task A_backup_layer_may_be_below_the_top()
    {
        var builder = new BundleBuilder("disk", 640, 64);
        builder.AddLayer(BundleBuilder.BackupId).FillRandom(1, 0.5);
        builder.AddTop().FillRandom(2, 0.5);
        var bundle = builder.Build();
        await using var node = await BundleReadTests.OpenAsync(bundle.ToDirectory());
        await ParallelsReadTests.SameAsModel(node, bundle.Current);
    }

    [Fact]
    public async Task A_bundle_without_a_current_state_lists_what_can_be_chosen()
    {
        var builder = new BundleBuilder("disk", 640, 64);
        var root = builder.AddLayer().FillRandom(1, 0.5);
        var a = builder.AddLayer(parent: root);
        builder.AddLayer(parent: root);
        var bundle = builder.Build();
        var error = await Assert.ThrowsAsync<ImageFormatException>(() => BundleReadTests.OpenAsync(bundle.ToDirectory()));
        Assert.Equal(
            Where + "Snapshots/TopGUID: is missing, and no Shot has the predefined GUID {5fbaabe3-6958-40ff-92a7-860e329aab41}: choose a snapshot; "
            + "the newest are {00000002-0000-4000-8000-000000000002}, {00000003-0000-4000-8000-000000000003}",
            error.Message);
        await using var node = await BundleReadTests.OpenAsync(bundle.ToDirectory(), $"{a.Id:B}");
        await ParallelsReadTests.SameAsModel(node, a.Model);
    }

    [Fact]
    public async Task A_missing_shot_of_the_current_state_is_a_second_root_and_refused()
    {
        // The legacy rule adds the shot without a parent; with another root there, nobody can know what belongs under it.
        var bundle = Bundle().EditDescriptor(root => root.Element("Snapshots")!.Elements("Shot").Last().Remove());
        var error = await Assert.ThrowsAsync<ImageFormatException>(() => BundleReadTests.OpenAsync(bundle.ToDirectory()));
        Assert.Equal(
            Where + "Snapshots/ParentGUID: {00000000-0000-0000-0000-000000000000}: there can be one root only, and Snapshots/Shot[1] is one already", error.Message);
    }

    [Fact]
    public async Task A_missing_shot_of_the_root_is_the_legacy_root()
    {
        // The root has the predefined GUID and no Shot; what stands on it names it as its parent.
        var builder = new BundleBuilder("disk", 640, 64) { WriteTopGuid = true };
        var root = builder.AddLayer(BundleBuilder.PredefinedTop).FillRandom(1, 0.5);
        var top = builder.AddLayer(parent: root).FillRandom(2, 0.5);
        var bundle = builder.Build().EditDescriptor(x => x.Element("Snapshots")!.Elements("Shot").First().Remove());
        await using var node = await BundleReadTests.OpenAsync(bundle.ToDirectory());
        await ParallelsReadTests.SameAsModel(node, top.Model);
    }

    [Fact]
    public async Task Images_without_any_Shot_are_refused_when_their_order_is_unknown()
    {
        var bundle = Bundle().EditDescriptor(root => root.Element("Snapshots")!.Remove());
        var error = await Assert.ThrowsAsync<ImageFormatException>(() => BundleReadTests.OpenAsync(bundle.ToDirectory()));
        Assert.Equal(Where + "Snapshots: has no Shot, but Storage[1] has 2 images whose order nobody can know", error.Message);
    }

    [Fact]
    public async Task A_storage_without_the_image_of_a_layer_is_refused()
    {
        var bundle = Bundle().EditDescriptor(root => root.Descendants("Storage").Last().Elements("Image").First().Remove());
        var error = await Assert.ThrowsAsync<ImageFormatException>(() => BundleReadTests.OpenAsync(bundle.ToDirectory()));
        Assert.Equal(Where + "Storage[2] at line 34: {00000001-0000-4000-8000-000000000001}: has no Image for this GUID of Snapshots/Shot[1]", error.Message);
    }

    [Fact]
    public async Task A_plain_image_on_a_parent_is_refused()
    {
        var bundle = Bundle().EditDescriptor(root => root.Descendants("Image").ElementAt(1).Element("Type")!.Value = "Plain");
        var error = await Assert.ThrowsAsync<ImageFormatException>(() => BundleReadTests.OpenAsync(bundle.ToDirectory()));
        Assert.Equal(
            Where + "Storage[1]/Image[2]/Type at line 28: Plain: only a root can be plain, and {5fbaabe3-6958-40ff-92a7-860e329aab41} has a parent", error.Message);
    }

    [Fact]
    public async Task A_Blocksize_that_is_not_the_images_is_refused()
    {
        var bundle = Bundle().EditDescriptorText(text => text.Replace("<Blocksize>64<", "<Blocksize>128<", StringComparison.Ordinal));
        var error = await Assert.ThrowsAsync<ImageFormatException>(() => BundleReadTests.OpenAsync(bundle.ToDirectory()));
        Assert.Equal(
            Where + "Storage[1]/Blocksize at line 19: 128: the clusters of disk.hdd/disk.hdd.0.{5fbaabe3-6958-40ff-92a7-860e329aab41}.hds have 64 sectors",
            error.Message);
    }

    [Fact]
    public async Task A_plain_image_may_have_any_Blocksize()
    {
        var builder = new BundleBuilder("disk", 640, 64);
        var layer = builder.AddTop();
        layer.Plain = true;
        layer.Fill(1, 0, 5000);
        var bundle = builder.Build().EditDescriptorText(text => text.Replace("<Blocksize>64<", "<Blocksize>4096<", StringComparison.Ordinal));
        await using var node = await BundleReadTests.OpenAsync(bundle.ToDirectory());
        await ParallelsReadTests.SameAsModel(node, layer.Model);
    }

    [Fact]
    public async Task A_compressed_image_that_is_none_is_refused_by_its_file()
    {
        var bundle = Bundle();
        bundle.Files[bundle.ImageName(bundle.Layers[0])].PutU8(0, 0);
        var error = await Assert.ThrowsAsync<ImageFormatException>(() => BundleReadTests.OpenAsync(bundle.ToDirectory()));
        Assert.Equal(
            "disk.hdd/disk.hdd.0.{00000001-0000-4000-8000-000000000001}.hds: header at 0x0: magic: Image not in Parallels format", error.Message);
    }

    [Theory]
    [InlineData("gone.hds", BlockErrorKind.NotFound, "there is no such file in this bundle")]
    [InlineData("sub/gone.hds", BlockErrorKind.NotFound, "there is no such file in this bundle")]
    [InlineData("/etc/passwd", BlockErrorKind.NotFound, "there is no such file in this bundle")]
    [InlineData(@"C:\x\gone.hds", BlockErrorKind.NotFound, "there is no such file in this bundle")]
    [InlineData(@"\\server\share\gone.hds", BlockErrorKind.NotFound, "there is no such file in this bundle")]
    [InlineData("../secret.hds", BlockErrorKind.NotAllowed, "lies outside this bundle")]
    [InlineData("../../../../etc/passwd", BlockErrorKind.NotAllowed, "lies outside this bundle")]
    [InlineData("x/../../secret.hds", BlockErrorKind.NotAllowed, "lies outside this bundle")]
    [InlineData(@"..\secret.hds", BlockErrorKind.NotAllowed, "lies outside this bundle")]
    [InlineData("/a/../disk.hdd/x", BlockErrorKind.NotAllowed, "lies outside this bundle")]
    [InlineData("..", BlockErrorKind.NotAllowed, "lies outside this bundle")]
    [InlineData("/", BlockErrorKind.NotAllowed, "lies outside this bundle")]
    [InlineData(".", BlockErrorKind.NotFound, "there is no such file in this bundle")]
    [InlineData("nbd://localhost/x", BlockErrorKind.NotFound, "there is no such file in this bundle")]
    public async Task A_file_that_is_elsewhere_or_nowhere_is_refused(string file, BlockErrorKind kind, string problem)
    {
        var bundle = Bundle().EditDescriptor(root => root.Descendants("File").First().Value = file);
        var directory = (SparseDirectory)bundle.ToDirectory();
        var error = await Assert.ThrowsAsync<ImageFormatException>(() => BundleReadTests.OpenAsync(directory));
        Assert.Equal((kind, $"{Where}Storage[1]/Image[1]/File at line 23: {file}: {problem}"), (error.Kind, error.Message));
        Assert.DoesNotContain(directory.Opened, name => name.Contains("secret", StringComparison.Ordinal) || name.Contains("passwd", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("../disk.hdd/{0}")] // as ploop writes
    [InlineData("x/../{0}")]
    [InlineData("/disk.hdd/{0}")]
    [InlineData("/some/where/renamed.hdd/{0}")]
    [InlineData(@"Z:\vm.pvm\disk.hdd\{0}")]
    [InlineData(@".\x\..\{0}")]
    [InlineData("  {0}\n")]
    public async Task A_file_that_leads_back_inside_is_found(string pattern)
    {
        var bundle = Bundle();
        bundle.EditDescriptor(root =>
        {
            foreach (var file in root.Descendants("File"))
            {
                file.Value = string.Format(pattern, file.Value.Trim());
            }
        });
        await using var node = await BundleReadTests.OpenAsync(bundle.ToDirectory());
        await ParallelsReadTests.SameAsModel(node, bundle.Current);
    }

    [Fact]
    public async Task A_name_in_another_case_is_found_when_it_is_the_only_one()
    {
        var bundle = Bundle();
        bundle.EditDescriptor(root => root.Descendants("File").First().Value = root.Descendants("File").First().Value.ToUpperInvariant());
        await using var node = await BundleReadTests.OpenAsync(bundle.ToDirectory());
        await ParallelsReadTests.SameAsModel(node, bundle.Current);
    }

    [Fact]
    public async Task Storages_may_be_listed_in_any_order_and_numbers_be_hexadecimal()
    {
        var bundle = Bundle().EditDescriptor(root =>
        {
            var data = root.Element("StorageData")!;
            var last = data.Elements("Storage").Last();
            last.Remove();
            data.AddFirst(last);
            root.Descendants("Disk_size").First().Value = "0x280";
        });
        await using var node = await BundleReadTests.OpenAsync(bundle.ToDirectory());
        await ParallelsReadTests.SameAsModel(node, bundle.Current);
    }

    [Fact]
    public async Task Disk_size_counts_when_it_is_larger_than_the_storages()
    {
        List<string> warnings = [];
        var bundle = Bundle().EditDescriptorText(text => text.Replace("<Disk_size>640<", "<Disk_size>700<", StringComparison.Ordinal));
        await using var node = await BundleReadTests.OpenAsync(bundle.ToDirectory(), warnings: warnings);
        Assert.Equal(700 * 512, node.VirtualSize);
        var bytes = await Opening.ReadAllAsync(node);
        bundle.Current.AssertEqual(0, bytes.AsSpan(0, 640 * 512));
        Assert.All(bytes[(640 * 512)..], b => Assert.Equal(0, b));
        Assert.Equal(
            [
                Where + "Storage[2] ends at sector 640, Disk_size is 700, which counts",
                "disk.hdd/disk.hdd.1.{5fbaabe3-6958-40ff-92a7-860e329aab41}.hds: the image has 320 sectors, its storage 380; Disk_size (700) counts",
            ],
            warnings);
    }

    [Theory]
    [InlineData(500)]
    [InlineData(320)]
    [InlineData(100)]
    [InlineData(1)]
    [InlineData(0)]
    public async Task Disk_size_counts_when_it_is_smaller_than_the_storages(int sectors)
    {
        List<string> warnings = [];
        var bundle = Bundle().EditDescriptorText(text => text.Replace("<Disk_size>640<", $"<Disk_size>{sectors}<", StringComparison.Ordinal));
        await using var node = await BundleReadTests.OpenAsync(bundle.ToDirectory(), warnings: warnings);
        Assert.Equal(sectors * 512, node.VirtualSize);
        bundle.Current.AssertEqual(0, await Opening.ReadAllAsync(node));
        Assert.StartsWith(Where + $"Storage[2] ends at sector 640, Disk_size is {sectors}", warnings[0]);
    }

    [Fact]
    public async Task An_image_shorter_than_its_storage_reads_zeros_behind_its_end()
    {
        // The disk grew: the root still has its old size, and its successor covers all of it.
        var builder = new BundleBuilder("disk", 640, 64);
        builder.AddLayer().Fill(1, 0, 512 * 100).ImageSectors = 128;
        builder.AddTop().Fill(2, 512 * 600, 512);
        var bundle = builder.Build();
        await using var node = await BundleReadTests.OpenAsync(bundle.ToDirectory());
        var expected = bundle.Current.ToArray();
        Assert.Equal(expected, await Opening.ReadAllAsync(node));
    }

    [Theory]
    [InlineData("utf-16", true)]
    [InlineData("utf-16BE", true)]
    [InlineData("utf-8", true)]
    [InlineData("utf-8", false)]
    [InlineData("iso-8859-1", false)]
    [InlineData("us-ascii", false)]
    public async Task Encodings_of_XML_are_understood(string encoding, bool mark)
    {
        var bundle = Bundle();
        var text = bundle.DescriptorText.Replace("encoding=\"utf-8\"", $"encoding=\"{encoding.Replace("BE", "", StringComparison.Ordinal)}\"", StringComparison.OrdinalIgnoreCase)
            .Replace("<Name>disk<", "<Name>d\u00efsk<".Replace("\u00ef", encoding == "us-ascii" ? "i" : "\u00ef", StringComparison.Ordinal), StringComparison.Ordinal);
        var coding = Encoding.GetEncoding(encoding);
        bundle.Files["DiskDescriptor.xml"] = SparseBytes.From([.. mark ? coding.GetPreamble() : [], .. coding.GetBytes(text)]);
        await using var node = await BundleReadTests.OpenAsync(bundle.ToDirectory());
        await ParallelsReadTests.SameAsModel(node, bundle.Current);
        Assert.Equal(encoding == "us-ascii" ? "disk" : "d\u00efsk", (string?)(await node.GetInfoAsync()).FormatSpecific!["data"]!["name"]);
    }

    [Theory]
    [InlineData("<!DOCTYPE a [<!ENTITY x \"y\">]><a/>", "a document type declaration (DTD) is not allowed here")]
    [InlineData("<!DOCTYPE lolz [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;\"><!ENTITY c \"&b;&b;&b;&b;&b;\">]><lolz>&c;</lolz>", "a document type declaration (DTD) is not allowed here")]
    [InlineData("<!DOCTYPE a SYSTEM \"file:///etc/passwd\"><a/>", "a document type declaration (DTD) is not allowed here")]
    [InlineData("\n\n<a><b></a>", "line 3: is not well-formed XML")]
    [InlineData("<a>&unknown;</a>", "line 1: is not well-formed XML")]
    [InlineData("<a>&#0;</a>", "line 1: is not well-formed XML")]
    [InlineData("", "is not well-formed XML")]
    [InlineData("no xml", "line 1: is not well-formed XML")]
    [InlineData("<?xml version=\"1.0\" encoding=\"klingon\"?><a/>", "encoding at line 1: klingon: only UTF-8, UTF-16, ISO-8859-1 and US-ASCII are known")]
    [InlineData("<?xml version='1.0' encoding='windows-1252'?><a/>", "encoding at line 1: windows-1252: only UTF-8, UTF-16, ISO-8859-1 and US-ASCII are known")]
    [InlineData("<?xml version=\"1.0\" encoding=\"utf-16\"?><a/>", "is not well-formed XML")]
    [InlineData("<xi:include xmlns:xi=\"http://www.w3.org/2001/XInclude\" href=\"/etc/passwd\"/>", "include at line 1: the root element must be Parallels_disk_image")]
    public async Task Hostile_XML_is_refused(string xml, string message)
    {
        var bundle = Bundle().SetFile("DiskDescriptor.xml", xml);
        var error = await Assert.ThrowsAsync<ImageFormatException>(() => BundleReadTests.OpenAsync(bundle.ToDirectory()));
        if (message.StartsWith("is", StringComparison.Ordinal))
        {
            Assert.EndsWith(message, error.Message);
        }
        else
        {
            Assert.Equal(Where + message, error.Message);
        }
    }

    [Fact]
    public async Task Nesting_is_bounded()
    {
        var xml = string.Concat(Enumerable.Repeat("<a>", 300_000)) + string.Concat(Enumerable.Repeat("</a>", 300_000));
        await RefusedAsync(Encoding.UTF8.GetBytes(xml), "line 1: elements are nested deeper than 64");
    }

    [Fact]
    public async Task The_number_of_elements_is_bounded()
    {
        var xml = "<a>" + string.Concat(Enumerable.Repeat("<b/>", 1_000_000)) + "</a>";
        await RefusedAsync(Encoding.UTF8.GetBytes(xml), "line 1: has more than 65536 elements and attributes");
    }

    [Fact]
    public async Task The_size_of_a_descriptor_is_bounded_before_it_is_read()
    {
        var bundle = Bundle();
        bundle.Files["DiskDescriptor.xml"] = new SparseBytes(1L << 30);
        var error = await Assert.ThrowsAsync<ImageFormatException>(() => BundleReadTests.OpenAsync(bundle.ToDirectory()));
        Assert.Equal((BlockErrorKind.LimitExceeded, Where + "1073741824 bytes: larger than the limit of 4194304 bytes"), (error.Kind, error.Message));
    }

    [Fact]
    public async Task A_descriptor_full_of_snapshots_is_judged_in_one_pass()
    {
        // A chain of 20 000, and a loop at its far end: no walk may be repeated for every snapshot.
        var shots = new StringBuilder();
        for (var i = 1; i <= 20_000; i++)
        {
            shots.Append($"<Shot><GUID>{{{i:x8}-0000-4000-8000-000000000000}}</GUID><ParentGUID>{{{(i == 20_000 ? 19_000 : i + 1):x8}-0000-4000-8000-000000000000}}</ParentGUID></Shot>");
        }

        var bundle = Bundle().EditDescriptorText(text =>
            text[..text.IndexOf("<Snapshots>", StringComparison.Ordinal)] + "<Snapshots>" + shots + "</Snapshots></Parallels_disk_image>");
        bundle.Files["DiskDescriptor.xml"].SetLength(bundle.Files["DiskDescriptor.xml"].Length);
        var context = Opening.Context(limits: OpenLimits.Default with { MaxDescriptorBytes = 64 << 20 });
        var error = await Assert.ThrowsAsync<ImageFormatException>(() => BundleReadTests.OpenAsync(bundle.ToDirectory(), context: context));
        Assert.EndsWith("the snapshot is its own ancestor", error.Message);
    }

    [Fact]
    public async Task A_chain_longer_than_the_limit_is_refused()
    {
        var builder = new BundleBuilder("disk", 64, 64);
        for (var i = 0; i < 5; i++)
        {
            builder.AddLayer();
        }

        builder.AddTop();
        var context = Opening.Context(limits: OpenLimits.Default with { MaxBundleLayers = 5 });
        var error = await Assert.ThrowsAsync<BlockException>(() => BundleReadTests.OpenAsync(builder.Build().ToDirectory(), context: context));
        Assert.Equal((BlockErrorKind.LimitExceeded, Where + "the snapshot stands on a chain of 6 images, the limit is 5"), (error.Kind, error.Message));
    }

    [Fact]
    public async Task One_file_cannot_be_two_images()
    {
        var bundle = Bundle();
        bundle.EditDescriptor(root => root.Descendants("File").ElementAt(1).Value = root.Descendants("File").First().Value);
        var error = await Assert.ThrowsAsync<ImageFormatException>(() => BundleReadTests.OpenAsync(bundle.ToDirectory()));
        Assert.Equal(
            Where + "Storage[1]/Image[1]/File at line 23: disk.hdd.0.{00000001-0000-4000-8000-000000000001}.hds: the same file is another image of this disk already",
            error.Message);
    }

    [Theory]
    [InlineData("{00000009-0000-4000-8000-000000000001}")]
    [InlineData("no such name")]
    [InlineData("")]
    public async Task An_unknown_snapshot_is_named(string snapshot)
    {
        var error = await Assert.ThrowsAsync<BlockException>(() => BundleReadTests.OpenAsync(Bundle().ToDirectory(), snapshot));
        Assert.Equal((BlockErrorKind.NotFound, $"disk.hdd: has no snapshot '{snapshot}'"), (error.Kind, error.Message));
    }

    [Fact]
    public async Task Two_snapshots_of_one_name_want_a_GUID()
    {
        var disk = Bundle();
        var machine = new MachineBuilder("vm").Add(disk)
            .AddSnapshot(disk.Layers[0].Id, "same", DateTime.UnixEpoch).AddSnapshot(disk.Layers[1].Id, "same", DateTime.UnixEpoch).Build();
        var error = await Assert.ThrowsAsync<BlockException>(() => BundleReadTests.OpenAsync(machine.ToDirectory(), "same"));
        Assert.Equal(
            "vm.pvm/disk.hdd: several snapshots are named 'same', choose by GUID: {00000001-0000-4000-8000-000000000001}, {5fbaabe3-6958-40ff-92a7-860e329aab41}",
            error.Message);
    }

    [Theory]
    [InlineData("<!DOCTYPE a []><a/>")]
    [InlineData("<a><b guid=\"{00000001-0000-4000-8000-000000000001}\">")]
    [InlineData("")]
    public async Task A_bad_Snapshots_file_costs_the_names_only(string xml)
    {
        List<string> warnings = [];
        var machine = new MachineBuilder("vm").Add(Bundle()).Build().SetFile("Snapshots.xml", xml);
        await using var node = await BundleReadTests.OpenAsync(machine.ToDirectory(), warnings: warnings);
        Assert.StartsWith("snapshots have no names: vm.pvm/Snapshots.xml: ", Assert.Single(warnings));
        Assert.Equal(["{00000001-0000-4000-8000-000000000001}"], node.Snapshots.Select(s => s.Id));
    }

    [Fact]
    public async Task A_missing_descriptor_is_named_and_its_backup_mentioned()
    {
        var bundle = Bundle().Remove("DiskDescriptor.xml");
        var error = await Assert.ThrowsAsync<BlockException>(() => BundleReadTests.OpenAsync(bundle.ToDirectory()));
        Assert.Equal(
            (BlockErrorKind.NotFound, "disk.hdd: DiskDescriptor.xml is missing; its copy DiskDescriptor.xml.Backup is there, and 'check -r all' restores it from that"),
            (error.Kind, error.Message));
        error = await Assert.ThrowsAsync<BlockException>(() => BundleReadTests.OpenAsync(new MachineBuilder("vm").Add(bundle).Build().ToDirectory()));
        Assert.StartsWith("vm.pvm/disk.hdd: DiskDescriptor.xml is missing; its copy", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_choice_of_disk_is_for_directories_with_several()
    {
        var error = await Assert.ThrowsAsync<BlockException>(() => BundleReadTests.OpenAsync(Bundle().ToDirectory(), disk: "disk"));
        Assert.Equal("disk.hdd: is one disk; option 'disk' is for directories with several", error.Message);
        var machine = new MachineBuilder("vm").Add(Bundle()).Build().ToDirectory();
        error = await Assert.ThrowsAsync<BlockException>(() => BundleReadTests.OpenAsync(machine, disk: "other"));
        Assert.Equal((BlockErrorKind.NotFound, "vm.pvm: has no disk 'other', only disk.hdd"), (error.Kind, error.Message));
        error = await Assert.ThrowsAsync<BlockException>(
            () => BundleReadTests.OpenAsync(new SparseDirectory("x", new Dictionary<string, SparseBytes> { ["a"] = new() })));
        Assert.Equal((BlockErrorKind.NotFound, "x: has no DiskDescriptor.xml and no .hdd directory with one"), (error.Kind, error.Message));
    }

    [Fact]
    public async Task A_link_out_of_the_bundle_is_not_followed()
    {
        using var folder = new TempFolder();
        var bundle = Bundle();
        var name = bundle.ImageName(bundle.Layers[0]);
        var path = bundle.SaveTo(folder.Path);
        File.Move(Path.Combine(path, name), folder["outside.hds"]);
        File.CreateSymbolicLink(Path.Combine(path, name), folder["outside.hds"]);
        var error = await Assert.ThrowsAnyAsync<BlockException>(() => BundleReadTests.OpenAsync(Platter.Host.Files.FileDirectory.Open(path)));
        Assert.Equal(
            (BlockErrorKind.NotAllowed, $"{path}: '{name}' lies outside this directory"),
            (error.Kind, error.Message));
    }

    [Fact]
    public void Bundles_are_recognised_by_their_descriptor()
    {
        var format = new ParallelsBundleFormat();
        Assert.True(format.Recognises(Bundle().ToDirectory()));
        Assert.True(format.Recognises(new MachineBuilder("vm").Add(Bundle()).Build().ToDirectory()));
        Assert.False(format.Recognises(new SparseDirectory("x", new Dictionary<string, SparseBytes> { ["a.hds"] = new() })));
        Assert.True(format.IsDescriptor("DiskDescriptor.xml", "<?xml version"u8));
        Assert.True(format.IsDescriptor("DiskDescriptor.xml", [0xFF, 0xFE, (byte)'<', 0]));
        Assert.False(format.IsDescriptor("DiskDescriptor.xml", "QFI\xfb"u8));
        Assert.False(format.IsDescriptor("other.xml", "<?xml version"u8));
        Assert.False(format.IsDescriptor("DiskDescriptor.xml", []));
    }

    private static async Task RefusedAsync(byte[] descriptor, string message)
    {
        var bundle = Bundle();
        bundle.Files["DiskDescriptor.xml"] = SparseBytes.From(descriptor);
        var context = Opening.Context(limits: OpenLimits.Default with { MaxDescriptorBytes = 64 << 20 });
        var error = await Assert.ThrowsAsync<ImageFormatException>(() => BundleReadTests.OpenAsync(bundle.ToDirectory(), context: context));
        Assert.Equal((BlockErrorKind.LimitExceeded, Where + message), (error.Kind, error.Message));
    }
}
