using System.IO.Compression;

namespace Platter.TestKit;

/// <summary>Builds qcow2 images from the specification, valid unless told otherwise, and many that no tool makes.</summary>
/// <remarks>
/// Written from QEMU's <c>docs/interop/qcow2</c> alone and independent of Platter's reader. First describe the disk (writes, zeros,
/// compressed clusters, snapshots, bitmaps), then <see cref="Build"/> places everything, computes refcounts and writes it.
/// Host bytes that no guest may see (free clusters, clusters behind a zero flag, subclusters that are not allocated, the space
/// between compressed streams) hold garbage, so that a reader that strays is caught. To make a hostile image, build a good one and break it
/// through <see cref="Qcow2Image"/>.
/// </remarks>
public sealed class Qcow2Builder
{
    internal const int GarbageSeed = 0x0BAD;

    private readonly SortedDictionary<long, Qcow2Cluster> _clusters = [];
    private readonly List<Qcow2State> _snapshots = [];
    private readonly List<Qcow2Bitmap> _bitmaps = [];
    private readonly List<(uint Type, byte[] Data)> _extensions = [];
    private ReferenceDisk? _model;
    private long _size = 64 << 20;
    private int _run;

    /// <summary>2 or 3.</summary>
    public int Version { get; init; } = 3;

    /// <summary>log2 of the cluster size, 9 to 21.</summary>
    public int ClusterBits { get; init; } = 16;

    /// <summary>log2 of the refcount width in bits, 0 to 6; v2 has 4.</summary>
    public int RefcountOrder { get; init; } = 4;

    /// <summary>Virtual size in bytes.</summary>
    public long Size
    {
        get => _size;
        init => _size = value;
    }

    /// <summary>L2 entries of 128 bits with 32 subclusters.</summary>
    public bool ExtendedL2 { get; init; }

    /// <summary>Where the parts of the file lie.</summary>
    public Qcow2HostLayout Layout { get; init; } = Qcow2HostLayout.MetadataFirst;

    /// <summary>Seed of <see cref="Qcow2HostLayout.Shuffled"/> and of the places of free clusters.</summary>
    public int Seed { get; init; } = 1;

    /// <summary>Free host clusters, scattered, full of garbage and with a refcount of 0.</summary>
    public int FreeClusters { get; init; }

    /// <summary>A hole of this many clusters in the middle of the file, to get at large host offsets and absent refcount blocks.</summary>
    public long FarGapClusters { get; init; }

    /// <summary>Ends the file behind the last byte used instead of at the end of a cluster.</summary>
    public bool TrimEnd { get; init; }

    /// <summary>Bytes of the header: 72 for v2; 104, 112 (default) or more for v3.</summary>
    public int? HeaderLength { get; init; }

    /// <summary>Name of the backing file, as it is stored.</summary>
    public string? BackingFile { get; init; }

    /// <summary>The backing format extension.</summary>
    public string? BackingFormat { get; init; }

    /// <summary>Extension type of the backing format; one writer uses 0xe279268f by mistake.</summary>
    public uint BackingFormatType { get; init; } = 0xe2792aca;

    /// <summary>What the backing file holds; clusters written in part are completed from it.</summary>
    public ReferenceDisk? Backing { get; init; }

    /// <summary>Keeps guest data in an external data file, at the guest's offsets.</summary>
    public bool ExternalData { get; init; }

    /// <summary>Name of the external data file; null leaves the extension out.</summary>
    public string? DataFileName { get; init; }

    /// <summary>Sets "raw external data": the data file alone is the disk.</summary>
    public bool DataFileRaw { get; init; }

    /// <summary>0 zlib, 1 zstd.</summary>
    public byte CompressionType { get; init; }

    /// <summary>Where compressed streams start.</summary>
    public CompressedPacking Packing { get; init; } = CompressedPacking.Bytes;

    /// <summary>Incompatible feature bits on top of those the content needs (1 dirty, 2 corrupt).</summary>
    public ulong IncompatibleFeatures { get; init; }

    /// <summary>Compatible feature bits (1 lazy refcounts).</summary>
    public ulong CompatibleFeatures { get; init; }

    /// <summary>Autoclear feature bits on top of those the content needs.</summary>
    public ulong AutoclearFeatures { get; init; }

    /// <summary>Leaves out the autoclear bit of the bitmaps: they do not count then.</summary>
    public bool BitmapsNotConsistent { get; init; }

    /// <summary>Writes the feature name table.</summary>
    public bool FeatureNameTable { get; init; } = true;

    /// <summary>Rows added to the feature name table: (type, bit, name).</summary>
    public IReadOnlyList<(byte Type, byte Bit, string Name)> FeatureNames { get; init; } = [];

