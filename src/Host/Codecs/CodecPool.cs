namespace Platter.Host.Codecs;

/// <summary>Keeps a few decoders or encoders for their next use. Thread-safe, allocates nothing.</summary>
internal sealed class CodecPool<T>(int capacity)
    where T : class
{
    private readonly T?[] _slots = new T?[capacity];

    /// <summary>Takes one out, if there is one.</summary>
    public T? TryTake()
    {
        foreach (ref var slot in _slots.AsSpan())
        {
            if (Volatile.Read(ref slot) is not null && Interlocked.Exchange(ref slot, null) is { } taken)
            {
                return taken;
            }
        }

        return null;
    }

    /// <summary>Puts one back; false when there is no room.</summary>
    public bool TryReturn(T codec)
    {
        foreach (ref var slot in _slots.AsSpan())
        {
            if (Volatile.Read(ref slot) is null && Interlocked.CompareExchange(ref slot, codec, null) is null)
            {
                return true;
            }
        }

        return false;
    }
}
