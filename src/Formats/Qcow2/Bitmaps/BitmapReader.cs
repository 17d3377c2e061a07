using System.Globalization;
using System.Runtime.CompilerServices;
using Platter.Core.Bitmaps;
using Platter.Core.Errors;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Layout;
using Platter.Formats.Qcow2.Metadata;

namespace Platter.Formats.Qcow2.Bitmaps;

/// <summary>Reads a stored bitmap as runs of dirty bytes, in bounded memory: a piece of the table and a piece of a cluster at a time.</summary>
internal static class BitmapReader
{
    private const int PieceBytes = 64 * 1024;

    /// <summary>The dirty ranges in order; neighbours are merged, also across clusters.</summary>
    public static async IAsyncEnumerable<DirtyRange> ReadAsync(
        TableReader reader, Qcow2Geometry geometry, BitmapDirectoryEntry bitmap, long virtualSize, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var bitCount = Sizes.DivideRoundingUp(virtualSize, bitmap.Granularity);
        var bitsPerCluster = (long)geometry.ClusterSize * 8;
        var clusterCount = Sizes.DivideRoundingUp(bitCount, bitsPerCluster);
        if (clusterCount > bitmap.TableSize)
        {
            throw new ImageFormatException(
                reader.FileName, $"bitmap '{SafeText.Clean(bitmap.Name, 64)}'", bitmap.At, "bitmap_table_size",
                bitmap.TableSize.ToString(CultureInfo.InvariantCulture), $"a disk of {virtualSize} bytes needs {clusterCount} entries");
        }

        var tableAt = new HostOffset((long)bitmap.TableOffset);
        var piece = new byte[Math.Min(PieceBytes, geometry.ClusterSize)];
        TableSlice? table = null;
        var dirtyFrom = -1L;
        for (long cluster = 0; cluster < clusterCount; cluster++)
        {
            const int entriesPerPiece = PieceBytes / BitmapTableEntry.Size;
            var inPiece = (int)(cluster % entriesPerPiece);
            if (inPiece == 0)
            {
                table = await ReadTableAsync(
                    reader, bitmap, tableAt + (cluster * BitmapTableEntry.Size), (int)Math.Min(entriesPerPiece, clusterCount - cluster), cancellationToken)
                    .ConfigureAwait(false);
            }

            var entry = new BitmapTableEntry(table!.Words[inPiece]);
            var firstBit = cluster * bitsPerCluster;
            if (entry.HasReservedBits || (entry.Offset.Value & geometry.ClusterMask) != 0)
            {
                throw new ImageFormatException(
                    reader.FileName, string.Create(CultureInfo.InvariantCulture, $"entry {cluster} of the table of bitmap '{SafeText.Clean(bitmap.Name, 64)}'"),
                    tableAt + (cluster * BitmapTableEntry.Size), "value", $"0x{entry.Value:x16}", "reserved bits are set or the offset is not aligned to a cluster");
            }

            if (entry.IsUnallocated)
            {
                if (entry.IsAllOnes && dirtyFrom < 0)
                {
                    dirtyFrom = firstBit;
                }
                else if (!entry.IsAllOnes && dirtyFrom >= 0)
                {
                    yield return Range(dirtyFrom, firstBit, bitmap, virtualSize);
                    dirtyFrom = -1;
                }

                continue;
            }

            var bits = Math.Min(bitsPerCluster, bitCount - firstBit);
            for (long done = 0; done < bits; done += piece.Length * 8L)
            {
                var count = (int)Math.Min(piece.Length * 8L, bits - done);
                await reader.ReadAsync(
                    entry.Offset + (done / 8), piece.AsMemory(0, (count + 7) / 8), "bitmap data, cluster", cluster, cancellationToken).ConfigureAwait(false);
                for (var bit = 0; bit < count;)
                {
                    var next = FindBit(piece, bit, count, set: dirtyFrom < 0);
                    if (next < count)
                    {
                        if (dirtyFrom < 0)
                        {
                            dirtyFrom = firstBit + done + next;
                        }
                        else
                        {
                            yield return Range(dirtyFrom, firstBit + done + next, bitmap, virtualSize);
                            dirtyFrom = -1;
                        }
                    }

                    bit = next;
                }
            }
        }

        if (dirtyFrom >= 0)
        {
            yield return Range(dirtyFrom, bitCount, bitmap, virtualSize);
        }
    }

    /// <summary>The first bit at or after <paramref name="from"/> that is set (or clear), or <paramref name="count"/>.</summary>
    internal static int FindBit(ReadOnlySpan<byte> bytes, int from, int count, bool set)
    {
        var boring = set ? (byte)0 : (byte)0xff;
        var flip = set ? 0 : 0xff;
        var first = (bytes[from / 8] ^ flip) >> (from % 8);
        if (first != 0)
        {
            return Math.Min(count, from + int.TrailingZeroCount(first));
        }

        var at = (from / 8) + 1;
        var end = (count + 7) / 8;
        if (at >= end)
        {
            return count;
        }

        var found = bytes[at..end].IndexOfAnyExcept(boring);
        return found < 0 ? count : Math.Min(count, ((at + found) * 8) + int.TrailingZeroCount(bytes[at + found] ^ flip));
    }

    private static async ValueTask<TableSlice> ReadTableAsync(
        TableReader reader, BitmapDirectoryEntry bitmap, HostOffset at, int entries, CancellationToken cancellationToken)
    {
        var bytes = new byte[entries * BitmapTableEntry.Size];
        await reader.ReadAsync(at, bytes, $"table of bitmap '{SafeText.Clean(bitmap.Name, 64)}'", -1, cancellationToken).ConfigureAwait(false);
        return new TableSlice(0, at, bytes);
    }

    private static DirtyRange Range(long fromBit, long toBit, BitmapDirectoryEntry bitmap, long virtualSize)
    {
        var start = fromBit << bitmap.GranularityBits;
        return new(new(start), Math.Min(toBit << bitmap.GranularityBits, virtualSize) - start);
    }
}
