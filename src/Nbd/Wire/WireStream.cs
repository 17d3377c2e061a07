using System.Net.Sockets;

namespace Platter.Nbd.Wire;

/// <summary>A socket's bytes as the stream that .NET's TLS wants to stand on: records of one send go out together, and waiting has a limit as a whole.</summary>
/// <remarks>One reader and one writer at a time. Does not own the socket.</remarks>
/// <param name="wire">The socket.</param>
/// <param name="blocking">Asynchronous members do their work before they return, since the socket is in blocking mode.</param>
internal sealed class WireStream(SocketWire wire, bool blocking) : Stream
{
    private const int BatchBytes = 128 << 10;

    private readonly Lock _gate = new();
    private Deadline? _receiving;
    private byte[] _batch = [];
    private int _batched;
    private bool _gathering;

    /// <summary>Whether the peer has closed its side.</summary>
    public bool Ended { get; private set; }

    /// <inheritdoc/>
    public override bool CanRead => true;

    /// <inheritdoc/>
    public override bool CanWrite => true;

    /// <inheritdoc/>
    public override bool CanSeek => false;

    /// <inheritdoc/>
    public override long Length => throw new NotSupportedException();

    /// <inheritdoc/>
    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    /// <summary>Limits what is received from now on as a whole; null lifts the limit.</summary>
    public void LimitReceiving(Deadline? deadline) => _receiving = deadline;

    /// <summary>Holds back what is written until <see cref="Release"/>, or until it is much.</summary>
    public void Gather()
    {
        lock (_gate)
        {
            _gathering = true;
        }
    }

    /// <summary>What was held back and must be sent now.</summary>
    public ReadOnlyMemory<byte> Release()
    {
        lock (_gate)
        {
            _gathering = false;
            var held = _batch.AsMemory(0, _batched);
            _batched = 0;
            return held;
        }
    }

    /// <inheritdoc/>
    public override int Read(Span<byte> buffer)
    {
        if (_receiving is { } deadline)
        {
            wire.LimitReceiving(deadline.Left());
        }

        var count = wire.Receive(buffer);
        Ended |= count == 0 && buffer.Length > 0;
        return count;
    }

    /// <inheritdoc/>
    public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

    /// <inheritdoc/>
    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        if (blocking)
        {
            return Read(buffer.Span);
        }

        var count = await wire.ReceiveAsync(buffer, cancellationToken).ConfigureAwait(false);
        Ended |= count == 0 && buffer.Length > 0;
        return count;
    }

    /// <inheritdoc/>
    public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
        ReadAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    /// <inheritdoc/>
    public override void Write(ReadOnlySpan<byte> buffer)
    {
        if (TryGather(buffer))
        {
            return;
        }

        if (_receiving is { } deadline)
        {
            wire.LimitSending(deadline.Left());
        }

        wire.Send(buffer);
    }

    /// <inheritdoc/>
    public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    /// <inheritdoc/>
    public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        if (blocking)
        {
            Write(buffer.Span);
            return ValueTask.CompletedTask;
        }

        return TryGather(buffer.Span) ? ValueTask.CompletedTask : wire.SendAsync(buffer, cancellationToken);
    }

    /// <inheritdoc/>
    public override Task WriteAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
        WriteAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    /// <inheritdoc/>
    public override void Flush()
    {
    }

    /// <inheritdoc/>
    public override Task FlushAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    /// <inheritdoc/>
    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    /// <inheritdoc/>
    public override void SetLength(long value) => throw new NotSupportedException();

    private bool TryGather(ReadOnlySpan<byte> bytes)
    {
        lock (_gate)
        {
            if (!_gathering)
            {
                return false;
            }

            if (_batch.Length - _batched < bytes.Length)
            {
                Array.Resize(ref _batch, Math.Max(_batched + bytes.Length, BatchBytes));
            }

            bytes.CopyTo(_batch.AsSpan(_batched));
            _batched += bytes.Length;
            return true;
        }
    }
}
