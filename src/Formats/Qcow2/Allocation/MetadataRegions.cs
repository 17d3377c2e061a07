namespace Platter.Formats.Qcow2.Allocation;

/// <summary>Host clusters that are known to hold metadata: guest data are never written there, and they are never handed out. What two structures claim is written by neither.</summary>
/// <remarks>Thread-safe.</remarks>
internal sealed class MetadataRegions
{
    private readonly Lock _gate = new();
    private readonly Dictionary<long, MetadataKind> _clusters = [];
    private readonly SortedDictionary<long, (MetadataKind One, MetadataKind Other)> _overlaps = [];
    private volatile bool _hasOverlaps;

    /// <summary>Whether any cluster has two owners; cheap.</summary>
    public bool HasOverlaps => _hasOverlaps;

    /// <summary>Adds neighbouring clusters. One that is there already has two owners from now on, and none that may write to it.</summary>
    public void Add(long first, long count, MetadataKind kind)
    {
        lock (_gate)
        {
            for (var cluster = first; cluster < first + count; cluster++)
            {
                if (_clusters.TryAdd(cluster, kind) || (kind == MetadataKind.SharedL2Table && _clusters[cluster] == kind))
                {
                    continue;
                }

                _overlaps.TryAdd(cluster, (_clusters[cluster], kind));
                _hasOverlaps = true;
            }
        }
    }

    /// <summary>Forgets everything.</summary>
    public void Clear()
    {
        lock (_gate)
        {
            _clusters.Clear();
            _overlaps.Clear();
            _hasOverlaps = false;
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
                if (_clusters.ContainsKey(first + i))
                {
                    return first + i;
                }
            }
        }

        return -1;
    }

    /// <summary>Says what else claims a cluster, or null.</summary>
    /// <param name="cluster">The cluster of a table.</param>
    /// <param name="kind">What it is to its owner who asks.</param>
    public string? FindOther(long cluster, MetadataKind kind)
    {
        if (!_hasOverlaps)
        {
            return null;
        }

        lock (_gate)
        {
            return _overlaps.TryGetValue(cluster, out var owners) ? Describe(owners.One == kind ? owners.Other : owners.One, isAnother: owners.One == owners.Other) : null;
        }
    }

    /// <summary>The first structure that every allocation needs (header, L1 table, refcount table, refcount block) and that shares a cluster; null when there is none.</summary>
    public (long Cluster, string One, string Other)? FindVital()
    {
        if (!_hasOverlaps)
        {
            return null;
        }

        lock (_gate)
        {
            foreach (var (cluster, (one, other)) in _overlaps)
            {
                if (IsVital(one) || IsVital(other))
                {
                    return (cluster, Describe(one, isAnother: false), Describe(other, isAnother: one == other));
                }
            }
        }

        return null;
    }

    private static bool IsVital(MetadataKind kind) => kind is MetadataKind.Header or MetadataKind.L1Table or MetadataKind.RefcountTable or MetadataKind.RefcountBlock;

    private static string Describe(MetadataKind kind, bool isAnother) => kind switch
    {
        MetadataKind.Header => "the header",
        MetadataKind.RefcountTable => "the refcount table",
        MetadataKind.RefcountBlock => isAnother ? "another refcount block" : "a refcount block",
        MetadataKind.L1Table => "the L1 table",
        MetadataKind.L2Table or MetadataKind.SharedL2Table => isAnother ? "another L2 table" : "an L2 table",
        MetadataKind.SnapshotTable => "the snapshot table",
        MetadataKind.SnapshotL1Table => isAnother ? "another snapshot's L1 table" : "a snapshot's L1 table",
        MetadataKind.EncryptionHeader => "the encryption header",
        MetadataKind.BitmapDirectory => "the bitmap directory",
        MetadataKind.BitmapTable => "a bitmap's table",
        _ => "a bitmap's bits",
    };
}
