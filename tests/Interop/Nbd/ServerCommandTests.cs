using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Nbd;

/// <summary><c>platter serve</c>, and the same under the name qemu-nbd.</summary>
public sealed class ServerCommandTests
{
    [Fact]
    public void Serve_prints_a_uri_that_works_and_ends_cleanly_on_a_signal()
    {
        PlatterCli.RequireOrSkip();
        ToolRunner.RequireOrSkip("nbdinfo");
        using var folder = new TempFolder();
        var image = Image(folder);
        using var server = NbdServer.Start(PlatterCli.Command("serve", "-f", "raw", "-x", "my disk", "-D", "words", "-k", "{socket}", image), folder);
        while (!server.Log.Contains('\n', StringComparison.Ordinal))
        {
            Thread.Sleep(1);
        }

        var uri = server.Log.Trim();
        Assert.Equal($"nbd+unix:///my%20disk?socket={server.Socket}", uri);
        Assert.Equal("1048576", ToolRunner.RunChecked("nbdinfo", "--size", uri).Text.Trim());
        Assert.Contains("words", ToolRunner.RunChecked("nbdinfo", "--list", uri).Text);
        Assert.Equal("1048576", ToolRunner.RunChecked("nbdinfo", "--size", uri).Text.Trim());
        Assert.Equal(0, server.Stop());
        Assert.False(File.Exists(server.Socket));
    }

    [Fact]
    public void Serve_reads_a_snapshot()
    {
        PlatterCli.RequireOrSkip();
        ToolRunner.RequireOrSkip("qemu-img", "qemu-io");
        using var folder = new TempFolder();
        var image = folder["a.qcow2"];
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", image, "1M");
        ToolRunner.RunChecked("qemu-io", "-f", "qcow2", "-c", "write -P 1 0 64k", image);
        ToolRunner.RunChecked("qemu-img", "snapshot", "-c", "before", image);
        ToolRunner.RunChecked("qemu-io", "-f", "qcow2", "-c", "write -P 2 0 64k", image);
        foreach (var (option, pattern) in ((string[], int)[])[([], 2), (["-l", "before"], 1)])
        {
            using var server = NbdServer.Start(PlatterCli.Command(["serve", .. option, "-k", "{socket}", image]), folder);
            var read = ToolRunner.RunChecked("qemu-io", "-r", "-f", "raw", "-c", $"read -P {pattern} 0 64k", server.Uri);
            Assert.DoesNotContain("failed", read.Text);
        }
    }

    [Fact]
    public void Under_the_name_qemu_nbd_it_ends_after_the_last_client()
    {
        ToolRunner.RequireOrSkip("nbdinfo");
        using var folder = new TempFolder();
        var tool = PlatterCli.LinkAs(folder, "qemu-nbd");
        var image = Image(folder);
        using var server = NbdServer.Start(new ToolCommand(tool, "-r", "-f", "raw", "--cache=none", "--pid-file", folder["pid"], "-k", "{socket}", image), folder);
        Assert.Equal("1048576", ToolRunner.RunChecked("nbdinfo", "--size", server.Uri).Text.Trim());

        // Nobody stops it: a signal on its way out would be what it ends with.
        for (var i = 0; i < 1000 && Directory.Exists($"/proc/{server.ProcessId}"); i++)
        {
            Thread.Sleep(10);
        }

        Assert.False(File.Exists(server.Socket));
        Assert.Equal(0, server.Stop());
        Assert.Equal(server.ProcessId.ToString(), File.ReadAllText(folder["pid"]).Trim());
    }

    [Fact]
    public void Under_the_name_qemu_nbd_it_stays_with_t()
    {
        ToolRunner.RequireOrSkip("nbdinfo");
        using var folder = new TempFolder();
        var tool = PlatterCli.LinkAs(folder, "qemu-nbd");
        using var server = NbdServer.Start(new ToolCommand(tool, "-t", "-f", "raw", "-k", "{socket}", Image(folder)), folder);
        for (var i = 0; i < 3; i++)
        {
            Assert.Equal("1048576", ToolRunner.RunChecked("nbdinfo", "--size", server.Uri).Text.Trim());
        }

        Assert.Equal(string.Empty, server.Log);
        Assert.Equal(0, server.Stop());
    }

