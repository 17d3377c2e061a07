using System.Globalization;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Layout;
using Platter.Formats.Qcow2.Metadata;

namespace Platter.Formats.Qcow2.Snapshots;

/// <summary>The list of internal snapshots.</summary>
internal static class SnapshotTable
{
    private const int ChunkBytes = 256 * 1024;

    // Ids and names become strings of twice their size. 65536 snapshots with names that people type take less.
    private const long MaxTableBytes = 16 << 20;

    /// <summary>Reads the table entry by entry; a limit stops it before memory does.</summary>
    public static async ValueTask<IReadOnlyList<SnapshotTableEntry>> ReadAsync(
        TableReader reader, Qcow2Header header, long maxBytes, CancellationToken cancellationToken)
    {
        if (header.SnapshotCount == 0)
        {
            return [];
        }

        var limit = Math.Min(MaxTableBytes, maxBytes);
        var start = new HostOffset((long)header.SnapshotsOffset);
        var result = new List<SnapshotTableEntry>((int)Math.Min(header.SnapshotCount, 1024));
        var window = new TableWindow(reader, start, "snapshot table", ChunkBytes);
        long at = 0;
        for (var index = 0; index < header.SnapshotCount; index++)
        {
            var fixedPart = await window.GetAsync(at, SnapshotTableEntry.FixedSize, cancellationToken).ConfigureAwait(false);
            var size = SnapshotTableEntry.DeclaredSize(fixedPart.Span);
            var extra = SnapshotTableEntry.ExtraSizeOf(fixedPart.Span);
            if (at + size > limit && extra <= SnapshotTableEntry.MaxExtraBytes)
            {
                throw new ImageFormatException(
                    reader.FileName, string.Create(CultureInfo.InvariantCulture, $"snapshot table entry {index}"), start + at, string.Empty, string.Empty,
                    $"the snapshot table is longer than {limit} bytes", BlockErrorKind.LimitExceeded);
            }

            // The last entry's padding need not be in the file.
            var entry = extra > SnapshotTableEntry.MaxExtraBytes
                ? fixedPart
                : await window.GetAsync(at, (int)size, cancellationToken).ConfigureAwait(false);
            result.Add(SnapshotTableEntry.Parse(entry.Span, reader.FileName, index, start + at));
            at += size;
        }

        return result;
    }

    /// <summary>An entry as users see it.</summary>
    /// <param name="entry">The entry.</param>
    /// <param name="currentSize">Size of the disk now, for entries that do not record theirs.</param>
    public static SnapshotInfo ToInfo(SnapshotTableEntry entry, long currentSize) => new()
    {
        Id = entry.Id,
        Name = entry.Name,
        Date = DateTimeOffset.FromUnixTimeSeconds(entry.DateSeconds),
        DateNanoseconds = (int)Math.Min(entry.DateNanoseconds, int.MaxValue),
        VmStateSize = (long)Math.Min(entry.VmStateSize, long.MaxValue),
        VmClockNanoseconds = entry.VmClockNanoseconds,
        InstructionCount = entry.InstructionCount,
        VirtualSize = entry.DiskSize is { } size ? (long)Math.Min(size & ~511UL, long.MaxValue) : currentSize,
    };

    /// <summary>Judges what is needed before the disk of a snapshot can be read.</summary>
    /// <returns>Size of the disk then.</returns>
    public static long Validate(SnapshotTableEntry entry, string name, Qcow2Geometry geometry, string file, long currentSize)
    {
        var structure = $"snapshot '{SafeText.Clean(name, 64)}'";
        if (entry.L1Size * 8L > Qcow2Header.MaxL1Bytes)
        {
            throw new ImageFormatException(
                file, structure, new((long)(entry.L1TableOffset & long.MaxValue)), "l1_size", entry.L1Size.ToString(CultureInfo.InvariantCulture),
                $"the limit is {Qcow2Header.MaxL1Bytes / 8}", BlockErrorKind.LimitExceeded);
        }

        if ((entry.L1TableOffset & (ulong)geometry.ClusterMask) != 0 || entry.L1TableOffset > long.MaxValue - Qcow2Header.MaxL1Bytes)
        {
            throw new ImageFormatException(file, structure, default, "l1_table_offset", $"0x{entry.L1TableOffset:x}", "is not the offset of a cluster");
        }

        var size = entry.DiskSize ?? (ulong)currentSize;
        if (size > long.MaxValue || geometry.L1EntriesFor((long)size) > Qcow2Header.MaxL1Bytes / 8)
        {
            throw new ImageFormatException(
                file, structure, default, "disk size", size.ToString(CultureInfo.InvariantCulture),
                $"needs an L1 table of more than {Qcow2Header.MaxL1Bytes >> 20} MiB", BlockErrorKind.LimitExceeded);
        }

        return (long)size & ~511L;
    }
}
