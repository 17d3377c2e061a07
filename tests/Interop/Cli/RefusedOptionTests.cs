using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Cli;

/// <summary>What the peer refuses because it would have no effect, or could not be, is refused by us with its words.</summary>
public sealed class RefusedOptionTests : IDisposable
{
    private readonly TempFolder _folder = new("refused");

    [Theory]
    [InlineData("convert -n -f raw -O qcow2 -o cluster_size=4k R Q", "-o has no effect when skipping image creation")]
    [InlineData("convert --bitmaps -f raw -O qcow2 R T", "Source lacks bitmap support")]
    [InlineData("measure --size 1T -O qcow2 -o cluster_size=512", "The image size is too large (try using a larger cluster size)")]
    [InlineData("resize -f qcow2 Q +100", "The new size must be a multiple of 512")]
    public void The_peers_words_and_exit_code(string arguments, string words)
    {
        ToolRunner.RequireOrSkip("qemu-img");
        File.WriteAllBytes(_folder["R"], new byte[1 << 20]);
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", _folder["Q"], "1M");
        string[] command = [.. arguments.Split(' ').Select(word => word is "R" or "Q" or "T" ? _folder[word] : word)];
        var (peer, ours) = (ToolRunner.Run("qemu-img", command), PlatterCli.Run(command));
        Assert.Contains(words, peer.Error, StringComparison.Ordinal);
        Assert.Contains(words, ours.Error, StringComparison.Ordinal);
        Assert.Equal(peer.ExitCode, ours.ExitCode);
        Assert.False(File.Exists(_folder["T"]));
    }

    [Fact]
    public void A_limit_of_the_size_of_files_is_an_error_and_not_the_end_of_the_process()
    {
        File.WriteAllBytes(_folder["R"], [.. Enumerable.Repeat((byte)7, 16 << 20)]);
        var run = ToolRunner.Run(new ToolCommand(
            "bash", "-c", $"ulimit -f 10240; exec '{PlatterCli.LinkAs(_folder, "platter")}' convert -f raw -O qcow2 '{_folder["R"]}' '{_folder["T"]}'"));
        Assert.Equal(1, run.ExitCode);
        Assert.Contains("File too large", run.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void No_requests_are_no_error_of_a_bench()
    {
        ToolRunner.RequireOrSkip("qemu-img");
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", _folder["Q"], "1M");
        Assert.Contains("Sending 0 read requests", PlatterCli.RunChecked("bench", "-c", "0", "-f", "qcow2", _folder["Q"]).Text, StringComparison.Ordinal);
    }

    public void Dispose() => _folder.Dispose();
}
