using System.Buffers.Binary;
using Platter.Core.Errors;
using Platter.Core.Storages;
using Platter.Core.Units;

namespace Platter.Formats.Qcow2.Layout;

// The first cluster is the one structure that cannot move, and only one sector of it is written atomically. The first sector has every field of the
// header; the extensions and the name of the backing file may lie in later ones. So a change is made in three writes: the later sectors, with the
// old name still where the old header looks for it and the new name elsewhere if there is room; flush; the first sector, which switches to the new
// header; flush; and the later sectors once more, without the old name. If the new extensions need the old name's place, it moves away first, in the
// same way. A cut anywhere leaves the old header or the new one, each with its own name.
// What that does not cover is an extension that changes behind the first sector. Backing format, data file name and encryption header come before
// everything else and lie in the first sector unless the data file's name is very long; the names of features are for messages only; whoever changes
// the bitmaps extension makes it meaningless first, by its autoclear bit. With clusters of 512 bytes there is one sector and one write.

/// <summary>The first cluster of an image as values: header, header extensions, name of the backing file; read, changed, and written back.</summary>
/// <remarks>Spec: sections "Header" and "Header extensions". Header bytes behind those we know and extensions of unknown types are kept.</remarks>
internal sealed record HeaderCluster
{
    private const string Structure = "header";

    // The peers leave the table out of small clusters, where the backing file's name needs the room.
    private const int MaxClusterWithoutFeatureNames = 4096;

    /// <summary>The fields; <see cref="ToBytes"/> sets where the name is, its size, and the header's length itself.</summary>
    public required Qcow2Header Header { get; init; }

    /// <summary>Bytes of the header behind the fields that we know.</summary>
    public ReadOnlyMemory<byte> UnknownFields { get; init; }

    /// <summary>Name of the backing file as stored, or empty for none.</summary>
    public ReadOnlyMemory<byte> BackingFile { get; init; }

    /// <summary>Format of the backing file as stored, or null when the image does not say.</summary>
    public ReadOnlyMemory<byte>? BackingFormat { get; init; }

    /// <summary>Name of the data file as stored, or null.</summary>
    public ReadOnlyMemory<byte>? DataFileName { get; init; }

    /// <summary>Where the LUKS header is, or null.</summary>
    public EncryptionHeaderPointer? Encryption { get; init; }

    /// <summary>Data of our extension that says which snapshot the image is (<see cref="SnapshotLabelExtension"/>), or null.</summary>
    public ReadOnlyMemory<byte>? Label { get; init; }

    /// <summary>Data of the bitmaps extension, or null.</summary>
    public ReadOnlyMemory<byte>? Bitmaps { get; init; }

    /// <summary>Names of features, as the image has them; null: ours, if the cluster is large enough.</summary>
    public ReadOnlyMemory<byte>? FeatureNames { get; init; }

    /// <summary>Extensions of types that we do not know, in their order.</summary>
    public IReadOnlyList<HeaderExtension> Unknown { get; init; } = [];

    /// <summary>Takes a first cluster apart.</summary>
    /// <param name="cluster">The cluster, or as much of it as the file has.</param>
    /// <param name="file">For messages.</param>
    /// <exception cref="ImageFormatException">The header or an extension breaks the rules.</exception>
    public static HeaderCluster Parse(ReadOnlyMemory<byte> cluster, string file)
    {
        var header = Qcow2Header.Parse(cluster.Span, file);
        header.ValidateExtent(file);
        var geometry = new Qcow2Geometry((int)header.ClusterBits, (int)Math.Min(header.RefcountOrder, Qcow2Geometry.MaxRefcountOrder), false, (int)header.Version);
        var length = (int)Math.Min(header.HeaderLength, (uint)cluster.Length);
        var result = new HeaderCluster
        {
            Header = header,
            UnknownFields = length > Qcow2Header.KnownSize ? cluster[Qcow2Header.KnownSize..length] : default,
            BackingFile = NameOf(cluster, header, file),
        };
        var unknown = new List<HeaderExtension>();
        foreach (var extension in HeaderExtension.ParseAll(cluster, header, file))
        {
            switch (extension.Type)
            {
                case HeaderExtensionType.BackingFormat:
                    result = result with { BackingFormat = extension.Data };
                    break;
                case HeaderExtensionType.DataFileName:
                    result = result with { DataFileName = extension.Data };
                    break;
                case HeaderExtensionType.EncryptionHeader:
                    result = result with { Encryption = EncryptionHeaderPointer.Parse(extension, geometry, file) };
                    break;
                case HeaderExtensionType.SnapshotLabel:
                    result = result with { Label = extension.Data };
                    break;
                case HeaderExtensionType.Bitmaps:
                    result = result with { Bitmaps = extension.Data };
                    break;
                case HeaderExtensionType.FeatureNameTable:
                    result = result with { FeatureNames = extension.Data };
                    break;
                default:
                    unknown.Add(extension);
                    break;
            }
        }

        return result with { Unknown = unknown };
    }

