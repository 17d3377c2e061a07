using Platter.Core.Errors;
using Platter.Nbd.Wire;

namespace Platter.Nbd.Tls;

/// <summary>How a client encrypts and whom it trusts. A connection that has one is encrypted or fails: there is no way back to plain text.</summary>
/// <remarks>Immutable and thread-safe: one serves all connections.</remarks>
public abstract class NbdClientTls
{
    /// <summary>Encrypts a connection whose server has accepted STARTTLS, and authenticates both sides.</summary>
    /// <param name="wire">The connection; belongs to the result, or stays the caller's when this throws.</param>
    /// <param name="hostName">What the server's certificate must be for; null over a unix socket.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.AccessDenied"/>: the server is not who it should be, or does not accept us;
    /// <see cref="BlockErrorKind.Protocol"/>: anything else that goes wrong.</exception>
    internal abstract ValueTask<NbdWire> ConnectAsync(SocketWire wire, string? hostName, CancellationToken cancellationToken);
}
