using System.Text;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Bitmaps;
using Platter.Formats.Qcow2.Check;
using Platter.Formats.Qcow2.Encryption;
using Platter.Formats.Qcow2.Layout;
using Platter.Formats.Qcow2.Metadata;
using Platter.Formats.Qcow2.Snapshots;
using Platter.Formats.Qcow2.Writing;

namespace Platter.Formats.Qcow2;

/// <summary>What opening an image reads once: header, extensions, names, snapshot and bitmap lists. Immutable.</summary>
internal sealed record Qcow2Metadata
{
    public required Qcow2Header Header { get; init; }

    public required Qcow2Geometry Geometry { get; init; }

    public required List<HeaderExtension> Extensions { get; init; }

    /// <summary>Name of the backing file as stored, or null.</summary>
    public string? BackingName { get; init; }

    /// <summary>Format of the backing file as stored, or null.</summary>
    public string? BackingFormat { get; init; }

    /// <summary>Name of the data file as stored, or null.</summary>
    public string? DataFileName { get; init; }

    /// <summary>Internal snapshots, in table order.</summary>
    public IReadOnlyList<SnapshotTableEntry> Snapshots { get; init; } = [];

    /// <summary>Persistent bitmaps, in directory order.</summary>
    public IReadOnlyList<BitmapDirectoryEntry> Bitmaps { get; init; } = [];

    /// <summary>What is wrong with the lists, when the image was opened for its metadata only.</summary>
    public IReadOnlyList<ImageFormatException> Problems { get; init; } = [];

    /// <summary>Where the bitmap directory is, if there are bitmaps that count.</summary>
    public BitmapsExtension? BitmapsExtension { get; init; }

    /// <summary>Where the LUKS header is, or null.</summary>
    public EncryptionHeaderPointer? EncryptionHeader { get; init; }

    /// <summary>The LUKS header; null when there is none or it cannot be read.</summary>
    public LuksHeader? Luks { get; init; }

    public bool HasDataFile => (Header.Incompatible & IncompatibleFeatures.ExternalDataFile) != 0;

    public bool IsRawDataFile => HasDataFile && (Header.Autoclear & AutoclearFeatures.RawExternalData) != 0;
}

/// <summary>Opens images: reads the header, judges it, then finds what it leads to.</summary>
internal static class Qcow2Opening
{
    // Header, extensions and backing name of nearly every image; larger clusters are read on only when something lies there.
    private const int FirstReadBytes = 64 * 1024;

    // Besides those we obey: most of what tunes QEMU's caches and writing has no effect on us.
    private static readonly string[] s_options =
    [
        "backing.", "encrypt.", "data-file.", "lazy-refcounts", "pass-discard-request", "pass-discard-snapshot", "pass-discard-other",
        "discard-no-unref", "overlap-check", "overlap-check.", "cache-size", "l2-cache-size", "l2-cache-entry-size", "refcount-cache-size",
        "cache-clean-interval",
    ];

    public static async ValueTask<Qcow2Image> OpenAsync(
        Storage storage, NodeOptions options, OpenContext context, CancellationToken cancellationToken)
    {
        options.RefuseUnknown("qcow2", s_options);
        var metadata = await ReadMetadataAsync(storage, context.MetadataOnly, context.ForRepair, cancellationToken, context.AllowUnfinished).ConfigureAwait(false);
        var reader = new TableReader(storage, metadata.Geometry);
        metadata = await ReadListsAsync(storage, reader, metadata, context, cancellationToken).ConfigureAwait(false);
        if (!storage.IsReadOnly && !context.MetadataOnly && (metadata.Header.Incompatible & (IncompatibleFeatures.Dirty | IncompatibleFeatures.Corrupt)) == IncompatibleFeatures.Dirty)
        {
            metadata = await RepairDirtyAsync(storage, metadata, context, cancellationToken).ConfigureAwait(false);
        }

        metadata = await ReadLuksHeaderAsync(storage, metadata, context, cancellationToken).ConfigureAwait(false);
        var cipher = await UnlockAsync(storage, metadata, options, context, cancellationToken).ConfigureAwait(false);
        var dataFile = await OpenDataFileAsync(storage, metadata, options, context, cancellationToken).ConfigureAwait(false);
        try
        {
            var writer = storage.IsReadOnly || context.MetadataOnly
                ? null
                : await Qcow2WritableOpening.OpenAsync(storage, dataFile, cipher, metadata, options, context, cancellationToken).ConfigureAwait(false);
            return new Qcow2Image(storage, dataFile, cipher, metadata, reader, context, writer);
        }
        catch
        {
            if (dataFile is not null)
            {
                await dataFile.DisposeAsync().ConfigureAwait(false);
            }

            throw;
        }
    }