    /// <summary>The whole first cluster.</summary>
    /// <param name="file">For messages.</param>
    /// <exception cref="ImageFormatException"><see cref="BlockErrorKind.NoSpace"/>: it does not fit into one cluster.</exception>
    public byte[] ToBytes(string file) => Build(file, old: default, out _);

    /// <summary>Writes the cluster over an older one, so that a cut leaves one or the other.</summary>
    /// <param name="storage">Where the image is.</param>
    /// <param name="old">The first cluster as it is on the disk, whole.</param>
    /// <param name="cancellationToken">Stops before the first write.</param>
    /// <returns>The cluster as it is now, for the next change.</returns>
    /// <exception cref="BlockException">It does not fit, with nothing written; or the host could not write.</exception>
    public async ValueTask<byte[]> ReplaceAsync(Storage storage, ReadOnlyMemory<byte> old, CancellationToken cancellationToken = default)
    {
        cancellationToken.ThrowIfCancellationRequested();
        var bytes = Build(storage.Name, old.Span, out var extensionsEnd);
        if (MoveName(old.Span, extensionsEnd, extensionsEnd + BackingFile.Length) is { } moved)
        {
            await storage.WriteAsync(new HostOffset(Sizes.SectorBytes), moved.AsMemory(Sizes.SectorBytes), CancellationToken.None).ConfigureAwait(false);
            await storage.FlushAsync(CancellationToken.None).ConfigureAwait(false);
            await storage.WriteAsync(HostOffset.Zero, moved.AsMemory(0, Sizes.SectorBytes), CancellationToken.None).ConfigureAwait(false);
            await storage.FlushAsync(CancellationToken.None).ConfigureAwait(false);
            old = moved;
            bytes = Build(storage.Name, old.Span, out extensionsEnd);
        }

        var tail = bytes.AsMemory(Sizes.SectorBytes);
        var tailChanges = !tail.Span.SequenceEqual(old.Span[Sizes.SectorBytes..]);
        if (tailChanges)
        {
            await storage.WriteAsync(new HostOffset(Sizes.SectorBytes), TailWithBothNames(bytes, old.Span, extensionsEnd), CancellationToken.None).ConfigureAwait(false);
            await storage.FlushAsync(CancellationToken.None).ConfigureAwait(false);
        }

        await storage.WriteAsync(HostOffset.Zero, bytes.AsMemory(0, Sizes.SectorBytes), CancellationToken.None).ConfigureAwait(false);
        await storage.FlushAsync(CancellationToken.None).ConfigureAwait(false);
        if (tailChanges)
        {
            await storage.WriteAsync(new HostOffset(Sizes.SectorBytes), tail, CancellationToken.None).ConfigureAwait(false);
        }

        return bytes;
    }

    private static ReadOnlyMemory<byte> NameOf(ReadOnlyMemory<byte> cluster, Qcow2Header header, string file)
    {
        if (header.BackingFileOffset == 0 || header.BackingFileSize == 0)
        {
            return default;
        }

        ImageFormatException.ThrowIfShort(
            cluster.Span, (int)header.BackingFileOffset + (int)Math.Min(header.BackingFileSize, Qcow2Header.MaxBackingNameBytes), file, "name of the backing file", default);
        return cluster.Slice((int)header.BackingFileOffset, (int)Math.Min(header.BackingFileSize, Qcow2Header.MaxBackingNameBytes));
    }

    private static (int From, int To) NameRange(ReadOnlySpan<byte> cluster)
    {
        if (cluster.IsEmpty || Qcow2Header.Parse(cluster, string.Empty) is not { BackingFileOffset: not 0 } header)
        {
            return default;
        }

        var from = (int)Math.Min(header.BackingFileOffset, (ulong)cluster.Length);
        return (from, from + (int)Math.Min(header.BackingFileSize, (uint)(cluster.Length - from)));
    }

    // An old name that lies where the new extensions go has to be out of the way first: the old header with its name further back.
    private static byte[]? MoveName(ReadOnlySpan<byte> old, int extensionsEnd, int to)
    {
        var (from, end) = NameRange(old);
        to = Math.Max(to, end);
        if (end <= Sizes.SectorBytes || from >= extensionsEnd || to + (end - from) > old.Length)
        {
            return null;
        }

        var result = old.ToArray();
        old[from..end].CopyTo(result.AsSpan(to));
        var header = Qcow2Header.Parse(old, string.Empty);
        try
        {
            // The name may be what ends the extensions, if the end marker is missing: then it stays.
            var before = HeaderExtension.ParseAll(old.ToArray(), header, string.Empty);
            header = header with { BackingFileOffset = (ulong)to };
            if (HeaderExtension.ParseAll(result, header, string.Empty).Count != before.Count)
            {
                return null;
            }
        }
        catch (ImageFormatException)
        {
            return null;
        }

        header.WriteTo(result);
        return result;
    }

