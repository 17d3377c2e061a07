using System.Security.Cryptography;
using Platter.Core.Storages;

namespace Platter.TestKit;

/// <summary>A built Parallels image: its bytes, what the guest should see, and handles to break it.</summary>
public sealed class ParallelsImage
{
    internal ParallelsImage(SparseBytes bytes, ReferenceDisk model)
    {
        Bytes = bytes;
        Model = model;
    }

    /// <summary>The file.</summary>
    public SparseBytes Bytes { get; }

    /// <summary>What the guest sees (over the builder's backing disk, if it had one).</summary>
    public ReferenceDisk Model { get; }

    /// <summary>Bytes in a cluster.</summary>
    public long ClusterBytes { get; internal init; }

    /// <summary>Host offset of the data area, in bytes, whether or not the header says it.</summary>
    public long DataAt { get; internal init; }

    /// <summary>Host offset of the Format Extension cluster in bytes, or 0.</summary>
    public long ExtensionAt { get; internal init; }

    /// <summary>Host offsets of allocated guest clusters, in bytes, by guest cluster.</summary>
    public IReadOnlyDictionary<long, long> HostOffsets { get; internal init; } = new Dictionary<long, long>();

    /// <summary>Host offsets of clusters that nothing refers to, in bytes (holes in the middle and the leaked tail).</summary>
    public IReadOnlyList<long> UnusedClusters { get; internal init; } = [];

    /// <summary>Host offsets of the feature sections inside the extension cluster, in bytes, in order; the last one is "End of features".</summary>
    public IReadOnlyList<long> FeatureAt { get; internal init; } = [];

    /// <summary>Host offsets of the bitmaps' L1 tables, in bytes, in the order the bitmaps were added.</summary>
    public IReadOnlyList<long> BitmapL1At { get; internal init; } = [];

    /// <summary>Host offset of BAT entry <paramref name="index"/>, in bytes.</summary>
    public static long BatEntryAt(long index) => 64 + (index * 4);

    /// <summary>A BAT entry as stored (sectors in v1, clusters in v2).</summary>
    public uint Bat(long index) => Bytes.U32Le(BatEntryAt(index));

    /// <summary>Overwrites a header field.</summary>
    public ParallelsImage Set(ParallelsField field, ulong value)
    {
        Bytes.PutLittleEndian((int)field / 16, value, (int)field % 16);
        return this;
    }

    /// <summary>Reads a header field.</summary>
    public ulong Get(ParallelsField field) => (int)field % 16 == 8 ? Bytes.U64Le((int)field / 16) : Bytes.U32Le((int)field / 16);

    /// <summary>Overwrites a BAT entry as stored (sectors in v1, clusters in v2).</summary>
    public ParallelsImage SetBat(long index, uint value)
    {
        Bytes.PutU32Le(BatEntryAt(index), value);
        return this;
    }

    /// <summary>Overwrites the magic.</summary>
    public ParallelsImage SetMagic(string magic)
    {
        var bytes = new byte[16];
        System.Text.Encoding.ASCII.GetBytes(magic).AsSpan().CopyTo(bytes);
        Bytes.Write(0, bytes);
        return this;
    }

    /// <summary>Cuts or extends the file.</summary>
    public ParallelsImage Truncate(long length)
    {
        Bytes.SetLength(length);
        return this;
    }

    /// <summary>Makes the checksum of the extension right again after its bytes were changed.</summary>
    public ParallelsImage FixExtensionChecksum()
    {
        Bytes.Write(ExtensionAt + 8, Checksum(Bytes.Slice(ExtensionAt, (int)ClusterBytes)));
        return this;
    }

    /// <summary>Writes the file, with holes.</summary>
    public void SaveTo(string path) => Bytes.SaveTo(path);

    /// <summary>A storage over the bytes.</summary>
    public Storage ToStorage(string name = "test.hds") => new SparseStorage(name, Bytes);

    internal static byte[] Checksum(ReadOnlySpan<byte> extensionCluster) =>
#pragma warning disable CA5351 // The format demands MD5; it guards against torn writes, not against people.
        MD5.HashData(extensionCluster[24..]);
#pragma warning restore CA5351
}
