using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Cli;

/// <summary>Images on block devices, with the peer as judge: a device does not end where the image does, and has old bytes behind it.</summary>
public sealed class DeviceTests
{
    private const int Megabyte = 1 << 20;

    [Theory]
    [InlineData("cluster_size=64k")]
    [InlineData("cluster_size=4k,lazy_refcounts=on")]
    [InlineData("cluster_size=16k,extended_l2=on")]
    public void Everything_that_writes_works_on_a_device(string options)
    {
        ToolRunner.RequireOrSkip("qemu-img");
        using var folder = new TempFolder("device");
        using var device = LoopDevice.RequireOrSkip(folder, 40 * Megabyte);
        var (disk, want) = (device.Path, folder["want.raw"]);
        var content = new byte[12 * Megabyte];
        TestContent.Fill(content.AsSpan(0, 7 * Megabyte), 1, 0);
        folder.Write("want.raw", content);
        PlatterCli.Run("convert", "-O", "qcow2", "-o", options, want, disk).Expect();
        Same();
        PlatterCli.Run("convert", "-n", "-O", "qcow2", want, disk).Expect();
        Same();
        PlatterCli.Run("snapshot", "-c", "one", disk).Expect();
        PlatterCli.Run("io", "-f", "qcow2", "-c", "write -P 7 1M 3M", "-c", "write -z 5M 1M", disk).Expect();
        Check();
        PlatterCli.Run("snapshot", "-a", "one", disk).Expect();
        PlatterCli.Run("snapshot", "-d", "one", disk).Expect();
        Same();
        PlatterCli.Run("bitmap", "--add", disk, "b").Expect();
        Check();
        PlatterCli.Run("bitmap", "--remove", disk, "b").Expect();
        PlatterCli.Run("resize", disk, "+4M").Expect();
        PlatterCli.Run("resize", "--shrink", disk, "12M").Expect();
        PlatterCli.Run("amend", "-o", "refcount_bits=32", disk).Expect();
        Same();
        PlatterCli.Run("check", "-r", "all", disk).Expect();
        OfflineInterop.Create(folder["top.qcow2"], "compat=1.1", "12M", disk, "qcow2");
        OfflineInterop.Write(folder["top.qcow2"], "write -P 9 9M 1M");
        OfflineInterop.Write(want, "write -P 9 9M 1M");
        PlatterCli.Run("commit", folder["top.qcow2"]).Expect();
        Same();
        if (!options.Contains("extended", StringComparison.Ordinal))
        {
            PlatterCli.Run("convert", "-c", "-O", "qcow2", "-o", options, want, disk).Expect();
            Same();
        }

        void Check() => ToolRunner.RunChecked("qemu-img", "check", "-f", "qcow2", disk);

        void Same()
        {
            Check();
            ToolRunner.RunChecked("qemu-img", "compare", "-f", "raw", "-F", "qcow2", want, disk);
        }
    }
}
