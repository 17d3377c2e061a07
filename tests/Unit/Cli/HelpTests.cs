using Platter.Cli.Commands;
using Xunit;

namespace Platter.Tests.Unit.Cli;

/// <summary>What <c>--help</c> prints.</summary>
public sealed class HelpTests
{
    public static TheoryData<string> Commands => [.. CommandTable.All().Select(command => command.Name)];

    [Theory]
    [MemberData(nameof(Commands))]
    public async Task Lines_are_broken_by_the_width_alone(string command)
    {
        var lines = (await CliRun.PlatterAsync(command, "--help")).Output.Split('\n');
        for (var i = 0; i < lines.Length; i++)
        {
            Assert.True(lines[i].Length <= 100 || !lines[i].Trim().Contains(' ', StringComparison.Ordinal), lines[i]);

            // A line that does not end a sentence, and whose successor's first word would have fitted, was broken by hand.
            var next = i + 1 < lines.Length ? lines[i + 1].TrimStart() : string.Empty;
            if (next.Length > 0 && lines[i].Length > 0 && lines[i].TrimEnd()[^1] is not ('.' or ':') && !lines[i].StartsWith("Usage", StringComparison.Ordinal) && !IsEntry(lines[i], lines[i + 1]))
            {
                Assert.True(lines[i].Length + 1 + next.Split(' ')[0].Length > 100, $"{lines[i]}\n{next}");
            }
        }
    }

    // An option of an entry, whose text starts in its own column.
    private static bool IsEntry(string line, string next) => next.StartsWith("  -", StringComparison.Ordinal) || next.StartsWith("      --", StringComparison.Ordinal)
        || ((line.StartsWith("  -", StringComparison.Ordinal) || line.StartsWith("      --", StringComparison.Ordinal)) && line.Length < 60);
}
