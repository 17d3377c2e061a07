using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Allocation;
using Platter.Formats.Qcow2.Check;
using Platter.Formats.Qcow2.Layout;
using Platter.Formats.Qcow2.Mapping;
using Platter.Formats.Qcow2.Metadata;

namespace Platter.Formats.Qcow2.Writing;

/// <summary>Prepares an image for writing: judges whether it may be written to, and loads what allocation needs.</summary>
/// <remarks>Nothing is written before every check has passed.</remarks>
internal static class Qcow2WritableOpening
{
    private const long MaxCacheBytes = 256 << 20;

    public static async ValueTask<Qcow2Writer> OpenAsync(
        Storage storage, Storage? dataFile, GuestCipher? cipher, Qcow2Metadata metadata, NodeOptions options, OpenContext context,
        CancellationToken cancellationToken)
    {
        var (header, geometry) = (metadata.Header, metadata.Geometry);
        RefuseBroken(storage, header);
        var reader = new TableReader(storage, geometry);
        var l1 = await LoadL1Async(reader, header, cancellationToken).ConfigureAwait(false);
        var refcounts = await RefcountStore.LoadAsync(
            storage, reader, header, geometry, CacheBytes(storage, options, "refcount-cache-size", RefcountStore.DefaultCacheBytes), cancellationToken).ConfigureAwait(false);
        var regions = new MetadataRegions();
        AddRegions(regions, metadata, refcounts, l1);
        AddBitmapRegions(regions, metadata, storage.Name);
        var sector = await HeaderSector.LoadAsync(storage, cancellationToken).ConfigureAwait(false);
        var writer = new Qcow2Writer(new()
        {
            Storage = storage,
            DataFile = dataFile,
            IsRawDataFile = metadata.IsRawDataFile,
            Cipher = cipher,
            Password = cipher is null ? null : () => Qcow2Opening.PasswordOf(storage, options, context),
            Geometry = geometry,
            Header = sector,
            Tables = new TableStore(
                reader, geometry, metadata.HasDataFile, new((long)header.L1TableOffset), l1, CacheBytes(storage, options, "l2-cache-size", TableStore.DefaultCacheBytes)),
            Refcounts = refcounts,
            End = storage.HasFixedLength ? await refcounts.FindEndAsync(long.MaxValue, cancellationToken).ConfigureAwait(false) : 0,
            Regions = regions,
            Codecs = context.Codecs,
            CompressionLevel = context.CompressionLevel,
            HasBacking = metadata.BackingName is not null || options.HasChild("backing"),
            GivesBackSpace = !context.KeepsSpace && options["discard"] is not ("ignore" or "off"),
            AreRefcountsTrue = token => AreRefcountsTrueAsync(storage, token),
        });
        await writer.LoadBitmapsAsync(metadata, cancellationToken).ConfigureAwait(false);
        if (header.Version >= 3)
        {
            // What we do not know may not describe the image any more once we write.
            var known = AutoclearFeatures.RawExternalData | (metadata.BitmapsExtension is null ? AutoclearFeatures.None : AutoclearFeatures.Bitmaps);
            sector.Set64(Qcow2Header.AutoclearAt, (ulong)(header.Autoclear & known));
            await sector.WriteAsync(cancellationToken).ConfigureAwait(false);
        }

        return writer;
    }

    // What somebody wants to spend, within reason: a few tables are always kept.
    private static long CacheBytes(Storage storage, NodeOptions options, string key, long otherwise)
    {
        if (options[key] is not { } text)
        {
            return otherwise;
        }

        return ByteCount.TryParse(text, out var bytes)
            ? Math.Min(bytes, MaxCacheBytes)
            : throw new BlockException(BlockErrorKind.InvalidRequest, $"{storage.Name}: option '{key}' is '{SafeText.Clean(text, 64)}': expected a number of bytes");
    }

    private static void RefuseBroken(Storage storage, Qcow2Header header)
    {
        if ((header.Incompatible & IncompatibleFeatures.Corrupt) != 0)
        {
            throw new ImageFormatException(
                storage.Name, Qcow2Header.Structure, new(Qcow2Header.IncompatibleAt), "incompatible_features", $"0x{(ulong)header.Incompatible:x}",
                "the image is marked corrupt and cannot be written to; 'check -r all' repairs it");
        }

        if ((header.Incompatible & IncompatibleFeatures.Dirty) != 0)
        {
            throw new ImageFormatException(
                storage.Name, Qcow2Header.Structure, new(Qcow2Header.IncompatibleAt), "incompatible_features", $"0x{(ulong)header.Incompatible:x}",
                "the image was not closed cleanly, and it could not be repaired; 'check' says what is wrong");
        }
    }