    /// <summary>Ends the header extensions with an END; else they run up to the backing file name or the end of the cluster.</summary>
    public bool EndExtension { get; init; } = true;

    /// <summary>Entries of the active L1 table; null for as many as the size needs.</summary>
    public uint? L1Size { get; init; }

    /// <summary>Clusters that the refcount table has in reserve.</summary>
    public int SpareRefcountTableClusters { get; init; }

    /// <summary>Bytes in a cluster.</summary>
    public long ClusterBytes => 1L << ClusterBits;

    /// <summary>Bytes in a subcluster.</summary>
    public long SubclusterBytes => ClusterBytes / 32;

    /// <summary>Guest clusters, the last one perhaps in part.</summary>
    public long ClusterCount => (Size + ClusterBytes - 1) / ClusterBytes;

    /// <summary>What the guest sees so far.</summary>
    public ReferenceDisk Model => _model ??= new ReferenceDisk(Size, Backing);

    internal IReadOnlyDictionary<long, Qcow2Cluster> Clusters => _clusters;

    internal IReadOnlyList<Qcow2State> Snapshots => _snapshots;

    internal IReadOnlyList<Qcow2Bitmap> Bitmaps => _bitmaps;

    internal IReadOnlyList<(uint Type, byte[] Data)> Extensions => _extensions;

    /// <summary>Writes guest bytes anywhere as a guest would: a cluster (or the subclusters) written in part is completed from what is there.</summary>
    public Qcow2Builder Write(long guestOffset, ReadOnlySpan<byte> bytes)
    {
        while (bytes.Length > 0)
        {
            var (index, within) = Math.DivRem(guestOffset, ClusterBytes);
            var part = bytes[..(int)Math.Min(bytes.Length, ClusterBytes - within)];
            WritePart(index, within, part);
            guestOffset += part.Length;
            bytes = bytes[part.Length..];
        }

        return this;
    }

    /// <summary>Fills whole guest clusters with <see cref="TestContent"/> of a seed.</summary>
    public Qcow2Builder Fill(int seed, params ReadOnlySpan<long> guestClusters)
    {
        foreach (var cluster in guestClusters)
        {
            Write(cluster * ClusterBytes, TestContent.Make(seed, cluster * ClusterBytes, LengthOf(cluster)));
        }

        return this;
    }

    /// <summary>Makes clusters read as zeros without a host cluster (v3).</summary>
    public Qcow2Builder ZeroPlain(params ReadOnlySpan<long> guestClusters)
    {
        DemandVersion3();
        foreach (var cluster in guestClusters)
        {
            _clusters[cluster] = ExtendedL2 ? new Qcow2Cluster { Zeros = uint.MaxValue } : new Qcow2Cluster { Zero = true };
            Model.Zero(cluster * ClusterBytes, LengthOf(cluster));
        }

        return this;
    }

    /// <summary>Makes clusters read as zeros although they keep a host cluster, which holds garbage (v3).</summary>
    public Qcow2Builder ZeroAllocated(params ReadOnlySpan<long> guestClusters)
    {
        DemandVersion3();
        foreach (var cluster in guestClusters)
        {
            _clusters[cluster] = ExtendedL2
                ? new Qcow2Cluster { Host = Garbage(cluster), Zeros = uint.MaxValue }
                : new Qcow2Cluster { Host = Garbage(cluster), Zero = true };
            Model.Zero(cluster * ClusterBytes, LengthOf(cluster));
        }

        return this;
    }

    /// <summary>Forgets clusters: the backing file shows through.</summary>
    public Qcow2Builder Unallocate(params ReadOnlySpan<long> guestClusters)
    {
        foreach (var cluster in guestClusters)
        {
            _clusters.Remove(cluster);
            Model.Unallocate(cluster * ClusterBytes, LengthOf(cluster));
        }

        return this;
    }

