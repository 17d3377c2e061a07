using System.Buffers.Binary;
using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Units;

namespace Platter.Operations.Partitions;

/// <summary>A partition of a disk.</summary>
/// <param name="Number">As Linux counts them: 1 to 4 for an MBR's own, from 5 on for logical ones; the entry's place in a GPT, from 1.</param>
/// <param name="Offset">Where it starts.</param>
/// <param name="Size">Guest bytes.</param>
public readonly record struct Partition(int Number, GuestOffset Offset, long Size);

/// <summary>Finds the partitions of a disk: MBR with logical partitions, or GPT, in sectors of 512 or (GPT) 4096 bytes.</summary>
public static class PartitionTable
{
    private const int SectorBytes = 512;
    private const int MbrEntriesAt = 446;
    private const int MbrEntryBytes = 16;
    private const int MbrEntries = 4;
    private const byte ProtectiveType = 0xee;
    private const int FirstLogical = 5;
    private const int MaxLogical = 128;
    private const int MaxGptEntries = 1024;
    private const int MaxGptEntryBytes = 4096;
    private const ulong GptSignature = 0x5452415020494645;

    /// <summary>Reads the table.</summary>
    /// <returns>The partitions by number. Those that are empty or do not lie inside the disk are left out.</returns>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.NotFound"/>: there is no table; others: it cannot be read.</exception>
    public static async ValueTask<IReadOnlyList<Partition>> ReadAsync(BlockNode disk, CancellationToken cancellationToken = default)
    {
        var sector = await ReadAsync(disk, 0, SectorBytes, cancellationToken).ConfigureAwait(false);
        if (sector is null || sector[510] != 0x55 || sector[511] != 0xaa)
        {
            throw new BlockException(BlockErrorKind.NotFound, $"{disk.Name}: there is no partition table: the first sector does not end with 55 aa");
        }

        var isProtective = false;
        for (var i = 0; i < MbrEntries; i++)
        {
            isProtective |= Entry(sector, i).Type == ProtectiveType;
        }

        if (isProtective)
        {
            foreach (var sectorBytes in (int[])[SectorBytes, 4096])
            {
                if (await ReadGptAsync(disk, sectorBytes, cancellationToken).ConfigureAwait(false) is { } partitions)
                {
                    return partitions;
                }
            }
        }

        return await ReadMbrAsync(disk, sector, cancellationToken).ConfigureAwait(false);
    }

    private static async ValueTask<List<Partition>> ReadMbrAsync(BlockNode disk, byte[] sector, CancellationToken cancellationToken)
    {
        var partitions = new List<Partition>();
        long extended = 0;
        for (var i = 0; i < MbrEntries; i++)
        {
            var (type, start, count) = Entry(sector, i);
            if (IsExtended(type))
            {
                extended = start;
            }
            else if (type != 0)
            {
                Add(disk, partitions, i + 1, start, count, SectorBytes);
            }
        }

        // Each logical partition has a small table of its own: itself, and where the next table is, counted from the first one.
        var number = FirstLogical;
        var seen = new HashSet<long>();
        for (var at = extended; at > 0 && seen.Add(at) && number < FirstLogical + MaxLogical; number++)
        {
            if (await ReadAsync(disk, at * SectorBytes, SectorBytes, cancellationToken).ConfigureAwait(false) is not { } table
                || table[510] != 0x55 || table[511] != 0xaa)
            {
                break;
            }

            var (type, start, count) = Entry(table, 0);
            if (type != 0)
            {
                Add(disk, partitions, number, at + start, count, SectorBytes);
            }

            var next = Entry(table, 1);
            at = IsExtended(next.Type) ? extended + next.Start : 0;
        }

        return partitions;
    }

    /// <returns>Null when there is no GPT in sectors of this size.</returns>
    private static async ValueTask<List<Partition>?> ReadGptAsync(BlockNode disk, int sectorBytes, CancellationToken cancellationToken)
    {
        if (await ReadAsync(disk, sectorBytes, SectorBytes, cancellationToken).ConfigureAwait(false) is not { } header
            || BinaryPrimitives.ReadUInt64LittleEndian(header) != GptSignature)
        {
            return null;
        }

        var (entriesAt, entries, entryBytes) = (
            BinaryPrimitives.ReadUInt64LittleEndian(header.AsSpan(72)), BinaryPrimitives.ReadUInt32LittleEndian(header.AsSpan(80)),
            BinaryPrimitives.ReadUInt32LittleEndian(header.AsSpan(84)));
        if (entryBytes is < 128 or > MaxGptEntryBytes || entries > MaxGptEntries || entriesAt > (ulong)(disk.VirtualSize / sectorBytes))
        {
            throw new BlockException(
                BlockErrorKind.InvalidRequest, $"{disk.Name}: GPT header at 0x{sectorBytes:x}: {entries} entries of {entryBytes} bytes in sector {entriesAt} make no sense");
        }

        var partitions = new List<Partition>();
        for (var i = 0; i < (int)entries; i++)
        {
            if (await ReadAsync(disk, ((long)entriesAt * sectorBytes) + (i * entryBytes), 128, cancellationToken).ConfigureAwait(false) is not { } entry)
            {
                break;
            }

            var (first, last) = (BinaryPrimitives.ReadUInt64LittleEndian(entry.AsSpan(32)), BinaryPrimitives.ReadUInt64LittleEndian(entry.AsSpan(40)));
            if (entry.AsSpan(0, 16).ContainsAnyExcept((byte)0) && first <= last && last < long.MaxValue)
            {
                Add(disk, partitions, i + 1, (long)first, (long)(last - first + 1), sectorBytes);
            }
        }

        return partitions;
    }

    private static (byte Type, long Start, long Count) Entry(ReadOnlySpan<byte> sector, int index)
    {
        var entry = sector[(MbrEntriesAt + (index * MbrEntryBytes))..];
        return (entry[4], BinaryPrimitives.ReadUInt32LittleEndian(entry[8..]), BinaryPrimitives.ReadUInt32LittleEndian(entry[12..]));
    }

    private static bool IsExtended(byte type) => type is 0x05 or 0x0f or 0x85;

    private static void Add(BlockNode disk, List<Partition> partitions, int number, long start, long count, int sectorBytes)
    {
        if (count > 0 && start > 0 && start <= disk.VirtualSize / sectorBytes && count <= (disk.VirtualSize / sectorBytes) - start)
        {
            partitions.Add(new(number, new(start * sectorBytes), count * sectorBytes));
        }
    }

    private static async ValueTask<byte[]?> ReadAsync(BlockNode disk, long at, int length, CancellationToken cancellationToken)
    {
        if (at > disk.VirtualSize - length)
        {
            return null;
        }

        var bytes = new byte[length];
        await disk.ReadAsync(new(at), bytes, cancellationToken).ConfigureAwait(false);
        return bytes;
    }
}
