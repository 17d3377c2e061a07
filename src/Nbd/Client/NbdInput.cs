using System.Net.Sockets;
using Platter.Nbd.Wire;

namespace Platter.Nbd.Client;

/// <summary>Reads exact numbers of bytes from a wire: small ones through a buffer, the data of a read straight into their place.</summary>
/// <remarks>One reader at a time.</remarks>
internal sealed class NbdInput(NbdWire wire)
{
    private readonly byte[] _buffer = new byte[64 * 1024];
    private int _start;
    private int _end;

    /// <summary>Whether nothing has been received that was not asked for yet.</summary>
    public bool IsEmpty => _start == _end;

    /// <summary>Fills <paramref name="into"/>.</summary>
    /// <exception cref="EndOfStreamException">The peer closed the connection before that.</exception>
    /// <exception cref="SocketException">The connection broke.</exception>
    public ValueTask ReadAsync(Memory<byte> into, CancellationToken cancellationToken)
    {
        if (_end - _start >= into.Length)
        {
            _buffer.AsSpan(_start, into.Length).CopyTo(into.Span);
            _start += into.Length;
            return ValueTask.CompletedTask;
        }

        return ReceiveAsync(into, cancellationToken);
    }

    private async ValueTask ReceiveAsync(Memory<byte> into, CancellationToken cancellationToken)
    {
        var buffered = _end - _start;
        _buffer.AsMemory(_start, buffered).CopyTo(into);
        into = into[buffered..];
        _start = _end = 0;
        while (into.Length >= _buffer.Length)
        {
            into = into[await ReceiveSomeAsync(into, cancellationToken).ConfigureAwait(false)..];
        }

        while (_end < into.Length)
        {
            _end += await ReceiveSomeAsync(_buffer.AsMemory(_end), cancellationToken).ConfigureAwait(false);
        }

        _buffer.AsSpan(0, into.Length).CopyTo(into.Span);
        _start = into.Length;
    }

    private async ValueTask<int> ReceiveSomeAsync(Memory<byte> into, CancellationToken cancellationToken)
    {
        var received = await wire.ReceiveAsync(into, cancellationToken).ConfigureAwait(false);
        return received > 0 ? received : throw new EndOfStreamException();
    }
}
