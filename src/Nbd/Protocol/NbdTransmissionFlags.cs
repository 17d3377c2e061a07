namespace Platter.Nbd.Protocol;

/// <summary>What an export offers (proto.md, "Transmission flags").</summary>
[Flags]
public enum NbdTransmissionFlags : ushort
{
    /// <summary>Nothing.</summary>
    None = 0,

    /// <summary>Always set.</summary>
    HasFlags = 1,

    /// <summary>Writes are refused.</summary>
    ReadOnly = 1 << 1,

    /// <summary>FLUSH is understood.</summary>
    SendFlush = 1 << 2,

    /// <summary>The FUA command flag is understood.</summary>
    SendFua = 1 << 3,

    /// <summary>The medium is rotational.</summary>
    Rotational = 1 << 4,

    /// <summary>TRIM is understood.</summary>
    SendTrim = 1 << 5,

    /// <summary>WRITE_ZEROES is understood.</summary>
    SendWriteZeroes = 1 << 6,

    /// <summary>The DF command flag is understood (structured replies only).</summary>
    SendDf = 1 << 7,

    /// <summary>Several connections see one state; a flush on one covers all.</summary>
    CanMultiConn = 1 << 8,

    /// <summary>RESIZE is understood (an extension that no peer ships).</summary>
    SendResize = 1 << 9,

    /// <summary>CACHE is understood.</summary>
    SendCache = 1 << 10,

    /// <summary>The FAST_ZERO command flag is understood.</summary>
    SendFastZero = 1 << 11,

    /// <summary>BLOCK_STATUS may name the contexts it wants (extended headers only).</summary>
    BlockStatusPayload = 1 << 12,
}
