namespace Platter.TestKit;

/// <summary>Turns the description in a <see cref="Qcow2Builder"/> into bytes: collects the parts, places them, counts references, writes.</summary>
/// <remarks>The refcount structures cover themselves: their number is raised until one placement needs no more than it has.</remarks>
internal sealed partial class Qcow2Writer(Qcow2Builder builder)
{
    private const ulong Copied = 1UL << 63;
    private const ulong Compressed = 1UL << 62;

    private readonly long _clusterBytes = builder.ClusterBytes;
    private readonly Dictionary<Qcow2Cluster, Qcow2Part> _hosts = [];
    private readonly Dictionary<Qcow2Cluster, Qcow2StreamPlace> _streams = [];
    private readonly List<Qcow2Part> _parts = [];
    private readonly List<Qcow2Mapping> _mappings = [];
    private readonly SortedDictionary<long, ulong> _refcounts = [];
    private readonly SparseBytes _bytes = new();
    private readonly SparseBytes _dataFile = new();

    private long L2Entries => _clusterBytes / (builder.ExtendedL2 ? 16 : 8);

    private long RefcountsInBlock => _clusterBytes * 8 >> builder.RefcountOrder;

    public Qcow2Image Write()
    {
        // The active mapping first: L2 tables that it shares with snapshots are active ones.
        var active = AddMapping(builder.Clusters, builder.Size, builder.L1Size, isActive: true);
        foreach (var snapshot in builder.Snapshots)
        {
            AddMapping(WithVmState(snapshot), snapshot.Model.Size, snapshot.Snapshot.L1Size, isActive: false);
        }

        PackStreams();
        var snapshotTable = MakeSnapshotTable();
        var bitmaps = MakeBitmaps();
        AddFreeParts();
        PlaceAll();
        CountReferences();

        var entryAt = WriteSnapshotTable(snapshotTable);
        WriteBitmaps(bitmaps);
        foreach (var part in _parts.Where(p => p.IsFree && p.Clusters == 1))
        {
            _bytes.Write(part.At, TestContent.Make(Qcow2Builder.GarbageSeed, part.At, (int)_clusterBytes));
        }

        WriteMappings();
        WriteData();
        WriteRefcounts();
        var extensions = WriteHeader(active, snapshotTable, bitmaps);

        _bytes.SetLength(_parts.Max(p => p.At + (p.Clusters * _clusterBytes)));
        if (builder.TrimEnd)
        {
            TrimLastCluster();
        }

        if (builder.ExternalData)
        {
            _dataFile.SetLength(builder.Size);
        }

        return new Qcow2Image(builder, _bytes, builder.Model)
        {
            DataFile = builder.ExternalData ? _dataFile : null,
            Snapshots = [.. builder.Snapshots.Select((s, i) =>
                new Qcow2BuiltSnapshot(s.Snapshot, s.Model, entryAt[i], _mappings[i + 1].L1?.At ?? 0, _mappings[i + 1].L1Size))],
            L1At = active.L1?.At ?? 0,
            RefcountTableAt = _refcountTable!.At,
            SnapshotTableAt = snapshotTable?.Part.At ?? 0,
            BitmapDirectoryAt = bitmaps?.Directory.At ?? 0,
            BitmapEntryAt = bitmaps is null ? [] : [.. bitmaps.EntryOffsets.Select(o => bitmaps.Directory.At + o)],
            BitmapTableAt = bitmaps is null ? [] : [.. bitmaps.Tables.Select(t => t.Part?.At ?? 0)],
            ExtensionAt = extensions,
            L2TableAt = active.Tables.ToDictionary(t => t.L1Index, t => t.At),
            FreeClusters = [.. _parts.Where(p => p.IsFree && p.Clusters == 1).Select(p => p.At)],
        };
    }

    private Qcow2Part Add(Qcow2Part part)
    {
        _parts.Add(part);
        return part;
    }

    private long ClustersFor(long bytes) => (bytes + _clusterBytes - 1) / _clusterBytes;

    private Qcow2Mapping AddMapping(IReadOnlyDictionary<long, Qcow2Cluster> clusters, long diskBytes, uint? l1SizeOverride, bool isActive)
    {
        var needed = (ClustersFor(diskBytes) + L2Entries - 1) / L2Entries;
        if (clusters.Count > 0)
        {
            needed = Math.Max(needed, (clusters.Keys.Max() / L2Entries) + 1);
        }

        var l1Size = l1SizeOverride ?? needed;
        var l1 = l1Size == 0 ? null : Add(new Qcow2Part(ClustersFor(l1Size * 8)));
        var tables = new List<Qcow2L2Part>();
        foreach (var group in clusters.OrderBy(c => c.Key).GroupBy(c => c.Key / L2Entries).Where(g => g.Key < l1Size))
        {
            var entries = group.Select(c => (c.Key, c.Value)).ToArray();
            var shared = _mappings.SelectMany(m => m.Tables).FirstOrDefault(t => t.L1Index == group.Key && Same(t.Entries, entries));
            if (shared is null)
            {
                shared = new Qcow2L2Part(group.Key, entries) { IsActive = isActive };
                Add(shared);
                AddHosts(entries);
            }

            tables.Add(shared);
        }

        var mapping = new Qcow2Mapping(l1, l1Size, tables);
        _mappings.Add(mapping);
        return mapping;
    }