    [Theory]
    [InlineData("--tls-creds=x")]
    [InlineData("-c", "/dev/nbd0")]
    [InlineData("-e", "-1")]
    [InlineData("-p", "65536")]
    [InlineData("-k", "")]
    public void What_it_cannot_do_it_says(params string[] options)
    {
        using var folder = new TempFolder();
        var tool = PlatterCli.LinkAs(folder, "qemu-nbd");
        var result = ToolRunner.Run(tool, [.. options, "-r", Image(folder)]).Expect(1);
        Assert.StartsWith("qemu-nbd: ", result.Error);
        Assert.DoesNotContain("internal error", result.Error);
    }

    [Theory]
    [InlineData("qcow2")]
    [InlineData("raw")]
    [InlineData("parallels")]
    public void What_the_peers_write_through_it_is_in_the_image(string format)
    {
        PlatterCli.RequireOrSkip();
        ToolRunner.RequireOrSkip("qemu-img", "qemu-io", "nbdcopy");
        using var folder = new TempFolder();
        var (image, data) = (folder["a.img"], folder.Write("data", new byte[8 << 20]));
        var bytes = new byte[5 << 20];
        new Random(2).NextBytes(bytes);
        using (var file = File.OpenWrite(data))
        {
            file.Position = 1 << 20;
            file.Write(bytes);
        }

        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", format, image, "8M");
        using (var server = NbdServer.Start(PlatterCli.Command("serve", "-w", "-f", format, "-k", "{socket}", image), folder))
        {
            ToolRunner.RunChecked("nbdcopy", "--flush", data, server.Uri);
            var result = ToolRunner.RunChecked(
                "qemu-io", "-f", "raw", "-c", "write -P 1 0 100k", "-c", "write -f -P 2 200k 64k", "-c", "write -z 6M 1M", "-c", "write -z -u 7M 64k",
                "-c", "discard 2M 1M", "-c", "read -P 1 0 100k", "-c", "read -P 0 6M 1M", "-c", "flush", server.Uri);
            Assert.DoesNotContain("failed", result.Text);
            Assert.Equal(0, server.Stop());
        }

        ToolRunner.RunChecked("qemu-img", "check", "-q", "-f", format == "raw" ? "qcow2" : format, format == "raw" ? QuietQcow2(folder) : image);
        ToolRunner.RunChecked("qemu-io", "-r", "-f", format, "-c", "read -P 1 0 100k", "-c", "read -P 2 200k 64k", "-c", "read -P 0 6M 1M", image);
        ToolRunner.RunChecked("qemu-img", "convert", "-f", format, "-O", "raw", image, folder["out"]);
        Assert.Equal(File.ReadAllBytes(data)[(3 << 20)..(6 << 20)], File.ReadAllBytes(folder["out"])[(3 << 20)..(6 << 20)]);
    }

    [Fact]
    public void An_overlay_takes_the_writes_and_leaves_the_image_alone()
    {
        ToolRunner.RequireOrSkip("qemu-io");
        using var folder = new TempFolder();
        var image = Image(folder);
        var before = File.ReadAllBytes(image);
        var tool = PlatterCli.LinkAs(folder, "qemu-nbd");
        using (var server = NbdServer.Start(new ToolCommand(tool, "-s", "-t", "-f", "raw", "-k", "{socket}", image), folder))
        {
            ToolRunner.RunChecked("qemu-io", "-f", "raw", "-c", "write -P 7 1000 5000", server.Uri);
            Assert.DoesNotContain("failed", ToolRunner.RunChecked("qemu-io", "-f", "raw", "-c", "read -P 7 1000 5000", server.Uri).Text);
        }

        Assert.Equal(before, File.ReadAllBytes(image));
        Assert.Empty(Directory.GetFiles(Path.GetTempPath(), "platter-overlay-*"));
    }

