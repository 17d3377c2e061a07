namespace Platter.Nbd.Server;

/// <summary>What follows an answer of the handshake.</summary>
internal enum HandshakeStep
{
    /// <summary>The client may send its next option.</summary>
    NextOption,

    /// <summary>An export was chosen: requests follow.</summary>
    Transmission,

    /// <summary>Both sides begin to encrypt; then the client starts anew.</summary>
    StartTls,

    /// <summary>The connection ends once the answer is out.</summary>
    Close,
}