    /// <summary>Sets a cluster's subclusters as a whole: data where <paramref name="allocated"/> has a bit, zeros where <paramref name="zeros"/> has one, else unallocated.</summary>
    /// <param name="guestCluster">Guest cluster.</param>
    /// <param name="allocated">Bit x stands for subcluster x.</param>
    /// <param name="zeros">Bit x stands for subcluster x. Overlap with <paramref name="allocated"/> is invalid, and written.</param>
    /// <param name="seed">Content of the data.</param>
    /// <param name="withHost">Gives the cluster a host cluster even if no subcluster needs one; false with bits in <paramref name="allocated"/> is invalid, and written.</param>
    public Qcow2Builder SetSubclusters(long guestCluster, uint allocated, uint zeros, int seed = 1, bool withHost = true)
    {
        if (!ExtendedL2)
        {
            throw new InvalidOperationException("subclusters need extended L2 entries");
        }

        var host = Garbage(guestCluster);
        for (var i = 0; i < 32; i++)
        {
            var at = (guestCluster * ClusterBytes) + (i * SubclusterBytes);
            var inside = (int)Math.Clamp(Size - at, 0, SubclusterBytes);
            if (inside == 0)
            {
                continue;
            }

            if ((allocated & (1u << i)) != 0)
            {
                var content = TestContent.Make(seed, at, inside);
                content.CopyTo(host.AsSpan((int)(i * SubclusterBytes)));
                Model.Write(at, content);
            }
            else if ((zeros & (1u << i)) != 0)
            {
                Model.Zero(at, inside);
            }
            else
            {
                Model.Unallocate(at, inside);
            }
        }

        _clusters[guestCluster] = new Qcow2Cluster { Host = withHost ? host : null, Allocated = allocated, Zeros = zeros };
        return this;
    }

    /// <summary>Stores clusters compressed, with content that compresses well.</summary>
    public Qcow2Builder FillCompressed(int seed, params ReadOnlySpan<long> guestClusters)
    {
        foreach (var cluster in guestClusters)
        {
            Compress(cluster, TestContent.MakeCompressible(seed + (int)cluster, LengthOf(cluster)));
        }

        return this;
    }

    /// <summary>Stores a cluster compressed. Deflate as <see cref="DeflateStream"/> makes it (window of 32 KiB), or zstd of raw and run-length blocks.</summary>
    /// <param name="guestCluster">Guest cluster.</param>
    /// <param name="content">What the guest sees; not more than a cluster.</param>
    /// <param name="slackSectors">Sectors that the entry declares beyond those the stream needs.</param>
    public Qcow2Builder Compress(long guestCluster, ReadOnlySpan<byte> content, int slackSectors = 0)
    {
        // A compressed cluster is always a whole one; behind the end of the disk it holds zeros.
        var whole = new byte[ClusterBytes];
        content.CopyTo(whole);
        return SetCompressed(guestCluster, CompressionType == 0 ? Deflate(whole) : ZstdFrames.Frame(whole), content, slackSectors);
    }

    /// <summary>Stores a compressed cluster as any stream, good or bad; the model then holds <paramref name="content"/>.</summary>
    /// <param name="guestCluster">Guest cluster.</param>
    /// <param name="stream">What lies in the file.</param>
    /// <param name="content">What the guest should see; not more than a cluster.</param>
    /// <param name="slackSectors">Sectors that the entry declares beyond those the stream needs.</param>
    public Qcow2Builder SetCompressed(long guestCluster, byte[] stream, ReadOnlySpan<byte> content, int slackSectors = 0)
    {
        _clusters[guestCluster] = new Qcow2Cluster { Stream = stream, Run = _run, SlackSectors = slackSectors };
        var whole = new byte[LengthOf(guestCluster)];
        content[..Math.Min(content.Length, whole.Length)].CopyTo(whole);
        Model.Write(guestCluster * ClusterBytes, whole);
        return this;
    }

    /// <summary>Packs the compressed streams that follow into another area of the file.</summary>
    public Qcow2Builder StartCompressedRun()
    {
        _run++;
        return this;
    }

    /// <summary>Gives a share of all clusters a state at random, of every kind that the image can have.</summary>
    /// <param name="seed">Chooses clusters, states and content.</param>
    /// <param name="share">0 to 1.</param>
    /// <param name="compressed">Whether compressed clusters may be among them.</param>
    public Qcow2Builder FillRandom(int seed, double share = 0.5, bool compressed = true)
    {
        var random = new Random(seed);
        for (long cluster = 0; cluster < ClusterCount; cluster++)
        {
            if (random.NextDouble() >= share)
            {
                continue;
            }

            switch (random.Next(6))
            {
                case 0 when Version >= 3:
                    ZeroPlain(cluster);
                    break;
                case 1 when Version >= 3:
                    ZeroAllocated(cluster);
                    break;
                case 2 when compressed && !ExternalData:
                    FillCompressed(seed, cluster);
                    break;
                case 3 when ExtendedL2:
                    var allocated = (uint)random.NextInt64(1L << 32);
                    SetSubclusters(cluster, allocated, (uint)random.NextInt64(1L << 32) & ~allocated, seed);
                    break;
                case 4:
                    var at = (cluster * ClusterBytes) + random.Next(LengthOf(cluster));
                    Write(at, TestContent.Make(seed, at, random.Next(1, (int)((cluster * ClusterBytes) + LengthOf(cluster) - at) + 1)));
                    break;
                default:
                    Fill(seed, cluster);
                    break;
            }
        }

        return this;
    }

