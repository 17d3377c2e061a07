using System.Net.Sockets;
using Platter.Core.Errors;

namespace Platter.Core.Sockets;

/// <summary>A socket that waits for clients, of a kind that .NET has no addresses for (vsock).</summary>
/// <remarks>One thread accepts; disposing is up to that thread, or happens after it has ended.</remarks>
public abstract class ListeningSocket : IDisposable
{
    /// <summary>Where it listens, for messages.</summary>
    public abstract string Name { get; }

    /// <summary>Waits for a client.</summary>
    /// <param name="timeout">How long.</param>
    /// <returns>A connected stream socket; null when nobody came.</returns>
    /// <exception cref="BlockException">The host cannot accept now; the next attempt may succeed.</exception>
    public abstract Socket? Accept(TimeSpan timeout);

    /// <inheritdoc/>
    public abstract void Dispose();
}
