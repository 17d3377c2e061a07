using System.Buffers.Binary;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Cli;

/// <summary><c>check -r</c>, <c>--explain</c> and <c>--undo</c> on images that the real tool made, and what it says of them afterwards.</summary>
public sealed partial class RepairTests : IDisposable
{
    private readonly TempFolder _folder = new("repair");

    private string Image => _folder["disk.qcow2"];

    private string Good => _folder["good.qcow2"];

    private string Undo => Image + ".undo";

    public static TheoryData<string, string> Damages()
    {
        string[] options =
        [
            "refcount_bits=1", "refcount_bits=2", "refcount_bits=4", "refcount_bits=8", "refcount_bits=16", "refcount_bits=32", "refcount_bits=64", "compat=0.10",
            "extended_l2=on,cluster_size=16k", "cluster_size=512", "lazy_refcounts=on", "data_file=DATA",
        ];
        var result = new TheoryData<string, string>();
        foreach (var option in options)
        {
            string[] some = ["refcounts", "lost table"];
            foreach (var damage in option.StartsWith("refcount_bits", StringComparison.Ordinal) ? some : ["leaks", .. some, "block", "table", "header", "copied"])
            {
                result.Add(option, damage);
            }
        }

        return result;
    }

    public void Dispose() => _folder.Dispose();

    [Theory]
    [MemberData(nameof(Damages))]
    public void What_was_damaged_is_repaired_and_the_guest_sees_what_it_saw(string options, string damage)
    {
        Make(options);
        Damage(Image, damage);
        var damaged = File.ReadAllBytes(Image);
        PlatterCli.Run("check", "-r", "all", Image).Expect();
        Assert.Equal("No errors were found on the image.", ToolRunner.RunChecked("qemu-img", "check", Image).Text.Split('\n')[0]);
        ToolRunner.RunChecked("qemu-img", "compare", Good, Image);
        Assert.True(File.Exists(Undo));
        PlatterCli.Run("check", "--undo", Undo).Expect();
        Assert.Equal(damaged, File.ReadAllBytes(Image));
    }

    [Theory]
    [InlineData("leaks", "leaks")]
    [InlineData("leaks", "all")]
    [InlineData("refcounts", "all")]
    [InlineData("none", "leaks")]
    [InlineData("none", "all")]
    public void Text_and_JSON_are_the_peers(string damage, string mode)
    {
        Make("cluster_size=64k");
        Damage(Image, damage);
        var copy = _folder["copy.qcow2"];
        foreach (var output in new[] { "human", "json" })
        {
            File.Copy(Image, copy, overwrite: true);
            var theirs = ToolRunner.Run("qemu-img", "check", "-r", mode, $"--output={output}", copy);
            File.Copy(Image, copy, overwrite: true);
            var ours = AsPeer("check", "-r", mode, $"--output={output}", copy);
            Assert.Equal(theirs.ExitCode, ours.ExitCode);
            if (output == "human")
            {
                Assert.Equal(End().Replace(theirs.Text, string.Empty), End().Replace(ours.Text, string.Empty));
            }
            else
            {
                Assert.True(JsonNode.DeepEquals(WithoutEnd(theirs), WithoutEnd(ours)), $"{theirs.Text}\n{ours.Text}");
            }
        }

        // Called by the peer's name, nothing is left behind that nobody asked for.
        Assert.False(File.Exists(copy + ".undo"));
    }

    [Fact]
    public void Snapshots_read_as_before_and_all_of_them_are_listed()
    {
        Make("cluster_size=4k", snapshots: true);
        foreach (var damage in new[] { "refcounts", "copied", "table" })
        {
            File.Copy(Good, Image, overwrite: true);
            Damage(Image, damage);
            PlatterCli.Run("check", "-r", "all", Image).Expect();
            ToolRunner.RunChecked("qemu-img", "check", Image);
            Assert.Equal(ToolRunner.RunChecked("qemu-img", "snapshot", "-l", Good).Text, ToolRunner.RunChecked("qemu-img", "snapshot", "-l", Image).Text);
            foreach (var name in new[] { "one", "two" })
            {
                ToolRunner.RunChecked("qemu-img", "convert", "-l", name, "-O", "raw", Good, _folder["good.raw"]);
                ToolRunner.RunChecked("qemu-img", "convert", "-l", name, "-O", "raw", Image, _folder["ours.raw"]);
                Assert.Equal(File.ReadAllBytes(_folder["good.raw"]), File.ReadAllBytes(_folder["ours.raw"]));
            }

            ToolRunner.RunChecked("qemu-img", "snapshot", "-d", "one", Image);
            ToolRunner.RunChecked("qemu-img", "check", Image);
        }
    }

