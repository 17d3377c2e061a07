namespace Platter.Cli.Options;

/// <summary>One command-line option: how it is written, whether it takes an argument, and what help says about it.</summary>
/// <param name="Short">The letter after a single dash, or '\0' for none.</param>
/// <param name="Long">The word after two dashes, or empty for none.</param>
/// <param name="Argument">What its argument is called, or null when it takes none.</param>
/// <param name="Help">One or two sentences; empty keeps the option out of help (accepted for old scripts' sake).</param>
internal sealed record Option(char Short, string Long, string? Argument, string Help)
{
    /// <summary>Whether the argument can be left out, and follows a '=' where there is one: written as <c>[=NAME]</c>.</summary>
    public bool TakesArgumentAttachedOnly => Argument is ['[', ..];

    /// <summary>How messages name it: the long form where there is one.</summary>
    public override string ToString() => Long.Length > 0 ? $"--{Long}" : $"-{Short}";
}
