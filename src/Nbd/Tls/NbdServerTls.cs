using Platter.Core.Errors;
using Platter.Nbd.Wire;

namespace Platter.Nbd.Tls;

/// <summary>How a server encrypts: its credentials, whom it lets in, and whether clients may do without.</summary>
/// <remarks>Immutable and thread-safe: one serves all connections.</remarks>
public abstract class NbdServerTls
{
    /// <summary>Whether clients that do not encrypt are turned away before they learn anything. Otherwise encryption is offered, and up to them.</summary>
    public bool IsRequired { get; init; } = true;

    /// <summary>Encrypts a connection whose client was told that STARTTLS is accepted, and authenticates both sides. Blocking.</summary>
    /// <param name="wire">The connection; belongs to the result, or stays the caller's when this throws.</param>
    /// <param name="timeout">For the whole of it.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.AccessDenied"/>: the client is not one of ours; <see cref="BlockErrorKind.Protocol"/>: anything
    /// else that goes wrong.</exception>
    internal abstract NbdWire Accept(SocketWire wire, TimeSpan timeout);
}