    // Lazy refcounts of an image that was not closed: they are counted anew before anything is written.
    private static async ValueTask<Qcow2Metadata> RepairDirtyAsync(Storage storage, Qcow2Metadata metadata, OpenContext context, CancellationToken cancellationToken)
    {
        context.Warn($"{storage.Name}: the image was not closed cleanly; its refcounts are repaired");
        var image = await DeviceEnd.OfAsync(storage, metadata, cancellationToken).ConfigureAwait(false);
        await new Qcow2Repair(image, metadata, new(RepairMode.All), static _ => { }, null).RunAsync(cancellationToken).ConfigureAwait(false);
        metadata = await ReadMetadataAsync(storage, lenient: false, forRepair: false, cancellationToken).ConfigureAwait(false);
        return await ReadListsAsync(storage, new TableReader(storage, metadata.Geometry), metadata, context, cancellationToken).ConfigureAwait(false);
    }

    // Info and check look at what there is: for them a broken list is a warning and a finding. For reading it is an error, since the disk may be
    // opened for one of its snapshots, and nothing should seem to be missing.
    private static async ValueTask<Qcow2Metadata> ReadListsAsync(
        Storage storage, TableReader reader, Qcow2Metadata metadata, OpenContext context, CancellationToken cancellationToken)
    {
        var maxBytes = context.Limits.MaxEagerMetadataBytes;
        try
        {
            var snapshotReader = context.MetadataOnly ? new TableReader(storage, metadata.Geometry, zerosBeyondEnd: true) : reader;
            metadata = metadata with
            {
                Snapshots = await SnapshotTable.ReadAsync(snapshotReader, metadata.Header, maxBytes, cancellationToken).ConfigureAwait(false),
            };
        }
        catch (ImageFormatException e) when (context.MetadataOnly)
        {
            context.Warn(e.Message);
            metadata = metadata with { Problems = [.. metadata.Problems, e] };
        }

        if (Find(metadata.Extensions, HeaderExtensionType.Bitmaps) is not { } extension)
        {
            return metadata;
        }

        if ((metadata.Header.Autoclear & AutoclearFeatures.Bitmaps) == 0)
        {
            context.Warn($"{reader.FileName}: bitmaps are ignored: a program that does not know them has written to the image");
            return metadata;
        }

        try
        {
            var bitmaps = BitmapsExtension.Parse(extension, reader.FileName);
            bitmaps.Validate(metadata.Geometry, reader.FileName, extension.DataAt);
            metadata = metadata with { BitmapsExtension = bitmaps };
            return metadata with
            {
                Bitmaps = await BitmapDirectory.ReadAsync(reader, metadata.Geometry, bitmaps, maxBytes, cancellationToken).ConfigureAwait(false),
            };
        }
        catch (ImageFormatException e) when (context.MetadataOnly)
        {
            context.Warn(e.Message);
            return metadata with { Problems = [.. metadata.Problems, e] };
        }
    }

    /// <summary>Reads header, extensions and lists anew, for a check of what is on the disk now.</summary>
    internal static async ValueTask<Qcow2Metadata> ReadForCheckAsync(Storage storage, CancellationToken cancellationToken, bool lenient = false)
    {
        var metadata = await ReadMetadataAsync(storage, lenient, forRepair: lenient, cancellationToken, allowUnfinished: true).ConfigureAwait(false);
        var context = new OpenContext
        {
            Formats = new FormatRegistry([], []), Storages = null!, Gate = null!, MetadataOnly = true,
        };
        return await ReadListsAsync(storage, new TableReader(storage, metadata.Geometry), metadata, context, cancellationToken).ConfigureAwait(false);
    }

