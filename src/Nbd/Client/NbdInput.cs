using System.Net.Sockets;
using Platter.Nbd.Wire;

namespace Platter.Nbd.Client;

/// <summary>Reads exact numbers of bytes from a wire: small ones through a buffer, the data of a read straight into their place.</summary>
/// <remarks>One reader at a time.</remarks>
internal sealed class NbdInput(NbdWire wire)
{
    // From here on, another system call costs less than copying.
    private const int DirectBytes = 8 * 1024;

    private readonly byte[] _buffer = new byte[64 * 1024];
    private int _start;
    private int _end;

    // How much is asked for together with the head of a reply: many small replies, or not much of the large payload that probably comes next and has a place of its own.
    private int _ahead = 64 * 1024;

    /// <summary>Called before <see cref="Read"/> waits for the peer, who may be waiting for something.</summary>
    public Action BeforeWaiting { get; set; } = static () => { };

    /// <summary>Whether nothing has been received that was not asked for yet.</summary>
    public bool IsEmpty => _start == _end;

    /// <summary>Fills <paramref name="into"/>, waiting on the calling thread.</summary>
    /// <exception cref="EndOfStreamException">The peer closed the connection before that.</exception>
    /// <exception cref="SocketException">The connection broke.</exception>
    public void Read(Span<byte> into)
    {
        var buffered = Math.Min(_end - _start, into.Length);
        _buffer.AsSpan(_start, buffered).CopyTo(into);
        _start += buffered;
        into = into[buffered..];
        if (into.Length >= DirectBytes)
        {
            for (_ahead = DirectBytes; into.Length > 0;)
            {
                BeforeWaiting();
                into = into[Some(wire.Receive(into))..];
            }
        }
        else if (into.Length > 0)
        {
            for (_start = _end = 0; _end < into.Length;)
            {
                BeforeWaiting();
                _end += Some(wire.Receive(_buffer.AsSpan(_end, Math.Max(_ahead, into.Length) - _end)));
            }

            _buffer.AsSpan(0, into.Length).CopyTo(into);
            _start = into.Length;
            _ahead = _buffer.Length;
        }
    }

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
            into = into[Some(await wire.ReceiveAsync(into, cancellationToken).ConfigureAwait(false))..];
        }

        while (_end < into.Length)
        {
            _end += Some(await wire.ReceiveAsync(_buffer.AsMemory(_end), cancellationToken).ConfigureAwait(false));
        }

        _buffer.AsSpan(0, into.Length).CopyTo(into.Span);
        _start = into.Length;
    }

    private static int Some(int received) => received > 0 ? received : throw new EndOfStreamException();
}
