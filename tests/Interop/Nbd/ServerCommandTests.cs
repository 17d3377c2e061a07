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
    public void Under_the_name_qemu_nbd_it_stays_with_t_and_notes_that_it_only_reads()
    {
        ToolRunner.RequireOrSkip("nbdinfo");
        using var folder = new TempFolder();
        var tool = PlatterCli.LinkAs(folder, "qemu-nbd");
        using var server = NbdServer.Start(new ToolCommand(tool, "-t", "-f", "raw", "-k", "{socket}", Image(folder)), folder);
        for (var i = 0; i < 3; i++)
        {
            Assert.Equal("1048576", ToolRunner.RunChecked("nbdinfo", "--size", server.Uri).Text.Trim());
        }

        Assert.Contains("qemu-nbd: warning: this version serves read-only", server.Log);
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

    private static string Image(TempFolder folder)
    {
        var bytes = new byte[1 << 20];
        new Random(1).NextBytes(bytes);
        return folder.Write("disk.raw", bytes);
    }
}
