using System.Diagnostics;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Cli;

/// <summary>The program as a process: its name, its signals, its pipes.</summary>
public sealed class ProcessTests
{
    [Fact]
    public void Under_a_peers_name_it_is_that_peer()
    {
        using var folder = new TempFolder();
        var link = PlatterCli.LinkAs(folder, "qemu-img");
        var run = ToolRunner.Run(link, "nosuch");
        Assert.Equal("qemu-img: Command not found: nosuch\nTry 'qemu-img --help' for more information\n", run.Expect(1).Error);
        Assert.StartsWith("qemu-img version ", ToolRunner.RunChecked(link, "--version").Text, StringComparison.Ordinal);
        Assert.StartsWith("platter ", PlatterCli.RunChecked("--version").Text, StringComparison.Ordinal);
    }

    [Fact]
    public void The_launcher_may_tell_the_name()
    {
        var run = ToolRunner.Run(PlatterCli.Command("--version") with
        {
            Environment = new Dictionary<string, string?> { ["PLATTER_INVOKED_AS"] = "/usr/local/bin/qemu-img" },
        });
        Assert.StartsWith("qemu-img version ", run.Expect().Text, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("INT", 130)]
    [InlineData("TERM", 143)]
    public void A_signal_ends_a_long_conversion_and_its_half_says_what_it_is(string signal, int exitCode)
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "signals are sent with kill");
        using var folder = new TempFolder();
        var source = folder.Write("a.raw", new byte[8 << 20].Select((_, i) => (byte)(i | 1)).ToArray());
        var info = new ProcessStartInfo(PlatterCli.RequireOrSkip(), ["convert", "-p", "-f", "raw", "-r", "64k", source, folder["t.raw"]])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        using var process = Process.Start(info)!;

        // The first progress is printed when everything is open and the signals are watched.
        Assert.NotEqual(-1, process.StandardOutput.Read());
        ToolRunner.RunChecked("kill", $"-{signal}", $"{process.Id}");
        Assert.True(process.WaitForExit(30_000), "it did not end");
        Assert.Equal(exitCode, process.ExitCode);
        Assert.EndsWith("platter: interrupted\n", process.StandardError.ReadToEnd(), StringComparison.Ordinal);
        Assert.False(File.Exists(folder["t.raw"]), "half a copy was left under the name of a whole one");
    }

    [Fact]
    public void The_signal_that_asks_for_progress_is_answered()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "the peers' signal is SIGUSR1");
        using var folder = new TempFolder();
        var source = folder.Write("a.raw", new byte[8 << 20].Select((_, i) => (byte)(i | 1)).ToArray());
        var info = new ProcessStartInfo(PlatterCli.RequireOrSkip(), ["convert", "-f", "raw", "-r", "64k", source, folder["t.raw"]])
        {
            RedirectStandardError = true,
        };
        using var process = Process.Start(info)!;

        // The target appears after the signals are watched.
        while (!File.Exists(folder["t.raw.unfinished"]) && !process.HasExited)
        {
            Thread.Sleep(20);
        }

        Thread.Sleep(200);
        ToolRunner.RunChecked("kill", "-USR1", $"{process.Id}");
        Assert.Matches(@"^    \(\d+\.\d\d/100%\)$", process.StandardError.ReadLine());
        ToolRunner.RunChecked("kill", "-INT", $"{process.Id}");
        Assert.True(process.WaitForExit(30_000), "it did not end");
    }

    [Fact]
    public void A_full_output_is_an_error()
    {
        Assert.SkipUnless(File.Exists("/dev/full"), "/dev/full does not exist");
        using var folder = new TempFolder();
        var name = folder.Write("a.raw", new byte[512]);
        var run = ToolRunner.Run("sh", "-c", $"'{PlatterCli.RequireOrSkip()}' info -f raw '{name}' >/dev/full");
        Assert.Equal("platter: standard output: Could not write: No space left on device\n", run.Expect(1).Error);
    }

    [Fact]
    public void A_reader_that_has_enough_is_no_error()
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "needs a shell");
        using var folder = new TempFolder();
        using (var file = File.Create(folder["a.raw"]))
        {
            // More map than a pipe holds.
            for (var i = 0; i < 4000; i++)
            {
                file.Position = i * 16384L;
                file.Write(new byte[] { 1 });
            }
        }

        var run = ToolRunner.Run("bash", "-c", $"'{PlatterCli.RequireOrSkip()}' map --output=json -f raw '{folder["a.raw"]}' | head -n1; echo ${{PIPESTATUS[0]}}");
        Assert.StartsWith("[{ \"start\": 0,", run.Expect().Text, StringComparison.Ordinal);
        Assert.Contains(run.Lines[^1], new[] { "141", "0" });
        Assert.Empty(run.Error);
    }
}
