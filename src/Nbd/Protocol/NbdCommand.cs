namespace Platter.Nbd.Protocol;

/// <summary>Requests of the transmission phase (proto.md, "Request types").</summary>
internal enum NbdCommand : ushort
{
    Read = 0,
    Write = 1,
    Disconnect = 2,
    Flush = 3,
    Trim = 4,
    Cache = 5,
    WriteZeroes = 6,
    BlockStatus = 7,

    /// <summary>Extension <c>RESIZE</c>; no peer ships it, and it is refused like any command that was not offered.</summary>
    Resize = 8,
}