    private static async ValueTask<Qcow2Metadata> ReadMetadataAsync(
        Storage storage, bool lenient, bool forRepair, CancellationToken cancellationToken, bool allowUnfinished = false)
    {
        var cluster = await ReadHeadAsync(storage, FirstReadBytes, cancellationToken).ConfigureAwait(false);
        var header = Qcow2Header.Parse(cluster.Span, storage.Name);
        header.ValidateExtent(storage.Name);
        header = forRepair ? header.WithoutImpossibleRefcounts() : header;
        header = allowUnfinished ? header with { Incompatible = header.Incompatible & ~IncompatibleFeatures.Unfinished } : header;
        var clusterSize = 1 << (int)header.ClusterBits;
        if (clusterSize < cluster.Length)
        {
            cluster = cluster[..clusterSize];
        }
        else if (clusterSize > cluster.Length && cluster.Length == FirstReadBytes)
        {
            cluster = await ReadHeadAsync(storage, clusterSize, cancellationToken).ConfigureAwait(false);
        }

        ImageFormatException.ThrowIfShort(cluster.Span, (int)header.HeaderLength, storage.Name, Qcow2Header.Structure, default);
        var extensions = HeaderExtension.ParseAll(cluster, header, storage.Name);
        var names = Find(extensions, HeaderExtensionType.FeatureNameTable) is { } table ? new FeatureNameTable(table.Data.Span) : FeatureNameTable.Empty;
        header.Validate(storage.Name, names, lenient);
        var geometry = new Qcow2Geometry(
            (int)header.ClusterBits, (int)header.RefcountOrder, (header.Incompatible & IncompatibleFeatures.ExtendedL2) != 0, (int)header.Version);
        return new Qcow2Metadata
        {
            Header = header,
            Geometry = geometry,
            EncryptionHeader = EncryptionHeader(extensions, header, geometry, storage.Name),
            Extensions = extensions,
            BackingName = BackingName(cluster.Span, header, storage.Name),
            BackingFormat = Text(extensions, HeaderExtensionType.BackingFormat),
            DataFileName = Text(extensions, HeaderExtensionType.DataFileName),
        };
    }

    private static async ValueTask<ReadOnlyMemory<byte>> ReadHeadAsync(Storage storage, int bytes, CancellationToken cancellationToken)
    {
        var buffer = new byte[(int)Math.Min(bytes, Math.Max(storage.Length, 0))];
        var read = await storage.ReadAsync(default, buffer, cancellationToken).ConfigureAwait(false);
        return buffer.AsMemory(0, read);
    }

    private static HeaderExtension? Find(List<HeaderExtension> extensions, HeaderExtensionType type)
    {
        // Each type should appear once; where one does not, the last one counts, as for QEMU.
        var found = extensions.FindLastIndex(e => e.Type == type);
        return found < 0 ? null : extensions[found];
    }

    private static string? Text(List<HeaderExtension> extensions, HeaderExtensionType type) =>
        Find(extensions, type) is { } extension ? CText(extension.Data.Span) : null;

    private static EncryptionHeaderPointer? EncryptionHeader(
        List<HeaderExtension> extensions, Qcow2Header header, Qcow2Geometry geometry, string file)
    {
        var extension = Find(extensions, HeaderExtensionType.EncryptionHeader);
        if (extension is not null != (header.CryptMethod == CryptMethod.Luks))
        {
            throw new ImageFormatException(
                file, Qcow2Header.Structure, new(Qcow2Header.CryptMethodAt), "crypt_method", header.CryptMethod.ToString(),
                extension is null ? "an encryption header pointer is needed and missing" : "an encryption header pointer is there and goes with LUKS only");
        }

        return extension is { } found ? EncryptionHeaderPointer.Parse(found, geometry, file) : null;
    }

    private static string? BackingName(ReadOnlySpan<byte> cluster, Qcow2Header header, string file)
    {
        if (header.BackingFileOffset == 0 || header.BackingFileSize == 0)
        {
            return null;
        }

        var at = (int)header.BackingFileOffset;
        if (at + (int)header.BackingFileSize > cluster.Length)
        {
            throw new ImageFormatException(file, "backing file name", new(at), string.Empty, string.Empty, "lies beyond the end of the file");
        }

        return CText(cluster.Slice(at, (int)header.BackingFileSize)) is { Length: > 0 } name ? name : null;
    }

    // Names are not terminated on disk; one that holds a NUL ends there, since no file system knows longer ones.
    private static string CText(ReadOnlySpan<byte> bytes)
    {
        var end = bytes.IndexOf((byte)0);
        return Encoding.UTF8.GetString(end < 0 ? bytes : bytes[..end]);
    }

    private static async ValueTask<Qcow2Metadata> ReadLuksHeaderAsync(
        Storage storage, Qcow2Metadata metadata, OpenContext context, CancellationToken cancellationToken)
    {
        // For reading, unlocking reads it.
        if (metadata.EncryptionHeader is not { } pointer || !context.MetadataOnly)
        {
            return metadata;
        }

        try
        {
            return metadata with
            {
                Luks = await LuksVolume.ReadHeaderAsync(
                    storage, new((long)pointer.Offset), (long)pointer.Length, storage.Name, cancellationToken).ConfigureAwait(false),
            };
        }
        catch (ImageFormatException e)
        {
            // Its clusters are known all the same: this is no reason to give up on leaks.
            context.Warn(e.Message);
            return metadata;
        }
    }

