namespace Platter.Cli.Io;

/// <summary>A command of an io session failed: the session goes on, and ends with exit code 1.</summary>
/// <param name="message">One line for standard output (where qemu-io has most of its messages), or empty when everything was said.</param>
/// <param name="onError">For standard error instead.</param>
internal sealed class IoFailure(string message, bool onError = false) : Exception(message)
{
    /// <summary>Whether it goes to standard error.</summary>
    public bool OnError { get; } = onError;
}
