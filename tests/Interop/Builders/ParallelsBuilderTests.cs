using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Builders;

/// <summary>The builder's images are read by the peer as the builder's model says: two people read the specification alike.</summary>
public sealed class ParallelsBuilderTests
{
    public static TheoryData<ParallelsMagic, uint, long, HostPlacement> Layouts()
    {
        var data = new TheoryData<ParallelsMagic, uint, long, HostPlacement>();
        foreach (var magic in Enum.GetValues<ParallelsMagic>())
        {
            foreach (var cluster in new uint[] { 8, 63, 128, 504, 512, 2048 })
            {
                foreach (var size in new[] { (cluster * 37L) + 5, cluster * 16L })
                {
                    data.Add(magic, cluster, size, HostPlacement.Shuffled);
                }
            }
        }

        data.Add(ParallelsMagic.WithoutFreeSpace, 128, 5000, HostPlacement.Descending);
        data.Add(ParallelsMagic.WithouFreSpacExt, 128, 5000, HostPlacement.Ascending);
        data.Add(ParallelsMagic.WithouFreSpacExt, 128, 5000, HostPlacement.AsWritten);
        return data;
    }

    [Theory]
    [MemberData(nameof(Layouts))]
    public void Peer_reads_what_the_model_says(ParallelsMagic magic, uint clusterSectors, long sizeSectors, HostPlacement placement)
    {
        ToolRunner.RequireOrSkip("qemu-img");
        using var folder = new TempFolder();
        var image = new ParallelsImageBuilder
        {
            Magic = magic,
            ClusterSectors = clusterSectors,
            SizeSectors = sizeSectors,
            Placement = placement,
            Seed = 7,
            InUse = ParallelsImageBuilder.InUseOld,
        }.FillRandom(11, 0.4).AddHoles(1, 4).Build();
        AssertPeerAgrees(folder, image);
    }

    [Theory]
    [InlineData(64u, 40u)]
    [InlineData(63u, 126u)]
    [InlineData(2048u, 4096u)]
    public void Peer_reads_v1_with_a_data_area_that_starts_late(uint clusterSectors, uint dataOffset)
    {
        ToolRunner.RequireOrSkip("qemu-img");
        using var folder = new TempFolder();
        var image = new ParallelsImageBuilder
        {
            ClusterSectors = clusterSectors,
            SizeSectors = clusterSectors * 20L,
            DataOffsetSectors = dataOffset,
            Placement = HostPlacement.Shuffled,
        }.FillRandom(3).Build();

        // A reader needs nothing but the BAT, so that even a data area off the cluster grid reads right; only check may complain.
        image.SaveTo(folder["a.hds"]);
        ToolRunner.RunChecked("qemu-img", "convert", "-f", "parallels", "-O", "raw", folder["a.hds"], folder["a.raw"]);
        image.Model.AssertEqualsFile(folder["a.raw"]);
    }

    [Fact]
    public void Peer_reads_v1_without_a_data_offset()
    {
        ToolRunner.RequireOrSkip("qemu-img");
        using var folder = new TempFolder();
        var image = new ParallelsImageBuilder { ClusterSectors = 63, SizeSectors = 63 * 50, DataOffsetSectors = 0, Placement = HostPlacement.Shuffled }
            .FillRandom(5).Build();
        image.SaveTo(folder["a.hds"]);
        ToolRunner.RunChecked("qemu-img", "convert", "-f", "parallels", "-O", "raw", folder["a.hds"], folder["a.raw"]);
        image.Model.AssertEqualsFile(folder["a.raw"]);
    }

    [Fact]
    public void Peer_counts_the_leaked_tail()
    {
        ToolRunner.RequireOrSkip("qemu-img");
        using var folder = new TempFolder();
        var image = new ParallelsImageBuilder { ClusterSectors = 128, SizeSectors = 128 * 10, LeakedTailClusters = 3 }.Fill(1, 2, 3).Build();
        image.SaveTo(folder["a.hds"]);
        var check = ToolRunner.Run("qemu-img", "check", "-f", "parallels", folder["a.hds"]).Expect(3);
        Assert.Contains("3 leaked clusters were found", check.Text);
    }

    [Fact]
    public void Peer_accepts_the_extension_and_its_checksum()
    {
        ToolRunner.RequireOrSkip("qemu-img");
        using var folder = new TempFolder();
        var builder = new ParallelsImageBuilder { Magic = ParallelsMagic.WithouFreSpacExt, ClusterSectors = 128, SizeSectors = 128 * 4000 }
            .FillRandom(9, 0.01)
            .AddBitmap(new ParallelsBitmap { GranularitySectors = 1 }.Set(0, 10).Set(70000, 1).Set(400_000, 112_000));
        var image = builder.Build();
        image.SaveTo(folder["a.hds"]);
        var info = ToolRunner.RunChecked("qemu-img", "convert", "-f", "parallels", "-O", "raw", folder["a.hds"], folder["a.raw"]);
        Assert.Empty(info.Error);
        image.Model.AssertEqualsFile(folder["a.raw"]);

        // The peer verifies the checksum: one flipped bit and it refuses.
        image.Bytes.FlipBit(image.ExtensionAt + 200, 0);
        image.SaveTo(folder["a.hds"]);
        Assert.Contains("checksum", ToolRunner.Run("qemu-img", "info", "-f", "parallels", folder["a.hds"]).Expect(1).Error, StringComparison.OrdinalIgnoreCase);
        image.FixExtensionChecksum().SaveTo(folder["a.hds"]);
    }

    [Theory]
    [InlineData(ParallelsMagic.WithoutFreeSpace)]
    [InlineData(ParallelsMagic.WithouFreSpacExt)]
    public void Peer_exports_the_bitmap_with_the_bits_that_were_set(ParallelsMagic magic)
    {
        ToolRunner.RequireOrSkip("qemu-nbd", "nbdinfo");
        using var folder = new TempFolder();
        var bitmap = new ParallelsBitmap { GranularitySectors = 16 }.Set(0, 16).Set(1600, 160).Set(128 * 4000, 128 * 1200);
        var image = new ParallelsImageBuilder { Magic = magic, ClusterSectors = 8, SizeSectors = 128 * 8000 }
            .Fill(9, 3, 5, 7).AddBitmap(bitmap).Build();
        image.SaveTo(folder["a.hds"]);
        using var server = NbdServer.QemuNbd(folder["a.hds"], "parallels", folder, "-B", new Guid(bitmap.Id, bigEndian: true).ToString("D"));
        var map = ToolRunner.RunChecked("nbdinfo", "--map=qemu:dirty-bitmap:" + new Guid(bitmap.Id, bigEndian: true).ToString("D"), server.Uri);
        var dirty = map.Lines.Select(l => l.Split(' ', StringSplitOptions.RemoveEmptyEntries)).Where(l => l[2] == "1")
            .Select(l => (long.Parse(l[0]) / 512, long.Parse(l[1]) / 512)).ToArray();
        Assert.Equal([(0, 16), (1600, 160), (128 * 4000, 128 * 1200)], dirty);
    }

    private static void AssertPeerAgrees(TempFolder folder, ParallelsImage image)
    {
        image.SaveTo(folder["a.hds"]);
        ToolRunner.RunChecked("qemu-img", "convert", "-f", "parallels", "-O", "raw", folder["a.hds"], folder["a.raw"]);
        image.Model.AssertEqualsFile(folder["a.raw"]);
        var check = ToolRunner.Run("qemu-img", "check", "-f", "parallels", folder["a.hds"]).Expect();
        Assert.Contains("No errors were found", check.Text);
    }
}
