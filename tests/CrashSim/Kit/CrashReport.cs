using System.Globalization;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.CrashSim;

/// <summary>Prints what was tried, and with <c>PLATTER_CRASH_TABLE=FILE</c> writes the table of docs/reliability.md between its two marks.</summary>
internal static class CrashReport
{
    private const string Begin = "<!-- crash table -->", End = "<!-- end of crash table -->";

    private static readonly Lock s_gate = new();
    private static readonly List<(string Operation, int Scenarios, int Traces, long Writes, long Flushes, long Enumerated, long Sampled)> s_rows = [];

    public static void Add(CrashTally tally, TimeSpan elapsed)
    {
        var line = string.Create(
            CultureInfo.InvariantCulture,
            $"{tally.Scenario.Name}: {tally.States} states of {tally.Traces} traces ({tally.Writes} writes, {tally.Flushes} flushes) {(tally.Scenario.IsExhaustive ? "enumerated" : "sampled")} in {elapsed.TotalSeconds:f1} s");
        TestContext.Current.TestOutputHelper?.WriteLine(line);
        Console.WriteLine($"   {line}");
        lock (s_gate)
        {
            var exhaustive = tally.Scenario.IsExhaustive;
            s_rows.Add((tally.Scenario.Operation, 1, tally.Traces, tally.Writes, tally.Flushes, exhaustive ? tally.States : 0, exhaustive ? 0 : tally.States));
            if (Environment.GetEnvironmentVariable("PLATTER_CRASH_TABLE") is { Length: > 0 } file)
            {
                Write(file);
            }
        }
    }

    private static void Write(string file)
    {
        string Number(long value) => value.ToString("N0", CultureInfo.InvariantCulture);
        var lines = new List<string> { Begin, "| Operation | scenarios | traces | writes | flushes | states, enumerated | states, sampled |", "| --- | --: | --: | --: | --: | --: | --: |" };
        var groups = s_rows.GroupBy(r => r.Operation).OrderBy(g => g.Key, StringComparer.Ordinal).ToList();
        foreach (var (name, rows) in groups.Select(g => (g.Key, g.ToList())).Append(("all", s_rows)))
        {
            lines.Add($"| {name} | {Number(rows.Sum(r => r.Scenarios))} | {Number(rows.Sum(r => r.Traces))} | {Number(rows.Sum(r => r.Writes))} | "
                + $"{Number(rows.Sum(r => r.Flushes))} | {Number(rows.Sum(r => r.Enumerated))} | {Number(rows.Sum(r => r.Sampled))} |");
        }

        lines.Add(End);
        var text = File.ReadAllText(file);
        var (from, to) = (text.IndexOf(Begin, StringComparison.Ordinal), text.IndexOf(End, StringComparison.Ordinal));
        if (from < 0 || to < from)
        {
            throw new InvalidOperationException($"{file} lacks the marks of the table");
        }

        File.WriteAllText(file, text[..from] + string.Join('\n', lines) + text[(to + End.Length)..]);
    }
}
