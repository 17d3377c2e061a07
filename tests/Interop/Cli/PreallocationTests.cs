using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Cli;

/// <summary><c>resize --preallocation</c>, judged by the peer.</summary>
public sealed class PreallocationTests
{
    [Theory]
    [InlineData("compat=1.1")]
    [InlineData("compat=0.10")]
    [InlineData("extended_l2=on")]
    [InlineData("cluster_size=512")]
    [InlineData("data_file=data")]
    [InlineData("data_file=data,data_file_raw=on")]
    public void New_bytes_have_their_place_and_read_as_zeros(string options)
    {
        ToolRunner.RequireOrSkip("qemu-img", "qemu-io");
        using var folder = new TempFolder("preallocation");
        var (image, data) = (folder["disk.qcow2"], folder["data"]);
        OfflineInterop.Create(image, options.Replace("=data", $"={data}", StringComparison.Ordinal), "1001k");
        OfflineInterop.Write(image, "write -P 1 0 1001k");
        foreach (var mode in new[] { "metadata", "falloc", "full", "off" })
        {
            PlatterCli.Run("resize", "-q", $"--preallocation={mode}", image, "+1000k").Expect();
            OfflineInterop.Check(image);
        }

        OfflineInterop.Reads(image, "read -P 1 0 1001k", "read -P 0 1001k 4000k");
        var length = new FileInfo(image).Length;
        OfflineInterop.Write(image, "write -P 2 1001k 2900k");
        Assert.Equal(length, new FileInfo(image).Length);
        OfflineInterop.Check(image);
        if (File.Exists(data))
        {
            Assert.True(new FileInfo(data).Length >= 4001 * 1024);
        }
    }

    [Fact]
    public void A_longer_backing_file_stays_hidden()
    {
        ToolRunner.RequireOrSkip("qemu-img", "qemu-io");
        using var folder = new TempFolder("preallocation");
        OfflineInterop.CreateRaw(folder["base.raw"], "4M", 9);
        OfflineInterop.Create(folder["disk.qcow2"], "compat=0.10", "1001k", folder["base.raw"], "raw");
        PlatterCli.Run("resize", "--preallocation=metadata", folder["disk.qcow2"], "3M").Expect();
        OfflineInterop.Reads(folder["disk.qcow2"], "read -P 9 0 1001k", "read -P 0 1001k 2071k");
        OfflineInterop.Check(folder["disk.qcow2"]);
    }

    [Fact]
    public void An_encrypted_disk_reads_zeros_too()
    {
        ToolRunner.RequireOrSkip("qemu-img", "qemu-io");
        using var folder = new TempFolder("preallocation");
        string[] secret = ["--object", $"secret,id=a,file={folder.Write("a", "password")}"];
        var image = folder["disk.qcow2"];
        var by = $"driver=qcow2,file.filename={image},encrypt.key-secret=a";
        ToolRunner.RunChecked("qemu-img", ["create", "-q", .. secret, "-f", "qcow2", "-o", "encrypt.format=luks,encrypt.key-secret=a,encrypt.iter-time=200", image, "1M"]);
        PlatterCli.Run(["resize", .. secret, "--preallocation=falloc", "--image-opts", by, "2M"]).Expect();
        var read = ToolRunner.RunChecked("qemu-io", [.. secret, "--image-opts", "-r", "-c", "read -P 0 0 2M", by]);
        Assert.DoesNotContain("failed", read.Text, StringComparison.Ordinal);
        ToolRunner.RunChecked("qemu-img", ["check", .. secret, "--image-opts", by]);
    }

    [Fact]
    public void A_raw_file_gets_space()
    {
        ToolRunner.RequireOrSkip("qemu-img");
        using var folder = new TempFolder("preallocation");
        OfflineInterop.CreateRaw(folder["disk"], "1M", 5);
        PlatterCli.Run("resize", "-f", "raw", "--preallocation=falloc", folder["disk"], "+1M").Expect();
        PlatterCli.Run("resize", "-f", "raw", "--preallocation=full", folder["disk"], "+1M").Expect();
        Assert.Equal(3 << 20, new FileInfo(folder["disk"]).Length);
        Assert.Equal("Unsupported preallocation mode: metadata", SameAsPeer.Failure("resize", "-f", "raw", "--preallocation=metadata", folder["disk"], "+1M"));
        Assert.Equal(3 << 20, new FileInfo(folder["disk"]).Length);
        Assert.Equal(
            "Preallocation can only be used for growing images", SameAsPeer.Failure("resize", "-f", "raw", "--shrink", "--preallocation=full", folder["disk"], "1M"));
        Assert.Equal("Invalid preallocation mode 'strange'", SameAsPeer.Failure("resize", "-f", "raw", "--preallocation=strange", folder["disk"], "+1M"));
    }
}
