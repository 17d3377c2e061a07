using System.Buffers.Binary;
using System.Text;

namespace Platter.TestKit;

/// <summary>Builds Parallels expandable images from the specification, valid unless told otherwise.</summary>
/// <remarks>
/// Written from QEMU's <c>docs/interop/parallels</c> alone and independent of Platter's reader. A file is: header (64 bytes), BAT
/// (32-bit entries), data area (an array of clusters, here called slots). Slots that nothing uses are filled with garbage,
/// so that a reader that strays returns foreign bytes and not innocent zeros. Everything is little-endian.
/// To make a hostile image, build a good one and break it through <see cref="ParallelsImage.Set"/>, <see cref="ParallelsImage.SetBat"/>
/// or <see cref="ParallelsImage.Bytes"/>.
/// </remarks>
public sealed class ParallelsImageBuilder
{
    /// <summary>in_use of an image that software knowing the Format Extension has closed ("v2.1").</summary>
    public const uint InUseClosed = 0x312e3276;

    /// <summary>in_use of an image that is open for writing, or was when its writer died.</summary>
    public const uint InUseOpen = 0x746F6E59;

    /// <summary>in_use of an image that old software has closed; its Format Extension does not count.</summary>
    public const uint InUseOld = 0;

    private const int SectorBytes = 512;
    private const int GarbageSeed = 0x0BAD;

    private readonly SortedDictionary<long, byte[]> _clusters = [];
    private readonly List<long> _order = [];
    private readonly HashSet<long> _holes = [];
    private readonly List<(ulong Magic, ulong Flags, byte[] Data)> _features = [];
    private readonly List<(int FeatureIndex, ParallelsBitmap Bitmap)> _bitmaps = [];
    private readonly Dictionary<long, long> _places = [];
    private ReferenceDisk? _model;

    /// <summary>Which of the two kinds; Parallels Desktop writes v1, QEMU writes v2.</summary>
    public ParallelsMagic Magic { get; init; } = ParallelsMagic.WithoutFreeSpace;

    /// <summary>Cluster size in sectors ("tracks"): 2048 today; 63, 504 and 512 are old; any number is possible.</summary>
    public uint ClusterSectors { get; init; } = 2048;

    /// <summary>Virtual size in sectors; need not be a multiple of the cluster.</summary>
    public long SizeSectors { get; init; } = 64 * 2048;

    /// <summary>Start of the data area in sectors; 0 is legal for v1 (the end of the BAT, rounded to a sector). Null aligns it to a cluster.</summary>
    public uint? DataOffsetSectors { get; init; }

    /// <summary>The version field, 2 in every legal image.</summary>
    public uint Version { get; init; } = 2;

    /// <summary>Guest geometry; means nothing for the content.</summary>
    public uint Heads { get; init; } = 16;

    /// <summary>Guest geometry; null for sectors / (16 × 32).</summary>
    public uint? Cylinders { get; init; }

    /// <summary>in_use; any value.</summary>
    public uint InUse { get; init; } = InUseClosed;

    /// <summary>Bit 0 is the Empty Image bit.</summary>
    public uint Flags { get; init; }

    /// <summary>BAT entries; null for as many as the size needs.</summary>
    public uint? BatEntries { get; init; }

    /// <summary>Where clusters are put in the data area.</summary>
    public HostPlacement Placement { get; init; } = HostPlacement.Ascending;

    /// <summary>Seed of <see cref="HostPlacement.Shuffled"/>.</summary>
    public int Seed { get; init; } = 1;

    /// <summary>Clusters of garbage at the end of the file that nothing refers to.</summary>
    public int LeakedTailClusters { get; init; }

    /// <summary>Puts the extension and its bitmaps before the guest's clusters instead of behind them.</summary>
    public bool ExtensionFirst { get; init; }

    /// <summary>Whether each feature section starts at a multiple of 8 bytes (the specification says so; one writer does not).</summary>
    public bool PadFeatures { get; init; } = true;

    /// <summary>What lies below this image in a chain: clusters that are written in part are completed from it.</summary>
    public ReferenceDisk? Backing { get; init; }

    /// <summary>Bytes in a cluster.</summary>
    public long ClusterBytes => (long)ClusterSectors * SectorBytes;

    /// <summary>Guest clusters of the disk, the last one perhaps in part.</summary>
    public long ClusterCount => (SizeSectors + ClusterSectors - 1) / ClusterSectors;

    /// <summary>What the guest sees so far.</summary>
    public ReferenceDisk Model => _model ??= new ReferenceDisk(SizeSectors * SectorBytes, Backing);

