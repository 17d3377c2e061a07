using System.Text;
using System.Text.RegularExpressions;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Cli;

/// <summary>The commands that the README and the walk-through show print what they show.</summary>
/// <remarks>Each block is one shell session in a folder of its own, with links to the program and the samples. Sizes that depend on the host's
/// file system are not compared. A command that goes to the background is waited for until it has printed something.</remarks>
public sealed partial class ReadmeTests
{
    private const string Home = "/home/me";

    public static TheoryData<string> Sessions() =>
        [
            .. MarkdownFile.Read("README.md").CodeBlocks("console").Where(block => !block.StartsWith("$ ./test", StringComparison.Ordinal)),
            .. MarkdownFile.Read("docs/moving-a-vm.md").CodeBlocks("console"),
        ];

    [Theory]
    [MemberData(nameof(Sessions))]
    public void Commands_print_what_the_readme_shows(string block)
    {
        using var folder = new TempFolder("readme");
        PlatterCli.LinkAs(folder, "platter");
        Directory.CreateSymbolicLink(folder["samples"], Path.Combine(DemoSample.RepositoryRoot, "samples"));
        var script = new StringBuilder("exec 2>&1\n");
        foreach (var command in block.Split('\n').Where(line => line.StartsWith("$ ", StringComparison.Ordinal)).Select(line => line[2..]))
        {
            if (command.Split(' ')[0] is var tool && !tool.StartsWith("./", StringComparison.Ordinal))
            {
                ToolRunner.RequireOrSkip(tool);
            }

            script.Append("echo '$ ").Append(command.Replace("'", "'\\''", StringComparison.Ordinal)).Append("'\n");
            script.Append(command.EndsWith(" &", StringComparison.Ordinal)
                ? $"{{ {command[..^2]}; }} >background 2>&1 &\nfor i in $(seq 100); do [ -s background ] && break; sleep 0.1; done; cat background\n"
                : $"{command}\n");
        }

        script.Append("wait\n");
        var run = ToolRunner.Run(new ToolCommand("bash", "-c", script.ToString()) { WorkingDirectory = folder.Path });
        Assert.Equal(Comparable(block), Comparable(run.Text.Replace(folder.Path, Home, StringComparison.Ordinal).TrimEnd('\n')));
    }

    [Fact]
    public void The_first_command_opens_the_sample_and_the_second_runs_the_tests()
    {
        var commands = MarkdownFile.Read("README.md").CodeBlocks("console").SelectMany(block => block.Split('\n')).Where(line => line.StartsWith("$ ", StringComparison.Ordinal));
        Assert.Equal(["$ ./platter info samples/demo.pvm", "$ ./test"], commands.Take(2));
    }

    private static string Comparable(string text) => Identifiers().Replace(HostSizes().Replace(text, "N bytes"), "{GUID}");

    [GeneratedRegex(@"\d+(\.\d+)? (K|M)iB")]
    private static partial Regex HostSizes();

    [GeneratedRegex(@"\{[0-9a-f-]{36}\}")]
    private static partial Regex Identifiers();
}
