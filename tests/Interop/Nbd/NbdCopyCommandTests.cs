using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Nbd;

/// <summary><c>nbd copy</c> between what nbdcopy copies between: standard input and output, servers that are started for it.</summary>
public sealed class NbdCopyCommandTests : IDisposable
{
    private readonly TempFolder _folder = new("nbd");

    public NbdCopyCommandTests() => File.WriteAllBytes(_folder["source"], [.. TestContent.Make(1, 0, 300_000), .. new byte[700_000], .. TestContent.Make(2, 0, 48_576)]);

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("nbdkit", "file", "{0}")]
    [InlineData("qemu-nbd", "-f", "raw", "{0}")]
    [InlineData("platter", "serve", "-w", "-f", "raw", "{0}")]
    public void A_server_in_brackets_is_the_source_and_the_destination(params string[] command)
    {
        File.WriteAllBytes(_folder["target"], new byte[1_048_576]);
        PlatterCli.RunChecked(["nbd", "copy", "--", .. Place("source"), .. Place("target")]);
        ToolRunner.RunChecked("cmp", "-n", "1048576", _folder["source"], _folder["target"]);
        Assert.Equal(
            ToolRunner.RunChecked("md5sum", _folder["target"]).Text[..32],
            ToolRunner.Run(new ToolCommand("md5sum") { Input = PlatterCli.RunChecked(["nbd", "copy", "--", .. Place("source"), "-"]).Output }).Text[..32]);

        string[] Place(string file) =>
        [
            "[", .. command.SelectMany(word => word == "platter" ? [PlatterCli.Command().Tool, .. PlatterCli.Command().Arguments] : (string[])[word])
                .Select(word => word.Replace("{0}", _folder[file], StringComparison.Ordinal)),
            "]",
        ];
    }

    [Fact]
    public void Standard_input_becomes_a_file_and_the_beginning_of_an_export()
    {
        var input = File.ReadAllBytes(_folder["source"]);
        ToolRunner.Run(PlatterCli.Command("nbd", "copy", "-", _folder["copy"]) with { Input = input }).Expect();
        ToolRunner.RunChecked("cmp", _folder["source"], _folder["copy"]);
        using var server = NbdServer.Nbdkit(_folder, "memory", "2M");
        PlatterCli.RunChecked("io", "-f", "raw", "-c", "write -P 7 0 2M", server.Uri);
        ToolRunner.Run(PlatterCli.Command("nbd", "copy", "-", server.Uri) with { Input = input }).Expect();
        PlatterCli.RunChecked("nbd", "copy", server.Uri, _folder["all"]);
        Assert.Equal([.. input, .. Enumerable.Repeat((byte)7, (2 << 20) - input.Length)], File.ReadAllBytes(_folder["all"]));
    }

    [Fact]
    public void More_input_than_an_export_has_room_for_is_an_error()
    {
        var run = ToolRunner.Run(PlatterCli.Command("nbd", "copy", "--", "-", "[", "nbdkit", "memory", "512k", "]") with { Input = File.ReadAllBytes(_folder["source"]) });
        Assert.Equal(1, run.ExitCode);
        Assert.EndsWith("has 524288 bytes, and more came for it\n", run.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void Progress_goes_to_a_descriptor_as_with_the_tool()
    {
        var run = PlatterCli.RunChecked("nbd", "copy", "--progress=2", "--", "[", "nbdkit", "memory", "1M", "]", "null:");
        Assert.StartsWith("0/100\n", run.Error, StringComparison.Ordinal);
        Assert.EndsWith("100/100\n", run.Error, StringComparison.Ordinal);
        Assert.Equal(1, PlatterCli.Run("nbd", "copy", "--progress=x", _folder["source"], "null:").ExitCode);
    }
}
