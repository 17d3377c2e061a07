using System.Text;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Bitmaps;
using Platter.Formats.Qcow2.Layout;
using Platter.Formats.Qcow2.Metadata;
using Platter.Formats.Qcow2.Snapshots;

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

    public bool HasDataFile => (Header.Incompatible & IncompatibleFeatures.ExternalDataFile) != 0;

    public bool IsRawDataFile => HasDataFile && (Header.Autoclear & AutoclearFeatures.RawExternalData) != 0;
}

/// <summary>Opens images: reads the header, judges it, then finds what it leads to.</summary>
internal static class Qcow2Opening
{
    // Header, extensions and backing name of nearly every image; larger clusters are read on only when something lies there.
    private const int FirstReadBytes = 64 * 1024;

    public static async ValueTask<Qcow2Image> OpenAsync(
        Storage storage, NodeOptions options, OpenContext context, CancellationToken cancellationToken)
    {
        var metadata = await ReadMetadataAsync(storage, context.MetadataOnly, cancellationToken).ConfigureAwait(false);
        var reader = new TableReader(storage, metadata.Geometry);
        metadata = metadata with
        {
            Snapshots = await SnapshotTable.ReadAsync(reader, metadata.Header, context.Limits.MaxEagerMetadataBytes, cancellationToken).ConfigureAwait(false),
            Bitmaps = await ReadBitmapsAsync(reader, metadata, context, cancellationToken).ConfigureAwait(false),
        };
        var dataFile = await OpenDataFileAsync(storage, metadata, options, context, cancellationToken).ConfigureAwait(false);
        try
        {
            return new Qcow2Image(storage, dataFile, metadata, reader, context);
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

    private static async ValueTask<IReadOnlyList<BitmapDirectoryEntry>> ReadBitmapsAsync(
        TableReader reader, Qcow2Metadata metadata, OpenContext context, CancellationToken cancellationToken)
    {
        if (Find(metadata.Extensions, HeaderExtensionType.Bitmaps) is not { } extension)
        {
            return [];
        }

        if ((metadata.Header.Autoclear & AutoclearFeatures.Bitmaps) == 0)
        {
            context.Warn($"{reader.FileName}: bitmaps are ignored: a program that does not know them has written to the image");
            return [];
        }

        return await BitmapDirectory.ReadAsync(
            reader, metadata.Geometry, extension, context.Limits.MaxEagerMetadataBytes, cancellationToken).ConfigureAwait(false);
    }

    private static async ValueTask<Qcow2Metadata> ReadMetadataAsync(Storage storage, bool lenient, CancellationToken cancellationToken)
    {
        var cluster = await ReadHeadAsync(storage, FirstReadBytes, cancellationToken).ConfigureAwait(false);
        var header = Qcow2Header.Parse(cluster.Span, storage.Name);
        header.ValidateExtent(storage.Name);
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
        return new Qcow2Metadata
        {
            Header = header,
            Geometry = new Qcow2Geometry(
                (int)header.ClusterBits, (int)header.RefcountOrder, (header.Incompatible & IncompatibleFeatures.ExtendedL2) != 0, (int)header.Version),
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

        if (given)
        {
            return await context.Storages.OpenAsync(
                options.Child("data-file"), new StorageOpenMode(context.ForceShare, NamedByImage: false), cancellationToken).ConfigureAwait(false);
        }

        if (string.IsNullOrEmpty(metadata.DataFileName))
        {
            throw new BlockException(
                BlockErrorKind.InvalidRequest, $"{storage.Name}: the image has an external data file and does not name it: option 'data-file' is needed");
        }

        return await context.OpenReferenceAsync(DataFileReference(storage, metadata)!, cancellationToken).ConfigureAwait(false);
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
