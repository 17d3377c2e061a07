using System.Buffers.Binary;
using Platter.Core.Errors;
using Platter.Operations.Partitions;
using Platter.Tests.Unit.Nbd.Server;
using Xunit;

namespace Platter.Tests.Unit.Operations;

public sealed class PartitionTableTests
{
    private const int Size = 16 << 20;

    [Fact]
    public async Task Primary_and_logical_partitions_of_an_mbr_are_found()
    {
        var disk = new byte[Size];
        Mbr(disk, 0, (0x83, 2048, 4096), (0x05, 8192, 8192));
        Mbr(disk, 8192, (0x83, 63, 100), (0x05, 200, 300));
        Mbr(disk, 8392, (0x83, 63, 50));
        Assert.Equal([(1, 2048, 4096), (5, 8255, 100), (6, 8455, 50)], await ReadAsync(disk));
    }

    [Fact]
    public async Task A_chain_of_logical_partitions_that_bites_its_tail_ends()
    {
        var disk = new byte[Size];
        Mbr(disk, 0, (0x0f, 8192, 8192));
        Mbr(disk, 8192, (0x83, 63, 100), (0x05, 0, 300));
        Assert.Equal([(5, 8255, 100)], await ReadAsync(disk));
    }

    [Theory]
    [InlineData(512)]
    [InlineData(4096)]
    public async Task Partitions_of_a_gpt_are_found(int sector)
    {
        var disk = new byte[Size];
        Mbr(disk, 0, (0xee, 1, uint.MaxValue));
        Gpt(disk, sector, entries: 128, (1, 34, 100), (3, 200, 200), (4, 300, 1L << 40));
        Assert.Equal(
            [(1, 34 * sector / 512, 67 * sector / 512), (3, 200 * sector / 512, sector / 512)], await ReadAsync(disk));
    }

    [Fact]
    public async Task A_gpt_that_makes_no_sense_is_refused()
    {
        var disk = new byte[Size];
        Mbr(disk, 0, (0xee, 1, uint.MaxValue));
        Gpt(disk, 512, entries: uint.MaxValue);
        var e = await Assert.ThrowsAsync<BlockException>(async () => await ReadAsync(disk));
        Assert.Contains("4294967295 entries", e.Message);
    }

    [Fact]
    public async Task A_disk_without_a_table_is_said_to_have_none() =>
        Assert.Equal(BlockErrorKind.NotFound, (await Assert.ThrowsAsync<BlockException>(async () => await ReadAsync(new byte[Size]))).Kind);

    [Fact]
    public async Task Partitions_outside_the_disk_are_left_out()
    {
        var disk = new byte[Size];
        Mbr(disk, 0, (0x83, 2048, uint.MaxValue), (0x83, uint.MaxValue, 1), (0x83, 1, 1), (0x83, 5, 0));
        Assert.Equal([(3, 1, 1)], await ReadAsync(disk));
    }

    private static async Task<List<(int Number, long Sector, long Sectors)>> ReadAsync(byte[] disk)
    {
        await using var node = TestDisks.Memory(disk);
        return [.. (await PartitionTable.ReadAsync(node, TestContext.Current.CancellationToken)).Select(p => (p.Number, p.Offset.Value / 512, p.Size / 512))];
    }

    private static void Mbr(byte[] disk, int sector, params (byte Type, uint Start, uint Count)[] entries)
    {
        var table = disk.AsSpan(sector * 512, 512);
        (table[510], table[511]) = (0x55, 0xaa);
        for (var i = 0; i < entries.Length; i++)
        {
            var entry = table[(446 + (i * 16))..];
            entry[4] = entries[i].Type;
            BinaryPrimitives.WriteUInt32LittleEndian(entry[8..], entries[i].Start);
            BinaryPrimitives.WriteUInt32LittleEndian(entry[12..], entries[i].Count);
        }
    }

    private static void Gpt(byte[] disk, int sector, uint entries, params (int Number, long First, long Last)[] partitions)
    {
        var header = disk.AsSpan(sector, 512);
        "EFI PART"u8.CopyTo(header);
        BinaryPrimitives.WriteUInt64LittleEndian(header[72..], 2);
        BinaryPrimitives.WriteUInt32LittleEndian(header[80..], entries);
        BinaryPrimitives.WriteUInt32LittleEndian(header[84..], 128);
        foreach (var (number, first, last) in partitions)
        {
            var entry = disk.AsSpan((2 * sector) + ((number - 1) * 128), 128);
            entry[..16].Fill(7);
            BinaryPrimitives.WriteInt64LittleEndian(entry[32..], first);
            BinaryPrimitives.WriteInt64LittleEndian(entry[40..], last);
        }
    }
}
