using System.Security.Cryptography;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.TestKit;

/// <summary>The builder's bytes against the specification's offsets, written out by hand.</summary>
public sealed class ParallelsImageBuilderTests
{
    [Fact]
    public void V1_header_and_bat_lie_where_the_specification_says()
    {
        var image = new ParallelsImageBuilder { ClusterSectors = 63, SizeSectors = 640, DataOffsetSectors = 0, Flags = 1, Heads = 16, Cylinders = 9 }
            .Fill(1, 2).Fill(1, 0).Build();
        var bytes = image.Bytes;
        Assert.Equal("WithoutFreeSpace"u8.ToArray(), bytes.Slice(0, 16));
        Assert.Equal(2u, bytes.U32Le(16));
        Assert.Equal(16u, bytes.U32Le(20));
        Assert.Equal(9u, bytes.U32Le(24));
        Assert.Equal(63u, bytes.U32Le(28));
        Assert.Equal(11u, bytes.U32Le(32));
        Assert.Equal(640u, bytes.U64Le(36));
        Assert.Equal(0x312e3276u, bytes.U32Le(44));
        Assert.Equal(0u, bytes.U32Le(48));
        Assert.Equal(1u, bytes.U32Le(52));
        Assert.Equal(0u, bytes.U64Le(56));

        // BAT: 64 + 44 bytes, so the data area starts at sector 1; entries count sectors.
        Assert.Equal(1u, bytes.U32Le(64));
        Assert.Equal(0u, bytes.U32Le(68));
        Assert.Equal(64u, bytes.U32Le(72));
        Assert.Equal(512 + (2 * 63 * 512), bytes.Length);
        Assert.Equal(TestContent.Make(1, 2 * 63 * 512, 63 * 512), bytes.Slice(64 * 512, 63 * 512));
    }

    [Fact]
    public void V2_bat_counts_clusters_from_the_start_of_the_file()
    {
        var image = new ParallelsImageBuilder { Magic = ParallelsMagic.WithouFreSpacExt, ClusterSectors = 8, SizeSectors = 80, Placement = HostPlacement.Descending }
            .Fill(1, 0, 9).Build();
        Assert.Equal("WithouFreSpacExt"u8.ToArray(), image.Bytes.Slice(0, 16));
        Assert.Equal(8u, image.Bytes.U32Le(48));
        Assert.Equal(1u, image.Bat(9));
        Assert.Equal(2u, image.Bat(0));
    }

    [Fact]
    public void Extension_carries_its_checksum_features_and_bitmap()
    {
        var bitmap = new ParallelsBitmap { GranularitySectors = 8, Flags = 1 }.Set(9, 2).Set(0, 1);
        var image = new ParallelsImageBuilder { ClusterSectors = 8, SizeSectors = 8 * 100 }
            .AddFeature(0xabcdef, 2, [1, 2, 3]).AddBitmap(bitmap).Fill(1, 5).Build();
        var at = image.ExtensionAt;
        Assert.Equal((ulong)at, image.Bytes.U64Le(56) * 512);
        Assert.Equal(0xAB234CEF23DCEA87, image.Bytes.U64Le(at));
#pragma warning disable CA5351 // The format's choice.
        Assert.Equal(MD5.HashData(image.Bytes.Slice(at + 24, 4096 - 24)), image.Bytes.Slice(at + 8, 16));
#pragma warning restore CA5351
        Assert.Equal(0xabcdefu, image.Bytes.U64Le(at + 24));
        Assert.Equal(2u, image.Bytes.U64Le(at + 32));
        Assert.Equal(3u, image.Bytes.U32Le(at + 40));

        // 24 bytes of header, 3 of data, padded to 8: the next feature.
        var second = at + 24 + 32;
        Assert.Equal([at + 24, second, second + 24 + 32 + 8], image.FeatureAt);
        Assert.Equal(0x20385FAE252CB34Au, image.Bytes.U64Le(second));
        Assert.Equal(1u, image.Bytes.U64Le(second + 8));
        Assert.Equal(40u, image.Bytes.U32Le(second + 16));
        Assert.Equal(800u, image.Bytes.U64Le(second + 24));
        Assert.Equal(bitmap.Id, image.Bytes.Slice(second + 32, 16));
        Assert.Equal(8u, image.Bytes.U32Le(second + 48));
        Assert.Equal(1u, image.Bytes.U32Le(second + 52));
        var dataSector = image.Bytes.U64Le(second + 56);
        Assert.Equal(second + 56, image.BitmapL1At[0]);
        Assert.Equal(3, image.Bytes.U8((long)dataSector * 512));
        Assert.Equal(0u, image.Bytes.U64Le(image.FeatureAt[^1]));
    }

    [Theory]
    [InlineData(0, 0, 0u)]
    [InlineData(0, 800, 1u)]
    public void Uniform_bitmaps_need_no_cluster(long first, long sectors, uint entry)
    {
        var image = new ParallelsImageBuilder { ClusterSectors = 8, SizeSectors = 800 }
            .AddBitmap(new ParallelsBitmap { GranularitySectors = 8 }.Set(first, sectors)).Build();
        Assert.Equal(entry, image.Bytes.U64Le(image.BitmapL1At[0]));
    }

    [Fact]
    public void Unused_clusters_hold_garbage_that_is_recognised()
    {
        var image = new ParallelsImageBuilder { ClusterSectors = 8, SizeSectors = 800, LeakedTailClusters = 2 }.Fill(1, 3, 4, 5).AddHoles(1).Build();
        Assert.Equal(3, image.UnusedClusters.Count);
        Assert.Equal(image.DataAt + (6 * 4096), image.Bytes.Length);
        Assert.Contains("seed 2989", TestContent.Describe(image.Bytes.Slice(image.UnusedClusters[0], 512)));
    }

    [Fact]
    public void A_partial_write_in_an_overlay_completes_the_cluster_from_below()
    {
        var below = new ParallelsImageBuilder { ClusterSectors = 8, SizeSectors = 80 }.Fill(1, 0, 1, 2);
        var above = new ParallelsImageBuilder { ClusterSectors = 8, SizeSectors = 80, Backing = below.Model }.Write(4096 + 512, TestContent.Make(2, 4608, 512));
        var image = above.Build();
        var cluster = image.Bytes.Slice(image.HostOffsets[1], 4096);
        Assert.Equal(TestContent.Make(1, 4096, 512), cluster[..512]);
        Assert.Equal(TestContent.Make(2, 4608, 512), cluster[512..1024]);
        Assert.Equal(TestContent.Make(1, 5120, 3072), cluster[1024..]);
        image.Model.AssertEqual(4096, cluster);
        Assert.Equal(ReferenceStatus.Unallocated, image.Model.StatusAt(0));
    }

    [Fact]
    public void Fields_are_broken_by_name()
    {
        var image = new ParallelsImageBuilder { ClusterSectors = 8, SizeSectors = 80 }.Fill(1, 0).Build();
        image.Set(ParallelsField.Tracks, 0).Set(ParallelsField.ExtensionOffset, ulong.MaxValue).SetBat(3, 77).SetMagic("WithoutFreeSpacf").Truncate(100);
        Assert.Equal(0u, image.Get(ParallelsField.Tracks));
        Assert.Equal(ulong.MaxValue, image.Bytes.U64Le(56));
        Assert.Equal(77u, image.Bytes.U32Le(64 + 12));
        Assert.Equal(100, image.Bytes.Length);
    }
}