    private void AddHosts(IEnumerable<(long GuestCluster, Qcow2Cluster Cluster)> entries)
    {
        foreach (var (guestCluster, cluster) in entries)
        {
            if (cluster.Host is not null && !_hosts.ContainsKey(cluster))
            {
                // In an external data file the place is given, and nothing is counted.
                _hosts[cluster] = builder.ExternalData
                    ? new Qcow2Part(1) { At = guestCluster * _clusterBytes, IsData = true }
                    : Add(new Qcow2Part(1) { IsData = true });
            }
        }
    }

    private static bool Same(IReadOnlyList<(long GuestCluster, Qcow2Cluster Cluster)> left, IReadOnlyList<(long GuestCluster, Qcow2Cluster Cluster)> right)
    {
        if (left.Count != right.Count)
        {
            return false;
        }

        for (var i = 0; i < left.Count; i++)
        {
            if (left[i].GuestCluster != right[i].GuestCluster || !ReferenceEquals(left[i].Cluster, right[i].Cluster))
            {
                return false;
            }
        }

        return true;
    }

    // The machine's state follows the disk from the first L1 entry on that describes nothing of the disk.
    private Dictionary<long, Qcow2Cluster> WithVmState(Qcow2State state)
    {
        var clusters = new Dictionary<long, Qcow2Cluster>(state.Clusters);
        var first = (ClustersFor(state.Model.Size) + L2Entries - 1) / L2Entries * L2Entries;
        var rest = state.Snapshot.VmState.AsSpan();
        for (var cluster = first; rest.Length > 0; cluster++)
        {
            var host = new byte[_clusterBytes];
            var count = (int)Math.Min(rest.Length, _clusterBytes);
            rest[..count].CopyTo(host);
            rest = rest[count..];
            clusters[cluster] = new Qcow2Cluster { Host = host, Allocated = uint.MaxValue };
        }

        return clusters;
    }

    private void PackStreams()
    {
        var streams = _mappings.SelectMany(m => m.Tables).Distinct().SelectMany(t => t.Entries).Select(e => e.Cluster)
            .Where(c => c.Stream is not null).Distinct();
        foreach (var run in streams.GroupBy(c => c.Run))
        {
            if (builder.Packing == CompressedPacking.Clusters)
            {
                foreach (var cluster in run)
                {
                    AddRun([(cluster, 0)]);
                }

                continue;
            }

            var places = new List<(Qcow2Cluster Cluster, long Offset)>();
            long next = 0;
            foreach (var cluster in run)
            {
                places.Add((cluster, next));
                next += cluster.Stream!.Length;
                if (builder.Packing == CompressedPacking.Sectors)
                {
                    next = (next + 511) / 512 * 512;
                }
            }

            AddRun(places);
        }
    }

    private void AddRun(IReadOnlyList<(Qcow2Cluster Cluster, long Offset)> places)
    {
        long end = 0;
        var extras = new List<int>();
        foreach (var (cluster, offset) in places)
        {
            var length = Math.Max(1, cluster.Stream!.Length);
            var extra = (int)(((offset + length - 1) / 512) - (offset / 512)) + cluster.SlackSectors;
            if (extra >= 1 << (builder.ClusterBits - 8))
            {
                throw new InvalidOperationException($"a stream of {length} bytes does not fit the descriptor of a compressed cluster");
            }

            extras.Add(extra);
            end = Math.Max(end, ((offset / 512) + extra + 1) * 512);
        }

        var part = Add(new Qcow2Part(ClustersFor(end)) { IsData = true });
        for (var i = 0; i < places.Count; i++)
        {
            _streams[places[i].Cluster] = new Qcow2StreamPlace(part, places[i].Offset, extras[i]);
        }
    }

    private void AddFreeParts()
    {
        for (var i = 0; i < builder.FreeClusters; i++)
        {
            Add(new Qcow2Part(1) { IsFree = true });
        }
    }

    private void CountReferences()
    {
        Count(0, 1);
        foreach (var part in _parts.Where(p => p is { IsFree: false, IsData: false } and not Qcow2L2Part && p != _header))
        {
            Count(part.At, part.Clusters);
        }

        foreach (var table in _mappings.SelectMany(m => m.Tables))
        {
            Count(table.At, 1);
            foreach (var (_, cluster) in table.Entries)
            {
                if (_streams.TryGetValue(cluster, out var place))
                {
                    // All host clusters that the declared sectors touch.
                    var first = (place.Part.At + place.Offset) / _clusterBytes;
                    var last = (((place.Part.At + place.Offset) / 512) + place.ExtraSectors) * 512 / _clusterBytes;
                    Count(first * _clusterBytes, last - first + 1);
                }
                else if (!builder.ExternalData && _hosts.TryGetValue(cluster, out var host))
                {
                    Count(host.At, 1);
                }
            }
        }

        var max = builder.RefcountOrder == 6 ? ulong.MaxValue : (1UL << (1 << builder.RefcountOrder)) - 1;
        if (_refcounts.Values.Any(c => c > max))
        {
            throw new InvalidOperationException($"a refcount of {_refcounts.Values.Max()} does not fit {1 << builder.RefcountOrder} bits");
        }
    }

    private void Count(long at, long clusters)
    {
        for (var i = 0; i < clusters; i++)
        {
            var index = (at / _clusterBytes) + i;
            _refcounts[index] = _refcounts.GetValueOrDefault(index) + 1;
        }
    }

    private ulong RefcountAt(long at) => _refcounts.GetValueOrDefault(at / _clusterBytes);

    private void TrimLastCluster()
    {
        var end = _bytes.Length;
        while (end > _bytes.Length - _clusterBytes + 512 && !_bytes.Slice(end - 512, 512).AsSpan().ContainsAnyExcept((byte)0))
        {
            end -= 512;
        }

        _bytes.SetLength(end);
    }
}
