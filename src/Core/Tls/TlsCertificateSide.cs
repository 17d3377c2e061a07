using Platter.Core.Errors;

namespace Platter.Core.Tls;

/// <summary>One side, server or client, of sessions with certificates. Thread-safe.</summary>
public abstract class TlsCertificateSide
{
    /// <summary>Starts a session.</summary>
    /// <param name="hostName">Which of its names a server is told (server name indication); null for none. It is not compared with anything here.</param>
    /// <param name="judge">Says of the certificates that the peer has sent, in DER and its own first, why they are refused, or null. Called during the handshake. Null for
    /// a peer that is not verified.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.LimitExceeded"/>: there is no memory for it.</exception>
    public abstract TlsEngine Start(string? hostName, Func<IReadOnlyList<byte[]>, TlsRefusal?>? judge);
}