    [Fact]
    public void Snapshots_layers_and_several_images_are_exports_of_their_own()
    {
        PlatterCli.RequireOrSkip();
        ToolRunner.RequireOrSkip("qemu-img", "qemu-io", "nbdinfo");
        using var folder = new TempFolder();
        var (below, top) = (folder["below.qcow2"], folder["top.qcow2"]);
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", below, "1M");
        ToolRunner.RunChecked("qemu-io", "-f", "qcow2", "-c", "write -P 1 0 1M", below);
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", "-b", below, "-F", "qcow2", top);
        ToolRunner.RunChecked("qemu-io", "-f", "qcow2", "-c", "write -P 2 0 64k", top);
        ToolRunner.RunChecked("qemu-img", "snapshot", "-c", "s 1", top);
        ToolRunner.RunChecked("qemu-io", "-f", "qcow2", "-c", "write -P 3 0 64k", top);
        using var server = NbdServer.Start(
            PlatterCli.Command("serve", "-A", "--snapshots", "--layers", "-k", "{socket}", top, "--export", $"name=own,image={below},offset=64k,size=64k"), folder);
        foreach (var (name, pattern) in ((string, int)[])[("top.qcow2", 3), ("top.qcow2%40s%201", 2), ("top.qcow2~1", 1), ("own", 1)])
        {
            var uri = $"nbd+unix:///{name}?socket={server.Socket}";
            Assert.DoesNotContain("failed", ToolRunner.RunChecked("qemu-io", "-r", "-f", "raw", "-c", $"read -P {pattern} 0 64k", uri).Text);
        }

        Assert.Equal("65536", ToolRunner.RunChecked("nbdinfo", "--size", $"nbd+unix:///own?socket={server.Socket}").Text.Trim());
        var depth = ToolRunner.RunChecked("nbdinfo", "--map=qemu:allocation-depth", $"nbd+unix:///top.qcow2?socket={server.Socket}").Text;
        Assert.Matches(@"^ *0 +65536 +1 +local\s+65536 +983040 +2 +backing depth 2", depth);
    }

    [Fact]
    public void A_dirty_bitmap_is_told_as_qemu_nbd_tells_it()
    {
        PlatterCli.RequireOrSkip();
        ToolRunner.RequireOrSkip("qemu-img", "qemu-io", "qemu-nbd", "nbdinfo");
        using var folder = new TempFolder();
        var image = folder["a.qcow2"];
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", image, "16M");
        ToolRunner.RunChecked("qemu-img", "bitmap", "--add", "-g", "64k", image, "b0");
        ToolRunner.RunChecked("qemu-io", "-f", "qcow2", "-c", "write 1M 64k", "-c", "write 5M 300k", "-c", "write 15M 1M", image);
        ToolRunner.RunChecked("qemu-img", "bitmap", "--disable", image, "b0");
        string Map(string uri) => ToolRunner.RunChecked("nbdinfo", "--map=qemu:dirty-bitmap:b0", uri).Text;
        string expected;
        using (var peer = NbdServer.QemuNbd(image, "qcow2", folder, "-B", "b0"))
        {
            expected = Map(peer.Uri);
        }

        using var server = NbdServer.Start(PlatterCli.Command("serve", "-B", "b0", "-k", "{socket}", image), folder);
        Assert.Equal(expected, Map(server.Uri));
        Assert.Contains("dirty", expected);
        Assert.Contains("qemu:dirty-bitmap:b0", ToolRunner.RunChecked("nbdinfo", "--list", server.Uri).Text);
    }