    [Theory]
    [InlineData("l1")]
    [InlineData("l2")]
    public void Data_said_to_be_in_a_table_are_repaired_as_the_peer_does_it(string table)
    {
        Make("cluster_size=64k");
        var bytes = File.ReadAllBytes(Image);
        var l2 = L2Table(bytes);
        var to = table == "l2" ? (ulong)l2 : BinaryPrimitives.ReadUInt64BigEndian(bytes.AsSpan(40));
        BinaryPrimitives.WriteUInt64BigEndian(bytes.AsSpan(l2 + (8 * 100)), to | (1UL << 63));
        File.WriteAllBytes(Image, bytes);
        var copy = _folder["copy.qcow2"];
        File.WriteAllBytes(copy, bytes);
        var theirs = ToolRunner.Run("qemu-img", "check", "-r", "all", copy);
        File.WriteAllBytes(copy, bytes);
        var ours = AsPeer("check", "-r", "all", copy);
        Assert.Equal(End().Replace(theirs.Expect().Text, string.Empty), End().Replace(ours.Expect().Text, string.Empty));
        ToolRunner.RunChecked("qemu-img", "check", copy);
    }

    [Fact]
    public void Two_guest_clusters_in_one_place_are_told_apart_by_the_next_write()
    {
        Make("cluster_size=64k");
        var bytes = File.ReadAllBytes(Image);
        var l2 = L2Table(bytes);
        bytes.AsSpan(l2, 8).CopyTo(bytes.AsSpan(l2 + 8));
        File.WriteAllBytes(Image, bytes);
        PlatterCli.Run("check", "-r", "all", Image).Expect();
        ToolRunner.RunChecked("qemu-img", "check", Image);
        ToolRunner.RunChecked("qemu-io", "-c", "write -P 9 0 64k", "-c", "read -P 1 64k 64k", Image);
        Assert.DoesNotContain("failed", ToolRunner.RunChecked("qemu-io", "-c", "read -P 1 64k 64k", Image).Text, StringComparison.Ordinal);
    }

    [Fact]
    public void An_undo_file_that_is_there_is_never_overwritten()
    {
        Make("cluster_size=64k");
        Damage(Image, "leaks");
        var damaged = File.ReadAllBytes(Image);
        File.WriteAllText(Undo, "mine");
        Assert.Contains("is there already", PlatterCli.Run("check", "-r", "all", "--undo", Undo, Image).Expect(1).Error);
        Assert.Equal(damaged, File.ReadAllBytes(Image));
        Assert.Contains("disk.qcow2.undo2", PlatterCli.Run("check", "-r", "all", Image).Expect().Error);
        Assert.Equal("mine", File.ReadAllText(Undo));
        PlatterCli.Run("check", "--undo", Image + ".undo2", Image).Expect();
        Assert.Equal(damaged, File.ReadAllBytes(Image));
        Assert.Contains("has been taken back already", PlatterCli.Run("check", "--undo", Image + ".undo2", Image).Expect(1).Error);
    }

    [Fact]
    public void A_repair_is_not_taken_back_once_somebody_has_written()
    {
        Make("cluster_size=64k");
        Damage(Image, "refcounts");
        PlatterCli.Run("check", "-r", "all", Image).Expect();
        ToolRunner.RunChecked("qemu-io", "-c", "write -P 7 3M 64k", Image);
        var written = File.ReadAllBytes(Image);
        Assert.Contains("written to since", PlatterCli.Run("check", "--undo", Undo, Image).Expect(1).Error);
        Assert.Equal(written, File.ReadAllBytes(Image));
        PlatterCli.Run("check", "--undo", Undo, Good).Expect(1);
        File.WriteAllBytes(_folder["x"], new byte[5000]);
        Assert.Contains("not an undo file", PlatterCli.Run("check", "--undo", _folder["x"], Image).Expect(1).Error);
    }

