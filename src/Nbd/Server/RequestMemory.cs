using System.Numerics;

namespace Platter.Nbd.Server;

/// <summary>The memory for requests and replies that the clients of a server share, beyond the little that each has for itself; and the larger buffers.</summary>
/// <remarks>
/// Who finds too little waits in line, so that small requests of others do not keep a large one waiting for ever. What a client has for itself
/// (<see cref="OwnBytes"/>) is never waited for: many clients with large requests slow each other down and nobody else.
/// Buffers are kept here and not by <see cref="System.Buffers.ArrayPool{T}"/>: that one lets every thread keep the largest array it ever gave back.
/// Thread-safe.
/// </remarks>
/// <param name="limit">Bytes in all; a single request larger than that is let through when nothing else is under way.</param>
internal sealed class RequestMemory(long limit)
{
    /// <summary>What each client may use besides, in bytes.</summary>
    public const int OwnBytes = 1 << 20;

    /// <summary>The smallest buffers here, in bytes: larger than any of an array pool for smaller ones.</summary>
    public const int SmallestBuffer = (256 << 10) + 1;

    // Room for headers behind a power of two.
    private const int HeadBytes = 4 << 10;
    private const long MaxIdleBytes = 64 << 20;

    private readonly object _gate = new();
    private readonly Stack<byte[]>?[] _idle = new Stack<byte[]>?[32];
    private long _idleBytes;
    private long _used;
    private long _tickets;
    private long _next;

    /// <summary>Bytes that are taken now.</summary>
    public long Used
    {
        get
        {
            lock (_gate)
            {
                return _used;
            }
        }
    }

    /// <summary>Takes some if that needs no waiting.</summary>
    public bool TryTake(long bytes)
    {
        lock (_gate)
        {
            if (_next != _tickets || !HasRoom(bytes))
            {
                return false;
            }

            _used += bytes;
            return true;
        }
    }

    /// <summary>Takes some as soon as there is room, in order of arrival.</summary>
    public void Take(long bytes)
    {
        lock (_gate)
        {
            var ticket = _tickets++;
            while (ticket != _next || !HasRoom(bytes))
            {
                Monitor.Wait(_gate);
            }

            _next++;
            _used += bytes;
            Monitor.PulseAll(_gate);
        }
    }

    /// <summary>Gives back what was taken.</summary>
    public void Release(long bytes)
    {
        lock (_gate)
        {
            _used -= bytes;
            Monitor.PulseAll(_gate);
        }
    }

    /// <summary>A buffer of at least so many bytes, at least <see cref="SmallestBuffer"/>; what is in it is anything.</summary>
    public byte[] Rent(int size)
    {
        var kind = KindOf(size);
        lock (_gate)
        {
            if (_idle[kind] is { Count: > 0 } stack)
            {
                var buffer = stack.Pop();
                _idleBytes -= buffer.Length;
                return buffer;
            }
        }

        return GC.AllocateUninitializedArray<byte>(SizeOf(kind) < Array.MaxLength ? (int)SizeOf(kind) : size);
    }

    /// <summary>Takes a buffer back.</summary>
    public void Return(byte[] buffer)
    {
        var kind = KindOf(buffer.Length);
        lock (_gate)
        {
            if (buffer.Length == SizeOf(kind) && _idleBytes + buffer.Length <= MaxIdleBytes)
            {
                (_idle[kind] ??= []).Push(buffer);
                _idleBytes += buffer.Length;
            }
        }
    }

    private static int KindOf(int size) => BitOperations.Log2((uint)Math.Max(size - HeadBytes, 1) * 2 - 1);

    private static long SizeOf(int kind) => (1L << kind) + HeadBytes;

    private bool HasRoom(long bytes) => _used == 0 || _used + bytes <= limit;
}
