using System.Diagnostics;
using System.Globalization;
using System.Text;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Hostile;

/// <summary>One run of the program on something hostile, with what every such run must keep: time, memory, and how it speaks.</summary>
/// <param name="ExitCode">Its exit code.</param>
/// <param name="Output">Standard output, the beginning of it if it is long.</param>
/// <param name="Error">Standard error, the beginning of it if it is long.</param>
/// <param name="OutputLines">Lines on standard output.</param>
/// <param name="ErrorLines">Lines on standard error.</param>
/// <param name="PeakBytes">The largest resident set that was seen, or 0 where the host does not tell.</param>
internal sealed record HostileRun(int ExitCode, string Output, string Error, long OutputLines, long ErrorLines, long PeakBytes)
{
    /// <summary>The promise is a second. Processor time is what counts, because the machine that runs the tests may be busy with others.</summary>
    private static readonly TimeSpan s_maxProcessorTime = TimeSpan.FromSeconds(5);

    /// <summary>Who hangs uses no processor.</summary>
    private static readonly TimeSpan s_watchdog = TimeSpan.FromSeconds(60);

    /// <summary>The promise for the native program; under the JIT the runtime itself is a good part of what is seen.</summary>
    private const long MaxNativeBytes = 96L << 20, MaxManagedBytes = 160L << 20;

    /// <summary>What the program may keep at a time; the runtime ends it when it needs more, however short the moment.</summary>
    private const long MaxHeapBytes = 96L << 20;

    /// <summary>Runs the program and checks the promises.</summary>
    public static HostileRun Of(params string[] arguments) => Of(PlatterCli.Command(arguments));

    /// <summary>Runs the program in surroundings of its own and checks the promises.</summary>
    public static HostileRun Of(ToolCommand command)
    {
        var info = new ProcessStartInfo(ToolRunner.RequireOrSkip(command.Tool), command.Arguments)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            StandardErrorEncoding = Encoding.UTF8,
            StandardOutputEncoding = Encoding.UTF8,
            WorkingDirectory = command.WorkingDirectory ?? string.Empty,
        };
        info.Environment["LC_ALL"] = "C.UTF-8";
        info.Environment["DOTNET_GCHeapHardLimit"] = $"0x{MaxHeapBytes:x}";
        using var process = Process.Start(info) ?? throw new InvalidOperationException($"{command} did not start");
        process.StandardInput.Close();
        var output = DrainAsync(process.StandardOutput);
        var error = DrainAsync(process.StandardError);
        var watch = Stopwatch.StartNew();
        long peak = 0;
        while (!process.WaitForExit(5))
        {
            peak = Math.Max(peak, PeakOf(process.Id));
            var used = ProcessorTimeOf(process);
            if (watch.Elapsed > s_watchdog || used > s_maxProcessorTime)
            {
                process.Kill(entireProcessTree: true);
                Assert.Fail($"{command}\nwas still running after {watch.Elapsed.TotalSeconds:f1} s, of which it had the processor for {used.TotalSeconds:f1} s");
            }
        }

        process.WaitForExit();
        var (said, complained) = (output.GetAwaiter().GetResult(), error.GetAwaiter().GetResult());
        foreach (var text in (Drained[])[said, complained])
        {
            Assert.True(text.Control == default, $"{command}\nprinted the control character 0x{(int)text.Control:x2}: {Head(text.Start.Replace(text.Control, '?'))}");
        }

        var run = new HostileRun(process.ExitCode, said.Start, complained.Start, said.Lines, complained.Lines, peak);
        run.Judge(command.ToString());
        return run;
    }

    /// <summary>It was refused: exit code 1, nothing but one line, which holds all these words.</summary>
    public HostileRun Refused(params string[] words)
    {
        Assert.True(ExitCode == 1, $"exit code {ExitCode}, expected 1\n{Error}{Head(Output)}");
        Assert.True(ErrorLines == 1 && Error.EndsWith('\n'), $"expected one line on standard error:\n{Error}");
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
        Assert.True(ExitCode is 0 or 1 or 2 or 3 or 4 or 63, $"{command}\nexit code {ExitCode}\n{Error}");
        foreach (var bad in (string[])["   at ", "internal error", "Unhandled exception", "not enough memory"])
        {
            Assert.False(Error.Contains(bad, StringComparison.Ordinal), $"{command}\n{Error}");
        }

        var native = PlatterCli.Path is { } path && !File.Exists(Path.Combine(Path.GetDirectoryName(path)!, "Platter.Core.dll"));
        var limit = native ? MaxNativeBytes : MaxManagedBytes;
        TestContext.Current.TestOutputHelper?.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{PeakBytes >> 20} MiB: {command}"));
        Assert.True(PeakBytes <= limit, $"{command}\nheld {PeakBytes >> 20} MiB, the limit is {limit >> 20} MiB");
    }

    private static string Head(string text) => text.Length <= 1000 ? text : text[..1000] + "...";

    // Output may have gigabytes: all of it is looked at, little is kept.
    private static async Task<Drained> DrainAsync(StreamReader reader)
    {
        var start = new StringBuilder();
        var (lines, control) = (0L, default(char));
        var buffer = new char[1 << 16];
        for (int count; (count = await reader.ReadAsync(buffer)) > 0;)
        {
            start.Append(buffer, 0, Math.Min(count, KeptChars - start.Length));
            foreach (var c in buffer.AsSpan(0, count))
            {
                lines += c == '\n' ? 1 : 0;
                control = control == default && char.IsControl(c) && c != '\n' ? c : control;
            }
        }

        return new(start.ToString(), lines, control);
    }

    private const int KeptChars = 4 << 20;

    private sealed record Drained(string Start, long Lines, char Control);

    private static TimeSpan ProcessorTimeOf(Process process)
    {
        try
        {
            return process.TotalProcessorTime;
        }
        catch (Exception e) when (e is InvalidOperationException or System.ComponentModel.Win32Exception)
        {
            // It has just ended.
            return TimeSpan.Zero;
        }
    }

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