    [Fact]
    public void What_there_is_nothing_to_repair_in_is_not_touched()
    {
        Make("cluster_size=64k");
        PlatterCli.Run("check", "-r", "all", Image).Expect();
        PlatterCli.Run("check", "-r", "leaks", Image).Expect();
        Assert.Equal(File.ReadAllBytes(Good), File.ReadAllBytes(Image));
        Assert.False(File.Exists(Undo));
    }

    [Fact]
    public void Explain_says_what_is_wrong_whom_it_concerns_and_what_a_repair_does()
    {
        Make("cluster_size=64k");
        Damage(Image, "refcounts");
        var text = PlatterCli.Run("check", "--explain", Image).Expect(2).Text;
        Assert.Contains("Meaning: The space counts as free", text);
        Assert.Contains("Guest:   0x", text);
        Assert.Contains("Repair:  the refcount is raised", text);
        var findings = JsonNode.Parse(PlatterCli.Run("check", "--explain", "--output=json", Image).Expect(2).Text)!["findings"]!.AsArray();
        Assert.All(findings, finding => Assert.NotNull(finding!["meaning"]));
        Assert.Contains(findings, finding => finding!["guest-ranges"]!.AsArray() is [{ } range, ..] && range["length"]!.GetValue<long>() == 65536);
        Assert.Contains("Repair:  done: the refcount is raised", PlatterCli.Run("check", "-r", "all", "--explain", Image).Expect().Text);
    }

    [Fact]
    public void An_image_that_was_not_closed_is_repaired_when_it_is_opened_for_writing()
    {
        Make("lazy_refcounts=on");
        ToolRunner.Run("qemu-io", "-c", "write -P 5 5M 500k", "-c", "flush", "-c", "abort", Image);
        Assert.Contains("cleanly shut down: no", ToolRunner.RunChecked("qemu-img", "info", Image).Text);
        File.Copy(Image, _folder["copy.qcow2"]);
        PlatterCli.Run("snapshot", "-c", "one", Image).Expect();
        ToolRunner.RunChecked("qemu-img", "check", Image);
        Assert.DoesNotContain("cleanly shut down", ToolRunner.RunChecked("qemu-img", "info", Image).Text);
        Assert.DoesNotContain("failed", ToolRunner.RunChecked("qemu-io", "-r", "-c", "read -P 5 5M 500k", Image).Text, StringComparison.Ordinal);

        PlatterCli.Run("check", "-r", "all", _folder["copy.qcow2"]).Expect();
        ToolRunner.RunChecked("qemu-img", "check", _folder["copy.qcow2"]);
        Assert.DoesNotContain("cleanly shut down", ToolRunner.RunChecked("qemu-img", "info", _folder["copy.qcow2"]).Text);
    }

    [Fact]
    public void An_image_marked_corrupt_is_written_to_after_a_repair_only()
    {
        Make("cluster_size=64k");
        var bytes = File.ReadAllBytes(Image);
        bytes[79] |= 2;
        File.WriteAllBytes(Image, bytes);
        Assert.Contains("marked corrupt", PlatterCli.Run("snapshot", "-c", "one", Image).Expect(1).Error);
        Assert.Equal(bytes, File.ReadAllBytes(Image));
        PlatterCli.Run("check", "-r", "all", Image).Expect();
        PlatterCli.Run("snapshot", "-c", "one", Image).Expect();
        ToolRunner.RunChecked("qemu-img", "check", Image);
    }

    [Fact]
    public void Formats_without_repairs_say_so()
    {
        File.WriteAllBytes(_folder["x.raw"], new byte[1 << 20]);
        var result = PlatterCli.Run("check", "-f", "raw", "-r", "all", _folder["x.raw"]).Expect(63);
        Assert.Contains("cannot be repaired", result.Error);
    }

    private static ToolResult AsPeer(params string[] args) => ToolRunner.Run(PlatterCli.Command(args) with
    {
        Environment = new Dictionary<string, string?> { ["PLATTER_INVOKED_AS"] = "qemu-img" },
    });

    private static JsonNode WithoutEnd(ToolResult result)
    {
        var json = JsonNode.Parse(result.Text)!;
        json.AsObject().Remove("image-end-offset");
        return json;
    }

