using System.Buffers.Binary;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Hostile;

/// <summary>Tables that promise more than the file holds, or more than anybody should hold.</summary>
public sealed class HostileTableTests
{
    private const ulong Far = 1UL << 40;

    [Fact]
    public void An_L1_table_of_32_MiB_in_a_file_of_1_KiB()
    {
        using var folder = new TempFolder("hostile");
        var image = HostileFiles.Small();
        image.Set(Qcow2Field.L1Size, 4 << 20).Set(Qcow2Field.L1TableOffset, 0x10000).Set(Qcow2Field.Size, 1UL << 51).Truncate(1024).SaveTo(folder["a.qcow2"]);

        HostileRun.Of("info", folder["a.qcow2"]).Done();
        HostileRun.Of("map", folder["a.qcow2"]).Refused("a.qcow2", "L1 table");
        HostileRun.Of("convert", "-O", "raw", folder["a.qcow2"], folder["out.raw"]).Refused();
        Assert.False(File.Exists(folder["out.raw"]));
        Assert.NotEqual(0, HostileRun.Of("check", folder["a.qcow2"]).ExitCode);
    }

    [Fact]
    public void An_L1_table_of_32_MiB_of_holes()
    {
        using var folder = new TempFolder("hostile");
        var image = HostileFiles.Small();
        image.Set(Qcow2Field.L1Size, 4 << 20).Set(Qcow2Field.L1TableOffset, 1 << 20).Set(Qcow2Field.Size, 1UL << 51).Truncate(64 << 20).SaveTo(folder["a.qcow2"]);

        HostileRun.Of("info", folder["a.qcow2"]).Done();
        HostileRun.Of("map", "--output=json", folder["a.qcow2"]).Done();
        HostileRun.Of("check", folder["a.qcow2"]);
    }

    [Theory]
    [InlineData(Qcow2Field.L1Size, (4UL << 20) + 1)]
    [InlineData(Qcow2Field.L1Size, uint.MaxValue)]
    [InlineData(Qcow2Field.RefcountTableClusters, 129)]
    [InlineData(Qcow2Field.RefcountTableClusters, uint.MaxValue)]
    [InlineData(Qcow2Field.SnapshotCount, 65537)]
    [InlineData(Qcow2Field.SnapshotCount, uint.MaxValue)]
    [InlineData(Qcow2Field.Size, (1UL << 63) - 512)]
    [InlineData(Qcow2Field.Size, ulong.MaxValue)]
    [InlineData(Qcow2Field.ClusterBits, 8)]
    [InlineData(Qcow2Field.ClusterBits, 22)]
    [InlineData(Qcow2Field.ClusterBits, uint.MaxValue)]
    [InlineData(Qcow2Field.RefcountOrder, 7)]
    [InlineData(Qcow2Field.HeaderLength, uint.MaxValue)]
    [InlineData(Qcow2Field.L1TableOffset, ulong.MaxValue & ~0xffffUL)]
    [InlineData(Qcow2Field.L1TableOffset, 1)]
    [InlineData(Qcow2Field.CryptMethod, 3)]
    [InlineData(Qcow2Field.IncompatibleFeatures, 1UL << 62)]
    [InlineData(Qcow2Field.Version, 4)]
    public void Header_values_that_no_image_has(Qcow2Field field, ulong value)
    {
        using var folder = new TempFolder("hostile");
        HostileFiles.Small().Set(field, value).SaveTo(folder["a.qcow2"]);

        HostileRun.Of("info", folder["a.qcow2"]).Refused("a.qcow2", "header at 0x");
    }

    [Fact]
    public void A_refcount_table_of_8_MiB_that_is_not_there()
    {
        using var folder = new TempFolder("hostile");
        HostileFiles.Small().Set(Qcow2Field.RefcountTableClusters, 128).Set(Qcow2Field.RefcountTableOffset, Far).SaveTo(folder["a.qcow2"]);

        HostileRun.Of("info", folder["a.qcow2"]).Done();
        Assert.NotEqual(0, HostileRun.Of("check", folder["a.qcow2"]).ExitCode);
        HostileRun.Of("convert", "-O", "raw", folder["a.qcow2"], folder["out.raw"]);
    }

