using System.Text;
using Platter.TestKit;
using Xunit;
using static Platter.Tests.Interop.Hostile.HostileFiles;

namespace Platter.Tests.Interop.Hostile;

/// <summary>Names inside images that lead where nobody wants to go.</summary>
public sealed class HostileNameTests
{
    [Theory]
    [InlineData("http://127.0.0.1:9/x")]
    [InlineData("https://127.0.0.1:9/x")]
    [InlineData("ftp://127.0.0.1:9/x")]
    [InlineData("ssh://127.0.0.1:9/x")]
    [InlineData("fat:/etc")]
    [InlineData("fat:rw:/etc")]
    [InlineData("fd:0")]
    [InlineData("vvfat:/etc")]
    [InlineData("rbd:pool/image")]
    [InlineData("json:{\"driver\":\"http\",\"url\":\"http://127.0.0.1:9/x\"}")]
    [InlineData("json:{\"driver\":\"vvfat\",\"dir\":\"/etc\"}")]
    [InlineData("json:{\"driver\":\"qcow2\",\"file\":{\"driver\":\"https\",\"url\":\"x\"}}")]
    [InlineData("json:{\"driver\":\"raw\",\"file\":{\"driver\":\"file\",\"filename\":\"/dev/zero\"}}")]
    [InlineData("json:{\"file.filename\":\"/dev/tty\"}")]
    [InlineData("json:[")]
    [InlineData("json:{\"driver\":null}")]
    [InlineData("/dev/zero")]
    [InlineData("/dev/tty")]
    [InlineData("/dev/stdin")]
    [InlineData("/dev/full")]
    [InlineData("/proc/self/fd/0")]
    [InlineData("/proc/version")]
    [InlineData("/proc/self/environ")]
    [InlineData("/proc/../proc/self/status")]
    [InlineData("/sys/kernel/uevent_seqnum")]
    [InlineData("json:{\"driver\":\"raw\",\"file\":{\"driver\":\"file\",\"filename\":\"/proc/self/environ\"}}")]
    [InlineData("/etc")]
    [InlineData("\\\\host\\share\\disk")]
    [InlineData("\\\\.\\PhysicalDrive0")]
    [InlineData("a.qcow2/../../x")]
    [InlineData("nosuchfile")]
    [InlineData("evil\u001b]0;owned\u0007\u001b[2J")]
    [InlineData("two\nlines\rhere")]
    [InlineData("\u202egnp.2wocq")]
    [InlineData("nbd://127.0.0.1:9/x")]
    [InlineData("nbd:127.0.0.1:9")]
    [InlineData("nbd+unix:///x?socket=/nonexistent")]
    [InlineData("nbd:unix:/nonexistent")]
    public void A_backing_file_that_must_not_or_cannot_be_opened(string backing)
    {
        using var folder = new TempFolder("hostile");
        var image = Overlay(folder, "a.qcow2", backing);

        HostileRun.Of("info", image).Done();
        HostileRun.Of("info", "--output=json", image).Done();
        HostileRun.Of("convert", "-O", "raw", image, folder["out.raw"]).Refused();
        HostileRun.Of("convert", "--untrusted", "-O", "raw", image, folder["out.raw"]).Refused("a.qcow2");
        HostileRun.Of("info", "--backing-chain", image).Refused();
        Assert.False(File.Exists(folder["out.raw"]));
    }

    [Theory]
    [InlineData("/dev/zero")]
    [InlineData("/dev/tty")]
    [InlineData("http://127.0.0.1:9/x")]
    [InlineData("json:{\"driver\":\"vvfat\",\"dir\":\"/etc\"}")]
    [InlineData("/proc/self/fd/0")]
    [InlineData("/proc/self/environ")]
    [InlineData("/sys/kernel/uevent_seqnum")]
    [InlineData("evil\u001b[2J")]
    public void A_data_file_that_must_not_or_cannot_be_opened(string dataFile)
    {
        using var folder = new TempFolder("hostile");
        var image = WithDataFile(folder, "a.qcow2", dataFile);

        HostileRun.Of("info", image).Done();
        HostileRun.Of("convert", "-O", "raw", image, folder["out.raw"]).Refused();
        HostileRun.Of("convert", "--untrusted", "-O", "raw", image, folder["out.raw"]).Refused("a.qcow2");
    }

