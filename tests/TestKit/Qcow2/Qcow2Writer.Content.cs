using System.Buffers.Binary;
using System.Text;

namespace Platter.TestKit;

/// <summary>Content: header, tables, data, snapshots and bitmaps, each at the offsets that the specification prints.</summary>
internal sealed partial class Qcow2Writer
{
    private sealed record SnapshotTable(Qcow2Part Part, List<byte[]> Entries);

    private sealed record BitmapTable(Qcow2Part? Part, List<(ulong Fixed, Qcow2Part? Cluster, byte[] Bits)> Entries);

    private sealed record BitmapSet(Qcow2Part Directory, List<long> EntryOffsets, long DirectoryBytes, List<BitmapTable> Tables);

    private void WriteMappings()
    {
        foreach (var mapping in _mappings)
        {
            foreach (var table in mapping.Tables)
            {
                var copied = mapping == _mappings[0] && RefcountAt(table.At) == 1 ? Copied : 0;
                _bytes.PutU64Be(mapping.L1!.At + (table.L1Index * 8), (ulong)table.At | copied);
            }
        }

        foreach (var table in _mappings.SelectMany(m => m.Tables).Distinct())
        {
            foreach (var (guestCluster, cluster) in table.Entries)
            {
                var at = table.At + (guestCluster % L2Entries * (builder.ExtendedL2 ? 16 : 8));
                _bytes.PutU64Be(at, L2Entry(table, guestCluster, cluster));
                if (builder.ExtendedL2)
                {
                    _bytes.PutU64Be(at + 8, cluster.Stream is not null ? 0 : cluster.Allocated | ((ulong)cluster.Zeros << 32));
                }
            }
        }
    }

    private ulong L2Entry(Qcow2L2Part table, long guestCluster, Qcow2Cluster cluster)
    {
        if (_streams.TryGetValue(cluster, out var place))
        {
            var offsetBits = 62 - (builder.ClusterBits - 8);
            var offset = place.Part.At + place.Offset;
            if (offset >> Math.Min(offsetBits, 56) != 0)
            {
                throw new InvalidOperationException($"a compressed cluster cannot lie at {offset}");
            }

            return Compressed | ((ulong)place.ExtraSectors << offsetBits) | (ulong)offset;
        }

        ulong entry = cluster.Zero ? 1UL : 0;
        if (_hosts.TryGetValue(cluster, out var host))
        {
            entry |= (ulong)host.At;
            if (builder.ExternalData)
            {
                // The place in a data file is the guest's own; the bit tells that it is in use, also at 0.
                entry |= Copied;
            }
            else if (table.IsActive && RefcountAt(host.At) == 1)
            {
                entry |= Copied;
            }
        }

        return entry;
    }

    private void WriteData()
    {
        foreach (var (cluster, part) in _hosts)
        {
            if (!builder.ExternalData)
            {
                _bytes.Write(part.At, cluster.Host);
            }
            else if (builder.DataFileRaw)
            {
                // A raw data file is the disk: no garbage behind zero flags or in free subclusters.
                _dataFile.Write(part.At, builder.Model.Slice(part.At, (int)_clusterBytes));
            }
            else
            {
                _dataFile.Write(part.At, cluster.Host);
            }
        }

        foreach (var part in _streams.Values.Select(p => p.Part).Distinct())
        {
            _bytes.Write(part.At, TestContent.Make(Qcow2Builder.GarbageSeed, part.At, (int)(part.Clusters * _clusterBytes)));
        }

        foreach (var (cluster, place) in _streams)
        {
            _bytes.Write(place.Part.At + place.Offset, cluster.Stream);
        }
    }

