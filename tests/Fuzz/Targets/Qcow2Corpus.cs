using Platter.TestKit;

namespace Platter.Tests.Fuzz;

/// <summary>Small valid qcow2 images that together have every feature: from the builder, and from qemu-img where it is installed.</summary>
internal static class Qcow2Corpus
{
    private const string Main = "test.qcow2";

    private static readonly Lazy<IReadOnlyList<FuzzInput>> s_all = new(() => [.. Built(), .. FromPeer()]);

    public static IReadOnlyList<FuzzInput> All => s_all.Value;

    /// <summary>Those of qemu-img that are encrypted, with the password "secret"; none where it is not installed.</summary>
    public static IEnumerable<FuzzInput> Encrypted =>
        All.Where(input => input.IsEncrypted).Select(input => new FuzzInput(Main, input.MainBytes) { MaxKeyIterations = 2_000_000 });

    /// <summary>The builder's images alone: the same on every machine.</summary>
    public static IEnumerable<FuzzInput> Built()
    {
        yield return Of(Rich(9, 4, Qcow2HostLayout.MetadataFirst));
        yield return Of(Rich(9, 0, Qcow2HostLayout.Shuffled));
        yield return Of(Rich(12, 6, Qcow2HostLayout.DataFirst));
        yield return Of(new Qcow2Builder { ClusterBits = 9, Version = 2, Size = 300 * 1024 }.FillRandom(3, 0.2).AddSnapshot(new Qcow2Snapshot("1", "v2") { ExtraDataSize = 0 }));
        yield return Of(new Qcow2Builder { ClusterBits = 10, CompressionType = 1, Size = 100_000 }.FillCompressed(5, 0, 2, 3, 50).Fill(7, 1, 4));
        yield return Of(Subclusters());
        yield return Of(new Qcow2Builder { ClusterBits = 16, Size = 64L << 40, Seed = 3 }.Fill(1, 0, 7, 1 << 20, (64L << 24) - 1));
        yield return Backed();
        yield return WithDataFile(raw: false);
        yield return WithDataFile(raw: true);
    }

    private static Qcow2Builder Rich(int clusterBits, int refcountOrder, Qcow2HostLayout layout)
    {
        var builder = new Qcow2Builder
        {
            ClusterBits = clusterBits,
            RefcountOrder = refcountOrder,
            Layout = layout,
            Size = (200 << clusterBits) + 512,
            Packing = refcountOrder == 0 ? CompressedPacking.Clusters : CompressedPacking.Bytes,
            FreeClusters = 3,
        };
        builder.FillRandom(1, 0.1);
        if (refcountOrder > 0)
        {
            builder.AddSnapshot("1", "first");
            builder.FillRandom(2, 0.05).AddSnapshot(new Qcow2Snapshot("2", "sécond") { ExtraDataSize = 16, VmState = new byte[100] });
        }

        builder.Fill(9, 5, 6, 7).ZeroPlain(8).ZeroAllocated(9).FillCompressed(4, 10, 11);
        builder.AddBitmap(new Qcow2Bitmap("dirty") { GranularityBits = 9 }.Set(512, 5000).Set(50_000, 10_000));
        builder.AddBitmap(new Qcow2Bitmap("in use") { Flags = Qcow2Bitmap.InUse, StoreUniformClusters = true }.Set(0, 512));
        return builder.AddExtension(0x12345678, "unknown extension"u8);
    }

    private static Qcow2Builder Subclusters()
    {
        var builder = new Qcow2Builder { ClusterBits = 14, ExtendedL2 = true, Size = 30 << 14 };
        builder.SetSubclusters(0, 0x0000ffff, 0xff000000).SetSubclusters(1, 0, 0xffffffff, withHost: false).SetSubclusters(2, 0xffffffff, 0);
        return builder.FillCompressed(3, 4).Fill(2, 6, 29).AddSnapshot("1", "before").Fill(4, 1);
    }

    private static FuzzInput Backed()
    {
        var below = new Qcow2Builder { ClusterBits = 9, Size = 40_000 }.FillRandom(8, 0.4);
        var built = below.Build();
        var top = new Qcow2Builder { ClusterBits = 9, Size = 60_000, BackingFile = "below.qcow2", BackingFormat = "qcow2", Backing = below.Model };
        return new FuzzInput(Main, new Dictionary<string, SparseBytes>
        {
            [Main] = top.FillRandom(6, 0.3).Build().Bytes,
            ["below.qcow2"] = built.Bytes,
        });
    }

    private static FuzzInput WithDataFile(bool raw)
    {
        var image = new Qcow2Builder { ClusterBits = 9, Size = 60_000, ExternalData = true, DataFileName = "data.raw", DataFileRaw = raw }
            .Fill(6, 0, 1, 2, 50).ZeroPlain(5).Build();
        return new FuzzInput(Main, new Dictionary<string, SparseBytes> { [Main] = image.Bytes, ["data.raw"] = image.DataFile! });
    }

    private static FuzzInput Of(Qcow2Builder builder) => new(Main, builder.Build().Bytes);

    // What the real tool writes differs in small things: extension order, slack, feature table.
    private static IEnumerable<FuzzInput> FromPeer()
    {
        if (!ToolRunner.IsInstalled("qemu-img") || !ToolRunner.IsInstalled("qemu-io"))
        {
            yield break;
        }

        using var folder = new TempFolder("corpus");
        string[] kinds =
        [
            "cluster_size=512", "cluster_size=512,compat=0.10", "cluster_size=16k,extended_l2=on", "cluster_size=64k",
            "cluster_size=512,encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", "cluster_size=512,encrypt.format=aes,encrypt.key-secret=s",
        ];
        foreach (var kind in kinds)
        {
            var path = folder["peer.qcow2"];
            var encrypted = kind.Contains("encrypt", StringComparison.Ordinal);
            string[] secret = encrypted ? ["--object", "secret,id=s,data=secret"] : [];
            if (ToolRunner.Run("qemu-img", ["create", "-q", .. secret, "-f", "qcow2", "-o", kind, path, "100k"]).ExitCode != 0)
            {
                continue;
            }

            if (!encrypted)
            {
                ToolRunner.Run("qemu-io", "-c", "write -P 1 0 1k", "-c", "write -z 20k 4k", "-c", "write -P 2 99k 1k", path);
                ToolRunner.Run("qemu-img", "snapshot", "-c", "one", path);
                ToolRunner.Run("qemu-io", "-c", "write -P 3 512 2k", path);
            }

            yield return new FuzzInput(Main, SparseBytes.Load(path));
            File.Delete(path);
        }
    }
}
