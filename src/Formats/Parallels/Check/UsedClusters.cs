namespace Platter.Formats.Parallels.Check;

/// <summary>Which clusters of the file are in use: a window of bits over the data area, so that memory stays bounded whatever the file's size.</summary>
/// <remarks>The file is gone through window by window; only files with more than 2^28 clusters (256 TiB of 1 MiB) need a second one.</remarks>
internal sealed class UsedClusters
{
    /// <summary>Clusters in a window; 32 MiB of bits.</summary>
    public const long MaxWindow = 1L << 28;

    private readonly ulong[] _bits;
    private long _start;

    /// <summary>A window for a data area of <paramref name="clusterCount"/> clusters.</summary>
    public UsedClusters(long clusterCount)
    {
        Size = Math.Clamp(clusterCount, 1, MaxWindow);
        _bits = new ulong[(Size + 63) / 64];
    }

    /// <summary>Clusters in the window.</summary>
    public long Size { get; }

    /// <summary>Empties the window and lays it over the clusters from <paramref name="start"/>.</summary>
    public void MoveTo(long start)
    {
        _start = start;
        _bits.AsSpan().Clear();
        Taken = 0;
    }

    /// <summary>Clusters of the window that were taken.</summary>
    public long Taken { get; private set; }

    /// <summary>Takes a cluster; false when it was taken. Clusters outside the window are always free.</summary>
    public bool TryTake(long cluster)
    {
        var bit = cluster - _start;
        if (bit < 0 || bit >= Size)
        {
            return true;
        }

        var mask = 1UL << (int)(bit % 64);
        ref var word = ref _bits[bit / 64];
        if ((word & mask) != 0)
        {
            return false;
        }

        word |= mask;
        Taken++;
        return true;
    }
}
