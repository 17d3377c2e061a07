using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Cli;

/// <summary><c>snapshot</c> and <c>resize</c> by us and by qemu-img in turns on one image.</summary>
public sealed class SnapshotTests
{
    [Theory]
    [InlineData("compat=1.1")]
    [InlineData("cluster_size=4k,refcount_bits=8")]
    [InlineData("extended_l2=on")]
    [InlineData("compat=0.10")]
    public void Both_take_apply_and_delete_snapshots_of_each_other(string options)
    {
        ToolRunner.RequireOrSkip("qemu-img", "qemu-io");
        using var folder = new TempFolder("snapshot");
        var image = folder["disk.qcow2"];
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, image, "9M");
        Write(image, "write -P 1 0 3M", "write -c -P 2 4M 64k");
        PlatterCli.Run("snapshot", "-c", "ours", image).Expect();
        Check(folder, image);
        Write(image, "write -P 3 1M 1M", "write -P 4 8M 64k");
        ToolRunner.RunChecked("qemu-img", "snapshot", "-c", "theirs", image);
        Write(image, "write -P 5 0 100k");
        PlatterCli.Run("snapshot", "-c", "last", image).Expect();
        Check(folder, image);
        Assert.Equal(ToolRunner.RunChecked("qemu-img", "snapshot", "-l", image).Text, PlatterCli.Run("snapshot", "-l", image).Expect().Text);

        PlatterCli.Run("snapshot", "-a", "theirs", image).Expect();
        Reads(image, "read -P 1 0 1M", "read -P 3 1M 1M", "read -P 2 4M 64k", "read -P 4 8M 64k");
        ToolRunner.RunChecked("qemu-img", "snapshot", "-a", "ours", image);
        Reads(image, "read -P 1 0 3M", "read -P 2 4M 64k", "read -P 0 8M 64k");
        PlatterCli.Run("snapshot", "-d", "2", image).Expect();
        Check(folder, image);
        ToolRunner.RunChecked("qemu-img", "snapshot", "-d", "ours", image);
        PlatterCli.Run("snapshot", "-d", "last", image).Expect();
        Check(folder, image);
        Reads(image, "read -P 1 0 3M", "read -P 2 4M 64k");
        Write(image, "write -P 6 0 9M");
        Check(folder, image);
    }

    [Fact]
    public void A_snapshot_that_is_not_there_is_named()
    {
        ToolRunner.RequireOrSkip("qemu-img");
        using var folder = new TempFolder("snapshot");
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", folder["disk.qcow2"], "1M");
        var result = PlatterCli.Run("snapshot", "-a", "nothing", folder["disk.qcow2"]);
        Assert.Equal(1, result.ExitCode);
        Assert.Contains("Could not apply snapshot 'nothing'", result.Error);
        Assert.Contains("disk.qcow2: no snapshot 'nothing'", result.Error);
    }

    [Theory]
    [InlineData("compat=1.1")]
    [InlineData("cluster_size=512")]
    [InlineData("compat=0.10")]
    [InlineData("extended_l2=on")]
    public void A_disk_grows_and_shrinks_as_with_the_peer(string options)
    {
        ToolRunner.RequireOrSkip("qemu-img", "qemu-io");
        using var folder = new TempFolder("resize");
        var image = folder["disk.qcow2"];
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, image, "3000k");
        Write(image, "write -P 1 0 3000k");
        Assert.Equal("Image resized.\n", PlatterCli.Run("resize", image, "+1G").Expect().Text);
        Check(folder, image);
        Reads(image, "read -P 1 0 3000k", "read -P 0 3000k 100M");
        Write(image, "write -P 2 1000M 1M");
        var refused = PlatterCli.Run("resize", image, "2001k");
        Assert.Equal(1, refused.ExitCode);
        Assert.Contains("--shrink", refused.Error);
        PlatterCli.Run("resize", "--shrink", image, "2001k").Expect();
        Check(folder, image);
        PlatterCli.Run("resize", image, "3000k").Expect();
        Reads(image, "read -P 1 0 2001k", "read -P 0 2001k 999k");
        Check(folder, image);
        ToolRunner.RunChecked("qemu-img", "resize", "-q", image, "5M");
        Reads(image, "read -P 0 2001k 3119k");
    }

    private static void Write(string image, params string[] commands) =>
        ToolRunner.RunChecked("qemu-io", [.. commands.SelectMany(c => new[] { "-c", c }), image]);

    private static void Reads(string image, params string[] commands)
    {
        var result = ToolRunner.RunChecked("qemu-io", ["-r", .. commands.SelectMany(c => new[] { "-c", c }), image]);
        Assert.DoesNotContain("failed", result.Text + result.Error, StringComparison.Ordinal);
    }

    private static void Check(TempFolder folder, string image)
    {
        var result = ToolRunner.Run("qemu-img", "check", image);
        Assert.True(result.ExitCode == 0, $"{folder}: {result.Text}{result.Error}");
    }
}
