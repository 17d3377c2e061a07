using Platter.Core.Images;
using Platter.Core.Units;
using Platter.Formats.Parallels.Check;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Formats.Parallels;

public class ParallelsCheckTests
{
    private const long Cluster = 64 * 512;

    private static ParallelsImageBuilder Builder(ParallelsMagic magic = ParallelsMagic.WithouFreSpacExt) =>
        new() { Magic = magic, ClusterSectors = 64, SizeSectors = 64 * 10 };

    private static async Task<(CheckReport Report, List<CheckFinding> Findings)> CheckAsync(ParallelsImage image)
    {
        List<CheckFinding> findings = [];
        await using var node = await Opening.OpenAsync(image.ToStorage(), "parallels");
        var report = await node.CheckAsync(findings.Add);
        Assert.Equal(findings.Count(f => f.Severity == CheckSeverity.Corruption), report.Corruptions);
        return (report, findings);
    }

    [Fact]
    public async Task A_good_image_has_no_findings()
    {
        var (report, findings) = await CheckAsync(Builder().Fill(1, 1, 2, 3, 8).Build());
        Assert.Empty(findings);
        Assert.Equal(new CheckReport { ImageEndOffset = 5 * Cluster, TotalClusters = 10, AllocatedClusters = 4 }, report);
    }

    [Fact]
    public async Task Holes_between_clusters_are_told_and_not_counted()
    {
        var image = Builder().Fill(1, 1, 2, 3, 8).Build();
        image.SetBat(2, 0);
        var (report, findings) = await CheckAsync(image);
        Assert.Equal(["Note 1 cluster between others is not in use"], findings.Select(f => $"{f.Severity} {f.Message}"));
        Assert.Equal(0, report.Leaks);
    }

    [Fact]
    public async Task An_empty_image_ends_with_its_BAT()
    {
        var (report, findings) = await CheckAsync(Builder().Build());
        Assert.Empty(findings);
        Assert.Equal(new CheckReport { ImageEndOffset = Cluster, TotalClusters = 10 }, report);
    }

    [Fact]
    public async Task Extension_and_bitmap_clusters_are_in_use()
    {
        var bitmap = new ParallelsBitmap { StoreUniformClusters = true };
        foreach (var first in new[] { false, true })
        {
            var image = new ParallelsImageBuilder { ClusterSectors = 64, SizeSectors = 640, ExtensionFirst = first }.Fill(1, 3).AddBitmap(bitmap.Set(5, 9)).Build();
            var (report, findings) = await CheckAsync(image);
            Assert.Empty(findings);
            Assert.Equal(image.Bytes.Length, report.ImageEndOffset);
        }
    }

    [Fact]
    public async Task A_stale_extension_is_leaked_and_noted()
    {
        var image = Builder().Fill(1, 3).AddBitmap(new ParallelsBitmap { StoreUniformClusters = true }.Set(5, 9)).Build().Set(ParallelsField.InUse, 0);
        var (report, findings) = await CheckAsync(image);
        Assert.Equal(2, report.Leaks);
        Assert.Equal(
            [
                (CheckSeverity.Note, "the Format Extension at sector 0x80 does not count: the image was closed by software that does not keep it (in_use 0x0)"),
                (CheckSeverity.Leak, "space leaked at the end of the image 65536"),
            ],
            findings.Select(f => (f.Severity, f.Message)).OrderBy(f => f.Message[0] != 't').ToArray());
    }

    [Fact]
    public async Task A_bitmap_cluster_that_a_BAT_entry_points_to_is_found()
    {
        var image = Builder().Fill(1, 3).AddBitmap(new ParallelsBitmap { StoreUniformClusters = true }.Set(5, 9)).Build();
        image.SetBat(7, (uint)(image.ExtensionAt / Cluster));
        var (report, findings) = await CheckAsync(image);
        Assert.Equal(1, report.Corruptions);
        Assert.Equal(
            $"duplicate offset in BAT entry 7: the Format Extension uses the cluster at 0x{image.ExtensionAt:x} too", Assert.Single(findings).Message);
    }

    [Fact]
    public async Task A_dirty_image_is_corrupt()
    {
        var (report, findings) = await CheckAsync(Builder().Fill(1, 3).Build().Set(ParallelsField.InUse, ParallelsImageBuilder.InUseOpen));
        Assert.Equal(1, report.Corruptions);
        Assert.Equal("image was not closed correctly", Assert.Single(findings).Message);
    }

    [Theory]
    [InlineData(ParallelsMagic.WithouFreSpacExt, 7u, "data_off is sector 7, it must be a whole number of clusters from sector 64 to the end of the file")]
    [InlineData(ParallelsMagic.WithouFreSpacExt, 0u, "data_off is sector 0, it must be a whole number of clusters from sector 64 to the end of the file")]
    [InlineData(ParallelsMagic.WithoutFreeSpace, 0xFFFFu, "data_off is sector 65535, it must be from sector 1 to the end of the file")]
    public async Task A_wrong_data_off_is_corrupt(ParallelsMagic magic, uint value, string message)
    {
        var (report, findings) = await CheckAsync(Builder(magic).Fill(1, 3).Build().Set(ParallelsField.DataOffset, value));
        Assert.Equal(1, report.Corruptions);
        Assert.Equal((message, new HostOffset(48)), (findings[0].Message, findings[0].HostOffset));
    }