    private void Make(string options, bool snapshots = false)
    {
        ToolRunner.RequireOrSkip("qemu-img", "qemu-io");
        ToolRunner.RunChecked(
            "qemu-img", "create", "-q", "-f", "qcow2", "-o", options.Replace("DATA", _folder["data.raw"], StringComparison.Ordinal), Good, "8M");
        ToolRunner.RunChecked("qemu-io", "-c", "write -P 1 0 300k", "-c", "write -P 2 1M 700k", Good);
        if (snapshots)
        {
            ToolRunner.RunChecked("qemu-img", "snapshot", "-c", "one", Good);
            ToolRunner.RunChecked("qemu-io", "-c", "write -P 3 100k 300k", Good);
            ToolRunner.RunChecked("qemu-img", "snapshot", "-c", "two", Good);
            ToolRunner.RunChecked("qemu-io", "-c", "write -P 4 1200k 30k", Good);
        }

        File.Copy(Good, Image, overwrite: true);
    }

    private static void Damage(string image, string kind)
    {
        var bytes = File.ReadAllBytes(image);
        var clusterBytes = 1 << (int)BinaryPrimitives.ReadUInt32BigEndian(bytes.AsSpan(20));
        var isV3 = BinaryPrimitives.ReadUInt32BigEndian(bytes.AsSpan(4)) >= 3;
        var bits = 1 << (isV3 ? (int)BinaryPrimitives.ReadUInt32BigEndian(bytes.AsSpan(96)) : 4);
        var table = (int)BinaryPrimitives.ReadUInt64BigEndian(bytes.AsSpan(48));
        var block = (int)BinaryPrimitives.ReadUInt64BigEndian(bytes.AsSpan(table));
        switch (kind)
        {
            case "leaks":
                // The file's last clusters become nobody's.
                var length = bytes.Length;
                Array.Resize(ref bytes, (length + clusterBytes - 1) / clusterBytes * clusterBytes + (3 * clusterBytes));
                SetRefcount(bytes, clusterBytes, table, bits, (bytes.Length / clusterBytes) - 1, 1);
                SetRefcount(bytes, clusterBytes, table, bits, (bytes.Length / clusterBytes) - 2, 1);
                break;
            case "refcounts":
                SetRefcount(bytes, clusterBytes, table, bits, L2Table(bytes) / clusterBytes, 0);
                SetRefcount(bytes, clusterBytes, table, bits, 0, 0);
                SetRefcount(bytes, clusterBytes, table, bits, (bytes.Length / clusterBytes) - 1, 0);
                break;
            case "block":
                bytes.AsSpan(block, clusterBytes).Clear();
                break;
            case "table":
                bytes.AsSpan(table, 8).Clear();
                break;
            case "lost table":
                new Random(1).NextBytes(bytes.AsSpan(table, clusterBytes));
                break;
            case "header":
                // The table lies on the L1 table.
                bytes.AsSpan(40, 8).CopyTo(bytes.AsSpan(48));
                break;
            case "copied":
                bytes[(int)BinaryPrimitives.ReadUInt64BigEndian(bytes.AsSpan(40))] ^= 0x80;
                bytes[L2Table(bytes) + 16] ^= 0x80;
                break;
        }

        File.WriteAllBytes(image, bytes);
    }

    private static int L2Table(byte[] bytes) =>
        (int)(BinaryPrimitives.ReadUInt64BigEndian(bytes.AsSpan((int)BinaryPrimitives.ReadUInt64BigEndian(bytes.AsSpan(40)))) & 0x00ff_ffff_ffff_fe00);

    private static void SetRefcount(byte[] bytes, int clusterBytes, int table, int bits, int cluster, byte value)
    {
        var perBlock = clusterBytes * 8 / bits;
        var block = (int)BinaryPrimitives.ReadUInt64BigEndian(bytes.AsSpan(table + (cluster / perBlock * 8)));
        var index = cluster % perBlock;
        if (block == 0)
        {
            return;
        }

        if (bits >= 8)
        {
            var at = block + (index * (bits / 8));
            bytes.AsSpan(at, bits / 8).Clear();
            bytes[at + (bits / 8) - 1] = value;
        }
        else
        {
            var (at, shift) = (block + (index * bits / 8), index * bits % 8);
            bytes[at] = (byte)((bytes[at] & ~(((1 << bits) - 1) << shift)) | (value << shift));
        }
    }

    [GeneratedRegex("Image end offset: [0-9]+\n")]
    private static partial Regex End();
}
