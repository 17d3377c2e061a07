using System.Globalization;
using System.Text.Json.Nodes;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Formats.Qcow2.Encryption;
using Platter.Formats.Qcow2.Layout;

namespace Platter.Formats.Qcow2;

/// <summary>What <c>info</c> tells of a qcow2 image, in the keys of the peer's JSON.</summary>
internal static class Qcow2Info
{
    public static ImageInfo Describe(Storage storage, Qcow2Metadata metadata, IReadOnlyList<SnapshotInfo> snapshots) => new()
    {
        FileName = storage.Name,
        Format = "qcow2",
        VirtualSize = metadata.Header.VirtualSize,
        AllocatedSize = storage.AllocatedSize,
        ClusterSize = metadata.Geometry.ClusterSize,
        VmStateOffset = metadata.Geometry.L1EntriesFor(metadata.Header.VirtualSize) << metadata.Geometry.GuestBytesPerL2Bits,
        Encrypted = metadata.Header.CryptMethod != CryptMethod.None,
        Dirty = (metadata.Header.Incompatible & IncompatibleFeatures.Dirty) != 0,
        BackingName = metadata.BackingName,
        FullBackingName = metadata.BackingName is { } name ? FullName(storage, name) : null,
        BackingFormat = metadata.BackingFormat,
        Snapshots = snapshots,
        Label = LabelOf(metadata),
        FormatSpecific = Specific(metadata),
    };

    private static JsonObject Specific(Qcow2Metadata metadata)
    {
        var header = metadata.Header;
        var result = new JsonObject
        {
            ["compat"] = header.Version == 2 ? "0.10" : "1.1",
            ["compression-type"] = header.CompressionType == CompressionType.Zstd ? "zstd" : "zlib",
        };
        if (header.Version >= 3)
        {
            result["lazy-refcounts"] = (header.Compatible & CompatibleFeatures.LazyRefcounts) != 0;
        }

        if (metadata.Bitmaps.Count > 0)
        {
            result["bitmaps"] = new JsonArray([.. metadata.Bitmaps.Select(Bitmap)]);
        }

        result["refcount-bits"] = metadata.Geometry.RefcountBits;
        if (header.CryptMethod != CryptMethod.None)
        {
            result["encrypt"] = Encryption(metadata);
        }

        if (header.Version >= 3)
        {
            if (metadata.HasDataFile)
            {
                if (metadata.DataFileName is { } dataFile)
                {
                    result["data-file"] = dataFile;
                }

                result["data-file-raw"] = metadata.IsRawDataFile;
            }

            result["corrupt"] = (header.Incompatible & IncompatibleFeatures.Corrupt) != 0;
            result["extended-l2"] = metadata.Geometry.HasExtendedL2;
        }

        if (LabelOf(metadata) is { } label)
        {
            var snapshot = new JsonObject { ["name"] = label.Name };
            if (label.Date != DateTimeOffset.UnixEpoch)
            {
                snapshot["date"] = label.Date.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", CultureInfo.InvariantCulture);
            }

            result["snapshot"] = snapshot;
        }

        return result;
    }

    private static SnapshotLabel? LabelOf(Qcow2Metadata metadata)
    {
        foreach (var extension in metadata.Extensions)
        {
            if (extension.Type == HeaderExtensionType.SnapshotLabel)
            {
                return SnapshotLabelExtension.Parse(extension.Data.Span);
            }
        }

        return null;
    }

    private static JsonObject Encryption(Qcow2Metadata metadata)
    {
        if (metadata.Header.CryptMethod == CryptMethod.Aes)
        {
            return new JsonObject { ["format"] = "aes" };
        }

        if (metadata.Luks is not { } luks)
        {
            return new JsonObject { ["format"] = "luks" };
        }

        // In the order in which the peer prints them.
        var result = new JsonObject { ["ivgen-alg"] = luks.IvGenAlg, ["hash-alg"] = luks.HashSpec, ["cipher-alg"] = luks.CipherAlg };
        result["uuid"] = luks.Uuid;
        if (luks.IvGenHashAlg is { } hash)
        {
            result["ivgen-hash-alg"] = hash;
        }

        result["format"] = "luks";
        result["cipher-mode"] = luks.Mode;
        result["slots"] = new JsonArray([.. luks.Slots.Select(Slot)]);
        result["payload-offset"] = luks.PayloadOffset;
        result["master-key-iters"] = luks.MasterKeyDigestIterations;
        return result;
    }

    private static JsonObject Slot(LuksKeySlot slot)
    {
        return slot.IsActive
            ? new JsonObject
            {
                ["active"] = true, ["iters"] = slot.Iterations, ["key-offset"] = slot.KeyMaterialOffset, ["stripes"] = slot.Stripes,
            }
            : new JsonObject { ["active"] = false, ["key-offset"] = slot.KeyMaterialOffset };
    }

    private static JsonObject Bitmap(BitmapDirectoryEntry bitmap)
    {
        var flags = new JsonArray();
        if ((bitmap.Flags & BitmapFlags.InUse) != 0)
        {
            flags.Add((JsonNode)"in-use");
        }

        if ((bitmap.Flags & BitmapFlags.Auto) != 0)
        {
            flags.Add((JsonNode)"auto");
        }

        return new JsonObject { ["flags"] = flags, ["name"] = bitmap.Name, ["granularity"] = bitmap.Granularity };
    }

    // The directory as the caller spelled it, so that "./a.qcow2" leads to "./b.qcow2" and "a.qcow2" to "b.qcow2".
    private static string FullName(Storage storage, string name)
    {
        var colon = name.IndexOf(':', StringComparison.Ordinal);
        var slash = name.IndexOf('/', StringComparison.Ordinal);
        var hasProtocol = colon >= 0 && (slash < 0 || colon < slash);
        if (hasProtocol || slash == 0 || storage.BaseDirectory is null)
        {
            return name;
        }

        var end = storage.Name.LastIndexOf('/') + 1;
        return storage.Name[..end] + name;
    }
}
