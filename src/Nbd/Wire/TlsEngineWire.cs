using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using Platter.Core.Errors;
using Platter.Core.Tls;

namespace Platter.Nbd.Wire;

/// <summary>TLS by a <see cref="TlsEngine"/> over a socket. Owns both once the handshake is done.</summary>
/// <remarks>The engine is used under a lock, the socket outside of it. Whoever receives never sends: what the engine has to answer a peer goes out with the next
/// bytes that are sent, so that nobody waits for a peer that does not read.</remarks>
internal sealed class TlsEngineWire : NbdWire
{
    // A record holds 16 KiB. Several of them go through the socket at once.
    private const int ChunkBytes = 64 << 10;

    private readonly SocketWire _wire;
    private readonly TlsEngine _engine;
    private readonly Lock _gate = new();
    private TimeSpan _receiveLimit = Timeout.InfiniteTimeSpan;
    private bool _mayHaveMore;
    private int _sending;
    private bool _receiving;
    private bool _sendingFailed;
    private BlockException? _failure;
    private volatile bool _ended;
    private volatile bool _stopped;
    private bool _disposed;

    private TlsEngineWire(SocketWire wire, TlsEngine engine)
    {
        _wire = wire;
        _engine = engine;
    }

    /// <inheritdoc/>
    public override SafeHandle? Descriptor => null;

    /// <inheritdoc/>
    public override bool HasArrived => _mayHaveMore || _wire.HasArrived;

    /// <inheritdoc/>
    public override bool PeerHasClosed => _wire.PeerHasClosed;

    /// <inheritdoc/>
    public override bool CanSendNow => _wire.CanSendNow;

    /// <inheritdoc/>
    public override EndPoint? Remote => _wire.Remote;

    /// <inheritdoc/>
    public override EndPoint? Local => _wire.Local;

    /// <summary>Shakes hands, blocking.</summary>
    /// <param name="wire">The connection; stays the caller's when this throws.</param>
    /// <param name="engine">The session; ours in any case.</param>
    /// <param name="timeout">For the whole of it.</param>
    /// <exception cref="BlockException">The peer is refused or refuses, breaks the protocol, goes away or takes too long.</exception>
    public static TlsEngineWire Authenticate(SocketWire wire, TlsEngine engine, TimeSpan timeout)
    {
        var result = new TlsEngineWire(wire, engine);
        var deadline = new Deadline(timeout);
        try
        {
            while (!result.Step(out var output))
            {
                if (!output.IsEmpty)
                {
                    wire.LimitSending(deadline.Left());
                    wire.Send(output.Span);
                    engine.Sent(output.Length);
                }
                else if (result._failure is { } failure)
                {
                    throw failure;
                }
                else
                {
                    wire.LimitReceiving(deadline.Left());
                    result.PutInHandshake(wire.Receive(engine.Input.Span), byServer: false);
                }
            }

            return result;
        }
        catch (Exception e)
        {
            engine.Dispose();
            throw e is not SocketException broken ? e : result._failure ?? TlsFailure.InHandshake(broken);
        }
    }

    /// <summary>Shakes hands.</summary>
    /// <param name="wire">The connection; stays the caller's when this throws.</param>
    /// <param name="engine">The session; ours in any case.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <exception cref="BlockException">The peer is refused or refuses, breaks the protocol or goes away.</exception>
    public static async ValueTask<TlsEngineWire> AuthenticateAsync(SocketWire wire, TlsEngine engine, CancellationToken cancellationToken)
    {
        var result = new TlsEngineWire(wire, engine);
        try
        {
            while (!result.Step(out var output))
            {
                if (!output.IsEmpty)
                {
                    await wire.SendAsync(output, cancellationToken).ConfigureAwait(false);
                    engine.Sent(output.Length);
                }
                else if (result._failure is { } failure)
                {
                    throw failure;
                }
                else
                {
                    result.PutInHandshake(await wire.ReceiveAsync(engine.Input, cancellationToken).ConfigureAwait(false), byServer: true);
                }
            }

            return result;
        }
        catch (Exception e)
        {
            engine.Dispose();
            throw e is not SocketException broken ? e : result._failure ?? TlsFailure.InHandshake(broken);
        }
    }

    /// <inheritdoc/>
    public override void LimitReceiving(TimeSpan timeout)
    {
        _receiveLimit = timeout;
        _wire.LimitReceiving(timeout);
    }

    /// <inheritdoc/>
    public override void LimitSending(TimeSpan timeout) => _wire.LimitSending(timeout);

    /// <inheritdoc/>
    public override int Receive(Span<byte> into)
    {
        // One record may come in many pieces: the limit is for all of them.
        var deadline = new Deadline(_receiveLimit);
        while (true)
        {
            var count = Decrypt(into);
            if (count > 0 || _ended || into.IsEmpty)
            {
                return count;
            }

            if (_receiveLimit != Timeout.InfiniteTimeSpan)
            {
                _wire.LimitReceiving(deadline.Left());
            }

            Put(_wire.Receive(_engine.Input.Span));
        }
    }

