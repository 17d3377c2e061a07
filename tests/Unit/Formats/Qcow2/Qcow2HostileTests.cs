using System.Buffers.Binary;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Units;
using Platter.TestKit;
using Xunit;
using static Platter.Tests.Unit.Formats.Qcow2.Qcow2Fixture;
using BuiltImage = Platter.TestKit.Qcow2Image;

namespace Platter.Tests.Unit.Formats.Qcow2;

/// <summary>Every number of an image that breaks a rule is refused by name, and nothing but the error family comes out.</summary>
public sealed class Qcow2HostileTests
{
    public static TheoryData<Qcow2Field, ulong, BlockErrorKind, string, string> BadFields() => new()
    {
        { Qcow2Field.Magic, 0x514649fc, BlockErrorKind.WrongFormat, "magic", "0x514649fc" },
        { Qcow2Field.Version, 1, BlockErrorKind.Unsupported, "version", "1" },
        { Qcow2Field.Version, 4, BlockErrorKind.Unsupported, "version", "4" },
        { Qcow2Field.Version, 0, BlockErrorKind.Unsupported, "version", "0" },
        { Qcow2Field.ClusterBits, 8, BlockErrorKind.CorruptImage, "cluster_bits", "between 9 and 21" },
        { Qcow2Field.ClusterBits, 22, BlockErrorKind.Unsupported, "cluster_bits", "between 9 and 21" },
        { Qcow2Field.ClusterBits, 0xffffffff, BlockErrorKind.CorruptImage, "cluster_bits", "4294967295" },
        { Qcow2Field.ClusterBits, 64, BlockErrorKind.CorruptImage, "cluster_bits", "64" },
        { Qcow2Field.HeaderLength, 103, BlockErrorKind.CorruptImage, "header_length", "at least 104" },
        { Qcow2Field.HeaderLength, 0, BlockErrorKind.CorruptImage, "header_length", "0" },
        { Qcow2Field.HeaderLength, 65537, BlockErrorKind.CorruptImage, "header_length", "first cluster" },
        { Qcow2Field.HeaderLength, 0xffffffff, BlockErrorKind.CorruptImage, "header_length", "first cluster" },
        { Qcow2Field.RefcountOrder, 7, BlockErrorKind.CorruptImage, "refcount_order", "must not exceed 6" },
        { Qcow2Field.RefcountOrder, 0xffffffff, BlockErrorKind.CorruptImage, "refcount_order", "must not exceed 6" },
        { Qcow2Field.CryptMethod, 3, BlockErrorKind.Unsupported, "crypt_method", "3" },
        { Qcow2Field.CryptMethod, 2, BlockErrorKind.CorruptImage, "crypt_method", "pointer" },
        { Qcow2Field.L1Size, 1, BlockErrorKind.CorruptImage, "l1_size", "needs 2 entries" },
        { Qcow2Field.L1Size, (32 << 20) / 8 + 1, BlockErrorKind.LimitExceeded, "l1_size", "4194304" },
        { Qcow2Field.L1Size, 0xffffffff, BlockErrorKind.LimitExceeded, "l1_size", "4294967295" },
        { Qcow2Field.L1TableOffset, 0x30200, BlockErrorKind.CorruptImage, "l1_table_offset", "not aligned" },
        { Qcow2Field.L1TableOffset, 0x8000000000000000, BlockErrorKind.CorruptImage, "l1_table_offset", "beyond" },
        { Qcow2Field.L1TableOffset, 0x7fffffffffff0000, BlockErrorKind.CorruptImage, "l1_table_offset", "beyond" },
        { Qcow2Field.RefcountTableOffset, 0x10001, BlockErrorKind.CorruptImage, "refcount_table_offset", "not aligned" },
        { Qcow2Field.RefcountTableOffset, 0xffffffffffff0000, BlockErrorKind.CorruptImage, "refcount_table_offset", "beyond" },
        { Qcow2Field.RefcountTableClusters, 0, BlockErrorKind.CorruptImage, "refcount_table_clusters", "no refcount table" },
        { Qcow2Field.RefcountTableClusters, 129, BlockErrorKind.LimitExceeded, "refcount_table_clusters", "128" },
        { Qcow2Field.RefcountTableClusters, 0xffffffff, BlockErrorKind.LimitExceeded, "refcount_table_clusters", "128" },
        { Qcow2Field.SnapshotCount, 65537, BlockErrorKind.LimitExceeded, "nb_snapshots", "65536" },
        { Qcow2Field.SnapshotCount, 0xffffffff, BlockErrorKind.LimitExceeded, "nb_snapshots", "65536" },
        { Qcow2Field.SnapshotsOffset, 0x201, BlockErrorKind.CorruptImage, "snapshots_offset", "not aligned" },
        { Qcow2Field.Size, 0xffffffffffffffff, BlockErrorKind.LimitExceeded, "size", "32 MiB" },
        { Qcow2Field.Size, 0x7fffffffffffffff, BlockErrorKind.LimitExceeded, "size", "32 MiB" },
        { Qcow2Field.Size, 1UL << 41, BlockErrorKind.CorruptImage, "l1_size", "needs 4096 entries" },
        { Qcow2Field.CompressionType, 1, BlockErrorKind.CorruptImage, "compression_type", "bit 3 is not set" },
        { Qcow2Field.IncompatibleFeatures, 8, BlockErrorKind.CorruptImage, "compression_type", "demands" },
        { Qcow2Field.IncompatibleFeatures, 1UL << 62, BlockErrorKind.Unsupported, "incompatible_features", "bit 62" },
        { Qcow2Field.BackingFileOffset, 65537, BlockErrorKind.CorruptImage, "backing_file_offset", "first cluster" },
        { Qcow2Field.BackingFileOffset, ulong.MaxValue, BlockErrorKind.CorruptImage, "backing_file_offset", "first cluster" },
        { Qcow2Field.BackingFileSize, 1024, BlockErrorKind.CorruptImage, "backing_file_size", "1023" },
        { Qcow2Field.BackingFileSize, 0xffffffff, BlockErrorKind.CorruptImage, "backing_file_size", "1023" },
    };

