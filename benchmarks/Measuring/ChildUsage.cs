namespace Platter.Bench.Measuring;

/// <summary>What one run of a program took.</summary>
/// <param name="ExitCode">Or 128 and the signal that ended it.</param>
/// <param name="Wall">From its start to its end.</param>
/// <param name="Cpu">User and system time of all its threads.</param>
/// <param name="PeakMemoryBytes">0 when nobody looked.</param>
internal sealed record ChildUsage(int ExitCode, TimeSpan Wall, TimeSpan Cpu, long PeakMemoryBytes)
{
    public ChildUsage OrThrow(string[] command, string errorFile) =>
        ExitCode == 0 ? this : throw new BenchException($"{string.Join(' ', command)}: exit code {ExitCode}: {LastLine(errorFile)}");

    private static string LastLine(string file) => File.Exists(file) ? File.ReadLines(file).LastOrDefault() ?? "no message" : "no message";
}
