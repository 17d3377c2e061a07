using System.Text;
using Xunit;

namespace Platter.TestKit;

/// <summary>What an external program said.</summary>
/// <param name="CommandLine">As it was started, for messages.</param>
/// <param name="ExitCode">Its exit code.</param>
/// <param name="Output">Standard output, raw.</param>
/// <param name="Error">Standard error as text.</param>
public sealed record ToolResult(string CommandLine, int ExitCode, byte[] Output, string Error)
{
    /// <summary>Standard output as text.</summary>
    public string Text => Encoding.UTF8.GetString(Output);

    /// <summary>Standard output, line by line, without empty lines.</summary>
    public IReadOnlyList<string> Lines => Text.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);

    /// <summary>Fails the test unless the program ended with <paramref name="exitCode"/>.</summary>
    public ToolResult Expect(int exitCode = 0)
    {
        Assert.True(ExitCode == exitCode, $"{CommandLine}\nexit code {ExitCode}, expected {exitCode}\n{Text}{Error}");
        return this;
    }

    /// <inheritdoc/>
    public override string ToString() => $"{CommandLine}\nexit code {ExitCode}\n{Text}{Error}";
}
