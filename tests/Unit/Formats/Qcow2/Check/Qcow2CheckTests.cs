using System.Buffers.Binary;
using Platter.Core.Images;
using Platter.TestKit;
using Xunit;
using static Platter.Tests.Unit.Formats.Qcow2.Qcow2Fixture;
using BuiltImage = Platter.TestKit.Qcow2Image;

namespace Platter.Tests.Unit.Formats.Qcow2.Check;

/// <summary>Check is silent about good images and says of bad ones what is wrong and where. That the numbers are the peer's is tested with the peer.</summary>
public sealed class Qcow2CheckTests
{
    public static TheoryData<int, int, bool> Shapes() => new()
    {
        { 9, 4, false }, { 9, 6, false }, { 12, 3, false }, { 16, 5, false }, { 16, 2, true }, { 14, 4, true }, { 18, 4, false },
    };

    [Theory]
    [MemberData(nameof(Shapes))]
    public async Task Good_images_have_no_findings(int bits, int order, bool extended)
    {
        var builder = new Qcow2Builder
        {
            ClusterBits = bits, RefcountOrder = order, ExtendedL2 = extended, Size = 60L << bits, Layout = (Qcow2HostLayout)(bits % 3), FreeClusters = 2,
        };
        var image = builder.FillRandom(1, 0.6, compressed: order > 2).AddSnapshot("1", "one").FillRandom(2, 0.3, compressed: order > 2)
            .AddBitmap(new Qcow2Bitmap("b") { StoreUniformClusters = true }).Build();
        var (report, findings) = await CheckAsync(image);
        Assert.Empty(findings);
        Assert.Equal((0, 0, 0), (report.Corruptions, report.Leaks, report.Errors));
        Assert.Equal(60, report.TotalClusters);
        Assert.True(report.AllocatedClusters > 0);
    }

    [Fact]
    public async Task A_leak_is_told_by_its_host_offset()
    {
        var image = new Qcow2Builder { Size = 1 << 20, FreeClusters = 1 }.Fill(1, 0).Build();
        image.SetRefcount(image.FreeClusters[0], 3);
        var (report, findings) = await CheckAsync(image);
        var finding = Assert.Single(findings);
        Assert.Equal((CheckSeverity.Leak, image.FreeClusters[0]), (finding.Severity, finding.HostOffset!.Value.Value));
        Assert.Contains("refcount 3 and 0 references", finding.Message, StringComparison.Ordinal);
        Assert.Equal((0, 1), (report.Corruptions, report.Leaks));
    }

