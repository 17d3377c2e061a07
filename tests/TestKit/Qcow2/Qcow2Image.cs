using Platter.Core.Storages;

namespace Platter.TestKit;

/// <summary>A built qcow2 image: its bytes, what the guest should see, and handles to break it. Host offsets are in bytes.</summary>
public sealed class Qcow2Image
{
    internal Qcow2Image(Qcow2Builder builder, SparseBytes bytes, ReferenceDisk model)
    {
        ClusterBits = builder.ClusterBits;
        RefcountOrder = builder.RefcountOrder;
        ExtendedL2 = builder.ExtendedL2;
        Bytes = bytes;
        Model = model;
    }

    /// <summary>The file.</summary>
    public SparseBytes Bytes { get; }

    /// <summary>The external data file, if there is one.</summary>
    public SparseBytes? DataFile { get; internal init; }

    /// <summary>What the guest sees.</summary>
    public ReferenceDisk Model { get; }

    /// <summary>The internal snapshots, in the order of the table.</summary>
    public IReadOnlyList<Qcow2BuiltSnapshot> Snapshots { get; internal init; } = [];

    /// <summary>log2 of the cluster size.</summary>
    public int ClusterBits { get; }

    /// <summary>Bytes in a cluster.</summary>
    public long ClusterBytes => 1L << ClusterBits;

    /// <summary>log2 of the refcount width in bits.</summary>
    public int RefcountOrder { get; }

    /// <summary>Whether L2 entries have 128 bits.</summary>
    public bool ExtendedL2 { get; }

    /// <summary>Host offset of the active L1 table.</summary>
    public long L1At { get; internal init; }

    /// <summary>Host offset of the refcount table.</summary>
    public long RefcountTableAt { get; internal init; }

    /// <summary>Host offset of the snapshot table, or 0.</summary>
    public long SnapshotTableAt { get; internal init; }

    /// <summary>Host offset of the bitmap directory, or 0.</summary>
    public long BitmapDirectoryAt { get; internal init; }

    /// <summary>Host offsets of the bitmap directory's entries.</summary>
    public IReadOnlyList<long> BitmapEntryAt { get; internal init; } = [];

    /// <summary>Host offsets of the bitmap tables, in the order of the directory.</summary>
    public IReadOnlyList<long> BitmapTableAt { get; internal init; } = [];

    /// <summary>Host offsets of the header extensions (of their type field), by type.</summary>
    public IReadOnlyDictionary<uint, long> ExtensionAt { get; internal init; } = new Dictionary<uint, long>();

    /// <summary>Host offsets of L2 tables of the active state, by L1 index.</summary>
    public IReadOnlyDictionary<long, long> L2TableAt { get; internal init; } = new Dictionary<long, long>();

    /// <summary>Host offsets of free clusters, full of garbage.</summary>
    public IReadOnlyList<long> FreeClusters { get; internal init; } = [];

    /// <summary>Entries in an L2 table.</summary>
    public long L2Entries => ClusterBytes / (ExtendedL2 ? 16 : 8);

    /// <summary>Overwrites a header field.</summary>
    public Qcow2Image Set(Qcow2Field field, ulong value)
    {
        Bytes.PutBigEndian((int)field / 16, value, (int)field % 16);
        return this;
    }

    /// <summary>Reads a header field.</summary>
    public ulong Get(Qcow2Field field) => ((int)field % 16) switch
    {
        8 => Bytes.U64Be((int)field / 16),
        4 => Bytes.U32Be((int)field / 16),
        _ => Bytes.U8((int)field / 16),
    };

    /// <summary>Host offset of an entry of the active L1 table.</summary>
    public long L1EntryAt(long index) => L1At + (index * 8);

    /// <summary>Overwrites an entry of the active L1 table.</summary>
    public Qcow2Image SetL1(long index, ulong value)
    {
        Bytes.PutU64Be(L1EntryAt(index), value);
        return this;
    }

    /// <summary>Host offset of the active L2 entry of a guest cluster, whose L2 table must exist.</summary>
    public long L2EntryAt(long guestCluster) =>
        L2TableAt[guestCluster / L2Entries] + (guestCluster % L2Entries * (ExtendedL2 ? 16 : 8));

    /// <summary>The active L2 entry of a guest cluster (its first 64 bits); 0 if there is no L2 table.</summary>
    public ulong L2(long guestCluster) => L2TableAt.ContainsKey(guestCluster / L2Entries) ? Bytes.U64Be(L2EntryAt(guestCluster)) : 0;

    /// <summary>Overwrites the active L2 entry of a guest cluster (its first 64 bits).</summary>
    public Qcow2Image SetL2(long guestCluster, ulong value)
    {
        Bytes.PutU64Be(L2EntryAt(guestCluster), value);
        return this;
    }

    /// <summary>Overwrites the subcluster bitmap of a guest cluster.</summary>
    public Qcow2Image SetL2Bitmap(long guestCluster, ulong value)
    {
        Bytes.PutU64Be(L2EntryAt(guestCluster) + 8, value);
        return this;
    }

    /// <summary>Host offset of a refcount block, or 0; the index counts blocks.</summary>
    public long RefcountBlockAt(long index) => (long)Bytes.U64Be(RefcountTableAt + (index * 8));

    /// <summary>The refcount of the cluster at a host offset.</summary>
    public ulong Refcount(long hostOffset)
    {
        var (block, bit) = RefcountPlace(hostOffset);
        if (block == 0)
        {
            return 0;
        }

        var width = 1 << RefcountOrder;
        return width >= 8
            ? BigEndian(Bytes.Slice(block + (bit / 8), width / 8))
            : (ulong)((Bytes.U8(block + (bit / 8)) >> (int)(bit % 8)) & ((1 << width) - 1));
    }

    /// <summary>Overwrites the refcount of the cluster at a host offset, whose refcount block must exist.</summary>
    public Qcow2Image SetRefcount(long hostOffset, ulong value)
    {
        var (block, bit) = RefcountPlace(hostOffset);
        var width = 1 << RefcountOrder;
        if (width >= 8)
        {
            Bytes.PutBigEndian(block + (bit / 8), value, width / 8);
        }
        else
        {
            var mask = ((1 << width) - 1) << (int)(bit % 8);
            Bytes.PutU8(block + (bit / 8), (byte)((Bytes.U8(block + (bit / 8)) & ~mask) | ((int)(value << (int)(bit % 8)) & mask)));
        }

        return this;
    }

    /// <summary>Cuts or extends the file.</summary>
    public Qcow2Image Truncate(long length)
    {
        Bytes.SetLength(length);
        return this;
    }

    /// <summary>Writes the file, with holes.</summary>
    public void SaveTo(string path) => Bytes.SaveTo(path);

    /// <summary>A storage over the bytes.</summary>
    public Storage ToStorage(string name = "test.qcow2") => new SparseStorage(name, Bytes);

    private (long Block, long Bit) RefcountPlace(long hostOffset)
    {
        var entries = ClusterBytes * 8 >> RefcountOrder;
        var (index, entry) = Math.DivRem(hostOffset / ClusterBytes, entries);
        return (RefcountBlockAt(index), entry << RefcountOrder);
    }

    private static ulong BigEndian(ReadOnlySpan<byte> bytes)
    {
        ulong value = 0;
        foreach (var b in bytes)
        {
            value = (value << 8) | b;
        }

        return value;
    }
}
