using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Runtime.InteropServices;

namespace Platter.Nbd.Wire;

/// <summary>.NET's TLS over a socket. Owns both.</summary>
/// <param name="wire">The connection.</param>
/// <param name="stream">What stands between the two.</param>
/// <param name="ssl">The session, its handshake done.</param>
internal sealed class SslStreamWire(SocketWire wire, WireStream stream, SslStream ssl) : NbdWire
{
    // Four records of TLS: they are gathered and sent at once.
    private const int ChunkBytes = 64 << 10;

    private TimeSpan _receiveLimit = Timeout.InfiniteTimeSpan;
    private bool _mayHaveMore;
    private int _sending;
    private int _disposed;
    private volatile bool _stopped;

    /// <inheritdoc/>
    public override SafeHandle? Descriptor => null;

    /// <inheritdoc/>
    public override bool HasArrived => _mayHaveMore || wire.HasArrived;

    /// <inheritdoc/>
    public override bool PeerHasClosed => wire.PeerHasClosed;

    /// <inheritdoc/>
    public override bool CanSendNow => wire.CanSendNow;

    /// <inheritdoc/>
    public override EndPoint? Remote => wire.Remote;

    /// <inheritdoc/>
    public override EndPoint? Local => wire.Local;

    /// <inheritdoc/>
    public override void LimitReceiving(TimeSpan timeout)
    {
        _receiveLimit = timeout;
        if (timeout == Timeout.InfiniteTimeSpan)
        {
            stream.LimitReceiving(null);
            wire.LimitReceiving(timeout);
        }
    }

    /// <inheritdoc/>
    public override void LimitSending(TimeSpan timeout) => wire.LimitSending(timeout);

    /// <inheritdoc/>
    public override int Receive(Span<byte> into)
    {
        if (_receiveLimit != Timeout.InfiniteTimeSpan)
        {
            // One record may come in many pieces: the limit is for all of them.
            stream.LimitReceiving(new Deadline(_receiveLimit));
        }

        try
        {
            var count = ssl.Read(into);
            _mayHaveMore = count == into.Length;
            return count;
        }
        catch (Exception e) when (TlsFailure.Is(e) && e is not ObjectDisposedException)
        {
            _mayHaveMore = false;
            return _stopped ? 0 : throw TlsFailure.OnWire(e);
        }
    }

    /// <inheritdoc/>
    public override void Send(ReadOnlySpan<byte> bytes)
    {
        try
        {
            Volatile.Write(ref _sending, 1);
            while (bytes.Length > 0)
            {
                var chunk = bytes[..Math.Min(bytes.Length, ChunkBytes)];
                bytes = bytes[chunk.Length..];
                stream.Gather();
                ssl.Write(chunk);
                wire.Send(stream.Release().Span);
            }

            Volatile.Write(ref _sending, 0);
        }
        catch (Exception e) when (TlsFailure.Is(e) && e is not ObjectDisposedException)
        {
            throw TlsFailure.OnWire(e);
        }
    }

    /// <inheritdoc/>
    public override async ValueTask<int> ReceiveAsync(Memory<byte> into, CancellationToken cancellationToken)
    {
        try
        {
            return await ssl.ReadAsync(into, cancellationToken).ConfigureAwait(false);
        }
        catch (Exception e) when (TlsFailure.Is(e) && e is not ObjectDisposedException)
        {
            return _stopped ? 0 : throw TlsFailure.OnWire(e);
        }
    }

    /// <inheritdoc/>
    public override async ValueTask SendAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken)
    {
        try
        {
            Volatile.Write(ref _sending, 1);
            while (bytes.Length > 0)
            {
                var chunk = bytes[..Math.Min(bytes.Length, ChunkBytes)];
                bytes = bytes[chunk.Length..];
                stream.Gather();
                await ssl.WriteAsync(chunk, cancellationToken).ConfigureAwait(false);
                await wire.SendAsync(stream.Release(), cancellationToken).ConfigureAwait(false);
            }

            Volatile.Write(ref _sending, 0);
        }
        catch (Exception e) when (TlsFailure.Is(e) && e is not ObjectDisposedException)
        {
            throw TlsFailure.OnWire(e);
        }
    }

    /// <inheritdoc/>
    public override void StopReceiving()
    {
        _stopped = true;
        wire.StopReceiving();
    }

    /// <inheritdoc/>
    public override void Cut() => wire.Cut();

    /// <inheritdoc/>
    public override void Dispose()
    {
        if (Interlocked.Exchange(ref _disposed, 1) == 0)
        {
            SayGoodbye();
            ssl.Dispose();
            wire.Dispose();
        }
    }

    /// <summary>Tells the peer that this is the end and not a cut, if that costs no waiting and does not come between other bytes.</summary>
    private void SayGoodbye()
    {
        try
        {
            if (Volatile.Read(ref _sending) == 0 && wire.CanSendNow)
            {
                // Gathered, it does nothing that would have to be awaited.
                stream.Gather();
                var done = ssl.ShutdownAsync().IsCompletedSuccessfully;
                var goodbye = stream.Release();
                if (done)
                {
                    wire.Send(goodbye.Span);
                }
            }
        }
        catch (Exception e) when (TlsFailure.Is(e))
        {
            // The peer is gone; it will not miss it.
        }
    }
}
