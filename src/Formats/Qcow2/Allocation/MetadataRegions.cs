namespace Platter.Formats.Qcow2.Allocation;

/// <summary>Host clusters that are known to hold metadata: guest data are never written there, and they are never handed out.</summary>
/// <remarks>Thread-safe.</remarks>
internal sealed class MetadataRegions
{
    private readonly Lock _gate = new();
    private readonly HashSet<long> _clusters = [];

    /// <summary>Adds neighbouring clusters.</summary>
    public void Add(long first, long count = 1)
    {
        lock (_gate)
        {
            for (long i = 0; i < count; i++)
            {
                _clusters.Add(first + i);
            }
        }
    }

    /// <summary>Forgets everything.</summary>
    public void Clear()
    {
        lock (_gate)
        {
            _clusters.Clear();
        }
    }

    /// <summary>Takes neighbouring clusters away.</summary>
    public void Remove(long first, long count = 1)
    {
        lock (_gate)
        {
            for (long i = 0; i < count; i++)
            {
                _clusters.Remove(first + i);
            }
        }
    }

    /// <summary>The first of neighbouring clusters that holds metadata, or -1.</summary>
    public long Find(long first, long count)
    {
        lock (_gate)
        {
            for (long i = 0; i < count; i++)
            {
                if (_clusters.Contains(first + i))
                {
                    return first + i;
                }
            }
        }

        return -1;
    }
}
