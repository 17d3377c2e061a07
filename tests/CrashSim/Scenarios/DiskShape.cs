using Platter.TestKit;

namespace Platter.Tests.CrashSim;

/// <summary>What kind of qcow2 image a scenario works on.</summary>
internal sealed record DiskShape(string Name) : GuestShape(Name)
{
    public int Version { get; init; } = 3;

    public int ClusterBits { get; init; } = 12;

    public int RefcountOrder { get; init; } = 4;

    public bool ExtendedL2 { get; init; }

    public bool Snapshot { get; init; }

    /// <summary>0 none, 1 plain, 2 raw.</summary>
    public int DataFile { get; init; }

    public bool Lazy { get; init; }

    /// <summary>Three bitmaps: "fine" and "coarse", which are enabled, and "off", which is not.</summary>
    public bool Bitmaps { get; init; }

    /// <summary>Names of features in the header: 10 of them, with a backing file, push the bitmaps extension over the border of two sectors.</summary>
    public int FeatureNames { get; init; }

    /// <summary>Free clusters in the middle of the file, so that the refcount table is nearly used up.</summary>
    public int Gap { get; init; }

    /// <inheritdoc/>
    public override int ClusterBytes => 1 << ClusterBits;

    /// <inheritdoc/>
    public override CrashImage Build(Random random) => Build(random, null);

    /// <summary>Builds an image and changes it.</summary>
    /// <param name="random">What is where.</param>
    /// <param name="change">What is done to it then; null for nothing.</param>
    public CrashImage Build(Random random, Action<Qcow2Image>? change)
    {
        var size = ((long)Clusters << ClusterBits) - (ClusterBits > 9 ? 512 : 0);
        var below = Backing ? new ReferenceDisk(size + BackingBeyond) : null;
        below?.Fill(99, 0, (int)below.Size);
        var seed = random.Next();
        var builder = new Qcow2Builder
        {
            Version = Version, ClusterBits = ClusterBits, RefcountOrder = RefcountOrder, ExtendedL2 = ExtendedL2, Size = size, Seed = seed, FreeClusters = 4, FarGapClusters = Gap,
            Backing = below, BackingFile = Backing ? CrashImage.Base : null, BackingFormat = Backing ? "raw" : null,
            ExternalData = DataFile > 0, DataFileName = DataFile > 0 ? CrashImage.Data : null, DataFileRaw = DataFile == 2,
            CompatibleFeatures = Lazy ? 1UL : 0, TrimEnd = random.Next(3) == 0,
            FeatureNames = [.. Enumerable.Range(0, FeatureNames).Select(i => ((byte)1, (byte)(i + 8), $"feature {i}"))],
        };
        if (DataFile != 2)
        {
            builder.FillRandom(seed, Filled, compressed: RefcountOrder > 2);
        }

        if (Snapshot)
        {
            builder.AddSnapshot("1", "one");
            builder.FillRandom(seed + 1, Filled / 2, compressed: RefcountOrder > 2);
        }

        if (Bitmaps)
        {
            builder.AddBitmap(new Qcow2Bitmap("fine") { GranularityBits = 9, StoreUniformClusters = random.Next(2) == 0 }.Set(1024, 3000))
                .AddBitmap(new Qcow2Bitmap("coarse") { GranularityBits = 13 })
                .AddBitmap(new Qcow2Bitmap("off") { GranularityBits = 10, Flags = 0 }.Set(0, 5000));
        }

        return CrashImage.From(builder, change);
    }
}