    [Fact]
    public void A_list_of_exports_reads_as_the_peers()
    {
        PlatterCli.RequireOrSkip();
        ToolRunner.RequireOrSkip("qemu-nbd");
        using var folder = new TempFolder();
        var image = Image(folder);
        using var server = NbdServer.Start(
            PlatterCli.Command("serve", "-A", "-D", "some words", "-k", "{socket}", "--export", $"name=one,image={image},format=raw", "--export", $"name=two,image={image},format=raw"),
            folder);
        var expected = ToolRunner.RunChecked("qemu-nbd", "-L", "-k", server.Socket).Text;
        var ours = ToolRunner.RunChecked(PlatterCli.LinkAs(folder, "qemu-nbd"), "-L", "-k", server.Socket).Text;
        Assert.Equal(expected, ours.Replace("  transaction size: 64-bit\n", string.Empty, StringComparison.Ordinal));
        Assert.Contains("some words", expected);
    }

    [Fact]
    public void A_service_manager_may_hand_over_the_socket()
    {
        PlatterCli.RequireOrSkip();
        ToolRunner.RequireOrSkip("python3", "nbdinfo");
        using var folder = new TempFolder();
        var command = PlatterCli.Command("serve", "-f", "raw", Image(folder));
        const string Manager =
            "import os,socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.bind(sys.argv[1])\ns.listen(5)\nos.dup2(s.fileno(),3)\nos.set_inheritable(3,True)\n"
            + "os.environ.update(LISTEN_FDS='1',LISTEN_PID=str(os.getpid()))\nos.execvp(sys.argv[2],sys.argv[2:])\n";
        var refused = ToolRunner.Run(new ToolCommand("python3", ["-c", Manager, folder["other"], command.Tool, .. command.Arguments, "-k", folder["third"]]) { Environment = command.Environment });
        Assert.Equal(1, refused.ExitCode);
        Assert.Contains("LISTEN_FDS", refused.Error, StringComparison.Ordinal);
        using var server = NbdServer.Start(
            new ToolCommand("python3", ["-c", Manager, "{socket}", command.Tool, .. command.Arguments]) { Environment = command.Environment }, folder);
        Assert.Equal("1048576", ToolRunner.RunChecked("nbdinfo", "--size", server.Uri).Text.Trim());
        Assert.Equal(0, server.Stop());
        Assert.True(File.Exists(server.Socket));
    }

    [Fact]
    public void A_socket_has_the_mode_that_was_asked_for()
    {
        PlatterCli.RequireOrSkip();
        using var folder = new TempFolder();
        using var server = NbdServer.Start(PlatterCli.Command("serve", "-f", "raw", "-k", "{socket}", "--socket-mode=0600", Image(folder)), folder);
        Assert.Equal("600", ToolRunner.RunChecked("stat", "-c", "%a", server.Socket).Text.Trim());
    }

    [Fact]
    public void After_a_kill_the_same_socket_can_be_served_again()
    {
        ToolRunner.RequireOrSkip("nbdinfo");
        using var folder = new TempFolder();
        var image = Image(folder);
        using var killed = NbdServer.Start(PlatterCli.Command("serve", "-f", "raw", "-k", "{socket}", image), folder);
        var refused = ToolRunner.Run(PlatterCli.Command("serve", "-f", "raw", "-k", killed.Socket, image));
        Assert.Equal(1, refused.ExitCode);
        Assert.StartsWith($"platter: {killed.Socket}: cannot listen: ", refused.Error, StringComparison.Ordinal);
        ToolRunner.RunChecked("kill", "-KILL", $"{killed.ProcessId}");
        killed.Stop();
        using var server = NbdServer.Start(
            PlatterCli.Command("serve", "-f", "raw", "-k", "{socket}", image), folder, prepare: path => File.Move(killed.Socket, path));
        Assert.Equal("1048576", ToolRunner.RunChecked("nbdinfo", "--size", server.Uri).Text.Trim());
    }

    // Raw images have nothing to check.
    private static string QuietQcow2(TempFolder folder)
    {
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", folder["empty.qcow2"], "1M");
        return folder["empty.qcow2"];
    }

    private static string Image(TempFolder folder)
    {
        var bytes = new byte[1 << 20];
        new Random(1).NextBytes(bytes);
        return folder.Write("disk.raw", bytes);
    }
}