    /// <summary>Writes guest bytes anywhere, allocating the clusters they touch as a guest's write would.</summary>
    public ParallelsImageBuilder Write(long guestOffset, ReadOnlySpan<byte> bytes)
    {
        while (bytes.Length > 0)
        {
            var (cluster, within) = Math.DivRem(guestOffset, ClusterBytes);
            var part = bytes[..(int)Math.Min(bytes.Length, ClusterBytes - within)];
            part.CopyTo(Touch(cluster).AsSpan((int)within));
            Model.Write(guestOffset, part);
            guestOffset += part.Length;
            bytes = bytes[part.Length..];
        }

        return this;
    }

    /// <summary>Fills whole guest clusters with <see cref="TestContent"/> of a seed.</summary>
    public ParallelsImageBuilder Fill(int seed, params ReadOnlySpan<long> guestClusters)
    {
        foreach (var cluster in guestClusters)
        {
            var at = cluster * ClusterBytes;
            Write(at, TestContent.Make(seed, at, (int)Math.Min(ClusterBytes, Model.Size - at)));
        }

        return this;
    }

    /// <summary>Fills a share of all guest clusters, chosen by the seed.</summary>
    /// <param name="seed">Chooses clusters and content.</param>
    /// <param name="share">0 to 1.</param>
    public ParallelsImageBuilder FillRandom(int seed, double share = 0.3)
    {
        var random = new Random(seed);
        for (long cluster = 0; cluster < ClusterCount; cluster++)
        {
            if (random.NextDouble() < share)
            {
                Fill(seed, cluster);
            }
        }

        return this;
    }

    /// <summary>Allocates guest clusters that hold zeros, hiding what lies below.</summary>
    public ParallelsImageBuilder AllocateZeros(params ReadOnlySpan<long> guestClusters)
    {
        foreach (var cluster in guestClusters)
        {
            Touch(cluster).AsSpan().Clear();
            var at = cluster * ClusterBytes;
            Model.Write(at, new byte[Math.Min(ClusterBytes, Model.Size - at)]);
        }

        return this;
    }

    /// <summary>Leaves slots of the data area unused (full of garbage): a hole in the middle, which is not a leak for QEMU.</summary>
    public ParallelsImageBuilder AddHoles(params ReadOnlySpan<long> slots)
    {
        foreach (var slot in slots)
        {
            _holes.Add(slot);
        }

        return this;
    }

    /// <summary>Puts a guest cluster into a chosen slot of the data area; two clusters in one slot are possible (and corrupt).</summary>
    public ParallelsImageBuilder PlaceAt(long guestCluster, long slot)
    {
        _places[guestCluster] = slot;
        return this;
    }

    /// <summary>Adds a dirty bitmap to the Format Extension.</summary>
    public ParallelsImageBuilder AddBitmap(ParallelsBitmap bitmap)
    {
        _bitmaps.Add((_features.Count, bitmap));
        _features.Add((0x20385FAE252CB34A, bitmap.Flags, []));
        return this;
    }

    /// <summary>Adds a feature section of any kind; flags: 1 NECESSARY, 2 TRANSIT.</summary>
    public ParallelsImageBuilder AddFeature(ulong magic, ulong flags, ReadOnlySpan<byte> data)
    {
        _features.Add((magic, flags, data.ToArray()));
        return this;
    }

    /// <summary>Gives the image a Format Extension without any feature.</summary>
    public bool EmptyExtension { get; init; }

    /// <summary>Puts it all together; can be called several times.</summary>
    public ParallelsImage Build()
    {
        var batEntries = BatEntries ?? checked((uint)ClusterCount);
        var endOfBat = 64 + (4L * batEntries);
        var dataOffset = DataOffsetSectors ?? checked((uint)(AlignUp(endOfBat, ClusterBytes) / SectorBytes));
        var dataAt = dataOffset != 0 ? (long)dataOffset * SectorBytes : AlignUp(endOfBat, SectorBytes);
        if (Magic == ParallelsMagic.WithouFreSpacExt && dataAt % ClusterBytes != 0)
        {
            throw new InvalidOperationException("the data area of a v2 image must be aligned to a cluster; break the header after building");
        }

        var bytes = new SparseBytes(dataAt);
        WriteHeader(bytes, batEntries, dataOffset);

        var slots = new SlotAllocator(_holes, _places.Values);
        long extensionAt = 0;
        ExtensionLayout? extension = null;
        if (ExtensionFirst)
        {
            extension = PlaceExtension(slots, dataAt);
        }

        var hosts = new Dictionary<long, long>();
        foreach (var cluster in PlacementOrder())
        {
            hosts[cluster] = dataAt + ((_places.TryGetValue(cluster, out var slot) ? slot : slots.Next()) * ClusterBytes);
        }

        if (!ExtensionFirst)
        {
            extension = PlaceExtension(slots, dataAt);
        }

        foreach (var (cluster, host) in hosts)
        {
            bytes.Write(host, _clusters[cluster]);
            bytes.SetLength(Math.Max(bytes.Length, host + ClusterBytes));
            var entry = Magic == ParallelsMagic.WithoutFreeSpace ? host / SectorBytes : host / ClusterBytes;
            bytes.PutU32Le(ParallelsImage.BatEntryAt(cluster), checked((uint)entry));
        }

        if (extension is not null)
        {
            extensionAt = extension.At;
            extension.WriteTo(bytes, ClusterBytes);
            bytes.PutU64Le(56, (ulong)(extension.At / SectorBytes));
        }

        var unused = FillUnused(bytes, dataAt, slots.Taken);
        return new ParallelsImage(bytes, Model)
        {
            ClusterBytes = ClusterBytes,
            DataAt = dataAt,
            ExtensionAt = extensionAt,
            HostOffsets = hosts,
            UnusedClusters = unused,
            FeatureAt = extension?.FeatureAt ?? [],
            BitmapL1At = extension?.BitmapL1At ?? [],
        };
    }

