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
            PlatterCli.RunChecked(["nbd", "info", .. options.Where(o => o != "--no-content"), uri]).Text,
            @"\tcan_block_status_payload: false\n|(?<=\tblock_size_\w+: \d+) \(\w+\)", string.Empty));

    private static void AssertSameJson(string uri, params string[] options)
    {
        var theirs = JsonNode.Parse(ToolRunner.RunChecked("nbdinfo", ["--json", .. options, uri]).Text)!;
        var ours = JsonNode.Parse(PlatterCli.RunChecked(["nbd", "info", "--json", .. options.Where(o => o != "--no-content"), uri]).Text)!;
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