    [Fact]
    public void A_FIFO_as_backing_file_data_file_and_bundle_image_does_not_hang()
    {
        using var folder = new TempFolder("hostile");
        var fifo = Fifo(folder, "fifo");
        foreach (var name in (string[])["fifo", fifo, "./fifo", $"json:{{\"driver\":\"file\",\"filename\":\"{fifo}\"}}"])
        {
            HostileRun.Of("convert", "-O", "raw", Overlay(folder, "a.qcow2", name), folder["out.raw"]).Refused("fifo");
            HostileRun.Of("info", "--backing-chain", folder["a.qcow2"]).Refused("fifo");
        }

        HostileRun.Of("convert", "-O", "raw", WithDataFile(folder, "b.qcow2", fifo), folder["out.raw"]).Refused("fifo");
        HostileRun.Of("info", fifo).Refused("fifo");

        var builder = new BundleBuilder("disk", 640, 64);
        builder.AddTop().FillRandom(1, 0.5);
        var bundle = builder.Build();
        var path = bundle.SaveTo(folder.Path);
        var image = Path.Combine(path, bundle.ImageName(bundle.Layers[0]));
        File.Delete(image);
        ToolRunner.RunChecked("mkfifo", image);
        HostileRun.Of("info", path).Refused();
        HostileRun.Of("convert", "-O", "raw", path, folder["out.raw"]).Refused();
        File.Delete(Path.Combine(path, "DiskDescriptor.xml"));
        ToolRunner.RunChecked("mkfifo", Path.Combine(path, "DiskDescriptor.xml"));
        HostileRun.Of("info", path).Refused();
        HostileRun.Of("info", Path.Combine(path, "DiskDescriptor.xml")).Refused();
    }

    [Fact]
    public void Chains_that_come_back_to_themselves()
    {
        using var folder = new TempFolder("hostile");
        Overlay(folder, "self.qcow2", "self.qcow2", "qcow2");
        Overlay(folder, "one.qcow2", "two.qcow2", "qcow2");
        Overlay(folder, "two.qcow2", "./one.qcow2", null);
        Overlay(folder, "linked.qcow2", "symlink", "qcow2");
        File.CreateSymbolicLink(folder["symlink"], folder["linked.qcow2"]);
        Overlay(folder, "hard.qcow2", "hardlink", "qcow2");
        ToolRunner.RunChecked("ln", folder["hard.qcow2"], folder["hardlink"]);
        Overlay(folder, "spelled.qcow2", $"../{Path.GetFileName(folder.Path)}/./spelled.qcow2", "qcow2");
        File.CreateSymbolicLink(folder["round"], folder["round"]);
        Overlay(folder, "links.qcow2", "round", "qcow2");
        foreach (var name in (string[])["self", "one", "linked", "hard", "spelled", "links"])
        {
            HostileRun.Of("info", folder[name + ".qcow2"]).Done();
            HostileRun.Of("info", "--backing-chain", folder[name + ".qcow2"]).Refused();
            HostileRun.Of("map", folder[name + ".qcow2"]).Refused();
        }
    }

    [Fact]
    public void A_chain_of_a_hundred_images_is_over_the_limit_and_says_so()
    {
        using var folder = new TempFolder("hostile");
        for (var i = 0; i < 100; i++)
        {
            Overlay(folder, $"{i}.qcow2", i == 99 ? string.Empty : $"{i + 1}.qcow2", "qcow2");
        }

        HostileRun.Of("convert", "-O", "raw", folder["0.qcow2"], folder["out.raw"]).Refused("64");
        HostileRun.Of("info", "--backing-chain", folder["0.qcow2"]).Refused("64");
        HostileRun.Of("map", folder["50.qcow2"]).Done();
    }

