using System.Text.Json.Nodes;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Cli;

/// <summary>Runs one command line with qemu-img and with platter under qemu-img's name, and holds the answers side by side.</summary>
internal static class SameAsPeer
{
    /// <summary>Exit code and standard output must be the same text.</summary>
    public static void Text(params string[] args)
    {
        var (peer, ours) = Run(args);
        Assert.Equal(peer.Text, ours.Text);
    }

    /// <summary>Exit code and standard output, parsed as JSON, must be the same.</summary>
    public static void Json(params string[] args)
    {
        var (peer, ours) = Run(args);
        Assert.True(
            JsonNode.DeepEquals(JsonNode.Parse(peer.Text), JsonNode.Parse(ours.Text)), $"{peer.CommandLine}\n--- peer\n{peer.Text}--- platter\n{ours.Text}");
    }

    /// <summary>Both must fail with the same exit code, and platter with one line.</summary>
    /// <returns>What platter said, without the program's name.</returns>
    public static string Failure(params string[] args)
    {
        var (peer, ours) = Run(args);
        Assert.NotEqual(0, peer.ExitCode);
        Assert.StartsWith("qemu-img: ", ours.Error, StringComparison.Ordinal);
        Assert.Single(ours.Error.TrimEnd('\n').Split('\n'));
        return ours.Error["qemu-img: ".Length..].TrimEnd('\n');
    }

    private static (ToolResult Peer, ToolResult Ours) Run(string[] args)
    {
        var peer = ToolRunner.Run("qemu-img", args);
        var ours = ToolRunner.Run(PlatterCli.Command(args) with
        {
            Environment = new Dictionary<string, string?> { ["PLATTER_INVOKED_AS"] = "qemu-img" },
        });
        Assert.True(peer.ExitCode == ours.ExitCode, $"exit codes {peer.ExitCode} and {ours.ExitCode}\n{peer}\n{ours}");
        return (peer, ours);
    }
}
