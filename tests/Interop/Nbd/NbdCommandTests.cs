using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Nbd;

/// <summary><c>nbd info</c>, <c>list</c> and <c>map</c> print what nbdinfo prints.</summary>
public sealed class NbdCommandTests : IDisposable
{
    private readonly TempFolder _folder = new("nbd");

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void A_qcow2_export_with_its_contexts_is_told_as_the_tool_does()
    {
        var image = ClientInterop.MakeQcow2(_folder);
        ToolRunner.RunChecked("qemu-img", "bitmap", "--add", image, "b0");
        ToolRunner.RunChecked("qemu-io", "-c", "write 1M 64k", "-c", "write 30M 1M", image);
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", "-b", image, "-F", "qcow2", _folder["top.qcow2"]);
        ToolRunner.RunChecked("qemu-io", "-c", "write 50M 2M", _folder["top.qcow2"]);
        ToolRunner.RunChecked("qemu-img", "bitmap", "--add", "-b", image, "-F", "qcow2", "--merge", "b0", _folder["top.qcow2"], "b0");
        using var server = NbdServer.QemuNbd(_folder["top.qcow2"], "qcow2", _folder, "-A", "-B", "b0", "-x", "a disk", "-D", "what it is");
        var uri = $"nbd+unix:///a%20disk?socket={server.Socket}";
        AssertSame(uri, "--size");
        AssertSame(uri, "--no-content");
        AssertSame(uri, "--list");
        AssertSame(uri, "--map");
        AssertSame(uri, "--map", "--totals");
        AssertSame(uri, "--map=qemu:allocation-depth");
        AssertSame(uri, "--map=qemu:dirty-bitmap:b0");
        AssertSame(uri, "--map=qemu:dirty-bitmap:b0", "--totals");
        AssertSameJson(uri, "--no-content");
        AssertSameJson(uri, "--list");
        AssertSameJson(uri, "--map=qemu:allocation-depth");
        AssertSameJson(uri, "--map", "--totals");
        Assert.Equal(
            ToolRunner.RunChecked("nbdinfo", "--map=qemu:dirty-bitmap:b0", uri).Text, PlatterCli.RunChecked("nbd", "map", "--context", "qemu:dirty-bitmap:b0", uri).Text);
    }

    [Theory]
    [InlineData("memory", "1000")]
    [InlineData("memory", "1536")]
    [InlineData("memory", "8E")]
    [InlineData("-r", "memory", "3G")]
    [InlineData("--no-sr", "memory", "3M")]
    [InlineData("--mask-handshake=0", "memory", "3M")]
    [InlineData("--filter=blocksize-policy", "memory", "3M", "blocksize-minimum=512", "blocksize-preferred=4096", "blocksize-maximum=64K")]
    public void Exports_of_all_kinds_are_told_as_the_tool_does(params string[] plugin)
    {
        using var server = NbdServer.Nbdkit(_folder, plugin[^1] == "8E" ? ["memory", $"{long.MaxValue}"] : plugin);
        AssertSame(server.Uri, "--no-content");
        AssertSame(server.Uri, "--size");
        AssertSameJson(server.Uri, "--no-content");
        foreach (var question in new[] { "connect", "cache", "df", "fast-zero", "flush", "fua", "multi-conn", "read", "trim", "write", "zero", "structured-reply" })
        {
            Assert.Equal(ToolRunner.Run("nbdinfo", "--can", question, server.Uri).ExitCode, PlatterCli.Run("nbd", "info", "--can", question, server.Uri).ExitCode);
        }

        foreach (var question in new[] { "read-only", "rotational", "tls" })
        {
            Assert.Equal(ToolRunner.Run("nbdinfo", "--is", question, server.Uri).ExitCode, PlatterCli.Run("nbd", "info", "--is", question, server.Uri).ExitCode);
        }
    }

    [Fact]
    public void Questions_can_be_turned_round()
    {
        using var server = NbdServer.Nbdkit(_folder, "-r", "memory", "1M");
        foreach (var (question, code) in new[] { ("--isnt=read-only", 2), ("--cannot=write", 0), ("--hasnt=extended-headers", 0), ("--has=structured-reply", 0), ("--can=block-status-payload", 2) })
        {
            Assert.Equal(code, PlatterCli.Run("nbd", "info", question, server.Uri).ExitCode);
        }

        Assert.Equal($"nbd+unix:///?socket={server.Socket}\n", PlatterCli.RunChecked("nbd", "info", "--uri", server.Uri).Text);
    }

