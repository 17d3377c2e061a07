using Platter.TestKit;

namespace Platter.Tests.Fuzz;

/// <summary>Small valid Parallels images of both kinds, with and without the Format Extension.</summary>
internal static class ParallelsCorpus
{
    private const string Main = "test.hds";

    private static readonly Lazy<IReadOnlyList<FuzzInput>> s_all = new(() => [.. Built()]);

    public static IReadOnlyList<FuzzInput> All => s_all.Value;

    private static IEnumerable<FuzzInput> Built()
    {
        yield return Of(new ParallelsImageBuilder { ClusterSectors = 8, SizeSectors = 8 * 20, Placement = HostPlacement.Shuffled }.FillRandom(1, 0.4));
        yield return Of(new ParallelsImageBuilder { ClusterSectors = 63, SizeSectors = (63 * 9) + 5, InUse = ParallelsImageBuilder.InUseOld }.FillRandom(2, 0.5));
        yield return Of(new ParallelsImageBuilder { ClusterSectors = 1, SizeSectors = 300, Magic = ParallelsMagic.WithouFreSpacExt }.FillRandom(3, 0.3));
        yield return Of(new ParallelsImageBuilder { ClusterSectors = 8, SizeSectors = 8 * 40, DataOffsetSectors = 24, LeakedTailClusters = 2 }.FillRandom(4, 0.2));
        yield return Of(new ParallelsImageBuilder { ClusterSectors = 1 << 21, SizeSectors = 1L << 31, Magic = ParallelsMagic.WithouFreSpacExt });
        foreach (var magic in Enum.GetValues<ParallelsMagic>())
        {
            yield return Of(new ParallelsImageBuilder { ClusterSectors = 4, SizeSectors = 400_000, Magic = magic, PadFeatures = true }
                .Fill(5, 0, 3, 4, 90_000)
                .AddBitmap(new ParallelsBitmap { GranularitySectors = 1, StoreUniformClusters = magic == ParallelsMagic.WithoutFreeSpace }.Set(0, 20_000).Set(60_001, 77))
                .AddBitmap(new ParallelsBitmap { Id = [1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 1, 2, 3, 4], GranularitySectors = 128 }.Set(333, 9))
                .AddFeature(0x1122334455667788, 2, "unknown"u8));
        }
    }

    private static FuzzInput Of(ParallelsImageBuilder builder) => new(Main, builder.Build().Bytes);
}
