namespace Platter.Nbd.Server;

/// <summary>What follows an answer of the handshake.</summary>
internal enum HandshakeStep
{
    /// <summary>The client may send its next option.</summary>
    NextOption,

    /// <summary>An export was chosen: requests follow.</summary>
    Transmission,

    /// <summary>The connection ends once the answer is out.</summary>
    Close,
}
