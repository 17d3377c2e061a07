using Platter.Core.Bitmaps;
using Platter.Core.Errors;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Layout;
using Platter.Formats.Qcow2.Metadata;

namespace Platter.Formats.Qcow2.Bitmaps;

/// <summary>A bitmap of an image that is open for writing. Immutable but for <see cref="Changes"/>.</summary>
/// <param name="Entry">Its entry in the directory. The flag "in use" there means that it is inconsistent, not that we are tracking.</param>
internal sealed record StoredBitmap(BitmapDirectoryEntry Entry)
{
    /// <summary>The bitmap's table as it is on the disk, or null when nobody asked for it yet.</summary>
    public ulong[]? Table { get; init; }

    /// <summary>What was changed since it was stored; null when writes are not tracked.</summary>
    public DirtyBits? Changes { get; init; }

    /// <summary>Its name, for messages.</summary>
    public string SafeName => SafeText.Clean(Entry.Name, 64);

    /// <summary>Whether writes are to be tracked into it.</summary>
    public bool IsTracked => Entry is { IsEnabled: true, IsInconsistent: false };

    /// <summary>Table entries that a bitmap needs.</summary>
    public static long EntriesFor(long virtualSize, int granularityBits, Qcow2Geometry geometry) =>
        Sizes.DivideRoundingUp(Sizes.DivideRoundingUp(virtualSize, 1L << granularityBits), geometry.ClusterSize * 8L);

    /// <summary>Reads the table and judges its entries.</summary>
    /// <param name="reader">The image.</param>
    /// <param name="geometry">Its cluster size.</param>
    /// <param name="regions">A cluster of bits that lies in one of them is refused; the others are added.</param>
    /// <param name="cancellationToken">Stops the read.</param>
    /// <exception cref="ImageFormatException">An entry cannot be right.</exception>
    public async ValueTask<StoredBitmap> LoadAsync(
        TableReader reader, Qcow2Geometry geometry, Allocation.MetadataRegions regions, CancellationToken cancellationToken)
    {
        if (Table is not null)
        {
            return this;
        }

        // The entry was judged: its table has at most 8 MiB.
        var bytes = new byte[Entry.TableSize * BitmapTableEntry.Size];
        await reader.ReadAsync(new((long)Entry.TableOffset), bytes, $"table of bitmap '{SafeName}'", -1, cancellationToken).ConfigureAwait(false);
        var table = BigEndianWords.ToHost(bytes).ToArray();
        var seen = new HashSet<long>();
        for (var i = 0; i < table.Length; i++)
        {
            var entry = new BitmapTableEntry(table[i]);
            if (entry.HasReservedBits || (entry.Offset.Value & geometry.ClusterMask) != 0)
            {
                throw Bad(reader, i, entry, "reserved bits are set or the offset is not aligned to a cluster");
            }

            if (!entry.IsUnallocated && (!seen.Add(entry.Offset.Value) || regions.Find(entry.Offset.Value >> geometry.ClusterBits, 1) >= 0))
            {
                throw Bad(reader, i, entry, "the cluster holds other metadata");
            }
        }

        foreach (var at in seen)
        {
            regions.Add(at >> geometry.ClusterBits, 1, Allocation.MetadataKind.BitmapBits);
        }

        return this with { Table = table };
    }

    /// <summary>Adds the clusters of bits of a table that was read.</summary>
    public void AddTo(Allocation.MetadataRegions regions, Qcow2Geometry geometry)
    {
        foreach (var word in Table ?? [])
        {
            if (new BitmapTableEntry(word) is { IsUnallocated: false } entry)
            {
                regions.Add(entry.Offset.Value >> geometry.ClusterBits, 1, Allocation.MetadataKind.BitmapBits);
            }
        }
    }

    /// <summary>Refuses what must not be used.</summary>
    /// <param name="file">For messages.</param>
    public void ThrowIfUnusable(string file)
    {
        if (Entry.IsInconsistent)
        {
            throw new BlockException(
                BlockErrorKind.CorruptImage,
                $"{file}: Bitmap '{SafeName}' is inconsistent and cannot be used: it was in use when the image was last closed; it can only be removed");
        }

        if (Entry.NeedsExtraData)
        {
            throw new BlockException(
                BlockErrorKind.Unsupported, $"{file}: bitmap '{SafeName}' has extra data of an unknown kind and must not be used");
        }
    }

    private ImageFormatException Bad(TableReader reader, int index, BitmapTableEntry entry, string problem) => new(
        reader.FileName, $"entry {index} of the table of bitmap '{SafeName}'", new((long)Entry.TableOffset + (index * (long)BitmapTableEntry.Size)),
        "value", $"0x{entry.Value:x16}", problem);
}
