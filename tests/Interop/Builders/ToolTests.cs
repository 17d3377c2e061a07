using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Builders;

public sealed class ToolTests
{
    [Fact]
    public void Made_ext4_is_clean_and_filled()
    {
        ToolRunner.RequireOrSkip("mkfs.ext4", "e2fsck");
        using var folder = new TempFolder();
        RealFileSystem.MakeExt4(folder["fs.raw"], 16 << 20, seed: 5);
        Assert.Equal(16 << 20, new FileInfo(folder["fs.raw"]).Length);
        ToolRunner.RunChecked("e2fsck", "-fn", folder["fs.raw"]);
        Assert.True(SparseBytes.Load(folder["fs.raw"]).DataRanges().Sum(r => r.Length) > 2 << 20);
    }

    [Fact]
    public void Servers_listen_when_started_and_end_when_stopped()
    {
        ToolRunner.RequireOrSkip("nbdkit", "nbdinfo");
        using var folder = new TempFolder();
        using var server = NbdServer.Nbdkit(folder, "memory", "1M");
        Assert.Equal("1048576", ToolRunner.RunChecked("nbdinfo", "--size", server.Uri).Text.Trim());
        Assert.Equal("1048576", ToolRunner.RunChecked("nbdinfo", "--size", server.Uri).Text.Trim());
        server.Stop();
        Assert.NotEqual(0, ToolRunner.Run("nbdinfo", "--size", server.Uri).ExitCode);
    }

    [Fact]
    public void The_program_is_found_beside_the_tests_and_answers()
    {
        PlatterCli.RequireOrSkip();
        Assert.NotEmpty(PlatterCli.RunChecked("--version").Text);
        using var folder = new TempFolder();
        Assert.NotEmpty(ToolRunner.RunChecked(PlatterCli.LinkAs(folder, "qemu-img"), "--version").Text);
    }

    [Fact]
    public void A_server_that_does_not_start_says_why()
    {
        ToolRunner.RequireOrSkip("qemu-nbd");
        using var folder = new TempFolder();

        // An image that is missing would not do: the tool listens before it looks for it.
        var error = Assert.Throws<InvalidOperationException>(() => NbdServer.QemuNbd(folder["missing"], "raw", folder, "--cache=nonsense"));
        Assert.Contains("nonsense", error.Message);
    }
}
