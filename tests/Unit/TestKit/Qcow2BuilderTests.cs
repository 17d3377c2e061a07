using System.IO.Compression;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.TestKit;

/// <summary>The builder's bytes against the specification's offsets, written out by hand.</summary>
public sealed class Qcow2BuilderTests
{
    [Fact]
    public void V3_header_and_tables_lie_where_the_specification_says()
    {
        var image = new Qcow2Builder { ClusterBits = 12, Size = 1 << 20, RefcountOrder = 5 }.Fill(1, 3).ZeroPlain(4).ZeroAllocated(5).Build();
        var bytes = image.Bytes;
        Assert.Equal("514649fb00000003", Convert.ToHexStringLower(bytes.Slice(0, 8)));
        Assert.Equal(12u, bytes.U32Be(20));
        Assert.Equal(1u << 20, bytes.U64Be(24));
        Assert.Equal(1u, bytes.U32Be(36));
        Assert.Equal(5u, bytes.U32Be(96));
        Assert.Equal(112u, bytes.U32Be(100));

        // Header, refcount table, refcount block, L1, L2, two data clusters.
        Assert.Equal(0x1000u, bytes.U64Be(48));
        Assert.Equal(1u, bytes.U32Be(56));
        Assert.Equal(0x2000u, bytes.U64Be(0x1000));
        Assert.Equal(0x3000u, bytes.U64Be(40));
        Assert.Equal(0x8000000000004000u, bytes.U64Be(0x3000));
        Assert.Equal(0x8000000000005000u, bytes.U64Be(0x4000 + 24));
        Assert.Equal(1u, bytes.U64Be(0x4000 + 32));
        Assert.Equal(0x8000000000006001u, bytes.U64Be(0x4000 + 40));
        Assert.Equal(TestContent.Make(1, 3 << 12, 4096), bytes.Slice(0x5000, 4096));
        Assert.Equal(0x7000, bytes.Length);
        for (var i = 0; i < 7; i++)
        {
            Assert.Equal(1u, bytes.U32Be(0x2000 + (i * 4)));
        }
    }

    [Fact]
    public void Compressed_descriptor_counts_the_sectors_that_the_stream_touches()
    {
        var builder = new Qcow2Builder { ClusterBits = 16, Size = 1 << 20 };
        var stream = new byte[1000];
        builder.SetCompressed(0, stream, []).SetCompressed(1, stream, [], slackSectors: 2);
        var image = builder.Build();

        // x = 62 - (16 - 8) = 54; the first stream touches 2 sectors, the second, from byte 1000, sectors 1 to 3 and 2 more.
        var run = (long)(image.L2(0) & ((1UL << 54) - 1));
        Assert.Equal((1UL << 62) | (1UL << 54) | (ulong)run, image.L2(0));
        Assert.Equal((1UL << 62) | (4UL << 54) | (ulong)(run + 1000), image.L2(1));
        Assert.Equal(2u, image.Refcount(run));
    }

