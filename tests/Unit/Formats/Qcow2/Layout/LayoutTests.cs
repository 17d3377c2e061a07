using Platter.Core.Errors;
using Platter.Core.Units;
using Platter.Formats.Qcow2;
using Platter.Formats.Qcow2.Layout;
using Xunit;

namespace Platter.Tests.Unit.Formats.Qcow2.Layout;

/// <summary>Structures as bytes of the reference tool, and bit fields as the specification draws them.</summary>
public sealed class LayoutTests
{
    // First 112 bytes of: qemu-img create -f qcow2 -o extended_l2=on,compression_type=zstd,lazy_refcounts=on,refcount_bits=64 a.qcow2 1G
    private const string GoldenHeader =
        "514649fb00000003000000000000000000000000000000100000000040000000000000000000000400000000000300000000000000010000"
        + "00000001000000000000000000000000000000000000001800000000000000010000000000000000000000060000007001000000000000000000";

    [Fact]
    public void The_header_of_the_reference_tool_is_understood()
    {
        var bytes = Convert.FromHexString(GoldenHeader);
        var header = Qcow2Header.Parse(bytes, "f");
        Assert.Equal(
            new Qcow2Header
            {
                Version = 3, BackingFileOffset = 0, BackingFileSize = 0, ClusterBits = 16, Size = 1 << 30, CryptMethod = CryptMethod.None, L1Size = 4,
                L1TableOffset = 0x30000, RefcountTableOffset = 0x10000, RefcountTableClusters = 1, SnapshotCount = 0, SnapshotsOffset = 0,
                Incompatible = IncompatibleFeatures.ExtendedL2 | IncompatibleFeatures.CompressionType, Compatible = CompatibleFeatures.LazyRefcounts,
                RefcountOrder = 6, HeaderLength = 112, CompressionType = CompressionType.Zstd,
            },
            header);
        header.ValidateExtent("f");
        header.Validate("f", FeatureNameTable.Empty, lenient: false);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(71)]
    [InlineData(103)]
    public void A_short_header_is_refused(int length)
    {
        var error = Assert.Throws<ImageFormatException>(() => Qcow2Header.Parse(Convert.FromHexString(GoldenHeader).AsSpan(0, length), "f"));
        Assert.Equal("f: header at 0x0: " + $"the file ends after {length} of its {(length < 72 ? 72 : 104)} bytes", error.Message);
    }

    [Theory]
    [InlineData(9, 61)]
    [InlineData(16, 54)]
    [InlineData(21, 49)]
    public void Compressed_descriptors_split_where_the_cluster_size_says(int clusterBits, int offsetBits)
    {
        var geometry = new Qcow2Geometry(clusterBits, 4, false, 3);
        Assert.Equal(offsetBits, geometry.CompressedOffsetBits);
        const ulong offset = 0x12345;
        var sectors = (1UL << (62 - offsetBits)) - 1;
        var entry = new L2Entry(L2Entry.CompressedFlag | (sectors << offsetBits) | offset);
        Assert.Equal(new HostOffset(0x12345), entry.CompressedOffset(geometry));
        Assert.Equal((((int)sectors + 1) * 512) - (0x12345 & 511), entry.CompressedLength(geometry));
    }

    [Fact]
    public void Entry_fields_are_where_the_specification_has_them()
    {
        var entry = new L2Entry(0x80000000000a0001);
        Assert.Equal((true, true, false, new HostOffset(0xa0000), 0UL), (entry.IsCopied, entry.IsZero, entry.IsCompressed, entry.Offset, entry.ReservedBits));
        Assert.Equal(0x3f000000000001feUL, new L2Entry(ulong.MaxValue).ReservedBits);
        Assert.Equal(0x00fffffffffffe00, new L2Entry(ulong.MaxValue).Offset.Value);
        Assert.Equal(0x7f000000000001ffUL, new L1Entry(ulong.MaxValue).ReservedBits);
        Assert.True(new L1Entry(0x80000000000001ff).IsAbsent);
        Assert.Equal(0x1ffUL, new RefcountTableEntry(ulong.MaxValue).ReservedBits);
        Assert.True(new BitmapTableEntry(0x10001).HasReservedBits);
        Assert.False(new BitmapTableEntry(1).HasReservedBits);
        Assert.True(new BitmapTableEntry(1) is { IsUnallocated: true, IsAllOnes: true });
    }