    private static async ValueTask<GuestCipher?> UnlockAsync(
        Storage storage, Qcow2Metadata metadata, NodeOptions options, OpenContext context, CancellationToken cancellationToken)
    {
        var method = metadata.Header.CryptMethod;
        var format = method switch { CryptMethod.Aes => "aes", CryptMethod.Luks => "luks", _ => null };
        if (options["encrypt.format"] is { } wanted && wanted != format)
        {
            throw new BlockException(
                BlockErrorKind.InvalidRequest,
                $"{storage.Name}: option 'encrypt.format' is '{SafeText.Clean(wanted, 64)}' and the image {(format is null ? "is not encrypted" : $"has '{format}'")}");
        }

        if (format is null || context.MetadataOnly)
        {
            return null;
        }

        if ((options["encrypt.key-secret"] ?? context.DefaultSecretId) is null)
        {
            throw new BlockException(
                BlockErrorKind.WrongSecret, $"{storage.Name}: the image is encrypted ({format}) and no password was given: option 'encrypt.key-secret' is needed");
        }

        var password = PasswordOf(storage, options, context);
        if (method == CryptMethod.Aes)
        {
            return new GuestCipher(LegacyAes.CreateCipher(password.Span), numbersByHost: false);
        }

        var pointer = metadata.EncryptionHeader!.Value;
        var volume = await LuksVolume.OpenAsync(
            storage, new((long)pointer.Offset), (long)pointer.Length, password, storage.Name, context.Limits.MaxKeyIterations,
            cancellationToken: cancellationToken).ConfigureAwait(false);
        return new GuestCipher(volume.Cipher, numbersByHost: true) { Luks = volume.Header };
    }

    /// <summary>The password that the options name.</summary>
    internal static ReadOnlyMemory<byte> PasswordOf(Storage storage, NodeOptions options, OpenContext context) =>
        context.Secrets.Get(options["encrypt.key-secret"] ?? context.DefaultSecretId ?? throw new BlockException(
            BlockErrorKind.WrongSecret, $"{storage.Name}: no password was given"));

    private static async ValueTask<Storage?> OpenDataFileAsync(
        Storage storage, Qcow2Metadata metadata, NodeOptions options, OpenContext context, CancellationToken cancellationToken)
    {
        var given = options.HasChild("data-file");
        if (!metadata.HasDataFile)
        {
            return given
                ? throw new BlockException(BlockErrorKind.InvalidRequest, $"{storage.Name}: option 'data-file' is only for images with an external data file")
                : null;
        }

        if (context.MetadataOnly)
        {
            return null;
        }

        if (!given && string.IsNullOrEmpty(metadata.DataFileName))
        {
            throw new BlockException(
                BlockErrorKind.InvalidRequest, $"{storage.Name}: the image has an external data file and does not name it: option 'data-file' is needed");
        }

        var writable = !storage.IsReadOnly;
        var dataFile = given
            ? await context.Storages.OpenAsync(
                options.Child("data-file"), new StorageOpenMode(context.ForceShare, NamedByImage: false, writable), cancellationToken).ConfigureAwait(false)
            : await context.OpenReferenceAsync(DataFileReference(storage, metadata)!, cancellationToken, writable).ConfigureAwait(false);
        try
        {
            if (writable)
            {
                dataFile.LockForWriting();
            }
            else if (!context.ForceShare)
            {
                dataFile.LockForReading(allowWriters: false);
            }

            return dataFile;
        }
        catch
        {
            await dataFile.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    /// <summary>The data file as the image names it, or null.</summary>
    public static ImageReference? DataFileReference(Storage storage, Qcow2Metadata metadata) =>
        metadata.HasDataFile && !string.IsNullOrEmpty(metadata.DataFileName)
            ? new(ReferenceKind.DataFile, metadata.DataFileName, "raw", storage.Name, storage.BaseDirectory)
            : null;

    /// <summary>The backing file as the image names it, or null.</summary>
    public static ImageReference? BackingReference(Storage storage, Qcow2Metadata metadata) =>
        metadata.BackingName is { } name
            ? new(ReferenceKind.Backing, name, metadata.BackingFormat, storage.Name, storage.BaseDirectory)
            : null;
}