    [Theory]
    [MemberData(nameof(BadFields))]
    public async Task A_bad_header_field_is_refused_by_name(Qcow2Field field, ulong value, BlockErrorKind kind, string name, string words)
    {
        var image = Good().Set(field, value);
        await AssertRefusedAsync(image, kind, "header", name, words);
    }

    [Fact]
    public async Task An_unfinished_copy_is_refused_as_what_it_is_unless_the_feature_has_another_name()
    {
        var error = await Assert.ThrowsAsync<BlockException>(async () => await OpenDriverAsync(Good().Set(Qcow2Field.IncompatibleFeatures, 1UL << 63)));
        Assert.Equal(BlockErrorKind.Unsupported, error.Kind);
        Assert.StartsWith("test.qcow2: an unfinished copy (platter convert --resume): ", error.Message, StringComparison.Ordinal);
        var other = new Qcow2Builder { IncompatibleFeatures = 1UL << 63, FeatureNames = [(0, 63, "something else")] }.Build();
        await AssertRefusedAsync(other, BlockErrorKind.Unsupported, "header", "incompatible_features", "bit 63 'something else'");
    }

    [Theory]
    [InlineData("fooo", "x", "does not support the option 'fooo'")]
    [InlineData("l2-cache-sizes", "1M", "does not support the option 'l2-cache-sizes'")]
    [InlineData("data-file.filename", "x", "only for images with an external data file")]
    [InlineData("encrypt.format", "luks", "is not encrypted")]
    public async Task Options_that_cannot_be_meant_are_refused(string key, string value, string words)
    {
        var image = new Qcow2Builder { Size = 1 << 20 }.Build();
        var error = await Assert.ThrowsAsync<BlockException>(
            async () => await new Platter.Formats.Qcow2.Qcow2Format().OpenAsync(image.ToStorage(), new NodeOptions { [key] = value }, Context()));
        Assert.Equal(BlockErrorKind.InvalidRequest, error.Kind);
        Assert.Contains(words, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Unknown_incompatible_features_are_refused_by_their_names()
    {
        var image = new Qcow2Builder
        {
            Size = 1 << 20, IncompatibleFeatures = (1UL << 5) | (1UL << 40), FeatureNames = [(0, 5, "quantum clusters"), (1, 40, "wrong table"), (0, 41, "other bit")],
        }.Build();
        await AssertRefusedAsync(image, BlockErrorKind.Unsupported, "header", "incompatible_features", "bit 5 'quantum clusters', bit 40");
    }

    [Theory]
    [InlineData(1UL)]
    [InlineData(2UL)]
    [InlineData(3UL)]
    public async Task Dirty_and_corrupt_images_are_readable(ulong features)
    {
        var image = new Qcow2Builder { Size = 1 << 20, IncompatibleFeatures = features }.FillRandom(1).Build();
        await using var node = await OpenAsync(image);
        await AssertReadsAsAsync(node, image.Model, 1);
        var info = await node.GetInfoAsync();
        Assert.Equal((features & 1) != 0, info.Dirty);
        Assert.Equal((features & 2) != 0, info.FormatSpecific!["corrupt"]!.GetValue<bool>());
    }

    [Fact]
    public async Task Unknown_compatible_and_autoclear_features_are_ignored()
    {
        var image = new Qcow2Builder { Size = 1 << 20, CompatibleFeatures = ulong.MaxValue, AutoclearFeatures = 0xfffffffffffffffc }.FillRandom(1).Build();
        await using var node = await OpenAsync(image);
        await AssertReadsAsAsync(node, image.Model, 1);
    }

    [Fact]
    public async Task Fields_behind_a_version_2_header_are_no_fields()
    {
        var image = new Qcow2Builder { Version = 2, Size = 1 << 20 }.FillRandom(1).Build();
        image.Bytes.Write(72, new byte[8]);
        for (var at = 80; at < 112; at++)
        {
            image.Bytes.PutU8(at, 0xff);
        }

        await using var node = await OpenAsync(image);
        await AssertReadsAsAsync(node, image.Model, 1);
    }

    public static TheoryData<string, ulong, string> BadEntries() => new()
    {
        { "L2", 0x8000000000040200, "not aligned" },
        { "L2", 0x0000000000040201, "not aligned" },
        { "L1", 0x8000000000040200, "not aligned" },
        { "L1", 0x80ffffffffff0000, "beyond the end of the file" },
        { "L1", 0x8000000001000000, "beyond the end of the file" },
    };

    [Theory]
    [MemberData(nameof(BadEntries))]
    public async Task A_bad_table_entry_is_an_error_where_it_is_used_and_nowhere_else(string table, ulong value, string words)
    {
        var image = Good();
        _ = table == "L2" ? image.SetL2(1, value) : image.SetL1(0, value);
        await using var node = await OpenAsync(image);
        var error = await Assert.ThrowsAsync<ImageFormatException>(async () => await node.ReadAsync(new(65536), new byte[512]));
        AssertSays(error, BlockErrorKind.CorruptImage, "L", error.Field, words);
        var other = new byte[512];
        await node.ReadAsync(new(table == "L2" ? 0 : 600 << 20), other);
        image.Model.AssertEqual(table == "L2" ? 0 : 600 << 20, other);
    }

    [Theory]
    [InlineData(0x8000000000000000UL, 0x0000000100000001UL, "both allocated and zero", true)]
    [InlineData(0UL, 1UL, "no host cluster", false)]
    [InlineData(0x4000000000050000UL, 1UL, "must be 0", false)]
    public async Task Contradictory_subclusters_are_refused(ulong entry, ulong bitmap, string words, bool keepHost)
    {
        var image = new Qcow2Builder { ExtendedL2 = true, Size = 4 << 20 }.Fill(1, 0, 1, 2).Build();
        image.SetL2(1, keepHost ? image.L2(1) : entry).SetL2Bitmap(1, bitmap);
        await using var node = await OpenAsync(image);
        var error = await Assert.ThrowsAsync<ImageFormatException>(async () => await node.ReadAsync(new(65536), new byte[512]));
        AssertSays(error, BlockErrorKind.CorruptImage, "L2 entry", "value", words, "0x10000");
        var before = new byte[65536];
        await node.ReadAsync(default, before);
        image.Model.AssertEqual(0, before);
    }

    [Fact]
    public async Task The_zero_flag_is_refused_in_version_2()
    {
        var image = new Qcow2Builder { Version = 2, Size = 1 << 20 }.Fill(1, 0, 1).Build();
        image.SetL2(1, image.L2(1) | 1);
        await using var node = await OpenAsync(image);
        var error = await Assert.ThrowsAsync<ImageFormatException>(async () => await node.ReadAsync(new(65536), new byte[512]));
        AssertSays(error, BlockErrorKind.CorruptImage, "L2 entry", "value", "version 2");
    }

    [Theory]
    [InlineData(0x8000000000030000UL, "its guest offset 0x10000")]
    [InlineData(0x4000000000010000UL, "compressed")]
    [InlineData(0x8000000000000000UL, "its guest offset 0x10000")]
    public async Task An_entry_of_a_data_file_must_be_its_guest_offset(ulong entry, string words)
    {
        var image = new Qcow2Builder { ExternalData = true, DataFileName = "d", Size = 1 << 20 }.Fill(1, 0, 1).Build();
        image.SetL2(1, entry);
        await using var node = await OpenAsync(image);
        var error = await Assert.ThrowsAsync<ImageFormatException>(async () => await node.ReadAsync(new(65536), new byte[512]));
        AssertSays(error, BlockErrorKind.CorruptImage, "L2 entry", "value", words);
    }

    [Theory]
    [InlineData(0, "not a valid deflate stream", new byte[] { 0xff, 0xff, 0xff, 0xff })]
    [InlineData(0, "decodes to 5 bytes only", null)]
    [InlineData(1, "not a valid zstd stream", new byte[] { 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4 })]
    [InlineData(1, "not a valid zstd stream", new byte[] { 0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff, 1, 0, 0 })]
    public async Task A_bad_compressed_cluster_is_an_error_that_names_it(byte type, string words, byte[]? stream)
    {
        var image = new Qcow2Builder { CompressionType = type, Size = 1 << 20 }
            .SetCompressed(1, stream ?? Qcow2Builder.Deflate("short"u8), new byte[65536]).Fill(1, 0).Build();
        await using var node = await OpenAsync(image);
        foreach (var size in new[] { 65536, 512 })
        {
            var error = await Assert.ThrowsAsync<ImageFormatException>(async () => await node.ReadAsync(new(65536), new byte[size]));
            AssertSays(error, BlockErrorKind.CorruptImage, "compressed cluster of guest offset 0x10000", "", words);
        }
    }

    [Fact]
    public async Task A_compressed_cluster_beyond_the_file_is_an_error()
    {
        var image = new Qcow2Builder { Size = 1 << 20 }.FillCompressed(1, 1).Build();
        image.SetL2(1, 0x4000000000000000 | (1UL << 52));
        await using var node = await OpenAsync(image);
        await Assert.ThrowsAsync<ImageFormatException>(async () => await node.ReadAsync(new(65536), new byte[512]));
    }

    [Theory]
    [InlineData(0xe2792acau, 0xffffffffu)]
    [InlineData(0x6803f857u, 70000u)]
    [InlineData(0x12345678u, 0x80000000u)]
    public async Task An_extension_longer_than_its_room_is_refused(uint type, uint length)
    {
        var image = new Qcow2Builder { Size = 1 << 20, BackingFormat = "raw", BackingFile = "b" }.AddExtension(0x12345678, [1, 2, 3]).Build();
        image.Bytes.PutU32Be(image.ExtensionAt[type] + 4, length);
        await AssertRefusedAsync(image, BlockErrorKind.CorruptImage, "header extension", "length", "left for it");
    }

    [Fact]
    public async Task Broken_lists_are_refused_for_reading_and_reported_for_info_and_check()
    {
        var image = new Qcow2Builder { Size = 1 << 20 }.AddSnapshot("1", "one").AddBitmap(new Qcow2Bitmap("b").Set(0, 65536)).Build();
        image.Bytes.PutU32Be(image.SnapshotTableAt + 36, 1025);
        image.Bytes.PutU8(image.BitmapEntryAt[0] + 16, 9);
        await AssertRefusedAsync(image, BlockErrorKind.LimitExceeded, "snapshot table entry 0", "extra_data_size", "1024");
        var warnings = new List<string>();
        await using var node = await OpenAsync(image, Context(metadataOnly: true, warnings: warnings));
        Assert.Equal(2, warnings.Count);
        var findings = new List<CheckFinding>();
        var report = await node.CheckAsync(findings.Add);
        Assert.Equal(2, report.Errors);
        Assert.Equal(0, report.Leaks);
        Assert.Contains(findings, f => f.Message.Contains("bitmap directory entry 0", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Data_that_was_cut_off_reads_as_zeros_with_one_warning()
    {
        var image = new Qcow2Builder { Size = 1 << 20 }.Fill(1, 0, 1, 2, 3).Build();
        var at = (long)(image.L2(2) & 0x00fffffffffffe00);
        image.Truncate(at);
        var warnings = new List<string>();
        await using var node = await OpenAsync(image, Context(warnings: warnings));
        var disk = new byte[1 << 20];
        await node.ReadAsync(default, disk);
        await node.ReadAsync(default, disk);
        image.Model.AssertEqual(0, disk.AsSpan(0, 2 * 65536));
        Assert.DoesNotContain(disk[(2 * 65536)..], b => b != 0);
        Assert.Contains($"the file ends at 0x{at:x}", Assert.Single(warnings), StringComparison.Ordinal);

        // A file that ends inside its last cluster is how images are made.
        image.Truncate(at + 65536 + 512);
        warnings.Clear();
        await using var whole = await OpenAsync(image, Context(warnings: warnings));
        await whole.ReadAsync(default, disk);
        Assert.Empty(warnings);
    }

    [Fact]
    public async Task A_file_of_any_length_ends_in_the_error_family_or_in_zeros()
    {
        var image = new Qcow2Builder { ClusterBits = 9, Size = 64 << 10 }.FillRandom(1, 0.8).AddSnapshot("1", "one")
            .AddBitmap(new Qcow2Bitmap("b") { GranularityBits = 9 }.Set(0, 10000)).FillRandom(2, 0.3).Build();
        var whole = image.Bytes.ToArray();
        for (var length = 0; length <= whole.Length; length += length < 640 ? 3 : 211)
        {
            await SwallowAsync(SparseBytes.From(whole.AsSpan(0, length)));
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Any_bit_of_the_metadata_may_be_wrong(bool extended)
    {
        var builder = new Qcow2Builder { ClusterBits = extended ? 14 : 9, ExtendedL2 = extended, Size = extended ? 1 << 20 : 48 << 10 }
            .FillRandom(1, 0.8).AddSnapshot("1", "one").AddBitmap(new Qcow2Bitmap("b") { GranularityBits = 9 }.Set(0, 10000));
        var image = builder.FillRandom(2, 0.3).Build();
        var whole = image.Bytes.ToArray();
        const int seed = 11;
        var random = new Random(seed);
        for (var round = 0; round < 200; round++)
        {
            var broken = SparseBytes.From(whole);
            for (var i = 0; i < 3; i++)
            {
                var at = random.Next(4) switch
                {
                    0 => random.Next(Math.Min(512, whole.Length)),
                    1 => (int)image.L1At + random.Next(64),
                    2 => (int)image.L2TableAt.Values.ElementAt(random.Next(image.L2TableAt.Count)) + random.Next(512),
                    _ => random.Next(whole.Length),
                };
                broken.FlipBit(Math.Min(at, whole.Length - 1), random.Next(8));
            }

            try
            {
                await SwallowAsync(broken);
            }
            catch (Exception e)
            {
                Assert.Fail($"seed {seed}, round {round}: {e}");
            }
        }
    }

    // Does all that can be done with an image; only errors of the family may come out.
    private static async Task SwallowAsync(SparseBytes bytes)
    {
        foreach (var metadataOnly in new[] { false, true })
        {
            try
            {
                await using var driver = await new Platter.Formats.Qcow2.Qcow2Format().OpenAsync(
                    new SparseStorage("test.qcow2", bytes), new NodeOptions(), Context(metadataOnly: metadataOnly));
                await driver.GetInfoAsync();
                await using var node = new Platter.Core.Graph.ImageNode(driver, null);
                await TryAsync(async () => await driver.CheckAsync(_ => { }));
                var buffer = new byte[5000];
                for (long at = 0; at < Math.Min(driver.VirtualSize, 80 << 10); at += buffer.Length)
                {
                    var part = buffer.AsMemory(0, (int)Math.Min(buffer.Length, driver.VirtualSize - at));
                    var from = at;
                    await TryAsync(async () => await node.ReadAsync(new(from), part));
                }

                foreach (var snapshot in driver.Snapshots.Take(3))
                {
                    await TryAsync(async () =>
                    {
                        await using var old = await driver.OpenSnapshotAsync(new SnapshotSelector(snapshot.Id, null, null));
                        await old.MapAsync(default, long.MaxValue);
                    });
                }

                foreach (var bitmap in driver.Bitmaps.Take(3))
                {
                    await TryAsync(async () =>
                    {
                        var count = 0;
                        await foreach (var range in driver.ReadBitmapAsync(bitmap.Name))
                        {
                            if (++count > 10_000)
                            {
                                break;
                            }
                        }
                    });
                }
            }
            catch (BlockException)
            {
            }
        }
    }

    private static async Task TryAsync(Func<Task> action)
    {
        try
        {
            await action();
        }
        catch (BlockException)
        {
        }
    }

    private static BuiltImage Good() => new Qcow2Builder
    {
        Size = (512 << 20) + (256L << 20), BackingFile = "base.raw", BackingFormat = "raw",
    }.Fill(1, 0, 1, 2, 3, 9600).AddSnapshot("1", "one").Build();

    [Theory]
    [InlineData(1000, false)]
    [InlineData(4 << 20, true)]
    public async Task An_L1_table_that_names_more_tables_than_the_file_can_hold_is_not_followed(int entries, bool refused)
    {
        // 2^51 bytes of disk out of one L2 table: nobody lives to see the end of its map.
        var image = new Qcow2Builder { Size = 16 << 20 }.Fill(1, 0).Build();
        var l1 = new byte[entries * 8];
        for (var at = 0; at < l1.Length; at += 8)
        {
            BinaryPrimitives.WriteInt64BigEndian(l1.AsSpan(at), image.L2TableAt[0]);
        }

        image.Bytes.Write(64 << 20, l1);
        image.Set(Qcow2Field.L1Size, (ulong)entries).Set(Qcow2Field.L1TableOffset, 64 << 20).Set(Qcow2Field.Size, (ulong)entries << 29);
        await using var node = await OpenAsync(image);
        if (!refused)
        {
            await node.MapAsync(GuestOffset.Zero, long.MaxValue);
            return;
        }

        for (var again = 0; again < 2; again++)
        {
            var error = await Assert.ThrowsAsync<ImageFormatException>(async () => await node.MapAsync(GuestOffset.Zero, long.MaxValue));
            AssertSays(error, BlockErrorKind.CorruptImage, "L1 table", "size", "4194304", "more L2 tables than the file's");
        }
    }

    [Fact]
    public async Task An_L1_table_larger_than_the_file_is_followed_when_its_entries_are_not()
    {
        // As qemu-img makes them: a disk of 64 TiB in a file of a megabyte.
        var image = new Qcow2Builder { Size = 64L << 40 }.Fill(1, 0, 1 << 20).Build();
        Assert.True(image.Bytes.Length >> 16 < 100);
        await using var node = await OpenAsync(image);
        Assert.Equal(ExtentKind.Data, (await node.MapAsync(GuestOffset.Zero, long.MaxValue)).Kind);
        Assert.Equal(ExtentKind.Data, (await node.MapAsync(new(1L << 36), long.MaxValue)).Kind);
    }
}
