using System.Net.Sockets;
using System.Runtime.InteropServices;

namespace Platter.Nbd.Wire;

/// <summary>The bytes of one connection, both ways: a socket, or TLS over one.</summary>
/// <remarks>
/// Either used with the blocking members (server) or with the asynchronous ones (client), never with both. One thread may receive while another one
/// sends; <see cref="Cut"/> may be called from anywhere. Every failure, of TLS as well, is a <see cref="SocketException"/> or an <see cref="ObjectDisposedException"/>.
/// </remarks>
internal abstract class NbdWire : IDisposable
{
    /// <summary>Where the kernel may send files to on its own (<see cref="Core.Storages.Storage.TrySendTo"/>); null if the bytes must pass through us.</summary>
    public abstract SafeHandle? Descriptor { get; }

    /// <summary>Whether something has arrived, as far as that can be said without waiting.</summary>
    public abstract bool HasArrived { get; }

    /// <summary>Whether the peer has closed its side and nothing that it sent is left, as far as that can be said without waiting. From any thread.</summary>
    public abstract bool PeerHasClosed { get; }

    /// <summary>Whether some 64 KiB can be sent without waiting for the peer.</summary>
    public abstract bool CanSendNow { get; }

    /// <summary>The peer's address, or null when it has none worth telling.</summary>
    public abstract System.Net.EndPoint? Remote { get; }

    /// <summary>Our own address, or null.</summary>
    public abstract System.Net.EndPoint? Local { get; }

    /// <summary>Limits every blocking receive from now on; <see cref="Timeout.InfiniteTimeSpan"/> for no limit.</summary>
    public abstract void LimitReceiving(TimeSpan timeout);

    /// <summary>Limits every blocking send from now on; <see cref="Timeout.InfiniteTimeSpan"/> for no limit.</summary>
    public abstract void LimitSending(TimeSpan timeout);

    /// <summary>Waits for at least one byte.</summary>
    /// <returns>Bytes received; 0 when the peer has closed its side.</returns>
    public abstract int Receive(Span<byte> into);

    /// <summary>Sends all of it.</summary>
    public abstract void Send(ReadOnlySpan<byte> bytes);

    /// <summary>Waits for at least one byte.</summary>
    /// <returns>Bytes received; 0 when the peer has closed its side.</returns>
    public abstract ValueTask<int> ReceiveAsync(Memory<byte> into, CancellationToken cancellationToken);

    /// <summary>Sends all of it.</summary>
    public abstract ValueTask SendAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken);

    /// <summary>Receives nothing more: whoever waits for bytes gets 0.</summary>
    public abstract void StopReceiving();

    /// <summary>Ends both directions at once, whatever is going on.</summary>
    public abstract void Cut();

    /// <inheritdoc/>
    public abstract void Dispose();
}
