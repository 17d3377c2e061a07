namespace Platter.Host.Native;

/// <summary>The program that read our output has ended: there is nothing left to do, and nothing to complain of.</summary>
internal sealed class ReaderGoneException : IOException
{
    /// <summary>Makes it.</summary>
    public ReaderGoneException()
        : base("nobody reads the output any more")
    {
    }
}