    [Fact]
    public void Subcluster_runs_are_counted_by_status()
    {
        var random = new Random(3);
        for (var round = 0; round < 2000; round++)
        {
            var allocated = (uint)(random.NextInt64() & random.NextInt64(1L << 32));
            var zero = (uint)random.NextInt64(1L << 32) & ~allocated;
            if (round % 3 == 0)
            {
                (allocated, zero) = (allocated | 0xffffff00, zero & 0xff);
            }

            var bitmap = new SubclusterBitmap(((ulong)zero << 32) | allocated);
            for (var i = 0; i < 32; i++)
            {
                var expected = 1;
                while (i + expected < 32 && Status(i + expected) == Status(i))
                {
                    expected++;
                }

                Assert.Equal(expected, bitmap.RunLength(i));
            }

            (uint, uint) Status(int i) => ((allocated >> i) & 1, (zero >> i) & 1);
        }
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    [InlineData(5)]
    [InlineData(6)]
    public void Refcounts_of_every_width_are_read(int order)
    {
        // Written bit by bit: bit 0 is the lowest of its byte below one byte's width; wider ones are big-endian.
        var random = new Random(order);
        var width = 1 << order;
        var block = new byte[512];
        var expected = new ulong[512 * 8 / width];
        for (var i = 0; i < expected.Length; i++)
        {
            var value = random.Next(3) == 0 ? 0 : (ulong)random.NextInt64() & (width == 64 ? ulong.MaxValue : (1UL << width) - 1);
            expected[i] = value;
            for (var bit = 0; bit < width; bit++)
            {
                if ((value >> bit & 1) == 0)
                {
                    continue;
                }

                var at = width < 8 ? (i * width / 8, (i * width % 8) + bit) : ((i * width / 8) + (width / 8) - 1 - (bit / 8), bit % 8);
                block[at.Item1] |= (byte)(1 << at.Item2);
            }
        }

        for (var i = 0; i < expected.Length; i++)
        {
            Assert.Equal(expected[i], RefcountBlock.Get(block, i, order));
        }

        foreach (var count in new[] { 0, 1, 2, 3, 5, 7, expected.Length - 1, expected.Length })
        {
            Assert.Equal(expected.Take(count).Count(v => v != 0), RefcountBlock.CountUsed(block, count, order));
        }
    }

    [Fact]
    public void A_bitmap_directory_entry_that_is_made_reads_as_it_was_made()
    {
        var entry = BitmapDirectoryEntry.Make("b\u00e4r", 16, BitmapFlags.Auto).WithTable(new(0x50000), 3).WithFlags(BitmapFlags.Auto | BitmapFlags.InUse);

        // bitmap_table_offset, bitmap_table_size, flags, type, granularity_bits, name_size, extra_data_size, name, padding: as the spec has them.
        Assert.Equal("0000000000050000" + "00000003" + "00000003" + "01" + "10" + "0004" + "00000000" + "62C3A472" + "00000000", Convert.ToHexString(entry.Raw.Span));
        var read = BitmapDirectoryEntry.Parse(entry.Raw.Span, "file", 0, default, out var size);
        Assert.Equal(entry.Raw.Length, size);
        Assert.Equal(entry with { Raw = default }, read);
    }

    [Fact]
    public void Extra_data_of_a_bitmap_stay_where_they_are()
    {
        var raw = BitmapDirectoryEntry.Make("x", 9, BitmapFlags.None).Raw.ToArray();
        raw[23] = 3;
        raw[27] = (byte)'x';
        raw[24] = 7;
        var entry = BitmapDirectoryEntry.Parse(raw, "file", 0, default, out _) with { Raw = raw };
        var changed = entry.WithTable(new(0x10000), 1).WithFlags(BitmapFlags.Auto);
        Assert.Equal(("x", 3u, (byte)7), (changed.Name, changed.ExtraSize, changed.Raw.Span[24]));
    }

    [Fact]
    public void The_bitmaps_extension_is_written_as_it_is_read()
    {
        var extension = new BitmapsExtension(2, 0x60, 0x70000);
        Assert.Equal("00000002" + "00000000" + "0000000000000060" + "0000000000070000", Convert.ToHexString(extension.ToBytes()));
        Assert.Equal(extension, BitmapsExtension.Parse(new(HeaderExtensionType.Bitmaps, default, extension.ToBytes()), "file"));
    }
}
