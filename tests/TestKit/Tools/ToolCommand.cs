using System.Diagnostics;

namespace Platter.TestKit;

/// <summary>A program to run: a name or path, its arguments and its surroundings.</summary>
/// <param name="Tool">Name to look for, or a path.</param>
/// <param name="Arguments">Passed as they are, without a shell.</param>
public sealed record ToolCommand(string Tool, params string[] Arguments)
{
    /// <summary>Standard input; null for an empty one.</summary>
    public byte[]? Input { get; init; }

    /// <summary>Working directory; null for the test's own.</summary>
    public string? WorkingDirectory { get; init; }

    /// <summary>Variables to set on top of the test's own; a null value removes one.</summary>
    public IReadOnlyDictionary<string, string?> Environment { get; init; } = new Dictionary<string, string?>();

    /// <summary>How long it may run.</summary>
    public TimeSpan Timeout { get; init; } = ToolRunner.DefaultTimeout;

    /// <inheritdoc/>
    public override string ToString() => string.Join(' ', [Tool, .. Arguments.Select(a => a.Contains(' ', StringComparison.Ordinal) ? $"'{a}'" : a)]);

    internal ProcessStartInfo ToStartInfo()
    {
        var info = new ProcessStartInfo(ToolRunner.RequireOrSkip(Tool), Arguments)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            WorkingDirectory = WorkingDirectory ?? string.Empty,
        };

        // Messages of tools are compared: no translations, no colours.
        info.Environment["LC_ALL"] = "C.UTF-8";
        info.Environment["NO_COLOR"] = "1";
        foreach (var (name, value) in Environment)
        {
            if (value is null)
            {
                info.Environment.Remove(name);
            }
            else
            {
                info.Environment[name] = value;
            }
        }

        return info;
    }
}