    private void WriteHeader(SparseBytes bytes, uint batEntries, uint dataOffset)
    {
        bytes.Write(0, Encoding.ASCII.GetBytes(Magic.ToString()));
        bytes.PutU32Le(16, Version);
        bytes.PutU32Le(20, Heads);
        bytes.PutU32Le(24, Cylinders ?? (uint)Math.Min(uint.MaxValue, SizeSectors / (16 * 32)));
        bytes.PutU32Le(28, ClusterSectors);
        bytes.PutU32Le(32, batEntries);
        if (Magic == ParallelsMagic.WithoutFreeSpace)
        {
            bytes.PutU32Le(36, checked((uint)SizeSectors));
        }
        else
        {
            bytes.PutU64Le(36, (ulong)SizeSectors);
        }

        bytes.PutU32Le(44, InUse);
        bytes.PutU32Le(48, dataOffset);
        bytes.PutU32Le(52, Flags);
    }

    private byte[] Touch(long cluster)
    {
        if (cluster < 0 || cluster >= ClusterCount)
        {
            throw new ArgumentOutOfRangeException(nameof(cluster), $"guest cluster {cluster} of {ClusterCount}");
        }

        if (!_clusters.TryGetValue(cluster, out var content))
        {
            // A writer copies the rest of the cluster from the layer below: the whole cluster is data from now on.
            content = new byte[ClusterBytes];
            var at = cluster * ClusterBytes;
            var inside = content.AsSpan(0, (int)Math.Min(ClusterBytes, Model.Size - at));
            Backing?.Read(at, inside);
            Model.Write(at, inside);
            _clusters[cluster] = content;
            _order.Add(cluster);
        }

        return content;
    }

    private long[] PlacementOrder()
    {
        var order = Placement == HostPlacement.AsWritten ? _order.ToArray() : [.. _clusters.Keys];
        if (Placement == HostPlacement.Descending)
        {
            Array.Reverse(order);
        }
        else if (Placement == HostPlacement.Shuffled)
        {
            new Random(Seed).Shuffle(order);
        }

        return order;
    }

    private ExtensionLayout? PlaceExtension(SlotAllocator slots, long dataAt)
    {
        if (_features.Count == 0 && !EmptyExtension)
        {
            return null;
        }

        var layout = new ExtensionLayout(dataAt + (slots.Next() * ClusterBytes));
        for (var i = 0; i < _features.Count; i++)
        {
            var bitmap = _bitmaps.Find(b => b.FeatureIndex == i).Bitmap;
            if (bitmap is null)
            {
                layout.Add(_features[i].Magic, _features[i].Flags, _features[i].Data, PadFeatures, isBitmap: false);
                continue;
            }

            layout.Add(_features[i].Magic, _features[i].Flags, MakeBitmapData(bitmap, slots, dataAt, layout), PadFeatures, isBitmap: true);
        }

        layout.AddEnd();
        return layout;
    }

