using Platter.TestKit;
using Xunit;
using Xunit.Sdk;

namespace Platter.Tests.Unit.TestKit;

public sealed class ReferenceDiskTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void Random_writes_through_three_layers_equal_a_byte_array(int seed)
    {
        const int size = 100_000;
        var random = new Random(seed);
        var plain = new byte[size];
        var disk = new ReferenceDisk(size);
        for (var layer = 0; layer < 3; layer++)
        {
            var written = new ReferenceStatus[size];
            for (var i = 0; i < 60; i++)
            {
                var at = random.Next(size);
                var length = random.Next(Math.Min(9000, size - at) + 1);
                if (random.Next(3) == 0)
                {
                    disk.Zero(at, length);
                    plain.AsSpan(at, length).Clear();
                    written.AsSpan(at, length).Fill(ReferenceStatus.Zero);
                }
                else
                {
                    disk.Fill(seed + i, at, length);
                    TestContent.Fill(plain.AsSpan(at, length), seed + i, at);
                    written.AsSpan(at, length).Fill(ReferenceStatus.Data);
                }
            }

            Assert.True(disk.ToArray().AsSpan().SequenceEqual(plain), $"seed {seed}");
            AssertRuns(disk, written);
            disk.AssertEqual(plain);
            Assert.Equal(plain, disk.Flatten().ToArray());
            disk = disk.Overlay();
        }
    }

    [Fact]
    public void Zeros_hide_the_backing_disk_and_unallocate_shows_it_again()
    {
        var disk = new ReferenceDisk(8192);
        disk.Fill(1, 0, 8192);
        var top = disk.Overlay();
        top.Zero(512, 1024);
        Assert.All(top.Slice(512, 1024), b => Assert.Equal(0, b));
        top.Unallocate(512, 1024);
        top.AssertEqual(disk.ToArray());
    }

    [Fact]
    public void A_longer_overlay_reads_zeros_behind_its_backing_disk()
    {
        var disk = new ReferenceDisk(1000);
        disk.Fill(1, 0, 1000);
        var top = disk.Overlay(5000);
        Assert.Equal(disk.ToArray(), top.Slice(0, 1000));
        Assert.All(top.Slice(1000, 4000), b => Assert.Equal(0, b));
        Assert.Equal([(0L, 1000L)], top.DataRanges());
    }

    [Fact]
    public void A_difference_names_the_sector_that_was_returned_instead()
    {
        var disk = new ReferenceDisk(1 << 20);
        disk.Fill(7, 0, 1 << 20);
        var actual = disk.ToArray();
        actual.AsSpan(65536, 512).CopyTo(actual.AsSpan(4096));
        var error = Assert.Throws<FailException>(() => disk.AssertEqual(actual));
        Assert.Contains("seed 7 for guest offset 0x1000, it holds content of seed 7 for guest offset 0x10000", error.Message);
    }

    [Fact]
    public async Task A_huge_disk_is_compared_through_its_data_and_samples()
    {
        var disk = new ReferenceDisk(64L << 40);
        disk.Fill(3, 5L << 40, 300_000);
        var reads = 0;
        await disk.AssertEqualAsync((offset, buffer) =>
        {
            reads++;
            disk.Read(offset, buffer.Span);
            return new(buffer.Length);
        });
        Assert.InRange(reads, 8, 1000);
        await Assert.ThrowsAsync<FailException>(() => disk.AssertEqualAsync((_, buffer) =>
        {
            buffer.Span.Clear();
            return new(buffer.Length);
        }));
    }

    private static void AssertRuns(ReferenceDisk disk, ReferenceStatus[] written)
    {
        long next = 0;
        foreach (var (offset, length, status) in disk.Runs(0, disk.Size))
        {
            Assert.Equal(next, offset);
            Assert.True(written.AsSpan((int)offset, (int)length).IndexOfAnyExcept(status) < 0);
            next = offset + length;
        }

        Assert.Equal(disk.Size, next);
    }
}
