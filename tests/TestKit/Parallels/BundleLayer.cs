namespace Platter.TestKit;

/// <summary>One image per storage with one GUID: a snapshot of a bundle, or its current state.</summary>
public sealed class BundleLayer
{
    private readonly BundleBuilder _bundle;

    internal BundleLayer(BundleBuilder bundle, Guid id, BundleLayer? parent)
    {
        _bundle = bundle;
        Id = id;
        Parent = parent;
        Model = parent is null ? new ReferenceDisk(bundle.SizeBytes) : parent.Model.Overlay();
    }

    /// <summary>GUID of the images of this layer.</summary>
    public Guid Id { get; }

    /// <summary>What it was made on top of; null for a root.</summary>
    public BundleLayer? Parent { get; }

    /// <summary>What the guest sees here; whole clusters of a storage that were touched are data, as in the images.</summary>
    public ReferenceDisk Model { get; }

    /// <summary>A plain (raw) image instead of an expandable one. Legal for a root only.</summary>
    public bool Plain { get; set; }

    /// <summary>Cuts a plain image behind its last data; the missing rest reads as zeros.</summary>
    public bool PlainTrimmed { get; set; }

    /// <summary>Which kind of expandable image; null for the bundle's.</summary>
    public ParallelsMagic? Magic { get; set; }

    /// <summary>in_use of the images; null for the bundle's.</summary>
    public uint? InUse { get; set; }

    /// <summary>The text of <c>Type</c>; null for what the layer is.</summary>
    public string? TypeText { get; set; }

    /// <summary>Placement of clusters in the images; shuffled by a fixed seed unless told otherwise, because readers must not rely on order.</summary>
    public HostPlacement Placement { get; set; } = HostPlacement.Shuffled;

    /// <summary>Dirty bitmaps for the image of storage 0.</summary>
    public IList<ParallelsBitmap> Bitmaps { get; } = [];

    /// <summary>Last word on the image of a storage (index) before it is stored: break it here.</summary>
    public Action<int, ParallelsImage>? Edit { get; set; }

    /// <summary>Virtual size of this layer's images when it is not that of the storage (a resize between snapshots), in sectors.</summary>
    public long? ImageSectors { get; set; }

    /// <summary>Guest writes, across storages; allocates whole clusters and completes them from the layers below.</summary>
    public BundleLayer Write(long guestOffset, ReadOnlySpan<byte> bytes)
    {
        while (bytes.Length > 0)
        {
            var (storage, start, end) = _bundle.StorageAt(guestOffset);
            var part = bytes[..(int)Math.Min(bytes.Length, end - guestOffset)];
            var cluster = _bundle.ClusterBytesOf(storage);
            var first = start + ((guestOffset - start) / cluster * cluster);
            var last = Math.Min(end, start + ((guestOffset - start + part.Length + cluster - 1) / cluster * cluster));
            if (!Plain)
            {
                // The model takes over whole clusters because the image does.
                for (var at = first; at < last; at += cluster)
                {
                    if (Model.StatusAt(at) == ReferenceStatus.Unallocated)
                    {
                        Model.Write(at, Model.Slice(at, (int)Math.Min(cluster, last - at)));
                    }
                }
            }

            Model.Write(guestOffset, part);
            guestOffset += part.Length;
            bytes = bytes[part.Length..];
        }

        return this;
    }

    /// <summary>Writes <see cref="TestContent"/> of a seed.</summary>
    public BundleLayer Fill(int seed, long guestOffset, int length) => Write(guestOffset, TestContent.Make(seed, guestOffset, length));

    /// <summary>Writes content to a share of the disk, in pieces of one cluster of the first storage or less, chosen by the seed.</summary>
    public BundleLayer FillRandom(int seed, double share = 0.3)
    {
        var random = new Random(seed);
        var step = _bundle.ClusterBytesOf(0);
        for (long at = 0; at < Model.Size; at += step)
        {
            if (random.NextDouble() < share)
            {
                var length = (int)Math.Min(random.NextDouble() < 0.5 ? step : 512 * random.NextInt64(1, 1 + (step / 512)), Model.Size - at);
                Fill(seed, at, length);
            }
        }

        return this;
    }

    /// <summary>Takes the content of a raw disk: every cluster that differs from what this layer shows is written.</summary>
    public BundleLayer WriteChanges(SparseBytes rawDisk)
    {
        for (var storage = 0; storage < _bundle.Storages.Count; storage++)
        {
            var (start, end) = _bundle.RangeOf(storage);
            var cluster = _bundle.ClusterBytesOf(storage);
            for (var at = start; at < end; at += cluster)
            {
                var wanted = rawDisk.Slice(at, (int)Math.Min(cluster, end - at));
                if (!wanted.AsSpan().SequenceEqual(Model.Slice(at, wanted.Length)))
                {
                    Write(at, wanted);
                }
            }
        }

        return this;
    }

    internal SparseBytes BuildImage(int storage)
    {
        var (start, end) = _bundle.RangeOf(storage);
        if (Plain)
        {
            var raw = new SparseBytes();
            var content = Model.Flatten();
            foreach (var (at, length) in Model.DataRanges())
            {
                var from = Math.Max(at, start);
                var to = Math.Min(at + length, end);
                for (; from < to; from += 1 << 20)
                {
                    raw.Write(from - start, content.Slice(from, (int)Math.Min(1 << 20, to - from)));
                }
            }

            raw.SetLength(PlainTrimmed ? EndOfData(raw) : end - start);
            return raw;
        }

        var builder = new ParallelsImageBuilder
        {
            Magic = Magic ?? _bundle.Magic,
            ClusterSectors = _bundle.ClusterSectorsOf(storage),
            SizeSectors = ImageSectors ?? ((end - start) / 512),
            InUse = InUse ?? _bundle.InUse,
            Placement = Placement,
            Seed = storage + 1,
            Flags = _bundle.Flags,
        };
        foreach (var (at, length, status) in Model.Runs(start, end - start))
        {
            // Allocation is whole clusters: runs of this layer's data are exactly the clusters to store.
            if (status == ReferenceStatus.Data)
            {
                for (long done = 0; done < length; done += 1 << 20)
                {
                    var count = (int)Math.Min(1 << 20, length - done);
                    builder.Write(at - start + done, Model.Slice(at + done, count));
                }
            }
        }

        if (storage == 0)
        {
            foreach (var bitmap in Bitmaps)
            {
                builder.AddBitmap(bitmap);
            }
        }

        var image = builder.Build();
        Edit?.Invoke(storage, image);
        return image.Bytes;
    }

    // The end of the last sector that is not zero.
    private static long EndOfData(SparseBytes raw)
    {
        var end = (raw.Length + 511) / 512 * 512;
        while (end > 0 && !raw.Slice(end - 512, 512).AsSpan().ContainsAnyExcept((byte)0))
        {
            end -= 512;
        }

        return end;
    }
}
