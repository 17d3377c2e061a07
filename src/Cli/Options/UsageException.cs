namespace Platter.Cli.Options;

/// <summary>The command line itself is wrong: the message is followed by a pointer to help where that would help.</summary>
internal sealed class UsageException : Exception
{
    /// <summary>Says what is wrong with the command line.</summary>
    /// <param name="message">One line.</param>
    /// <param name="pointToHelp">Whether the reader is better off with the list of options.</param>
    public UsageException(string message, bool pointToHelp = false)
        : base(message) => PointToHelp = pointToHelp;

    /// <summary>Whether to add where help can be found.</summary>
    public bool PointToHelp { get; }
}
