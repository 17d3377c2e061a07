namespace Platter.Nbd.Protocol;

/// <summary>Error numbers on the wire (proto.md, "Error values").</summary>
public enum NbdError : uint
{
    /// <summary>No error.</summary>
    None = 0,

    /// <summary>Operation not permitted.</summary>
    Perm = 1,

    /// <summary>Input/output error.</summary>
    IO = 5,

    /// <summary>Cannot allocate memory.</summary>
    NoMem = 12,

    /// <summary>Invalid argument.</summary>
    Inval = 22,

    /// <summary>No space left on device.</summary>
    NoSpc = 28,

    /// <summary>Value too large.</summary>
    Overflow = 75,

    /// <summary>Operation not supported.</summary>
    NotSup = 95,

    /// <summary>The server is shutting down.</summary>
    Shutdown = 108,
}