    /// <summary>Takes an internal snapshot of the disk as it is now.</summary>
    public Qcow2Builder AddSnapshot(Qcow2Snapshot snapshot)
    {
        foreach (var cluster in _clusters.Values)
        {
            cluster.Frozen = true;
        }

        _snapshots.Add(new Qcow2State(snapshot, new SortedDictionary<long, Qcow2Cluster>(_clusters), Model.Clone()));
        return this;
    }

    /// <summary>Takes an internal snapshot of the disk as it is now.</summary>
    public Qcow2Builder AddSnapshot(string id, string name) => AddSnapshot(new Qcow2Snapshot(id, name));

    /// <summary>Changes the virtual size, as <c>resize</c> does; earlier snapshots keep theirs.</summary>
    public Qcow2Builder Resize(long size)
    {
        if (size > Size && Size % ClusterBytes != 0 && _clusters.ContainsKey(ClusterCount - 1))
        {
            // What the last host cluster holds behind the old end would come to light; a real resize zeroes it first.
            throw new InvalidOperationException("cannot grow a disk whose last cluster is allocated in part");
        }

        _model = Model.Clone(size);
        _size = size;
        foreach (var cluster in _clusters.Keys.Where(c => c >= ClusterCount).ToArray())
        {
            _clusters.Remove(cluster);
        }

        return this;
    }

    /// <summary>Adds a persistent bitmap.</summary>
    public Qcow2Builder AddBitmap(Qcow2Bitmap bitmap)
    {
        _bitmaps.Add(bitmap);
        return this;
    }

    /// <summary>Adds a header extension of any type.</summary>
    public Qcow2Builder AddExtension(uint type, ReadOnlySpan<byte> data)
    {
        _extensions.Add((type, data.ToArray()));
        return this;
    }

    /// <summary>Puts it all together; can be called several times.</summary>
    public Qcow2Image Build() => new Qcow2Writer(this).Write();

    /// <summary>A raw deflate stream.</summary>
    public static byte[] Deflate(ReadOnlySpan<byte> content, CompressionLevel level = CompressionLevel.Optimal)
    {
        using var result = new MemoryStream();
        using (var deflate = new DeflateStream(result, level, leaveOpen: true))
        {
            deflate.Write(content);
        }

        return result.ToArray();
    }

    private int LengthOf(long cluster)
    {
        if (cluster < 0 || cluster >= ClusterCount)
        {
            throw new ArgumentOutOfRangeException(nameof(cluster), $"guest cluster {cluster} of {ClusterCount}");
        }

        return (int)Math.Min(ClusterBytes, Size - (cluster * ClusterBytes));
    }

    private byte[] Garbage(long cluster) => TestContent.Make(GarbageSeed, cluster * ClusterBytes, (int)ClusterBytes);

    private void WritePart(long index, long within, ReadOnlySpan<byte> part)
    {
        var start = index * ClusterBytes;
        var length = LengthOf(index);
        _clusters.TryGetValue(index, out var old);

        // The units that become data: the whole cluster, or the subclusters that are touched (all of them if the cluster was compressed).
        long first = 0, end = length;
        if (ExtendedL2 && old?.Stream is null)
        {
            first = within / SubclusterBytes * SubclusterBytes;
            end = Math.Min(length, (within + part.Length + SubclusterBytes - 1) / SubclusterBytes * SubclusterBytes);
        }

        var content = Model.Slice(start + first, (int)(end - first));
        part.CopyTo(content.AsSpan((int)(within - first)));
        Model.Write(start + first, content);

        var host = old is { Host: not null } ? [.. old.Host] : ExtendedL2 ? Garbage(index) : new byte[ClusterBytes];
        content.CopyTo(host, first);
        uint mask = 0;
        for (var i = first / Math.Max(1, SubclusterBytes); ExtendedL2 && i * SubclusterBytes < end; i++)
        {
            mask |= 1u << (int)i;
        }

        if (old is { Frozen: false, Host: not null, Zero: false })
        {
            old.Host = host;
            old.Allocated |= mask;
            old.Zeros &= ~mask;
            return;
        }

        _clusters[index] = new Qcow2Cluster { Host = host, Allocated = (old?.Allocated ?? 0) | mask, Zeros = (old?.Zeros ?? 0) & ~mask };
    }

    private void DemandVersion3()
    {
        if (Version < 3)
        {
            throw new InvalidOperationException("version 2 has no zero flag");
        }
    }
}