    private Dictionary<uint, long> WriteHeader(Qcow2Mapping active, SnapshotTable? snapshots, BitmapSet? bitmaps)
    {
        var headerLength = builder.HeaderLength ?? (builder.Version == 2 ? 72 : 112);
        _bytes.Write(0, "QFI"u8);
        _bytes.PutU8(3, 0xfb);
        _bytes.PutU32Be(4, (uint)builder.Version);
        _bytes.PutU32Be(20, (uint)builder.ClusterBits);
        _bytes.PutU64Be(24, (ulong)builder.Size);
        _bytes.PutU32Be(36, (uint)active.L1Size);
        _bytes.PutU64Be(40, (ulong)(active.L1?.At ?? 0));
        _bytes.PutU64Be(48, (ulong)_refcountTable!.At);
        _bytes.PutU32Be(56, (uint)_refcountTable.Clusters);
        _bytes.PutU32Be(60, (uint)builder.Snapshots.Count);
        _bytes.PutU64Be(64, (ulong)(snapshots?.Part.At ?? 0));
        if (builder.Version >= 3)
        {
            var incompatible = builder.IncompatibleFeatures
                | (builder.ExternalData ? 4UL : 0) | (builder.CompressionType != 0 ? 8UL : 0) | (builder.ExtendedL2 ? 16UL : 0);
            var autoclear = builder.AutoclearFeatures
                | (bitmaps is not null && !builder.BitmapsNotConsistent ? 1UL : 0) | (builder.DataFileRaw ? 2UL : 0);
            _bytes.PutU64Be(72, incompatible);
            _bytes.PutU64Be(80, builder.CompatibleFeatures);
            _bytes.PutU64Be(88, autoclear);
            _bytes.PutU32Be(96, (uint)builder.RefcountOrder);
            _bytes.PutU32Be(100, (uint)headerLength);
            if (headerLength > 104)
            {
                _bytes.PutU8(104, builder.CompressionType);
            }
        }

        var extensionAt = new Dictionary<uint, long>();
        long at = headerLength;
        foreach (var (type, data) in AllExtensions(bitmaps))
        {
            extensionAt.TryAdd(type, at);
            at = WriteExtension(at, type, data);
        }

        var name = Encoding.UTF8.GetBytes(builder.BackingFile ?? string.Empty);
        if (builder.EndExtension)
        {
            extensionAt.TryAdd(0, at);
            at = WriteExtension(at, 0, []);
        }
        else if (builder.BackingFile is null)
        {
            // Without END the extensions run to the end of the cluster, so something must fill it.
            extensionAt.TryAdd(0x0badf111, at);
            at = WriteExtension(at, 0x0badf111, new byte[_clusterBytes - at - 8]);
        }

        if (builder.BackingFile is not null)
        {
            _bytes.PutU64Be(8, (ulong)at);
            _bytes.PutU32Be(16, (uint)name.Length);
            _bytes.Write(at, name);
            at += name.Length;
        }

        if (at > _clusterBytes)
        {
            throw new InvalidOperationException($"header, extensions and backing file name take {at} bytes of a cluster of {_clusterBytes}");
        }

        return extensionAt;
    }

    private long WriteExtension(long at, uint type, ReadOnlySpan<byte> data)
    {
        _bytes.PutU32Be(at, type);
        _bytes.PutU32Be(at + 4, (uint)data.Length);
        _bytes.Write(at + 8, data);
        return at + 8 + ((data.Length + 7) / 8 * 8);
    }

    private IEnumerable<(uint Type, byte[] Data)> AllExtensions(BitmapSet? bitmaps)
    {
        if (builder.BackingFormat is not null)
        {
            yield return (builder.BackingFormatType, Encoding.UTF8.GetBytes(builder.BackingFormat));
        }

        if (builder.DataFileName is not null)
        {
            yield return (0x44415441, Encoding.UTF8.GetBytes(builder.DataFileName));
        }

        if (builder.Version >= 3 && builder.FeatureNameTable && (_clusterBytes > 4096 || builder.FeatureNames.Count > 0))
        {
            yield return (0x6803f857, FeatureNameTable());
        }

        if (bitmaps is not null)
        {
            var data = new byte[24];
            BinaryPrimitives.WriteUInt32BigEndian(data, (uint)builder.Bitmaps.Count);
            BinaryPrimitives.WriteUInt64BigEndian(data.AsSpan(8), (ulong)bitmaps.DirectoryBytes);
            BinaryPrimitives.WriteUInt64BigEndian(data.AsSpan(16), (ulong)bitmaps.Directory.At);
            yield return (0x23852875, data);
        }

        foreach (var extension in builder.Extensions)
        {
            yield return extension;
        }
    }

    private byte[] FeatureNameTable()
    {
        (byte Type, byte Bit, string Name)[] rows =
        [
            (0, 0, "dirty bit"), (0, 1, "corrupt bit"), (0, 2, "external data file"), (0, 3, "compression type"),
            (0, 4, "extended L2 entries"), (1, 0, "lazy refcounts"), (2, 0, "bitmaps"), (2, 1, "raw external data"),
            .. builder.FeatureNames,
        ];
        var table = new byte[rows.Length * 48];
        for (var i = 0; i < rows.Length; i++)
        {
            var row = table.AsSpan(i * 48, 48);
            row[0] = rows[i].Type;
            row[1] = rows[i].Bit;
            Encoding.UTF8.GetBytes(rows[i].Name).AsSpan().CopyTo(row[2..]);
        }

        return table;
    }

