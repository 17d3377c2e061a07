using Platter.Cli;
using Platter.Cli.Output;
using Xunit;

namespace Platter.Tests.Unit.Cli;

/// <summary>Results and progress on one terminal, or in one pipe.</summary>
public sealed class ProgressLineTests
{
    [Fact]
    public void On_a_terminal_results_have_lines_of_their_own_above_the_progress()
    {
        var output = Run(isTerminal: true, wanted: true);
        Assert.Equal(["first", "second"], Screen(output).Take(2));
        Assert.StartsWith(" 100.0 %", Screen(output)[2], StringComparison.Ordinal);
    }

    [Fact]
    public void For_programs_results_come_behind_the_progress() =>
        Assert.Equal("    (0.00/100%)\r    (50.00/100%)\r    (100.00/100%)\r\nfirst\nsecond\n", Run(isTerminal: false, wanted: true));

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Without_progress_results_are_all_there_is(bool isTerminal) => Assert.Equal("first\nsecond\n", Run(isTerminal, wanted: false));

    private static string Run(bool isTerminal, bool wanted)
    {
        using var output = new StringWriter();
        using var session = new Session("platter", output, TextWriter.Null, isTerminal, _ => null);
        using (var line = ProgressLine.Start(session, wanted))
        {
            line.Report(0.5);
            line.WriteResult("first");
            line.Complete();
            line.WriteResult("second");
        }

        return output.ToString();
    }

    // What a terminal shows: a carriage return goes to the start of the line, and the escape clears the rest of it.
    private static List<string> Screen(string output)
    {
        var lines = new List<string>();
        foreach (var line in output.Split('\n'))
        {
            var text = string.Empty;
            foreach (var part in line.Split('\r'))
            {
                var shown = part.Replace("\x1b[K", string.Empty, StringComparison.Ordinal);
                text = part.Contains('\x1b', StringComparison.Ordinal) || shown.Length >= text.Length ? shown : shown + text[shown.Length..];
            }

            lines.Add(text);
        }

        return lines;
    }
}
