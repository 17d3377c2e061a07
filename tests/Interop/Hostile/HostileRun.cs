using System.Diagnostics;
using System.Globalization;
using System.Text;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Hostile;

/// <summary>One run of the program on something hostile, with what every such run must keep: time, memory, and how it speaks.</summary>
/// <param name="ExitCode">Its exit code.</param>
/// <param name="Output">Standard output.</param>
/// <param name="Error">Standard error.</param>
/// <param name="PeakBytes">The largest resident set that was seen, or 0 where the host does not tell.</param>
internal sealed record HostileRun(int ExitCode, string Output, string Error, long PeakBytes)
{
    /// <summary>The promise is a second; the machine that runs the tests may be busy with others.</summary>
    private static readonly TimeSpan s_watchdog = TimeSpan.FromSeconds(10);

    /// <summary>The promise for the native program; under the JIT the runtime itself is a good part of what is seen.</summary>
    private const long MaxNativeBytes = 96L << 20, MaxManagedBytes = 160L << 20;

    /// <summary>Runs the program and checks the promises.</summary>
    public static HostileRun Of(params string[] arguments)
    {
        var command = PlatterCli.Command(arguments);
        var info = new ProcessStartInfo(ToolRunner.RequireOrSkip(command.Tool), command.Arguments)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            StandardErrorEncoding = Encoding.UTF8,
            StandardOutputEncoding = Encoding.UTF8,
        };
        info.Environment["LC_ALL"] = "C.UTF-8";
        using var process = Process.Start(info) ?? throw new InvalidOperationException($"{command} did not start");
        process.StandardInput.Close();
        var output = process.StandardOutput.ReadToEndAsync();
        var error = process.StandardError.ReadToEndAsync();
        var watch = Stopwatch.StartNew();
        long peak = 0;
        while (!process.WaitForExit(5))
        {
            peak = Math.Max(peak, PeakOf(process.Id));
            if (watch.Elapsed > s_watchdog)
            {
                process.Kill(entireProcessTree: true);
                Assert.Fail($"{command}\nwas still running after {s_watchdog.TotalSeconds} s");
            }
        }

        process.WaitForExit();
        var run = new HostileRun(process.ExitCode, output.GetAwaiter().GetResult(), error.GetAwaiter().GetResult(), peak);
        run.Judge(command.ToString());
        return run;
    }

    /// <summary>It was refused: exit code 1, nothing but one line, which holds all these words.</summary>
    public HostileRun Refused(params string[] words)
    {
        Assert.True(ExitCode == 1, $"exit code {ExitCode}, expected 1\n{Error}{Head(Output)}");
        var lines = Error.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.True(lines.Length == 1 && Error.EndsWith('\n'), $"expected one line on standard error:\n{Error}");
        foreach (var word in words)
        {
            Assert.True(Error.Contains(word, StringComparison.Ordinal), $"'{word}' is missing in: {Error}");
        }

        return this;
    }

    /// <summary>It was done.</summary>
    public HostileRun Done()
    {
        Assert.True(ExitCode == 0, $"exit code {ExitCode}, expected 0\n{Error}");
        return this;
    }

    private void Judge(string command)
    {
        Assert.True(ExitCode is 0 or 1 or 2 or 3 or 63, $"{command}\nexit code {ExitCode}\n{Error}");
        foreach (var bad in (string[])["   at ", "internal error", "Unhandled exception", "not enough memory"])
        {
            Assert.False(Error.Contains(bad, StringComparison.Ordinal), $"{command}\n{Error}");
        }

        foreach (var text in (string[])[Output, Error])
        {
            var control = text.FirstOrDefault(c => char.IsControl(c) && c != '\n');
            Assert.True(control == default, $"{command}\nprinted the control character 0x{(int)control:x2}: {Head(text.Replace(control, '?'))}");
        }

        var native = PlatterCli.Path is { } path && !File.Exists(Path.Combine(Path.GetDirectoryName(path)!, "Platter.Core.dll"));
        var limit = native ? MaxNativeBytes : MaxManagedBytes;
        TestContext.Current.TestOutputHelper?.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{PeakBytes >> 20} MiB: {command}"));
        Assert.True(PeakBytes <= limit, $"{command}\nheld {PeakBytes >> 20} MiB, the limit is {limit >> 20} MiB");
    }

    private static string Head(string text) => text.Length <= 1000 ? text : text[..1000] + "...";

    private static long PeakOf(int process)
    {
        try
        {
            var line = File.ReadLines($"/proc/{process}/status").FirstOrDefault(l => l.StartsWith("VmHWM:", StringComparison.Ordinal));
            return line is null ? 0 : long.Parse(line.Split([' ', '\t'], StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture) * 1024;
        }
        catch (IOException)
        {
            // Not Linux, or it has just ended.
            return 0;
        }
    }
}
