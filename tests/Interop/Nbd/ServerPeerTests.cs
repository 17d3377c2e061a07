using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Nbd;

/// <summary><c>platter serve</c> with further clients: fio, nbdkit's nbd plugin, qemu-storage-daemon, many at once.</summary>
public sealed class ServerPeerTests
{
    [Theory]
    [InlineData("raw", 1)]
    [InlineData("qcow2", 4)]
    public void Fio_reads_what_it_wrote(string format, int connections)
    {
        ToolRunner.RequireOrSkip("fio", "qemu-img");
        Assert.SkipUnless(ToolRunner.Run("fio", "--enghelp").Text.Contains("nbd", StringComparison.Ordinal), "fio has no engine for NBD");
        using var folder = new TempFolder();
        var image = folder["a.img"];
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", format, image, "64M");
        using var server = NbdServer.Start(PlatterCli.Command("serve", "-w", "-f", format, "-k", "{socket}", image), folder);

        // Each connection has a part of the disk for itself, and checks what it finds there afterwards.
        var result = ToolRunner.Run(new ToolCommand(
            "fio", "--name=verify", "--ioengine=nbd", $"--uri={server.Uri}", "--rw=randrw", "--bsrange=512-128k", "--iodepth=16", "--thread", "--size=8M", "--offset_increment=8M",
            $"--numjobs={connections}", "--verify=crc32c", "--verify_fatal=1", "--group_reporting", "--randseed=7") { WorkingDirectory = folder.Path });
        Assert.True(result.ExitCode == 0 && !result.Text.Contains("verify failed", StringComparison.Ordinal), $"{result.Text}\n{result.Error}");
        Assert.Equal(0, server.Stop());
        if (format == "qcow2")
        {
            ToolRunner.RunChecked("qemu-img", "check", "-q", image);
        }
    }

    [Fact]
    public void Nbdkit_passes_an_export_on()
    {
        ToolRunner.RequireOrSkip("nbdkit", "qemu-io", "nbdinfo");
        using var folder = new TempFolder();
        var image = folder.Write("a.raw", new byte[4 << 20]);
        using var server = NbdServer.Start(PlatterCli.Command("serve", "-w", "-f", "raw", "-x", "disk", "-k", "{socket}", image), folder, "disk");
        using (var kit = NbdServer.Nbdkit(folder, "nbd", $"uri={server.Uri}"))
        {
            Assert.DoesNotContain("failed", ToolRunner.RunChecked(
                "qemu-io", "-f", "raw", "-c", "write -P 5 1M 100k", "-c", "write -z 1M 4k", "-c", "read -P 5 1052672 4k", "-c", "read -P 0 1M 4k", "-c", "flush", kit.Uri).Text);
            Assert.Contains("can_fast_zero: true", ToolRunner.RunChecked("nbdinfo", kit.Uri).Text);
        }

        Assert.Equal(5, File.ReadAllBytes(image)[1_052_672]);
    }

    [Fact]
    public void Qemu_storage_daemon_uses_an_export_as_its_disk()
    {
        ToolRunner.RequireOrSkip("qemu-storage-daemon", "qemu-io");
        using var folder = new TempFolder();
        var image = folder.Write("a.raw", new byte[4 << 20]);
        using var server = NbdServer.Start(PlatterCli.Command("serve", "-w", "-f", "raw", "-k", "{socket}", image), folder);
        using (var daemon = NbdServer.Start(
            new ToolCommand(
                "qemu-storage-daemon", "--blockdev", $"driver=nbd,node-name=disk,server.type=unix,server.path={server.Socket}", "--nbd-server", "addr.type=unix,addr.path={socket}",
                "--export", "type=nbd,id=e,node-name=disk,name=,writable=on"),
            folder))
        {
            Assert.DoesNotContain("failed", ToolRunner.RunChecked("qemu-io", "-f", "raw", "-c", "write -P 6 0 1M", "-c", "discard 512k 64k", "-c", "read -P 6 0 512k", daemon.Uri).Text);
        }

        Assert.Equal(6, File.ReadAllBytes(image)[1000]);
    }

    [Fact]
    public void A_hundred_clients_at_once_are_all_served_and_further_ones_wait()
    {
        ToolRunner.RequireOrSkip("fio");
        Assert.SkipUnless(ToolRunner.Run("fio", "--enghelp").Text.Contains("nbd", StringComparison.Ordinal), "fio has no engine for NBD");
        using var folder = new TempFolder();
        using var server = NbdServer.Start(PlatterCli.Command("serve", "-f", "raw", "-k", "{socket}", folder.Write("a.raw", new byte[1 << 20])), folder);
        var result = ToolRunner.Run(new ToolCommand(
            "fio", "--name=many", "--ioengine=nbd", $"--uri={server.Uri}", "--rw=randread", "--bs=4k", "--iodepth=2", "--thread", "--number_ios=50", "--size=1M", "--numjobs=100",
            "--group_reporting") { WorkingDirectory = folder.Path });
        Assert.True(result.ExitCode == 0, $"{result.Text}\n{result.Error}");
        Assert.Matches("total=5000,0,0,0", result.Text);
    }
}