    private static async ValueTask<ulong[]> LoadL1Async(TableReader reader, Qcow2Header header, CancellationToken cancellationToken)
    {
        var bytes = new byte[header.L1Size * L1Entry.Size];
        if (bytes.Length > 0)
        {
            await reader.ReadAsync(new((long)header.L1TableOffset), bytes, "L1 table", -1, cancellationToken).ConfigureAwait(false);
        }

        return BigEndianWords.ToHost(bytes).ToArray();
    }

    /// <summary>Every cluster that is known to hold metadata.</summary>
    public static void AddRegions(MetadataRegions regions, Qcow2Metadata metadata, RefcountStore refcounts, ulong[] l1)
    {
        var (header, bits) = (metadata.Header, metadata.Geometry.ClusterBits);
        regions.Add(0, 1, MetadataKind.Header);
        AddBytes((long)header.L1TableOffset, (long)header.L1Size * L1Entry.Size, MetadataKind.L1Table);
        AddBytes((long)header.RefcountTableOffset, header.RefcountTableBytes, MetadataKind.RefcountTable);
        foreach (var cluster in refcounts.BlockClusters)
        {
            regions.Add(cluster, 1, MetadataKind.RefcountBlock);
        }

        foreach (var entry in l1)
        {
            if (new L1Entry(entry) is { IsAbsent: false } table)
            {
                regions.Add(table.TableOffset.Value >> bits, 1, table.IsCopied ? MetadataKind.L2Table : MetadataKind.SharedL2Table);
            }
        }

        AddBytes((long)header.SnapshotsOffset, metadata.Snapshots.Sum(s => (long)s.EntrySize), MetadataKind.SnapshotTable);
        foreach (var snapshot in metadata.Snapshots)
        {
            AddBytes((long)snapshot.L1TableOffset, (long)snapshot.L1Size * L1Entry.Size, MetadataKind.SnapshotL1Table);
        }

        if (metadata.EncryptionHeader is { } pointer)
        {
            AddBytes((long)pointer.Offset, (long)pointer.Length, MetadataKind.EncryptionHeader);
        }

        void AddBytes(long at, long length, MetadataKind kind)
        {
            if (length > 0)
            {
                regions.Add(at >> bits, ((at + length - 1) >> bits) - (at >> bits) + 1, kind);
            }
        }
    }

    /// <summary>The bitmap directory and every bitmap's table, none of which may lie where other metadata are. Their bits are added when a table is read.</summary>
    /// <exception cref="ImageFormatException">Two of them overlap.</exception>
    public static void AddBitmapRegions(MetadataRegions regions, Qcow2Metadata metadata, string file)
    {
        if (metadata.BitmapsExtension is not { } extension)
        {
            return;
        }

        var bits = metadata.Geometry.ClusterBits;
        Add("bitmap directory", (long)extension.DirectoryOffset, (long)extension.DirectorySize, MetadataKind.BitmapDirectory);
        foreach (var bitmap in metadata.Bitmaps)
        {
            Add($"table of bitmap '{SafeText.Clean(bitmap.Name, 64)}'", (long)bitmap.TableOffset, bitmap.TableSize * (long)BitmapTableEntry.Size, MetadataKind.BitmapTable);
        }

        void Add(string structure, long at, long length, MetadataKind kind)
        {
            var (first, count) = (at >> bits, ((at + length - 1) >> bits) - (at >> bits) + 1);
            if (regions.Find(first, count) is >= 0 and var shared)
            {
                throw new ImageFormatException(
                    file, structure, new(at), string.Empty, string.Empty, $"other metadata lie in its cluster at 0x{shared << bits:x}; the image cannot be written to");
            }

            regions.Add(first, count, kind);
        }
    }

    private static async ValueTask<bool> AreRefcountsTrueAsync(Storage storage, CancellationToken cancellationToken)
    {
        try
        {
            var metadata = await Qcow2Opening.ReadForCheckAsync(storage, cancellationToken).ConfigureAwait(false);
            var report = await new Qcow2Check(storage, metadata, static _ => { }, null).RunAsync(cancellationToken).ConfigureAwait(false);
            return report is { Corruptions: 0, Errors: 0 };
        }
        catch (BlockException)
        {
            // What cannot be checked is not trusted; writing goes on at the end of the file.
            return false;
        }
    }
}