    [Fact]
    public void A_refcount_table_whose_entries_all_name_one_block()
    {
        using var folder = new TempFolder("hostile");
        var image = HostileFiles.Small();
        var table = (long)(Far >> 4);
        var entries = new byte[1 << 20];
        var block = image.Bytes.U64Be(image.RefcountTableAt);
        for (var at = 0; at < entries.Length; at += 8)
        {
            BinaryPrimitives.WriteUInt64BigEndian(entries.AsSpan(at), block);
        }

        image.Bytes.Write(table, entries);
        image.Set(Qcow2Field.RefcountTableClusters, 16).Set(Qcow2Field.RefcountTableOffset, (ulong)table).SaveTo(folder["a.qcow2"]);

        HostileRun.Of("info", folder["a.qcow2"]).Done();
        Assert.NotEqual(0, HostileRun.Of("check", folder["a.qcow2"]).ExitCode);
    }

    [Fact]
    public void Snapshots_65536_of_them_without_a_name()
    {
        using var folder = new TempFolder("hostile");
        var image = HostileFiles.Small();
        image.Set(Qcow2Field.SnapshotCount, 65536).Set(Qcow2Field.SnapshotsOffset, 1 << 20).Truncate(4 << 20).SaveTo(folder["a.qcow2"]);

        HostileRun.Of("info", folder["a.qcow2"]);
        HostileRun.Of("info", "--output=json", folder["a.qcow2"]);
        HostileRun.Of("check", folder["a.qcow2"]);
    }

    [Fact]
    public void Snapshots_65536_of_them_each_with_an_L1_table_of_32_MiB()
    {
        using var folder = new TempFolder("hostile");
        var image = HostileFiles.Small();
        var table = new byte[65536 * 40];
        for (var at = 0; at < table.Length; at += 40)
        {
            BinaryPrimitives.WriteUInt64BigEndian(table.AsSpan(at), 1 << 16);
            BinaryPrimitives.WriteUInt32BigEndian(table.AsSpan(at + 8), 4 << 20);
        }

        image.Bytes.Write(1 << 20, table);
        image.Set(Qcow2Field.SnapshotCount, 65536).Set(Qcow2Field.SnapshotsOffset, 1 << 20).Truncate(64 << 20).SaveTo(folder["a.qcow2"]);

        HostileRun.Of("info", folder["a.qcow2"]);
        Assert.NotEqual(0, HostileRun.Of("check", folder["a.qcow2"]).ExitCode);
    }

