using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Cli;

/// <summary><c>rebase</c>, with the peer as maker of the images and as judge.</summary>
public sealed class RebaseTests
{
    [Theory]
    [InlineData("compat=1.1", "2M")]
    [InlineData("compat=0.10", "512k")]
    [InlineData("extended_l2=on", "2M")]
    [InlineData("cluster_size=512", "4M")]
    public void The_disk_reads_the_same_over_another_backing_file(string options, string size)
    {
        using var folder = Overlay(options);
        var (top, other) = (folder["top.qcow2"], folder["other.qcow2"]);
        OfflineInterop.Create(other, "compat=1.1", size);
        OfflineInterop.Write(other, "write -P 1 0 256k", "write -P 9 300k 100k", "write -P 8 400k 100k");
        PlatterCli.Run("rebase", "-b", other, "-F", "qcow2", top).Expect();
        OfflineInterop.Check(top);
        OfflineInterop.ReadsAs(top, folder["want.raw"]);
        Assert.StartsWith(other, OfflineInterop.Info(top, "backing file"));
        Assert.Equal("qcow2", OfflineInterop.Info(top, "backing file format"));

        // Back again, by the peer.
        ToolRunner.RunChecked("qemu-img", "rebase", "-b", folder["base.raw"], "-F", "raw", top);
        OfflineInterop.ReadsAs(top, folder["want.raw"]);
        OfflineInterop.Check(top);
    }

    [Theory]
    [InlineData("compat=1.1")]
    [InlineData("compat=0.10")]
    public void Without_a_backing_file_the_image_stands_alone(string options)
    {
        using var folder = Overlay(options);
        var top = folder["top.qcow2"];
        PlatterCli.Run("rebase", "-b", string.Empty, top).Expect();
        Assert.Null(OfflineInterop.Info(top, "backing file"));
        File.Delete(folder["base.raw"]);
        OfflineInterop.ReadsAs(top, folder["want.raw"]);
        OfflineInterop.Check(top);
    }

    [Theory]
    [InlineData("compat=1.1")]
    [InlineData("extended_l2=on")]
    [InlineData("cluster_size=4k,compression_type=zstd")]
    public void What_is_copied_can_be_compressed(string options)
    {
        using var folder = Overlay(options);
        var top = folder["top.qcow2"];
        PlatterCli.Run("rebase", "-c", "-b", string.Empty, top).Expect();
        OfflineInterop.ReadsAs(top, folder["want.raw"]);
        OfflineInterop.Check(top);
        Assert.DoesNotContain("0.00% compressed", ToolRunner.RunChecked("qemu-img", "check", top).Text, StringComparison.Ordinal);
    }

    [Fact]
    public void What_both_chains_end_in_is_not_copied()
    {
        using var folder = Overlay("compat=1.1");
        var (top, mid) = (folder["top.qcow2"], folder["mid.qcow2"]);
        OfflineInterop.Create(mid, "compat=1.1", "1M", folder["base.raw"], "raw");
        var before = new FileInfo(top).Length;
        PlatterCli.Run("rebase", "-b", mid, "-F", "qcow2", top).Expect();
        Assert.Equal(before, new FileInfo(top).Length);
        OfflineInterop.ReadsAs(top, folder["want.raw"]);
    }

    [Fact]
    public void Unsafe_only_the_name_changes()
    {
        using var folder = Overlay("compat=1.1");
        var top = folder["top.qcow2"];
        var length = new FileInfo(top).Length;
        PlatterCli.Run("rebase", "-u", "-b", "not-there.raw", "-F", "raw", top).Expect();
        Assert.StartsWith("not-there.raw", OfflineInterop.Info(top, "backing file"));
        Assert.Equal(length, new FileInfo(top).Length);
        PlatterCli.Run("rebase", "-u", "-b", "base.raw", "-F", "raw", top).Expect();
        OfflineInterop.ReadsAs(top, folder["want.raw"]);
    }

    [Fact]
    public void Failures_are_the_peers()
    {
        using var folder = Overlay("compat=1.1");
        var top = folder["top.qcow2"];
        Assert.StartsWith("Must specify backing file", PlatterCli.Run("rebase", top).Error["platter: ".Length..]);
        Assert.Equal(
            $"Could not change the backing file to '{folder["base.raw"]}': backing format must be specified", SameAsPeer.Failure("rebase", "-u", "-b", folder["base.raw"], top));
        Assert.StartsWith("Could not open new backing file", SameAsPeer.Failure("rebase", "-b", folder["nothing"], "-F", "raw", top));
        Assert.StartsWith("Could not open new backing file", SameAsPeer.Failure("rebase", "-b", top, "-F", "qcow2", top));
        Assert.Equal("Invalid format name: 'strange'", SameAsPeer.Failure("rebase", "-b", "x", "-F", "strange", top));
        Assert.Equal("Invalid source cache option: strange", SameAsPeer.Failure("rebase", "-b", "x", "-F", "raw", "-T", "strange", top));
        OfflineInterop.ReadsAs(top, folder["want.raw"]);
    }

    private static TempFolder Overlay(string options)
    {
        ToolRunner.RequireOrSkip("qemu-img", "qemu-io");
        var folder = new TempFolder("rebase");
        OfflineInterop.CreateRaw(folder["base.raw"], "1M", 9);
        OfflineInterop.Create(folder["top.qcow2"], options, "3M", folder["base.raw"], "raw");
        OfflineInterop.Write(folder["top.qcow2"], "write -P 2 100k 100k", "write -P 3 2500k 4k", "write -z 700k 64k");
        OfflineInterop.Keep(folder["top.qcow2"], folder["want.raw"]);
        return folder;
    }
}