    [Fact]
    public async Task Bad_entries_are_found_one_by_one()
    {
        var image = Builder(ParallelsMagic.WithoutFreeSpace).Fill(1, 0, 1, 2, 3).Build();
        image.SetBat(5, 1).SetBat(6, 65).SetBat(7, 64 * 100).SetBat(8, 64 * 2);
        var (report, findings) = await CheckAsync(image);
        Assert.Equal(
            [
                "BAT entry 5 is invalid: 0x200 lies before the data area at 0x8000",
                "BAT entry 6 is invalid: 0x8200 is not a whole number of clusters (0x8000 bytes) behind the data area's start at 0x8000",
                "cluster 7 is outside image: 0x320000 lies beyond the end of the file at 0x28000",
                "duplicate offset in BAT entry 8: another entry points to the cluster at 0x10000 too",
            ],
            findings.Select(f => f.Message));
        Assert.Equal(new CheckReport { Corruptions = 4, ImageEndOffset = 0x328000, TotalClusters = 10, AllocatedClusters = 8, FragmentedClusters = 2 }, report);
        Assert.Equal((new GuestOffset(7 * Cluster), Cluster, new HostOffset(64 + 28)), (findings[2].GuestOffset, findings[2].GuestLength, findings[2].HostOffset));
    }

    [Fact]
    public async Task A_torn_last_cluster_is_outside_the_image()
    {
        var image = Builder().Fill(1, 0, 1).Build();
        var (report, findings) = await CheckAsync(image.Truncate(image.Bytes.Length - 1));
        Assert.Equal("cluster 1 is outside image: 0x10000 ends beyond the end of the file at 0x17fff", Assert.Single(findings).Message);
        Assert.Equal((1, 0), (report.Corruptions, report.Leaks));
    }

    [Fact]
    public async Task Space_behind_the_last_cluster_is_leaked_and_holes_are_not()
    {
        var image = new ParallelsImageBuilder { ClusterSectors = 64, SizeSectors = 640, LeakedTailClusters = 2 }.Fill(1, 0, 1).AddHoles(0, 2).Build();
        image.Truncate(image.Bytes.Length + 1);
        var (report, findings) = await CheckAsync(image);
        Assert.Equal((0, 3), (report.Corruptions, report.Leaks));
        Assert.Equal($"space leaked at the end of the image {(2 * Cluster) + 1}", Assert.Single(findings, f => f.Severity != CheckSeverity.Note).Message);
    }

    [Fact]
    public async Task A_BAT_that_is_too_short_is_corrupt()
    {
        var (report, findings) = await CheckAsync(Builder().Fill(1, 0).Build().Set(ParallelsField.BatEntries, 9));
        Assert.Equal(1, report.Corruptions);
        Assert.Equal("the BAT has 9 entries, the disk needs 10", findings[0].Message);
    }

    [Fact]
    public async Task What_is_odd_but_harmless_is_noted()
    {
        var image = Builder(ParallelsMagic.WithoutFreeSpace).Fill(1, 0, 9).Build().Set(ParallelsField.SectorsHigh, 5).Set(ParallelsField.InUse, 0x37316470)
            .Set(ParallelsField.Flags, 3).Set(ParallelsField.SectorsLow, 64);
        var (report, findings) = await CheckAsync(image);
        Assert.Equal((0, 0), (report.Corruptions, report.Leaks));
        Assert.All(findings, f => Assert.Equal(CheckSeverity.Note, f.Severity));
        Assert.Equal(
            [
                "in_use is 0x37316470, which the specification does not know",
                "the high half of nb_sectors is 0x5, in a WithoutFreeSpace image it must be zero; it is ignored",
                "flags say that a conversion between the two magics was going on",
                "the header says that the image is empty; its 2 allocated clusters are ignored",
                "1 allocated clusters lie beyond the end of the disk",
            ],
            findings.Select(f => f.Message));
    }

    [Fact]
    public async Task A_BAT_of_many_pieces_is_read_to_its_end()
    {
        const int Clusters = 200_000;
        var image = new ParallelsImageBuilder { Magic = ParallelsMagic.WithouFreSpacExt, ClusterSectors = 1, SizeSectors = Clusters }.Build();
        var first = (uint)(image.DataAt / 512);
        for (var i = 0; i < Clusters; i += 3)
        {
            image.SetBat(i, first + (uint)i);
        }

        image.SetBat(199_999, first + 3);
        image.Truncate(image.DataAt + (512L * Clusters));
        var progress = new List<double>();
        List<CheckFinding> findings = [];
        await using var node = await Opening.OpenAsync(image.ToStorage(), "parallels");
        var report = await node.CheckAsync(findings.Add, new Listed(progress));
        Assert.Equal("duplicate offset in BAT entry 199999: another entry points to the cluster at 0xc4000 too", findings[^1].Message.Replace($"0x{image.DataAt + 1536:x}", "0xc4000", StringComparison.Ordinal));
        Assert.Equal((1, 66_668), (report.Corruptions, report.AllocatedClusters));
        Assert.Equal(progress.Order(), progress);
        Assert.Equal(1, progress[^1]);
    }

    [Fact]
    public void A_window_of_used_clusters_moves()
    {
        var used = new UsedClusters((UsedClusters.MaxWindow * 3) + 5);
        Assert.Equal(UsedClusters.MaxWindow, used.Size);
        Assert.True(used.TryTake(7));
        Assert.False(used.TryTake(7));
        Assert.True(used.TryTake(UsedClusters.MaxWindow + 7));
        Assert.True(used.TryTake(UsedClusters.MaxWindow + 7));
        used.MoveTo(UsedClusters.MaxWindow);
        Assert.True(used.TryTake(7));
        Assert.True(used.TryTake(7));
        Assert.True(used.TryTake((2 * UsedClusters.MaxWindow) - 1));
        Assert.False(used.TryTake((2 * UsedClusters.MaxWindow) - 1));
    }

    private sealed class Listed(List<double> values) : IProgress<double>
    {
        public void Report(double value) => values.Add(value);
    }
}