    [Fact]
    public void Extended_entries_carry_allocation_low_and_zeros_high()
    {
        var image = new Qcow2Builder { ExtendedL2 = true, ClusterBits = 16, Size = 1 << 20 }.SetSubclusters(2, 0x1, 0x2).ZeroPlain(3).Build();
        Assert.Equal(0x0000000200000001u, image.Bytes.U64Be(image.L2EntryAt(2) + 8));
        Assert.Equal(0u, image.L2(3));
        Assert.Equal(0xffffffff00000000u, image.Bytes.U64Be(image.L2EntryAt(3) + 8));
        Assert.Equal(16u, image.Get(Qcow2Field.IncompatibleFeatures));
        Assert.Contains("seed 2989", TestContent.Describe(image.Bytes.Slice((long)(image.L2(2) & 0x00fffffffffffe00) + 4096, 512)));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    [InlineData(5)]
    [InlineData(6)]
    public void Refcounts_of_every_width_can_be_read_and_broken(int order)
    {
        var image = new Qcow2Builder { ClusterBits = 9, Size = 1 << 16, RefcountOrder = order, FreeClusters = 1 }.Fill(1, 5, 6, 7).Build();
        var free = image.FreeClusters[0];
        Assert.Equal(0u, image.Refcount(free));
        Assert.Equal(1u, image.Refcount(free - 512));
        image.SetRefcount(free, 1);
        Assert.Equal(1u, image.Refcount(free));
        image.SetRefcount(free, 0);
        Assert.Equal(1u, image.Refcount(free - 512));
    }

    [Fact]
    public void Snapshots_keep_their_content_and_share_what_did_not_change()
    {
        var builder = new Qcow2Builder { ClusterBits = 12, Size = 4 << 20 };
        builder.Fill(1, 0, 1, 600).AddSnapshot("1", "a").Fill(2, 1);
        var image = builder.Build();
        image.Snapshots[0].Model.AssertEqual(4096, TestContent.Make(1, 4096, 4096));
        image.Model.AssertEqual(4096, TestContent.Make(2, 4096, 4096));
        Assert.Equal(2u, image.Refcount((long)image.L2(0)));
        Assert.Equal(0u, image.L2(0) >> 63);
        Assert.Equal(1u, image.L2(1) >> 63);

        // The second L2 table is shared as a whole.
        var l1 = image.Bytes.U64Be(image.L1EntryAt(1));
        Assert.Equal(l1, image.Bytes.U64Be(image.Snapshots[0].L1At + 8));
        Assert.Equal(2u, image.Refcount((long)l1));
    }

    [Fact]
    public void A_width_that_cannot_count_the_references_is_refused() =>
        Assert.Throws<InvalidOperationException>(() => new Qcow2Builder { RefcountOrder = 0, Size = 1 << 20 }.Fill(1, 0).AddSnapshot("1", "a").Build());

    [Fact]
    public void Deflate_uses_the_whole_window()
    {
        // 20,000 bytes of noise twice: only a window of 32 KiB sees the repetition.
        var half = TestContent.Make(1, 0, 20_000);
        byte[] content = [.. half, .. half];
        var stream = Qcow2Builder.Deflate(content);
        Assert.InRange(stream.Length, 19_000, 22_000);
        using var inflate = new DeflateStream(new MemoryStream(stream), CompressionMode.Decompress);
        var result = new byte[content.Length];
        inflate.ReadExactly(result);
        Assert.Equal(content, result);
    }

    [Fact]
    public void Zstd_frames_are_what_the_rfc_prints()
    {
        // Magic, descriptor (single segment, 4 bytes of size), size 20, one last run-length block (type 1) of 20 bytes.
        Assert.Equal("28b52ffda014000000a3000007", Convert.ToHexStringLower(ZstdFrames.Frame(Enumerable.Repeat((byte)7, 20).ToArray())));
        Assert.Equal("28b52ffd00581900000102" + "03", Convert.ToHexStringLower(ZstdFrames.Frame([1, 2, 3], declareSize: false)));
        Assert.Equal("502a4d18" + "02000000" + "0908", Convert.ToHexStringLower(ZstdFrames.Skippable([9, 8])));
    }

    [Fact]
    public void Fields_and_entries_are_broken_by_name()
    {
        var image = new Qcow2Builder { Size = 1 << 20 }.Fill(1, 2).Build();
        image.Set(Qcow2Field.ClusterBits, 63).Set(Qcow2Field.CompressionType, 9).Set(Qcow2Field.SnapshotsOffset, ulong.MaxValue)
            .SetL1(0, 7).SetL2(2, 0x1234);
        Assert.Equal((63u, 9u, ulong.MaxValue), (image.Get(Qcow2Field.ClusterBits), image.Get(Qcow2Field.CompressionType), image.Get(Qcow2Field.SnapshotsOffset)));
        Assert.Equal(7u, image.Bytes.U64Be(image.L1At));
        Assert.Equal(0x1234u, image.L2(2));
    }
}
