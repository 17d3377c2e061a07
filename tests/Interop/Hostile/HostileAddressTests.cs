using System.Buffers.Binary;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Hostile;

/// <summary>Addresses of tables that lead to other metadata or far behind the end of the file: where QEMU refuses to write and marks the image corrupt, we do.</summary>
public sealed class HostileAddressTests
{
    private const int RefcountTable = 0x10000, RefcountBlock = 0x20000, L1 = 0x30000, L2 = 0x40000;
    private const ulong Copied = 1UL << 63;

    [Theory]
    [InlineData(L1 + 24, Copied | RefcountBlock, "write 1610743808 64k")]
    [InlineData(L1 + 24, Copied | RefcountTable, "write 1610743808 64k")]
    [InlineData(L1 + 24, Copied | L1, "write 1610743808 64k")]
    [InlineData(L1 + 24, Copied | RefcountBlock, "write 64k 64k")]
    [InlineData(RefcountTable, 1UL << 40, "write 64k 64k")]
    [InlineData(RefcountTable, 1UL << 50, "write 64k 64k")]
    [InlineData(L2, Copied | L1, "write 0 64k")]
    public void Both_refuse_the_write_and_mark_the_image_corrupt(int at, ulong value, string command)
    {
        ToolRunner.RequireOrSkip("qemu-img", "qemu-io");
        using var folder = new TempFolder("hostile");
        var (theirs, ours) = (folder["theirs.qcow2"], folder["ours.qcow2"]);
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", theirs, "2G");
        ToolRunner.RunChecked("qemu-io", "-c", "write -P 1 0 64k", "-c", "write -P 2 1G 64k", theirs);
        var bytes = File.ReadAllBytes(theirs);
        BinaryPrimitives.WriteUInt64BigEndian(bytes.AsSpan(at), value);
        File.WriteAllBytes(theirs, bytes);
        File.WriteAllBytes(ours, bytes);

        Assert.Contains("write failed: Input/output error", ToolRunner.Run("qemu-io", "-c", command, theirs).Text, StringComparison.Ordinal);
        var run = HostileRun.Of("io", "-c", command, ours);
        Assert.Equal(1, run.ExitCode);
        Assert.Contains("write failed: Input/output error", run.Output, StringComparison.Ordinal);
        Assert.Contains("marked corrupt", run.Error, StringComparison.Ordinal);
        foreach (var image in new[] { theirs, ours })
        {
            Assert.Contains("corrupt: true", ToolRunner.RunChecked("qemu-img", "info", image).Text, StringComparison.Ordinal);
        }

        Assert.True(bytes.AsSpan(RefcountTable).SequenceEqual(File.ReadAllBytes(ours).AsSpan(RefcountTable)), "something behind the header was written");
    }
}
