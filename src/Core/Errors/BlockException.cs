namespace Platter.Core.Errors;

/// <summary>The one family of errors that the block layer reports; <see cref="Kind"/> tells what to do about it.</summary>
/// <remarks>The message is one line and names the file or node it is about. It may hold text taken from an image:
/// whoever prints it to a terminal passes it through <see cref="SafeText"/> first.</remarks>
public class BlockException : IOException
{
    /// <summary>Makes an error of a kind with a one-line message.</summary>
    public BlockException(BlockErrorKind kind, string message, Exception? inner = null)
        : base(message, inner) => Kind = kind;

    /// <summary>What went wrong.</summary>
    public BlockErrorKind Kind { get; }

    /// <summary>The operating system's number of the error (an <c>errno</c>), where there is one.</summary>
    public int? HostErrorNumber { get; init; }
}
