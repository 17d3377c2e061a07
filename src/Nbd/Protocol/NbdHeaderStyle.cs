namespace Platter.Nbd.Protocol;

/// <summary>How requests and replies look on the wire, as the handshake agreed (proto.md, "Transmission").</summary>
internal enum NbdHeaderStyle
{
    /// <summary>Compact requests (28 bytes), simple replies.</summary>
    Simple,

    /// <summary>Compact requests; replies with data come as structured chunks, others may be simple.</summary>
    Structured,

    /// <summary>Requests and all replies have headers of 32 bytes with 64-bit lengths (extension <c>EXTENDED_HEADERS</c>).</summary>
    Extended,
}