    // Where the old name lies in what the new cluster needs, the new cluster wins; that is the case without room for both.
    private static byte[] TailWithBothNames(ReadOnlySpan<byte> bytes, ReadOnlySpan<byte> old, int extensionsEnd)
    {
        var result = bytes[Sizes.SectorBytes..].ToArray();
        var (oldName, newName) = (NameRange(old), NameRange(bytes));
        for (var at = Math.Max(oldName.From, Math.Max(Sizes.SectorBytes, extensionsEnd)); at < oldName.To; at++)
        {
            if (at < newName.From || at >= newName.To)
            {
                result[at - Sizes.SectorBytes] = old[at];
            }
        }

        return result;
    }

    private byte[] Build(string file, ReadOnlySpan<byte> old, out int extensionsEnd)
    {
        var clusterSize = 1 << (int)Header.ClusterBits;
        var bytes = new byte[clusterSize];
        var headerLength = Header.Version == 2 ? Qcow2Header.SizeV2 : Qcow2Header.KnownSize + UnknownFields.Length;
        if (headerLength + HeaderExtension.FixedSize > clusterSize)
        {
            throw TooLong(file, headerLength);
        }

        if (Header.Version != 2)
        {
            UnknownFields.Span.CopyTo(bytes.AsSpan(Qcow2Header.KnownSize));
        }

        var at = headerLength;
        Append(HeaderExtensionType.BackingFormat, BackingFormat);
        Append(HeaderExtensionType.DataFileName, DataFileName);
        if (Encryption is { } encryption)
        {
            Append(HeaderExtensionType.EncryptionHeader, encryption.ToBytes());
        }

        // Before what changes its length, so that it keeps its place.
        Append(HeaderExtensionType.SnapshotLabel, Label);
        Append(HeaderExtensionType.FeatureNameTable, FeatureNamesToWrite(clusterSize));
        Append(HeaderExtensionType.Bitmaps, Bitmaps);
        foreach (var extension in Unknown)
        {
            Append(extension.Type, extension.Data);
        }

        // The end marker is eight zeros.
        at += HeaderExtension.FixedSize;
        extensionsEnd = at;
        var nameAt = at;
        var keep = NameRange(old);
        var stays = nameAt == keep.From && old[keep.From..keep.To].SequenceEqual(BackingFile.Span);
        if (!stays && nameAt < keep.To && nameAt + BackingFile.Length > keep.From && keep.To + BackingFile.Length <= clusterSize)
        {
            nameAt = keep.To;
        }

        if (nameAt + BackingFile.Length > clusterSize || BackingFile.Length > Qcow2Header.MaxBackingNameBytes)
        {
            throw TooLong(file, nameAt + BackingFile.Length);
        }

        BackingFile.Span.CopyTo(bytes.AsSpan(nameAt));
        var header = Header with
        {
            HeaderLength = (uint)headerLength,
            BackingFileOffset = BackingFile.IsEmpty ? 0 : (ulong)nameAt,
            BackingFileSize = (uint)BackingFile.Length,
        };
        header.WriteTo(bytes);
        return bytes;

        void Append(HeaderExtensionType type, ReadOnlyMemory<byte>? data)
        {
            if (data is not { } content)
            {
                return;
            }

            if (at + (2 * HeaderExtension.FixedSize) + content.Length > clusterSize)
            {
                throw TooLong(file, at + (2 * HeaderExtension.FixedSize) + content.Length);
            }

            BinaryPrimitives.WriteUInt32BigEndian(bytes.AsSpan(at), (uint)type);
            BinaryPrimitives.WriteUInt32BigEndian(bytes.AsSpan(at + 4), (uint)content.Length);
            content.Span.CopyTo(bytes.AsSpan(at + HeaderExtension.FixedSize));
            at += HeaderExtension.FixedSize + ((content.Length + 7) & ~7);
        }
    }

    private ReadOnlyMemory<byte>? FeatureNamesToWrite(int clusterSize)
    {
        // Not one expression: a null beside an array would become an empty memory, which is an extension without content.
        if (FeatureNames is null && Header.Version >= 3 && clusterSize > MaxClusterWithoutFeatureNames)
        {
            return FeatureNameTable.KnownNames();
        }

        return FeatureNames;
    }

    private static ImageFormatException TooLong(string file, int bytes) => new(
        file, Structure, default, "header extensions and backing file name", $"{bytes} bytes", "do not fit into the first cluster", BlockErrorKind.NoSpace);
}