    /// <inheritdoc/>
    public override void Send(ReadOnlySpan<byte> bytes)
    {
        Volatile.Write(ref _sending, 1);
        while (bytes.Length > 0)
        {
            var chunk = bytes[..Math.Min(bytes.Length, ChunkBytes)];
            bytes = bytes[chunk.Length..];
            for (var output = Encrypt(chunk); !output.IsEmpty; output = Sent(output.Length))
            {
                _wire.Send(output.Span);
            }
        }

        Volatile.Write(ref _sending, 0);
    }

    /// <inheritdoc/>
    public override ValueTask<int> ReceiveAsync(Memory<byte> into, CancellationToken cancellationToken)
    {
        lock (_gate)
        {
            _receiving = _sendingFailed ? throw new SocketException((int)SocketError.ConnectionAborted) : true;
        }

        return ReceiveAllowedAsync(into, cancellationToken);
    }

    /// <inheritdoc/>
    public override async ValueTask SendAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken)
    {
        try
        {
            await SendAllAsync(bytes, cancellationToken).ConfigureAwait(false);
        }
        catch (SocketException) when (_wire.HasArrived && MayAskWhy())
        {
            // With TLS 1.3 a server looks at our certificate when we believe to be through. Its answer has arrived before we found its door closed.
            await ReceiveAllowedAsync(new byte[1], cancellationToken).ConfigureAwait(false);
            throw;
        }
    }

    // Nobody receives, or will: what is taken from now on is nobody else's.
    private bool MayAskWhy()
    {
        lock (_gate)
        {
            _sendingFailed = !_receiving;
            return _sendingFailed;
        }
    }

    private async ValueTask<int> ReceiveAllowedAsync(Memory<byte> into, CancellationToken cancellationToken)
    {
        while (true)
        {
            var count = Decrypt(into.Span);
            if (count > 0 || _ended || into.IsEmpty)
            {
                lock (_gate)
                {
                    _receiving = false;
                }

                return count;
            }

            Put(await _wire.ReceiveAsync(_engine.Input, cancellationToken).ConfigureAwait(false));
        }
    }

    private async ValueTask SendAllAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken)
    {
        Volatile.Write(ref _sending, 1);
        while (bytes.Length > 0)
        {
            var chunk = bytes[..Math.Min(bytes.Length, ChunkBytes)];
            bytes = bytes[chunk.Length..];
            for (var output = Encrypt(chunk.Span); !output.IsEmpty; output = Sent(output.Length))
            {
                await _wire.SendAsync(output, cancellationToken).ConfigureAwait(false);
            }
        }

        Volatile.Write(ref _sending, 0);
    }

    /// <inheritdoc/>
    public override void StopReceiving()
    {
        _stopped = true;
        _wire.StopReceiving();
    }

    /// <inheritdoc/>
    public override void Cut() => _wire.Cut();

    /// <inheritdoc/>
    public override void Dispose()
    {
        lock (_gate)
        {
            if (_disposed)
            {
                return;
            }

            _disposed = true;
            SayGoodbye();
            _engine.Dispose();
        }

        _wire.Dispose();
    }

    /// <summary>One step of the handshake.</summary>
    /// <returns>True when it is done. Otherwise: send the output if there is some; or throw the failure if there is one; or receive; and come again.</returns>
    private bool Step(out ReadOnlyMemory<byte> output)
    {
        var done = false;
        try
        {
            done = _failure is null && _engine.Handshake();
        }
        catch (BlockException e)
        {
            // What the peer is told goes out first.
            _failure = e;
        }

        output = _engine.Output;
        return done && output.IsEmpty;
    }

    private void PutInHandshake(int count, bool byServer)
    {
        if (count == 0)
        {
            throw TlsFailure.ClosedInHandshake(byServer);
        }

        Put(count);
    }

    private void Put(int count)
    {
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            _engine.Put(count);
        }

        _ended |= count == 0;
    }

    private int Decrypt(Span<byte> into)
    {
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            try
            {
                var count = _engine.Decrypt(into);
                _mayHaveMore = count == into.Length;
                _ended |= count == 0 && _engine.IsClosed;
                return count;
            }
            catch (BlockException e)
            {
                _mayHaveMore = false;
                return _stopped ? 0 : throw TlsFailure.OnWire(e.Message);
            }
        }
    }

    private ReadOnlyMemory<byte> Encrypt(ReadOnlySpan<byte> chunk)
    {
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            try
            {
                _engine.Encrypt(chunk);
                return _engine.Output;
            }
            catch (BlockException e)
            {
                throw TlsFailure.OnWire(e.Message);
            }
        }
    }

    /// <summary>Forgets what was sent.</summary>
    /// <returns>What else there is to send.</returns>
    private ReadOnlyMemory<byte> Sent(int count)
    {
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            _engine.Sent(count);
            return _engine.Output;
        }
    }

    /// <summary>Tells the peer that this is the end and not a cut, if that costs no waiting and does not come between other bytes.</summary>
    private void SayGoodbye()
    {
        try
        {
            if (Volatile.Read(ref _sending) == 0 && _wire.CanSendNow)
            {
                _engine.Close();
                _wire.Send(_engine.Output.Span);
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException or BlockException)
        {
            // The peer is gone; it will not miss it.
        }
    }
}