    private SnapshotTable? MakeSnapshotTable()
    {
        if (builder.Snapshots.Count == 0)
        {
            return null;
        }

        var entries = new List<byte[]>();
        for (var i = 0; i < builder.Snapshots.Count; i++)
        {
            var (snapshot, _, model) = builder.Snapshots[i];
            var size = 40 + snapshot.ExtraDataSize + snapshot.Id.Length + snapshot.Name.Length;
            var entry = new byte[(size + 7) / 8 * 8];
            BinaryPrimitives.WriteUInt32BigEndian(entry.AsSpan(8), (uint)_mappings[i + 1].L1Size);
            BinaryPrimitives.WriteUInt16BigEndian(entry.AsSpan(12), (ushort)snapshot.Id.Length);
            BinaryPrimitives.WriteUInt16BigEndian(entry.AsSpan(14), (ushort)snapshot.Name.Length);
            BinaryPrimitives.WriteUInt32BigEndian(entry.AsSpan(16), snapshot.DateSeconds);
            BinaryPrimitives.WriteUInt32BigEndian(entry.AsSpan(20), snapshot.DateNanoseconds);
            BinaryPrimitives.WriteUInt64BigEndian(entry.AsSpan(24), snapshot.VmClockNanoseconds);
            BinaryPrimitives.WriteUInt32BigEndian(entry.AsSpan(32), (uint)snapshot.VmState.Length);
            BinaryPrimitives.WriteUInt32BigEndian(entry.AsSpan(36), (uint)snapshot.ExtraDataSize);

            // Known extra data: size of the machine's state, size of the disk, icount; what follows is unknown to everybody.
            var extra = Enumerable.Repeat((byte)0xEE, Math.Max(24, snapshot.ExtraDataSize)).ToArray();
            BinaryPrimitives.WriteUInt64BigEndian(extra, (ulong)snapshot.VmState.Length);
            BinaryPrimitives.WriteUInt64BigEndian(extra.AsSpan(8), (ulong)model.Size);
            BinaryPrimitives.WriteUInt64BigEndian(extra.AsSpan(16), snapshot.InstructionCount);
            extra.AsSpan(0, snapshot.ExtraDataSize).CopyTo(entry.AsSpan(40));
            snapshot.Id.CopyTo(entry, 40 + snapshot.ExtraDataSize);
            snapshot.Name.CopyTo(entry, 40 + snapshot.ExtraDataSize + snapshot.Id.Length);
            entries.Add(entry);
        }

        return new SnapshotTable(Add(new Qcow2Part(ClustersFor(entries.Sum(e => (long)e.Length)))), entries);
    }

    private List<long> WriteSnapshotTable(SnapshotTable? table)
    {
        var entryAt = new List<long>();
        long at = table?.Part.At ?? 0;
        for (var i = 0; i < (table?.Entries.Count ?? 0); i++)
        {
            entryAt.Add(at);
            _bytes.Write(at, table!.Entries[i]);
            _bytes.PutU64Be(at, (ulong)(_mappings[i + 1].L1?.At ?? 0));
            at += table.Entries[i].Length;
        }

        return entryAt;
    }

    private BitmapSet? MakeBitmaps()
    {
        if (builder.Bitmaps.Count == 0)
        {
            return null;
        }

        var offsets = new List<long>();
        long directoryBytes = 0;
        var tables = new List<BitmapTable>();
        foreach (var bitmap in builder.Bitmaps)
        {
            offsets.Add(directoryBytes);
            directoryBytes += (24 + bitmap.ExtraData.Length + bitmap.Name.Length + 7) / 8 * 8;
            var bits = bitmap.ToBits(builder.Size);
            var bitCount = (builder.Size + (1L << bitmap.GranularityBits) - 1) >> bitmap.GranularityBits;
            var entries = new List<(ulong Fixed, Qcow2Part? Cluster, byte[] Bits)>();
            for (long start = 0; start < bits.Length; start += _clusterBytes)
            {
                var part = bits.AsSpan((int)start, (int)Math.Min(_clusterBytes, bits.Length - start)).ToArray();

                // "All ones" only stands for whole clusters: unused tail bits must be zero.
                var uniform = !part.AsSpan().ContainsAnyExcept((byte)0)
                    || (!part.AsSpan().ContainsAnyExcept((byte)0xFF) && bitCount - (start * 8) >= _clusterBytes * 8);
                entries.Add(uniform && !bitmap.StoreUniformClusters
                    ? (part[0] == 0 ? 0UL : 1UL, null, part)
                    : (0, Add(new Qcow2Part(1)), part));
            }

            tables.Add(new BitmapTable(entries.Count == 0 ? null : Add(new Qcow2Part(ClustersFor(entries.Count * 8L))), entries));
        }

        return new BitmapSet(Add(new Qcow2Part(ClustersFor(directoryBytes))), offsets, directoryBytes, tables);
    }

    private void WriteBitmaps(BitmapSet? set)
    {
        for (var i = 0; i < (set?.Tables.Count ?? 0); i++)
        {
            var (table, bitmap) = (set!.Tables[i], builder.Bitmaps[i]);
            var at = set.Directory.At + set.EntryOffsets[i];
            _bytes.PutU64Be(at, (ulong)(table.Part?.At ?? 0));
            _bytes.PutU32Be(at + 8, (uint)table.Entries.Count);
            _bytes.PutU32Be(at + 12, bitmap.Flags);
            _bytes.PutU8(at + 16, bitmap.Type);
            _bytes.PutU8(at + 17, (byte)bitmap.GranularityBits);
            _bytes.PutU16Be(at + 18, (ushort)bitmap.Name.Length);
            _bytes.PutU32Be(at + 20, (uint)bitmap.ExtraData.Length);
            _bytes.Write(at + 24, bitmap.ExtraData);
            _bytes.Write(at + 24 + bitmap.ExtraData.Length, bitmap.Name);
            for (var j = 0; j < table.Entries.Count; j++)
            {
                var (fixedValue, cluster, bits) = table.Entries[j];
                _bytes.PutU64Be(table.Part!.At + (j * 8), cluster is null ? fixedValue : (ulong)cluster.At);
                if (cluster is not null)
                {
                    _bytes.Write(cluster.At, bits);
                }
            }
        }
    }
}
