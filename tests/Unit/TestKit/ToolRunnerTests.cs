using System.Text;
using Platter.TestKit;
using Xunit;
using Xunit.Sdk;

namespace Platter.Tests.Unit.TestKit;

public sealed class ToolRunnerTests
{
    [Fact]
    public void Output_error_input_and_exit_code_are_captured()
    {
        var result = ToolRunner.Run(new ToolCommand("sh", "-c", "cat; echo $WORD >&2; exit 3")
        {
            Input = Encoding.UTF8.GetBytes("in\n"),
            Environment = new Dictionary<string, string?> { ["WORD"] = "out" },
        });
        Assert.Equal((3, "in\n", "out\n"), (result.ExitCode, result.Text, result.Error));
        Assert.Contains("exit code 3, expected 0", Assert.Throws<TrueException>(() => result.Expect()).Message);
    }

    [Fact]
    public void Much_output_on_both_pipes_does_not_stop_the_tool()
    {
        var result = ToolRunner.Run("sh", "-c", "head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2").Expect();
        Assert.Equal((1_000_000, 1_000_000), (result.Output.Length, result.Error.Length));
    }

    [Fact]
    public void A_tool_that_hangs_is_killed_and_fails_the_test() =>
        Assert.Throws<FailException>(() => ToolRunner.Run(new ToolCommand("sleep", "60") { Timeout = TimeSpan.FromMilliseconds(200) }));

    [Fact]
    public void A_missing_tool_skips_with_the_reason()
    {
        // Assert.Throws would pass a skip on to this test itself.
        var reason = string.Empty;
        try
        {
            ToolRunner.RequireOrSkip("sh", "no-such-tool");
        }
        catch (SkipException skip)
        {
            reason = skip.Message;
        }

        Assert.Contains("no-such-tool is not installed", reason);
    }

    [Fact]
    public void Temporary_folders_vanish()
    {
        string path;
        using (var folder = new TempFolder())
        {
            path = folder.Path;
            folder.Write("a/b.txt", "text");
            Assert.True(File.Exists(folder["a/b.txt"]));
        }

        Assert.False(Directory.Exists(path));
    }
}
