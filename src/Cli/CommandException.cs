namespace Platter.Cli;

/// <summary>A command failed in a way that has its own exit code.</summary>
internal sealed class CommandException : Exception
{
    /// <summary>Carries the message and the exit code.</summary>
    public CommandException(int exitCode, string message, Exception? inner = null)
        : base(message, inner) => ExitCode = exitCode;

    /// <summary>The exit code of the process.</summary>
    public int ExitCode { get; }
}
