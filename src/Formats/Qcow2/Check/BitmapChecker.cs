using System.Buffers.Binary;
using Platter.Core.Errors;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Findings;
using Platter.Formats.Qcow2.Layout;

namespace Platter.Formats.Qcow2.Check;

/// <summary>Counts the references of persistent bitmaps: directory, tables, data.</summary>
internal sealed class BitmapChecker(Storage storage, Qcow2Metadata metadata, ReferenceCounter references, CheckTally tally)
{
    private const int ChunkBytes = 64 * 1024;

    public async ValueTask CheckAsync(CancellationToken cancellationToken)
    {
        if (metadata.BitmapsExtension is not { } extension)
        {
            return;
        }

        references.Add((long)extension.DirectoryOffset, (long)extension.DirectorySize, Referrer.Structure("the bitmap directory"));
        var chunk = new byte[ChunkBytes];
        foreach (var bitmap in metadata.Bitmaps)
        {
            var name = $"bitmap '{SafeText.Clean(bitmap.Name, 64)}'";
            references.Add((long)bitmap.TableOffset, (long)bitmap.TableSize * BitmapTableEntry.Size, Referrer.Structure($"the table of {name}"));
            for (long first = 0; first < bitmap.TableSize; first += ChunkBytes / BitmapTableEntry.Size)
            {
                var count = (int)Math.Min(ChunkBytes / BitmapTableEntry.Size, bitmap.TableSize - first);
                var read = await storage.ReadAsync(
                    new((long)bitmap.TableOffset + (first * BitmapTableEntry.Size)), chunk.AsMemory(0, count * BitmapTableEntry.Size), cancellationToken)
                    .ConfigureAwait(false);
                chunk.AsSpan(read).Clear();
                CheckEntries(chunk.AsSpan(0, count * BitmapTableEntry.Size), first, $"the table of {name}");
            }
        }
    }

    private void CheckEntries(ReadOnlySpan<byte> entries, long first, string table)
    {
        for (var i = 0; i < entries.Length; i += BitmapTableEntry.Size)
        {
            var entry = new BitmapTableEntry(BinaryPrimitives.ReadUInt64BigEndian(entries[i..]));
            var index = first + (i / BitmapTableEntry.Size);
            if (entry.HasReservedBits || (entry.Offset.Value & metadata.Geometry.ClusterMask) != 0)
            {
                tally.Corruption($"entry {index} of {table} is 0x{entry.Value:x16}: reserved bits are set or the offset is not aligned to a cluster", Remedies.Bitmap);
                continue;
            }

            if (!entry.IsUnallocated)
            {
                references.Add(entry.Offset.Value, metadata.Geometry.ClusterSize, Referrer.Entry(table, index));
            }
        }
    }
}
