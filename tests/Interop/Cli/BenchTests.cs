using System.Text.RegularExpressions;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Cli;

/// <summary><c>bench</c> says what the peer says, and does what it says.</summary>
public sealed partial class BenchTests
{
    [Theory]
    [InlineData("-c", "100")]
    [InlineData("-c", "100", "-d", "1", "-s", "1000", "-o", "512", "-S", "64k")]
    [InlineData("-c", "100", "-w", "-d", "4", "--flush-interval", "10")]
    [InlineData("-c", "300", "-w", "--flush-interval=100", "--no-drain", "--pattern", "0x41")]
    [InlineData("-c", "10", "-n", "-t", "none", "-U", "-q")]
    public void The_words_are_the_peers(params string[] arguments)
    {
        ToolRunner.RequireOrSkip("qemu-img");
        using var folder = new TempFolder("bench");
        OfflineInterop.Create(folder["disk.qcow2"], "compat=1.1", "8M");
        var peer = ToolRunner.Run("qemu-img", ["bench", .. arguments, folder["disk.qcow2"]]);
        Assert.SkipWhen(peer.ExitCode != 0, $"the peer cannot: {peer.Error}");
        var ours = PlatterCli.Run(["bench", .. arguments, folder["disk.qcow2"]]).Expect();
        Assert.Equal(Seconds().Replace(peer.Text, "N"), Seconds().Replace(ours.Text, "N"));
        OfflineInterop.Check(folder["disk.qcow2"]);
    }

    [Fact]
    public void Writes_go_where_they_should_and_round_the_end()
    {
        ToolRunner.RequireOrSkip("qemu-img", "qemu-io");
        using var folder = new TempFolder("bench");
        var image = folder["disk.qcow2"];
        OfflineInterop.Create(image, "compat=1.1", "1M");
        PlatterCli.Run("bench", "-w", "--pattern=65", "-c", "4", "-s", "64k", "-S", "128k", "-o", "768k", image).Expect();
        OfflineInterop.Reads(
            image, "read -P 65 0 64k", "read -P 0 64k 64k", "read -P 65 128k 64k", "read -P 0 192k 576k", "read -P 65 768k 64k", "read -P 0 832k 64k", "read -P 65 896k 64k", "read -P 0 960k 64k");
        OfflineInterop.Check(image);
    }

    [Theory]
    [InlineData("Invalid request count specified", "-c", "x")]
    [InlineData("Invalid queue depth specified", "-d", "1x")]
    [InlineData("Invalid pattern byte specified", "-w", "--pattern=444")]
    [InlineData("Flush interval can't be smaller than depth", "-w", "--flush-interval=3")]
    [InlineData("--flush-interval is only available in write tests", "--flush-interval=300")]
    [InlineData("Invalid cache mode", "-t", "strange")]
    [InlineData("Invalid aio option: strange", "-i", "strange")]
    [InlineData("Invalid buffer size specified. Must be between 0 and 2147483647.", "-s", "4G")]
    public void Failures_are_the_peers(string message, params string[] arguments)
    {
        ToolRunner.RequireOrSkip("qemu-img");
        using var folder = new TempFolder("bench");
        OfflineInterop.Create(folder["disk.qcow2"], "compat=1.1", "1M");
        Assert.Equal(message, SameAsPeer.Failure(["bench", .. arguments, folder["disk.qcow2"]]));
    }

    [GeneratedRegex(@"\d+\.\d+(?= seconds)")]
    private static partial Regex Seconds();
}