    [Theory]
    [InlineData(128 << 10)]
    [InlineData(4 << 20)]
    public void An_L1_table_whose_entries_all_name_one_L2_table(int entries)
    {
        using var folder = new TempFolder("hostile");
        var image = HostileFiles.Small();
        var l1 = new byte[entries * 8];
        for (var at = 0; at < l1.Length; at += 8)
        {
            BinaryPrimitives.WriteUInt64BigEndian(l1.AsSpan(at), (ulong)image.L2TableAt[0]);
        }

        image.Bytes.Write(1 << 20, l1);
        image.Set(Qcow2Field.L1Size, (ulong)entries).Set(Qcow2Field.L1TableOffset, 1 << 20).Set(Qcow2Field.Size, (ulong)entries << 29).SaveTo(folder["a.qcow2"]);

        HostileRun.Of("info", folder["a.qcow2"]).Done();
        var check = HostileRun.Of("check", folder["a.qcow2"]);
        Assert.Equal(2, check.ExitCode);
        Assert.InRange(check.ErrorLines, 1000, 10_010);
        Assert.Matches(@"\.\.\. and [0-9]+ more findings\n$", check.Error);
        var json = HostileRun.Of("check", "--output=json", folder["a.qcow2"]);
        Assert.Matches($@"""corruptions"": [0-9]{{{(entries - 1).ToString(System.Globalization.CultureInfo.InvariantCulture).Length},}}", json.Output);
        HostileRun.Of("map", folder["a.qcow2"]).Refused("a.qcow2", "L1 table at 0x100000", "size");
        HostileRun.Of("map", "--output=json", folder["a.qcow2"]).Refused("a.qcow2", "L1 table at 0x100000", "size");
        HostileRun.Of("compare", folder["a.qcow2"], folder["a.qcow2"]);
        HostileRun.Of("measure", "-O", "raw", folder["a.qcow2"]);
        HostileRun.Of("convert", "-O", "raw", folder["a.qcow2"], folder["out.raw"]).Refused();
    }

    [Fact]
    public void Snapshots_whose_names_fill_the_largest_table()
    {
        using var folder = new TempFolder("hostile");
        var image = HostileFiles.Small();
        var entry = new byte[40 + 65535 + 1];
        BinaryPrimitives.WriteUInt16BigEndian(entry.AsSpan(14), 65535);
        entry.AsSpan(40).Fill((byte)'x');
        for (var i = 0; i < 1000; i++)
        {
            image.Bytes.Write((1 << 20) + ((long)i * entry.Length), entry);
        }

        image.Set(Qcow2Field.SnapshotCount, 1000).Set(Qcow2Field.SnapshotsOffset, 1 << 20).SaveTo(folder["a.qcow2"]);

        Assert.Contains("snapshot table", HostileRun.Of("info", folder["a.qcow2"]).Error, StringComparison.Ordinal);
        HostileRun.Of("convert", "-O", "raw", folder["a.qcow2"], folder["out.raw"]).Refused("a.qcow2", "snapshot table");
        image.Set(Qcow2Field.SnapshotCount, 255).SaveTo(folder["b.qcow2"]);
        HostileRun.Of("info", folder["b.qcow2"]).Done();
        HostileRun.Of("info", "--output=json", folder["b.qcow2"]).Done();
        HostileRun.Of("convert", "-O", "raw", folder["b.qcow2"], folder["out.raw"]).Done();
    }

    [Fact]
    public void Bitmaps_whose_directory_is_as_large_as_it_may_be()
    {
        using var folder = new TempFolder("hostile");
        var image = new Qcow2Builder { Size = 16 << 20 }.AddBitmap(new Qcow2Bitmap("b")).Build();
        var extension = image.ExtensionAt[0x23852875];
        image.Bytes.PutU32Be(extension + 8, 65535);
        image.Bytes.PutU64Be(extension + 16, 64 << 20);
        image.Bytes.PutU64Be(extension + 24, 1 << 20);
        var names = new byte[1048];
        BinaryPrimitives.WriteUInt64BigEndian(names, 1 << 16);
        BinaryPrimitives.WriteUInt32BigEndian(names.AsSpan(8), 1);
        names[16] = 1;
        names[17] = 16;
        BinaryPrimitives.WriteUInt16BigEndian(names.AsSpan(18), 1023);
        names.AsSpan(24).Fill((byte)'y');
        for (var i = 0; i < 64_000; i++)
        {
            BinaryPrimitives.WriteInt32BigEndian(names.AsSpan(24), 0x61616161 + ((i & 0xf) | ((i & 0xf0) << 4) | ((i & 0xf00) << 8) | ((i & 0xf000) << 12)));
            image.Bytes.Write((1 << 20) + ((long)i * names.Length), names);
        }

        image.Truncate((1 << 20) + (64 << 20)).SaveTo(folder["a.qcow2"]);

        Assert.Contains("bitmap_directory_size", HostileRun.Of("info", folder["a.qcow2"]).Error, StringComparison.Ordinal);
        image.Bytes.PutU32Be(extension + 8, 16_000);
        image.Bytes.PutU64Be(extension + 16, 16_000 * 1048);
        image.SaveTo(folder["b.qcow2"]);
        HostileRun.Of("info", folder["b.qcow2"]).Done();
        HostileRun.Of("info", "--output=json", folder["b.qcow2"]).Done();
    }

    [Fact]
    public void Every_guest_cluster_on_one_compressed_host_cluster_maps_in_bounded_time()
    {
        using var folder = new TempFolder("hostile");
        var builder = new Qcow2Builder { ClusterBits = 12, Size = 2L << 30 };
        var image = builder.FillCompressed(1, 0).Build();
        var entry = image.L2(0);
        for (long i = 0; i < image.L2Entries; i++)
        {
            image.SetL2(i, entry);
        }

        for (long i = 0; i < 500; i++)
        {
            image.SetL1(i, image.Bytes.U64Be(image.L1EntryAt(0)));
        }

        image.SaveTo(folder["a.qcow2"]);

        HostileRun.Of("info", folder["a.qcow2"]).Done();
        Assert.NotEqual(0, HostileRun.Of("check", folder["a.qcow2"]).ExitCode);
    }

    [Theory]
    [InlineData(ParallelsField.Tracks, 0)]
    [InlineData(ParallelsField.Tracks, uint.MaxValue)]
    [InlineData(ParallelsField.BatEntries, uint.MaxValue)]
    [InlineData(ParallelsField.BatEntries, 1 << 29)]
    [InlineData(ParallelsField.Sectors, ulong.MaxValue)]
    [InlineData(ParallelsField.Sectors, 1UL << 55)]
    [InlineData(ParallelsField.Version, 3)]
    [InlineData(ParallelsField.Flags, uint.MaxValue)]
    public void Parallels_header_values_that_no_image_has(ParallelsField field, ulong value)
    {
        using var folder = new TempFolder("hostile");
        new ParallelsImageBuilder { ClusterSectors = 64, SizeSectors = 6400, Magic = ParallelsMagic.WithouFreSpacExt }
            .Fill(1, 0).Build().Set(field, value).SaveTo(folder["a.hds"]);

        HostileRun.Of("info", folder["a.hds"]).Refused("a.hds", "header at 0x");
    }

    [Fact]
    public void A_Parallels_disk_of_2_to_the_63_bytes()
    {
        using var folder = new TempFolder("hostile");
        new ParallelsImageBuilder { ClusterSectors = 64, SizeSectors = 6400, Magic = ParallelsMagic.WithouFreSpacExt }
            .Build().Set(ParallelsField.Sectors, (1UL << 54) - 1).SaveTo(folder["a.hds"]);

        HostileRun.Of("info", folder["a.hds"]).Done();
        HostileRun.Of("map", folder["a.hds"]).Done();
        HostileRun.Of("check", folder["a.hds"]);
        HostileRun.Of("convert", "-O", "raw", folder["a.hds"], folder["out.raw"]);
        Assert.True(!File.Exists(folder["out.raw"]) || new FileInfo(folder["out.raw"]).Length == long.MaxValue - 511);
    }

    [Fact]
    public void A_BAT_of_gigabytes_of_holes()
    {
        using var folder = new TempFolder("hostile");
        var image = new ParallelsImageBuilder { ClusterSectors = 1, SizeSectors = 100 }.Build();
        image.Set(ParallelsField.BatEntries, 200_000_000).Set(ParallelsField.Sectors, 200_000_000);
        image.Bytes.SetLength(3L << 30);
        image.SaveTo(folder["a.hds"]);

        HostileRun.Of("info", folder["a.hds"]).Done();
        HostileRun.Of("map", folder["a.hds"]).Done();
        HostileRun.Of("check", folder["a.hds"]);
    }

    [Fact]
    public void A_full_BAT_is_mapped_as_it_is_read()
    {
        // Every other entry: as many extents as entries, and the longest output that a table of this size can make.
        const int Entries = 1_000_000;
        using var folder = new TempFolder("hostile");
        var image = new ParallelsImageBuilder { ClusterSectors = 1, SizeSectors = 100, Magic = ParallelsMagic.WithouFreSpacExt }.Build();
        var first = ((64 + (4 * Entries) + 511) / 512) + 1;
        var bat = new byte[4 * Entries];
        for (var i = 0; i < Entries; i += 2)
        {
            BinaryPrimitives.WriteInt32LittleEndian(bat.AsSpan(4 * i), first + (i / 2));
        }

        image.Bytes.Write(64, bat);
        image.Bytes.SetLength((first + (Entries / 2)) * 512L);
        image.Set(ParallelsField.BatEntries, Entries).Set(ParallelsField.Sectors, Entries).Set(ParallelsField.DataOffset, (ulong)first).SaveTo(folder["a.hds"]);

        HostileRun.Of("info", folder["a.hds"]).Done();
        Assert.Equal(Entries, HostileRun.Of("map", "--output=json", folder["a.hds"]).Done().OutputLines);
        Assert.Equal((Entries / 2) + 1, HostileRun.Of("map", folder["a.hds"]).Done().OutputLines);
        HostileRun.Of("check", folder["a.hds"]);
    }

    [Fact]
    public void A_BAT_whose_entries_all_lie_outside_the_file()
    {
        const int Entries = 2_000_000;
        using var folder = new TempFolder("hostile");
        var image = new ParallelsImageBuilder { ClusterSectors = 8, SizeSectors = 800, Magic = ParallelsMagic.WithouFreSpacExt }.Build();
        var bat = new byte[4 * Entries];
        bat.AsSpan().Fill(0x7f);
        image.Bytes.Write(64, bat);
        image.Bytes.SetLength(8 << 20);
        image.Set(ParallelsField.BatEntries, Entries).Set(ParallelsField.Sectors, 8 * Entries).Set(ParallelsField.DataOffset, 15_632).SaveTo(folder["a.hds"]);

        var check = HostileRun.Of("check", folder["a.hds"]);
        Assert.Equal(2, check.ExitCode);
        Assert.InRange(check.ErrorLines, 10_000, 10_010);
        HostileRun.Of("map", folder["a.hds"]).Refused("a.hds", "BAT entry 0");
    }

    [Theory]
    [InlineData("map", "--output=json")]
    [InlineData("check")]
    [InlineData("compare", "-q")]
    public void Work_without_end_ends_when_asked_to(params string[] command)
    {
        // Legal by its numbers, if not by its tables: a sparse file of 64 GiB, 512 TiB of disk, a billion extents.
        const int Entries = 1 << 20;
        using var folder = new TempFolder("hostile");
        var image = HostileFiles.Small();
        var table = image.L2TableAt[0];
        for (var i = 0; i < 8192; i += 2)
        {
            image.Bytes.PutU64Be(table + (8L * i), image.L2(1) & 0x00fffffffffffe00);
        }

        var l1 = new byte[Entries * 8];
        for (var at = 0; at < l1.Length; at += 8)
        {
            BinaryPrimitives.WriteInt64BigEndian(l1.AsSpan(at), table);
        }

        image.Bytes.Write(1 << 20, l1);
        image.Set(Qcow2Field.L1Size, Entries).Set(Qcow2Field.L1TableOffset, 1 << 20).Set(Qcow2Field.Size, (ulong)Entries << 29);
        image.Bytes.SetLength((long)Entries << 16);
        image.SaveTo(folder["a.qcow2"]);
        File.CreateSymbolicLink(folder["b.qcow2"], folder["a.qcow2"]);

        var arguments = string.Join(' ', [PlatterCli.RequireOrSkip(), .. command, folder["a.qcow2"], .. command[0] == "compare" ? [folder["b.qcow2"]] : Array.Empty<string>()]);
        var run = ToolRunner.Run("/bin/sh", "-c", $"timeout --foreground -s INT -k 20 2 {arguments} > /dev/null 2> {folder["log"]}; echo $?");
        var exitCode = run.Text.Trim();
        Assert.True(exitCode is "124" or "2" or "130", $"exit code {exitCode}: 137 would mean that it had to be killed");
        Assert.True(new FileInfo(folder["log"]).Length < 8 << 20);
    }
}