    [Fact]
    public void A_raw_disk_on_which_the_guest_wrote_an_image_header_is_read_as_declared()
    {
        // A guest that owns a raw disk can make it look like an overlay of a file it wants to read.
        using var folder = new TempFolder("hostile");
        folder.Write("secret", "the host's secret");
        Overlay(folder, "guest.raw", folder["secret"]);

        HostileRun.Of("convert", "-f", "raw", "-O", "raw", folder["guest.raw"], folder["out.raw"]).Done();
        Assert.Equal(File.ReadAllBytes(folder["guest.raw"]), File.ReadAllBytes(folder["out.raw"]));
        Overlay(folder, "top.qcow2", "guest.raw", "raw");
        HostileRun.Of("convert", "-O", "raw", folder["top.qcow2"], folder["out.raw"]).Done();
        Assert.DoesNotContain("the host's secret", Encoding.Latin1.GetString(File.ReadAllBytes(folder["out.raw"])), StringComparison.Ordinal);
    }

    [Fact]
    public void Names_with_control_characters_are_shown_without_them()
    {
        using var folder = new TempFolder("hostile");
        var builder = new Qcow2Builder { ClusterBits = 12, Size = 1 << 20, BackingFile = "a\u001b[31mb\n\u0007", BackingFormat = "ra\u001bw" };
        builder.AddSnapshot("1\u001b[0m", "sn\u001b]0;x\u0007ap\nshot").AddBitmap(new Qcow2Bitmap("bit\u001b[2Jmap\n"));
        builder.Build().SaveTo(folder["a.qcow2"]);

        HostileRun.Of("info", folder["a.qcow2"]).Done();
        HostileRun.Of("info", "--output=json", folder["a.qcow2"]).Done();
        HostileRun.Of("check", folder["a.qcow2"]);
        HostileRun.Of("map", folder["a.qcow2"]).Refused();
        HostileRun.Of("convert", "-l", "no\u001bsuch\n", "-O", "raw", folder["a.qcow2"], folder["out.raw"]).Refused();
    }

    [Theory]
    [InlineData("../secret.hds")]
    [InlineData("/etc/hostname")]
    [InlineData("../../../../../../etc/hostname")]
    [InlineData("link.hds")]
    [InlineData("inner/link.hds")]
    [InlineData("/dev/zero")]
    [InlineData("C:\\Windows\\win.ini")]
    [InlineData("\\\\host\\share\\x.hds")]
    [InlineData("evil\u202e.hds")]
    [InlineData("../other.hdd/secret.hds")]
    public void A_bundle_image_outside_its_bundle(string file)
    {
        using var folder = new TempFolder("hostile");
        var secret = new ParallelsImageBuilder { ClusterSectors = 64, SizeSectors = 640 }.Fill(3, 0).Build();
        secret.SaveTo(folder["secret.hds"]);
        folder.CreateFolder("other.hdd");
        secret.SaveTo(folder["other.hdd/secret.hds"]);
        var builder = new BundleBuilder("disk", 640, 64);
        builder.AddTop().FillRandom(1, 0.5);
        var path = builder.Build().EditDescriptor(root => root.Descendants("File").First().Value = file).SaveTo(folder.Path);
        File.CreateSymbolicLink(Path.Combine(path, "link.hds"), folder["secret.hds"]);
        Directory.CreateSymbolicLink(Path.Combine(path, "inner"), folder.Path);
        File.CreateSymbolicLink(folder["link.hds"], folder["secret.hds"]);

        HostileRun.Of("info", path).Refused("disk.hdd");
        HostileRun.Of("convert", "-O", "raw", path, folder["out.raw"]).Refused("disk.hdd");
        HostileRun.Of("check", path);
        Assert.False(File.Exists(folder["out.raw"]));
    }
}
