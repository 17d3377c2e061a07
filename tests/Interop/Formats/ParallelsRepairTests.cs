using System.Text.Json;
using System.Text.Json.Nodes;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Formats;

/// <summary>Repairs of images that the peer made: the numbers it would print, an image it finds nothing in, and the way back.</summary>
public sealed class ParallelsRepairTests : IDisposable
{
    private readonly TempFolder _folder = new("prl-repair");

    private string Ours => _folder["disk.hds"];

    [Theory]
    [InlineData("unclean", true)]
    [InlineData("outside", true)]
    [InlineData("leak", true)]
    [InlineData("unclean outside leak", true)]
    [InlineData("duplicate", false)]
    [InlineData("cut", false)]
    public void A_damaged_image_is_repaired_as_by_the_peer_or_better(string damage, bool likeThePeer)
    {
        MakeDamaged(damage);
        var before = File.ReadAllBytes(Ours);
        File.Copy(Ours, _folder["peer.hds"]);
        var peer = ToolRunner.Run("qemu-img", "check", "-r", "all", "--output=json", _folder["peer.hds"]);
        var ours = PlatterCli.RunChecked("check", "-r", "all", "--output=json", Ours);
        if (likeThePeer)
        {
            Assert.Equal(Numbers(peer.Text), Numbers(ours.Text));
            ToolRunner.RunChecked("qemu-img", "compare", "-f", "parallels", "-F", "parallels", _folder["peer.hds"], Ours);
        }

        ToolRunner.RunChecked("qemu-img", "check", Ours);
        PlatterCli.RunChecked("check", Ours);
        Assert.Equal(0, PlatterCli.RunChecked("check", "-r", "all", Ours).ExitCode);
        PlatterCli.RunChecked("check", "--undo", Ours + ".undo");
        Assert.Equal(before, File.ReadAllBytes(Ours));
    }

    [Fact]
    public void What_shared_a_cluster_reads_as_before_and_the_file_that_was_cut_keeps_what_it_has()
    {
        MakeDamaged("duplicate cut");
        PlatterCli.RunChecked("check", "-r", "all", Ours);
        foreach (var pattern in new[] { "read -P 1 0 64k", "read -P 1 128k 64k", "read -P 2 3M 64k", "read -P 2 3136k 10k", "read -P 0 3200k 64k" })
        {
            ToolRunner.RunChecked("qemu-io", "-f", "parallels", "-r", "-c", pattern, Ours);
        }

        // The two clusters are apart now.
        ToolRunner.RunChecked("qemu-io", "-f", "parallels", "-c", "write -P 9 0 64k", Ours);
        ToolRunner.RunChecked("qemu-io", "-f", "parallels", "-r", "-c", "read -P 1 128k 64k", Ours);
    }

    [Fact]
    public void Explanations_say_what_the_guest_loses_and_change_nothing()
    {
        MakeDamaged("unclean outside");
        var before = File.ReadAllBytes(Ours);
        var text = PlatterCli.Run("check", "--explain", Ours).Text;
        Assert.Contains("Guest:   0x10000 to 0x1ffff (64 KiB)", text, StringComparison.Ordinal);
        Assert.Contains("the entry is cleared", text, StringComparison.Ordinal);
        Assert.Equal(before, File.ReadAllBytes(Ours));
    }

    [Fact]
    public void A_table_that_is_too_short_costs_no_data()
    {
        MakeDamaged("leak");
        var damaged = File.ReadAllBytes(Ours);
        damaged[32] = 3;
        File.WriteAllBytes(Ours, damaged);
        foreach (var mode in new[] { "leaks", "all" })
        {
            Assert.Equal(2, PlatterCli.Run("check", "-r", mode, Ours).ExitCode);
            Assert.Equal(damaged, File.ReadAllBytes(Ours));
        }
    }

    [Fact]
    public void A_bundle_is_repaired_image_by_image_and_taken_back()
    {
        var machine = _folder["vm.pvm"];
        foreach (var file in Directory.GetFiles(DemoSample.Machine, "*", SearchOption.AllDirectories))
        {
            var copy = Path.Combine(machine, Path.GetRelativePath(DemoSample.Machine, file));
            Directory.CreateDirectory(Path.GetDirectoryName(copy)!);
            File.Copy(file, copy);
        }

        var images = Directory.GetFiles(Path.Combine(machine, "harddisk.hdd"), "*.hds");
        Assert.Equal(3, images.Length);
        foreach (var image in images)
        {
            using var file = new FileStream(image, FileMode.Open);
            file.Position = 44;
            file.Write("Ynot"u8);
            file.Position = file.Length;
            file.Write(new byte[100_000]);
        }

        var before = images.ToDictionary(image => image, File.ReadAllBytes);
        var digest = PlatterCli.RunChecked("digest", machine).Text;
        var json = JsonNode.Parse(PlatterCli.RunChecked("check", "-r", "all", "--output=json", machine).Text)!;
        Assert.Equal((3, 6), ((int)json["corruptions-fixed"]!, (int)json["leaks-fixed"]!));
        PlatterCli.RunChecked("check", machine);
        Assert.All(images, image => ToolRunner.RunChecked("qemu-img", "check", "-f", "parallels", image));
        Assert.Equal(digest, PlatterCli.RunChecked("digest", machine).Text);
        foreach (var undo in json["undo-files"]!.AsArray())
        {
            PlatterCli.RunChecked("check", "--undo", (string)undo!);
        }

        Assert.All(images, image => Assert.Equal(before[image], File.ReadAllBytes(image)));
    }

    public void Dispose() => _folder.Dispose();

    private static string Numbers(string json)
    {
        var report = JsonNode.Parse(json)!.AsObject();
        report.Remove("filename");
        report.Remove("undo-file");
        return report.ToJsonString(new JsonSerializerOptions { WriteIndented = true });
    }

    private void MakeDamaged(string damages)
    {
        ToolRunner.RequireOrSkip("qemu-img", "qemu-io");
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "parallels", "-o", "cluster_size=64k", Ours, "8M");
        ToolRunner.RunChecked("qemu-io", "-f", "parallels", "-c", "write -P 1 0 1M", "-c", "write -P 2 3M 192k", Ours);
        using var file = new FileStream(Ours, FileMode.Open);
        foreach (var damage in damages.Split(' '))
        {
            switch (damage)
            {
                case "unclean":
                    Put(44, "Ynot"u8);
                    break;
                case "outside":
                    Put(68, [0xff, 0, 0, 0]);
                    break;
                case "leak":
                    var junk = new byte[200_000];
                    new Random(1).NextBytes(junk);
                    Put(file.Length, junk);
                    break;
                case "duplicate":
                    var entry = new byte[4];
                    file.Position = 64;
                    file.ReadExactly(entry);
                    Put(72, entry);
                    break;
                default:
                    file.SetLength(file.Length - 65536 - 50_000);
                    break;
            }
        }

        void Put(long at, ReadOnlySpan<byte> bytes)
        {
            file.Position = at;
            file.Write(bytes);
        }
    }
}
