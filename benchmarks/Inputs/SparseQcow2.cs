using System.Buffers.Binary;

namespace Platter.Bench.Inputs;

/// <summary>Writes a large qcow2 image with few clusters allocated, spread evenly over the disk, lying in the file in a shuffled order.</summary>
/// <remarks>
/// The peer could write it, too, in half a minute and 13 GB; here the clusters with data are holes in the file, which neither <c>check</c> nor <c>map</c>
/// looks into. Layout, in clusters: header, refcount table, refcount blocks, L1 table, then L2 tables and data as a guest's writes would have brought
/// them. Spec: qemu <c>docs/interop/qcow2</c>; version 3, 16-bit refcounts.
/// </remarks>
internal static class SparseQcow2
{
    private const int ClusterBits = 16, ClusterSize = 1 << ClusterBits, EntriesPerTable = ClusterSize / 8, RefcountsPerBlock = ClusterSize / 2;
    private const ulong Copied = 1UL << 63;

    public static void Write(string path, long virtualSize, int clusterCount, int seed, int lostRefcounts = 0)
    {
        var guestClusters = virtualSize / ClusterSize;
        var l1 = new ulong[guestClusters / EntriesPerTable];
        var l2Tables = new Dictionary<int, ulong[]>();
        var l1Clusters = ((l1.Length * 8) + ClusterSize - 1) / ClusterSize;

        var order = Enumerable.Range(0, clusterCount).ToArray();
        new Random(seed).Shuffle(order);
        var blockCount = ((clusterCount + l1.Length) / RefcountsPerBlock) + 1;
        long next = 2 + blockCount + l1Clusters;
        foreach (var i in order)
        {
            var guest = i * (guestClusters / clusterCount);
            var l1Index = (int)(guest / EntriesPerTable);
            if (!l2Tables.TryGetValue(l1Index, out var table))
            {
                l2Tables.Add(l1Index, table = new ulong[EntriesPerTable]);
                l1[l1Index] = Copied | (ulong)(next++ * ClusterSize);
            }

            table[guest % EntriesPerTable] = Copied | (ulong)(next++ * ClusterSize);
        }

        using var file = File.Create(path);
        file.SetLength(next * ClusterSize);
        WriteHeader(file, virtualSize, l1.Length, l1At: 2 + blockCount);
        WriteTable(file, 1, [.. Enumerable.Range(2, blockCount).Select(c => (ulong)c * ClusterSize)]);
        WriteRefcounts(file, next, seed, lostRefcounts);
        WriteTable(file, 2 + blockCount, l1);
        foreach (var (l1Index, table) in l2Tables)
        {
            WriteTable(file, (long)(l1[l1Index] & ~Copied) / ClusterSize, table);
        }
    }

    private static void WriteHeader(FileStream file, long virtualSize, int l1Entries, long l1At)
    {
        var header = new byte[112];
        BinaryPrimitives.WriteUInt32BigEndian(header, 0x514649FB);
        BinaryPrimitives.WriteUInt32BigEndian(header.AsSpan(4), 3);
        BinaryPrimitives.WriteUInt32BigEndian(header.AsSpan(20), ClusterBits);
        BinaryPrimitives.WriteInt64BigEndian(header.AsSpan(24), virtualSize);
        BinaryPrimitives.WriteInt32BigEndian(header.AsSpan(36), l1Entries);
        BinaryPrimitives.WriteInt64BigEndian(header.AsSpan(40), l1At * ClusterSize);
        BinaryPrimitives.WriteInt64BigEndian(header.AsSpan(48), ClusterSize);
        BinaryPrimitives.WriteInt32BigEndian(header.AsSpan(56), 1); // clusters of the refcount table
        BinaryPrimitives.WriteInt32BigEndian(header.AsSpan(96), 4); // refcount order
        BinaryPrimitives.WriteInt32BigEndian(header.AsSpan(100), 104); // header length; eight zero bytes end its extensions
        RandomAccess.Write(file.SafeFileHandle, header, 0);
    }

    private static void WriteRefcounts(FileStream file, long clustersInUse, int seed, int lost)
    {
        var refcounts = new byte[clustersInUse * 2];
        for (var i = 1; i < refcounts.Length; i += 2)
        {
            refcounts[i] = 1;
        }

        for (var random = new Random(seed); lost > 0; lost--)
        {
            refcounts[(random.Next((int)clustersInUse) * 2) + 1] = 0;
        }

        RandomAccess.Write(file.SafeFileHandle, refcounts, 2 * ClusterSize);
    }

    private static void WriteTable(FileStream file, long atCluster, ReadOnlySpan<ulong> entries)
    {
        var bytes = new byte[entries.Length * 8];
        for (var i = 0; i < entries.Length; i++)
        {
            BinaryPrimitives.WriteUInt64BigEndian(bytes.AsSpan(i * 8), entries[i]);
        }

        RandomAccess.Write(file.SafeFileHandle, bytes, atCluster * ClusterSize);
    }
}