    [Fact]
    public async Task A_refcount_too_low_is_a_corruption_at_its_cluster_and_at_its_flag()
    {
        var image = new Qcow2Builder { Size = 1 << 20 }.Fill(1, 3).Build();
        var at = (long)(image.L2(3) & 0x00fffffffffffe00);
        image.SetRefcount(at, 0);
        var (report, findings) = await CheckAsync(image);
        Assert.Equal(2, report.Corruptions);
        Assert.Contains(findings, f => f.GuestOffset?.Value == 3 * 65536 && f.GuestLength == 65536 && f.Message.Contains("COPIED", StringComparison.Ordinal));
        Assert.Contains(findings, f => f.HostOffset?.Value == at && f.Message.Contains("refcount 0 and 1 references", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Two_guest_clusters_on_one_host_cluster_are_found()
    {
        var image = new Qcow2Builder { Size = 1 << 20 }.Fill(1, 3, 4).Build();
        image.SetL2(4, image.L2(3));
        var (report, findings) = await CheckAsync(image);
        Assert.Equal((1, 1), (report.Corruptions, report.Leaks));
        Assert.Contains(findings, f => f.Message.Contains("refcount 1 and 2 references", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData(0x8000000000050200UL, "not aligned to a cluster")]
    [InlineData(0x8f00000000050000UL, "reserved bits 0xf00000000000000")]
    [InlineData(0x8000000100000000UL, "beyond the end of the file")]
    public async Task A_bad_L2_entry_is_told_with_its_guest_offset(ulong entry, string words)
    {
        var image = new Qcow2Builder { Size = 1 << 20 }.Fill(1, 3, 4).Build();
        var (_, findings) = await CheckAsync(image.SetL2(4, entry));
        Assert.Contains(findings, f => f.Severity == CheckSeverity.Corruption
            && f.Message.Contains("guest offset 0x40000", StringComparison.Ordinal) && f.Message.Contains(words, StringComparison.Ordinal));
    }

    [Fact]
    public async Task Progress_ends_at_one()
    {
        var image = new Qcow2Builder { Size = 1 << 20 }.Fill(1, 3, 4).Build();
        await using var driver = await OpenDriverAsync(image);
        var progress = new Collected();
        await driver.CheckAsync(_ => { }, progress);
        Assert.Equal(1, progress.Values[^1]);
        Assert.Equal(progress.Values.Order(), progress.Values);
    }

    [Fact]
    public async Task References_spread_over_a_huge_file_are_counted_in_bounded_memory()
    {
        var image = new Qcow2Builder { Size = 1L << 40, FarGapClusters = 1L << 28 }.Fill(1, 0, 1, 2).Build();
        var before = GC.GetAllocatedBytesForCurrentThread();
        var (report, _) = await CheckAsync(image);
        Assert.Equal((0, 0), (report.Corruptions, report.Leaks));
        var allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        Assert.True(allocated < 32 << 20, $"{allocated} bytes for a file of {image.Bytes.Length}");
    }

    [Fact]
    public async Task More_references_than_a_small_counter_holds_are_counted()
    {
        // 20000 compressed clusters in one host cluster need more than 14 bits.
        var builder = new Qcow2Builder { ClusterBits = 21, RefcountOrder = 5, Size = 20_000L << 21, Packing = CompressedPacking.Bytes };
        var stream = Qcow2Builder.Deflate(new byte[1 << 21]);
        Assert.InRange(stream.Length, 1, 4096);
        var image = builder.SetCompressed(0, stream, []).Build();
        var entry = image.L2(0);
        for (var cluster = 1; cluster < 20_000; cluster++)
        {
            image.SetL2(cluster, entry);
        }

        var at = (long)(entry & ((1UL << 49) - 1)) & ~((1L << 21) - 1);
        image.SetRefcount(at, 20_000);
        var (report, findings) = await CheckAsync(image);
        Assert.Empty(findings);
        Assert.Equal(20_000, report.CompressedClusters);
        image.SetRefcount(at, 20_001);
        (_, findings) = await CheckAsync(image);
        Assert.Contains("refcount 20001 and 20000 references", Assert.Single(findings).Message, StringComparison.Ordinal);
    }

    private static async Task<(CheckReport Report, List<CheckFinding> Findings)> CheckAsync(BuiltImage image)
    {
        await using var driver = await OpenDriverAsync(image, Context(metadataOnly: true));
        var findings = new List<CheckFinding>();
        var report = await driver.CheckAsync(findings.Add);
        return (report, findings);
    }

    private sealed class Collected : IProgress<double>
    {
        public List<double> Values { get; } = [];

        public void Report(double value) => Values.Add(value);
    }

    [Fact]
    public async Task Findings_without_end_are_counted_and_only_the_first_are_told()
    {
        const int Entries = 100_000;
        var image = new Qcow2Builder { Size = 16 << 20 }.Fill(1, 0).Build();
        var l1 = new byte[Entries * 8];
        for (var at = 0; at < l1.Length; at += 8)
        {
            BinaryPrimitives.WriteInt64BigEndian(l1.AsSpan(at), image.L2TableAt[0]);
        }

        image.Bytes.Write(4 << 20, l1);
        image.Set(Qcow2Field.L1Size, Entries).Set(Qcow2Field.L1TableOffset, 4 << 20);
        var (report, findings) = await CheckAsync(image);
        Assert.Equal(FindingLimit.Max + 1, findings.Count);
        Assert.Equal((CheckSeverity.Note, true), (findings[^1].Severity, findings[^1].Message.StartsWith("... and ", StringComparison.Ordinal)));
        Assert.InRange(report.Corruptions, Entries, 3 * Entries);
        var told = findings.Count(f => f.Severity == CheckSeverity.Corruption) + findings.Count(f => f.Severity == CheckSeverity.Leak);
        Assert.Equal($"... and {report.Corruptions + report.Leaks - told} more findings", findings[^1].Message);
    }
}
