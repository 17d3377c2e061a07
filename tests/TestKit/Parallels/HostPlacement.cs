namespace Platter.TestKit;

/// <summary>In which order guest clusters lie in the file.</summary>
public enum HostPlacement
{
    /// <summary>As in the guest.</summary>
    Ascending,

    /// <summary>The last guest cluster first.</summary>
    Descending,

    /// <summary>In the order they were first written, as a growing image has them.</summary>
    AsWritten,

    /// <summary>At random, by the builder's seed.</summary>
    Shuffled,
}