    private byte[] MakeBitmapData(ParallelsBitmap bitmap, SlotAllocator slots, long dataAt, ExtensionLayout layout)
    {
        var size = (long)(bitmap.SizeSectors ?? (ulong)SizeSectors);
        var bits = bitmap.ToBits(size);
        var bitCount = (size + bitmap.GranularitySectors - 1) / Math.Max(1, bitmap.GranularitySectors);
        var l1Size = (int)((bits.Length + ClusterBytes - 1) / ClusterBytes);
        var data = new byte[32 + (8 * l1Size)];
        BinaryPrimitives.WriteUInt64LittleEndian(data, (ulong)size);
        bitmap.Id.CopyTo(data, 8);
        BinaryPrimitives.WriteUInt32LittleEndian(data.AsSpan(24), bitmap.GranularitySectors);
        BinaryPrimitives.WriteUInt32LittleEndian(data.AsSpan(28), (uint)l1Size);
        for (var i = 0; i < l1Size; i++)
        {
            var start = i * ClusterBytes;
            var part = bits.AsSpan((int)start, (int)Math.Min(ClusterBytes, bits.Length - start));
            ulong entry;
            if (!bitmap.StoreUniformClusters && !part.ContainsAnyExcept((byte)0))
            {
                entry = 0;
            }
            else if (!bitmap.StoreUniformClusters && AllSet(part, bitCount - (start * 8)))
            {
                entry = 1;
            }
            else
            {
                var at = dataAt + (slots.Next() * ClusterBytes);
                layout.BitmapClusters.Add((at, part.ToArray()));
                entry = (ulong)(at / SectorBytes);
            }

            BinaryPrimitives.WriteUInt64LittleEndian(data.AsSpan(32 + (8 * i)), entry);
        }

        return data;
    }

    private static bool AllSet(ReadOnlySpan<byte> part, long bits)
    {
        var last = (int)(Math.Min(bits, part.Length * 8L) % 8);
        var whole = last == 0 ? part : part[..^1];
        return !whole.ContainsAnyExcept((byte)0xFF) && (last == 0 || part[^1] == (1 << last) - 1);
    }

    private List<long> FillUnused(SparseBytes bytes, long dataAt, IReadOnlySet<long> taken)
    {
        var end = taken.Count == 0 ? 0 : taken.Max() + 1;
        var unused = new List<long>();
        for (long slot = 0; slot < end + LeakedTailClusters; slot++)
        {
            if (!taken.Contains(slot))
            {
                var at = dataAt + (slot * ClusterBytes);
                bytes.Write(at, TestContent.Make(GarbageSeed, at, (int)ClusterBytes));
                unused.Add(at);
            }
        }

        return unused;
    }

    private static long AlignUp(long value, long alignment) => (value + alignment - 1) / alignment * alignment;

    /// <summary>Hands out slots of the data area in ascending order, past holes and reserved places.</summary>
    private sealed class SlotAllocator(IReadOnlySet<long> holes, IEnumerable<long> reserved)
    {
        private readonly HashSet<long> _taken = [.. reserved];
        private long _next;

        public IReadOnlySet<long> Taken => _taken;

        public long Next()
        {
            while (holes.Contains(_next) || _taken.Contains(_next))
            {
                _next++;
            }

            _taken.Add(_next);
            return _next++;
        }
    }

    /// <summary>The Format Extension cluster under construction.</summary>
    private sealed class ExtensionLayout(long at)
    {
        private readonly List<byte> _content = [];

        public long At { get; } = at;

        public List<long> FeatureAt { get; } = [];

        public List<long> BitmapL1At { get; } = [];

        public List<(long At, byte[] Bits)> BitmapClusters { get; } = [];

        public void Add(ulong magic, ulong flags, byte[] data, bool pad, bool isBitmap)
        {
            var header = new byte[24];
            BinaryPrimitives.WriteUInt64LittleEndian(header, magic);
            BinaryPrimitives.WriteUInt64LittleEndian(header.AsSpan(8), flags);
            BinaryPrimitives.WriteUInt32LittleEndian(header.AsSpan(16), (uint)data.Length);
            FeatureAt.Add(At + 24 + _content.Count);
            if (isBitmap)
            {
                BitmapL1At.Add(At + 24 + _content.Count + 24 + 32);
            }

            _content.AddRange(header);
            _content.AddRange(data);
            while (pad && _content.Count % 8 != 0)
            {
                _content.Add(0);
            }
        }

        public void AddEnd()
        {
            FeatureAt.Add(At + 24 + _content.Count);
            _content.AddRange(new byte[24]);
        }

        public void WriteTo(SparseBytes bytes, long clusterBytes)
        {
            var cluster = new byte[clusterBytes];
            BinaryPrimitives.WriteUInt64LittleEndian(cluster, 0xAB234CEF23DCEA87);
            if (24 + _content.Count > clusterBytes)
            {
                throw new InvalidOperationException($"{_content.Count} bytes of features do not fit a cluster of {clusterBytes}");
            }

            _content.CopyTo(cluster, 24);
            ParallelsImage.Checksum(cluster).CopyTo(cluster, 8);
            bytes.Zero(At, clusterBytes);
            bytes.Write(At, cluster);
            foreach (var (at, bits) in BitmapClusters)
            {
                bytes.Zero(at, clusterBytes);
                bytes.Write(at, bits);
            }
        }
    }
}
