using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Cli;

/// <summary><c>commit</c>, with the peer as maker of the images and as judge.</summary>
public sealed class CommitTests
{
    [Theory]
    [InlineData("compat=1.1")]
    [InlineData("compat=0.10")]
    [InlineData("extended_l2=on")]
    [InlineData("cluster_size=512")]
    public void The_backing_file_has_everything_and_the_image_nothing(string options)
    {
        using var folder = Chain(options);
        var (top, mid) = (folder["top.qcow2"], folder["mid.qcow2"]);
        Assert.Equal("Image committed.\n", PlatterCli.Run("commit", top).Expect().Text);
        OfflineInterop.Check(top);
        OfflineInterop.Check(mid);
        OfflineInterop.ReadsAs(top, folder["want.raw"]);
        OfflineInterop.ReadsAs(mid, folder["want.raw"]);
        var map = ToolRunner.RunChecked("qemu-img", "map", "--output=json", top).Text;
        Assert.DoesNotContain("\"depth\": 0, \"present\": true", map, StringComparison.Ordinal);

        // And on.
        OfflineInterop.Write(top, "write -P 77 0 1M");
        ToolRunner.RunChecked("qemu-img", "commit", "-q", top);
        OfflineInterop.Reads(mid, "read -P 77 0 1M");
        OfflineInterop.Check(mid);
    }

    [Fact]
    public void With_d_the_image_keeps_what_it_has()
    {
        using var folder = Chain("compat=1.1");
        var before = File.ReadAllBytes(folder["top.qcow2"]);
        PlatterCli.Run("commit", "-d", "-q", folder["top.qcow2"]).Expect();
        Assert.Equal(before, File.ReadAllBytes(folder["top.qcow2"]));
        OfflineInterop.ReadsAs(folder["mid.qcow2"], folder["want.raw"]);
    }

    [Fact]
    public void All_above_the_base_goes_into_it()
    {
        using var folder = Chain("compat=1.1");
        PlatterCli.Run("commit", "-b", folder["base.raw"], folder["top.qcow2"]).Expect();
        OfflineInterop.ReadsAs(folder["base.raw"], folder["want.raw"], "raw");
        OfflineInterop.ReadsAs(folder["top.qcow2"], folder["want.raw"]);
    }

    [Fact]
    public void Failures_are_the_peers()
    {
        using var folder = Chain("compat=1.1");
        Assert.Contains("Did not find 'nothing.raw' in the backing chain of", SameAsPeer.Failure("commit", "-b", "nothing.raw", folder["top.qcow2"]));
        Assert.Equal("Image does not have a backing file", SameAsPeer.Failure("commit", "-f", "raw", folder["base.raw"]));
        Assert.Equal("Invalid cache option: strange", SameAsPeer.Failure("commit", "-t", "strange", folder["top.qcow2"]));
    }

    [Fact]
    public void A_backing_file_that_is_in_use_is_not_written_to()
    {
        using var folder = Chain("compat=1.1");
        ToolRunner.RequireOrSkip("qemu-nbd");
        var before = File.ReadAllBytes(folder["mid.qcow2"]);
        var server = folder["socket"];
        using var process = System.Diagnostics.Process.Start("qemu-nbd", ["-r", "-t", "-k", server, "-f", "qcow2", folder["mid.qcow2"]]);
        try
        {
            Assert.True(SpinWait.SpinUntil(() => File.Exists(server), TimeSpan.FromSeconds(20)));
            var result = PlatterCli.Run("commit", folder["top.qcow2"]);
            Assert.Equal(1, result.ExitCode);
            Assert.Contains("lock", result.Error);
        }
        finally
        {
            process.Kill();
            process.WaitForExit();
        }

        Assert.Equal(before, File.ReadAllBytes(folder["mid.qcow2"]));
    }

    // base.raw <- mid.qcow2 <- top.qcow2, each longer than the one below; what top reads is in want.raw.
    private static TempFolder Chain(string options)
    {
        ToolRunner.RequireOrSkip("qemu-img", "qemu-io");
        var folder = new TempFolder("commit");
        var (top, mid, below) = (folder["top.qcow2"], folder["mid.qcow2"], folder["base.raw"]);
        OfflineInterop.CreateRaw(below, "1M", 9);
        OfflineInterop.Create(mid, "compat=1.1", "1500k", below, "raw");
        OfflineInterop.Write(mid, "write -P 1 0 64k", "write -z 512k 64k");
        OfflineInterop.Create(top, options, "3M", mid);
        OfflineInterop.Write(top, "write -P 2 100k 100k", "write -P 3 2500k 4k", "write -z 700k 64k", "write -c -P 4 1M 64k");
        OfflineInterop.Keep(top, folder["want.raw"]);
        return folder;
    }
}
