namespace Platter.Host.Codecs;

/// <summary>Keeps a few decoders for their next use. Thread-safe, allocates nothing.</summary>
internal sealed class DecompressorPool(int capacity)
{
    private readonly PooledDecompressor?[] _slots = new PooledDecompressor?[capacity];

    /// <summary>Takes one out, if there is one.</summary>
    public PooledDecompressor? TryTake()
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
    public bool TryReturn(PooledDecompressor decompressor)
    {
        foreach (ref var slot in _slots.AsSpan())
        {
            if (Volatile.Read(ref slot) is null && Interlocked.CompareExchange(ref slot, decompressor, null) is null)
            {
                return true;
            }
        }

        return false;
    }
}
