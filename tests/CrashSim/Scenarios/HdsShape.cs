using Platter.TestKit;

namespace Platter.Tests.CrashSim;

/// <summary>What kind of Parallels image a scenario works on.</summary>
internal sealed record HdsShape(string Name) : GuestShape(Name)
{
    /// <summary>1 or 2.</summary>
    public int Version { get; init; } = 1;

    public uint ClusterSectors { get; init; } = 8;

    /// <summary>Null: on a cluster. In sectors.</summary>
    public uint? DataOffset { get; init; }

    /// <summary>Two bitmaps.</summary>
    public bool Bitmaps { get; init; }

    /// <summary>The header says that the image is empty, whatever its BAT says.</summary>
    public bool SaysEmpty { get; init; }

    /// <summary>Nobody closed it.</summary>
    public bool Unclean { get; init; }

    /// <inheritdoc/>
    public override int ClusterBytes => (int)ClusterSectors * 512;

    /// <inheritdoc/>
    public override CrashImage Build(Random random)
    {
        var sectors = (Clusters * (long)ClusterSectors) - (ClusterSectors > 1 ? 1 : 0);
        var below = Backing ? new ReferenceDisk((sectors * 512) + BackingBeyond) : null;
        below?.Fill(99, 0, (int)below.Size);
        var seed = random.Next();
        var builder = new ParallelsImageBuilder
        {
            Magic = Version == 1 ? ParallelsMagic.WithoutFreeSpace : ParallelsMagic.WithouFreSpacExt, ClusterSectors = ClusterSectors, SizeSectors = sectors,
            DataOffsetSectors = DataOffset, Backing = below, Flags = SaysEmpty ? 1u : 0, Placement = HostPlacement.Shuffled, Seed = seed,
            InUse = Unclean ? ParallelsImageBuilder.InUseOpen : ParallelsImageBuilder.InUseClosed, LeakedTailClusters = random.Next(3) == 0 ? 3 : 0,
        };
        builder.FillRandom(seed, Filled);
        builder.AddHoles(1, 3);
        if (Bitmaps)
        {
            builder.AddBitmap(new ParallelsBitmap { GranularitySectors = 1 }.Set(2, 6)).AddBitmap(new ParallelsBitmap { Id = new byte[16], GranularitySectors = 16 });
        }

        var content = builder.Model.ToArray();
        if (SaysEmpty)
        {
            content.AsSpan().Clear();
            below?.ToArray().AsSpan(0, (int)Math.Min(below.Size, content.Length)).CopyTo(content);
        }

        var files = new Dictionary<string, byte[]> { [CrashImage.Top] = builder.Build().Bytes.ToArray() };
        if (below is not null)
        {
            files[CrashImage.Base] = below.ToArray();
        }

        return new() { Files = files, Content = content, Below = below, IsParallels = true };
    }
}
