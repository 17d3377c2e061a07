using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;

namespace Platter.Nbd.Wire;

/// <summary>A socket without encryption. Owns it.</summary>
/// <param name="socket">Connected.</param>
/// <param name="blocking">Asynchronous members do their work before they return: who calls them has a thread to wait on, and the socket is in blocking mode, in which
/// nobody but the waiting thread wakes up for what arrives. Cancelling them then cuts the connection.</param>
internal sealed class SocketWire(Socket socket, bool blocking = false) : NbdWire
{
    /// <summary>The socket, for whoever puts TLS on top of it.</summary>
    public Socket Socket => socket;

    /// <inheritdoc/>
    public override SafeHandle Descriptor => socket.SafeHandle;

    /// <inheritdoc/>
    public override bool HasArrived => HasAddresses ? socket.Available > 0 : socket.Poll(0, SelectMode.SelectRead);

    /// <inheritdoc/>
    public override bool PeerHasClosed
    {
        get
        {
            try
            {
                return HasAddresses && socket.Poll(0, SelectMode.SelectRead) && socket.Available == 0;
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException)
            {
                return true;
            }
        }
    }

    /// <inheritdoc/>
    public override bool CanSendNow => socket.Poll(0, SelectMode.SelectWrite);

    /// <inheritdoc/>
    public override EndPoint? Remote => HasAddresses ? socket.RemoteEndPoint : null;

    /// <inheritdoc/>
    public override EndPoint? Local => HasAddresses ? socket.LocalEndPoint : null;

    // .NET knows no addresses of other families (vsock), and fails when it is asked for them; nor can all of those say how much has arrived.
    private bool HasAddresses => socket.AddressFamily is AddressFamily.InterNetwork or AddressFamily.InterNetworkV6 or AddressFamily.Unix;

    /// <inheritdoc/>
    public override void LimitReceiving(TimeSpan timeout) => socket.ReceiveTimeout = Milliseconds(timeout);

    /// <inheritdoc/>
    public override void LimitSending(TimeSpan timeout) => socket.SendTimeout = Milliseconds(timeout);

    /// <inheritdoc/>
    public override int Receive(Span<byte> into) => socket.Receive(into);

    /// <inheritdoc/>
    public override void Send(ReadOnlySpan<byte> bytes)
    {
        var start = Stopwatch.GetTimestamp();
        try
        {
            while (bytes.Length > 0)
            {
                bytes = bytes[socket.Send(bytes)..];
            }
        }
        catch (SocketException e) when (e.SocketErrorCode == SocketError.TimedOut && !MayHaveTimedOut(start))
        {
            // The peer has hung up. .NET calls that a timeout, too, when a part of the bytes was out already.
            throw new SocketException((int)SocketError.ConnectionReset);
        }
    }

    /// <inheritdoc/>
    public override ValueTask<int> ReceiveAsync(Memory<byte> into, CancellationToken cancellationToken) =>
        blocking ? new(Receive(into.Span, cancellationToken)) : socket.ReceiveAsync(into, SocketFlags.None, cancellationToken);

    /// <inheritdoc/>
    public override async ValueTask SendAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken)
    {
        if (blocking)
        {
            Send(bytes.Span, cancellationToken);
            return;
        }

        while (bytes.Length > 0)
        {
            bytes = bytes[await socket.SendAsync(bytes, SocketFlags.None, cancellationToken).ConfigureAwait(false)..];
        }
    }

    /// <summary>Sends nothing more, and takes what still comes until the peer closes: what was said last would be lost with a connection that is closed while bytes are on their way.</summary>
    /// <param name="limit">For the whole of it.</param>
    public void Linger(TimeSpan limit)
    {
        try
        {
            Shutdown(SocketShutdown.Send);
            var deadline = new Deadline(limit);
            var waste = new byte[4096];
            do
            {
                LimitReceiving(deadline.Left());
            }
            while (Receive(waste) > 0);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // It did not close, or not nicely; it has had its time.
        }
    }

    /// <inheritdoc/>
    public override void StopReceiving() => Shutdown(SocketShutdown.Receive);

    /// <inheritdoc/>
    public override void Cut() => Shutdown(SocketShutdown.Both);

    /// <inheritdoc/>
    public override void Dispose() => socket.Dispose();

    private int Receive(Span<byte> into, CancellationToken cancellationToken)
    {
        using var cut = CutBy(cancellationToken);
        try
        {
            var count = socket.Receive(into);
            return count > 0 || !cancellationToken.IsCancellationRequested ? count : throw new OperationCanceledException(cancellationToken);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException && cancellationToken.IsCancellationRequested)
        {
            throw new OperationCanceledException(cancellationToken);
        }
    }

    private void Send(ReadOnlySpan<byte> bytes, CancellationToken cancellationToken)
    {
        using var cut = CutBy(cancellationToken);
        try
        {
            Send(bytes);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException && cancellationToken.IsCancellationRequested)
        {
            throw new OperationCanceledException(cancellationToken);
        }
    }

    private CancellationTokenRegistration CutBy(CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        return cancellationToken.UnsafeRegister(static wire => ((SocketWire)wire!).Cut(), this);
    }

    // A tenth less, for clocks that do not agree.
    private bool MayHaveTimedOut(long start) =>
        socket.SendTimeout is > 0 and var limit && Stopwatch.GetElapsedTime(start).TotalMilliseconds >= 0.9 * limit;

    // For a socket, 0 means for ever; less than a millisecond is not 0.
    private static int Milliseconds(TimeSpan timeout) =>
        timeout == Timeout.InfiniteTimeSpan ? 0 : (int)Math.Clamp(timeout.TotalMilliseconds, 1, int.MaxValue);

    private void Shutdown(SocketShutdown how)
    {
        try
        {
            socket.Shutdown(how);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // Already gone: that is what was wanted.
        }
    }
}