    [Fact]
    public void What_an_export_holds_is_said()
    {
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", _folder["one"], "1M");
        File.WriteAllText(_folder["two"], "data");
        Assert.Contains("\tcontent: qcow2 image of version 3, 1048576 bytes\n", PlatterCli.RunChecked("nbd", "info", "--", "[", "nbdkit", "file", _folder["one"], "]").Text, StringComparison.Ordinal);
        Assert.Contains("\tcontent: data\n", PlatterCli.RunChecked("nbd", "list", "--content", "--", "[", "nbdkit", "file", _folder["two"], "]").Text, StringComparison.Ordinal);
        Assert.Contains(
            "\tcontent: DOS/MBR boot sector, 1 partition\n",
            PlatterCli.RunChecked("nbd", "info", "--", "[", "nbdkit", "partitioning", _folder["one"], "]").Text, StringComparison.Ordinal);
        Assert.Contains(
            "\tcontent: GPT partition table, 2 partitions\n",
            PlatterCli.RunChecked("nbd", "info", "--", "[", "nbdkit", "partitioning", "partition-type=gpt", _folder["one"], _folder["one"], "]").Text, StringComparison.Ordinal);
        var json = JsonNode.Parse(PlatterCli.RunChecked("nbd", "info", "--json", "--", "[", "nbdkit", "memory", "1M", "]").Text)!;
        Assert.Equal("data", (string?)json["exports"]![0]!["content"]);
        Assert.Null(json["exports"]![0]!["uri"]);
    }

    [Fact]
    public void A_server_that_is_started_for_a_question_is_told_as_the_tool_does()
    {
        string[] place = ["--", "[", "nbdkit", "memory", "1M", "]"];
        Assert.Equal(
            ToolRunner.RunChecked("nbdinfo", place).Text,
            PlatterCli.RunChecked(["nbd", "info", .. place]).Text.Replace("\tcan_block_status_payload: false\n", string.Empty, StringComparison.Ordinal));
        Assert.Equal(ToolRunner.RunChecked("nbdinfo", ["--map", .. place]).Text, PlatterCli.RunChecked(["nbd", "map", .. place]).Text);
        Assert.Equal("1048576\n", PlatterCli.RunChecked(["nbd", "info", "--size", .. place]).Text);
        AssertOneLine("nosuchprogram: there is no such program", "[", "nosuchprogram", "]");
        AssertOneLine("'[' without ']'", "[", "nbdkit");
        AssertOneLine("expected the command of a server", "[", "]");

        static void AssertOneLine(string words, params string[] place)
        {
            var run = PlatterCli.Run(["nbd", "info", "--", .. place]);
            Assert.Equal(1, run.ExitCode);
            Assert.Contains(words, run.Error, StringComparison.Ordinal);
            Assert.Equal(1, run.Error.Count(c => c == '\n'));
        }
    }

    [Fact]
    public void A_directory_of_exports_is_listed_as_the_tool_does()
    {
        Directory.CreateDirectory(_folder["exports"]);
        foreach (var name in new[] { "one", "two words", "grüße" })
        {
            File.WriteAllBytes(Path.Combine(_folder["exports"], name), new byte[4096]);
        }

        using var server = NbdServer.Nbdkit(_folder, "file", $"dir={_folder["exports"]}");
        Assert.Equal(Exports(ToolRunner.RunChecked("nbdinfo", "--list", "--json", server.Uri).Text), Exports(PlatterCli.RunChecked("nbd", "list", "--json", server.Uri).Text));

        static string[] Exports(string text) =>
            [.. JsonNode.Parse(text)!["exports"]!.AsArray().Select(export => $"{export!["export-name"]} {export["uri"]} {export["export-size"]}").Order()];
    }

    [Fact]
    public void A_server_that_cannot_be_reached_is_no_but_to_the_one_question()
    {
        var uri = $"nbd+unix:///?socket={_folder["nothing"]}";
        Assert.Equal(2, PlatterCli.Run("nbd", "info", "--can", "connect", uri).ExitCode);
        Assert.Equal(1, PlatterCli.Run("nbd", "info", "--can", "write", uri).ExitCode);
        Assert.Equal(1, PlatterCli.Run("nbd", "list", uri).ExitCode);
    }

    // We also say what versions of the tool say that know extended headers.
    private static void AssertSame(string uri, params string[] options) => Assert.Equal(
        ToolRunner.RunChecked("nbdinfo", [.. options, uri]).Text,
        Regex.Replace(
            PlatterCli.RunChecked(["nbd", "info", .. options, uri]).Text,
            @"\tcan_block_status_payload: false\n|(?<=\tblock_size_\w+: \d+) \(\w+\)", string.Empty));

    private static void AssertSameJson(string uri, params string[] options)
    {
        var theirs = JsonNode.Parse(ToolRunner.RunChecked("nbdinfo", ["--json", .. options, uri]).Text)!;
        var ours = JsonNode.Parse(PlatterCli.RunChecked(["nbd", "info", "--json", .. options, uri]).Text)!;
        if (ours is JsonObject server)
        {
            Assert.True(server.Remove("extended"));
            foreach (var export in server["exports"]!.AsArray())
            {
                Assert.True(export!.AsObject().Remove("can_block_status_payload"));
            }
        }

        Assert.True(JsonNode.DeepEquals(theirs, ours), $"{theirs}\n{ours}");
    }
}
