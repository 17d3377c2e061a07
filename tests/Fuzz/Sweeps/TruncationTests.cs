using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Fuzz;

/// <summary>Files cut at every length: what is left is read, and what is missing is said in one line.</summary>
public sealed class TruncationTests
{
    public static TheoryData<int> Qcow2Images => [.. Enumerable.Range(0, Qcow2Corpus.Built().Count())];

    public static TheoryData<int> ParallelsImages => [.. Enumerable.Range(0, ParallelsCorpus.All.Count)];

    [Fact]
    public async Task A_small_qcow2_image_with_everything_cut_at_every_length()
    {
        var builder = new Qcow2Builder { ClusterBits = 9, Size = 9000, BackingFile = "none.qcow2", BackingFormat = "raw" };
        builder.Fill(1, 0, 3).FillCompressed(2, 5).ZeroPlain(6).AddSnapshot("1", "one").Fill(2, 0, 17);
        builder.AddBitmap(new Qcow2Bitmap("dirty") { GranularityBits = 9 }.Set(512, 512));
        await Sweep.RunAsync(Sweep.Cuts(new FuzzInput("test.qcow2", builder.Build().Bytes), 64 * 1024), "qcow2");
    }

    [Fact]
    public async Task A_small_Parallels_image_with_everything_cut_at_every_length()
    {
        var builder = new ParallelsImageBuilder { ClusterSectors = 1, SizeSectors = 30 };
        builder.Fill(1, 0, 3, 29).AddBitmap(new ParallelsBitmap { GranularitySectors = 1, StoreUniformClusters = true }.Set(3, 4));
        await Sweep.RunAsync(Sweep.Cuts(new FuzzInput("test.hds", builder.Build().Bytes), 64 * 1024), "parallels");
    }

    [Theory]
    [MemberData(nameof(Qcow2Images))]
    public async Task A_qcow2_image_cut_at_every_length(int image)
    {
        var seed = Qcow2Corpus.Built().ElementAt(image);
        await Sweep.RunAsync(Sweep.Cuts(seed, 256, Qcow2Fields.Find(seed.MainBytes)), "qcow2");
    }

    [Fact]
    public async Task An_encrypted_image_cut_at_every_length_of_its_headers()
    {
        Assert.SkipUnless(Qcow2Corpus.Encrypted.Any(), "qemu-img is not installed");
        foreach (var seed in Qcow2Corpus.Encrypted)
        {
            var whole = new FuzzInput("test.qcow2", seed.MainBytes);
            await Sweep.RunAsync(Sweep.Cuts(whole, 512, Qcow2Fields.Find(seed.MainBytes)), "qcow2");
        }
    }

    [Theory]
    [MemberData(nameof(ParallelsImages))]
    public async Task A_Parallels_image_cut_at_every_length(int image)
    {
        var seed = ParallelsCorpus.All[image];
        await Sweep.RunAsync(Sweep.Cuts(seed, 256, ParallelsFields.Find(seed.MainBytes)), "parallels");
    }

    [Fact]
    public async Task A_descriptor_cut_at_every_length()
    {
        var builder = new BundleBuilder("disk", 8 * 20, 8, 8 * 10) { WithUnknownContent = true };
        builder.AddLayer().FillRandom(1, 0.4);
        builder.AddTop().FillRandom(2, 0.4);
        var bundle = builder.Build();
        var seed = new FuzzInput(
            "disk.hdd/DiskDescriptor.xml", bundle.Files.Select(f => KeyValuePair.Create($"disk.hdd/{f.Key}", f.Value))) { OpenName = "disk.hdd" };
        await Sweep.RunAsync(Sweep.Cuts(seed, long.MaxValue), null);
    }

    [Fact]
    public async Task An_image_of_a_bundle_cut_at_every_length()
    {
        var builder = new BundleBuilder("disk", 8 * 20, 8);
        builder.AddLayer().FillRandom(1, 0.4);
        builder.AddTop().FillRandom(2, 0.4);
        var bundle = builder.Build();
        var files = bundle.Files.Select(f => KeyValuePair.Create($"disk.hdd/{f.Key}", f.Value)).ToArray();
        foreach (var layer in bundle.Layers)
        {
            var image = $"disk.hdd/{bundle.ImageName(layer)}";
            var seed = new FuzzInput(image, files) { OpenName = "disk.hdd" };
            await Sweep.RunAsync(Sweep.Cuts(seed, 256, ParallelsFields.Find(seed.MainBytes)), null);
        }
    }
}
