using System.Buffers.Binary;
using System.Globalization;
using Platter.Core.Errors;
using Platter.Core.Units;

namespace Platter.Formats.Qcow2.Layout;

/// <summary>Incompatible features: a reader must refuse bits it does not know.</summary>
[Flags]
internal enum IncompatibleFeatures : ulong
{
    None = 0,
    Dirty = 1 << 0,
    Corrupt = 1 << 1,
    ExternalDataFile = 1 << 2,
    CompressionType = 1 << 3,
    ExtendedL2 = 1 << 4,

    /// <summary>Ours: the image is the target of a conversion that has not come to its end. Not a known one, so that every reader refuses it.</summary>
    Unfinished = 1UL << 63,
    Known = Dirty | Corrupt | ExternalDataFile | CompressionType | ExtendedL2,
}

/// <summary>Compatible features: a reader may ignore them.</summary>
[Flags]
internal enum CompatibleFeatures : ulong
{
    None = 0,
    LazyRefcounts = 1 << 0,
}

/// <summary>Autoclear features: a writer clears bits it does not know.</summary>
[Flags]
internal enum AutoclearFeatures : ulong
{
    None = 0,
    Bitmaps = 1 << 0,
    RawExternalData = 1 << 1,
}

/// <summary>How guest data is encrypted.</summary>
internal enum CryptMethod : uint
{
    None = 0,
    Aes = 1,
    Luks = 2,
}

/// <summary>How compressed clusters are compressed.</summary>
internal enum CompressionType : byte
{
    Zlib = 0,
    Zstd = 1,
}

/// <summary>The fixed header at offset 0; all fields are big-endian.</summary>
/// <remarks>Spec: qemu <c>docs/interop/qcow2</c>, section "Header". Version 2 ends after 72 bytes: what follows there is no field.</remarks>
internal sealed record Qcow2Header
{
    public const uint Magic = 0x514649fb;
    public const int SizeV2 = 72;
    public const int MinSizeV3 = 104;

    /// <summary>The size of every field that we know.</summary>
    public const int KnownSize = 112;

    public const int MaxBackingNameBytes = 1023;
    public const int MaxL1Bytes = 32 << 20;
    public const int MaxRefcountTableBytes = 8 << 20;
    public const int MaxSnapshots = 65536;

    public const string Structure = "header";

    public const int CryptMethodAt = 32, SizeAt = 24, L1SizeAt = 36, L1TableOffsetAt = 40, RefcountTableOffsetAt = 48, RefcountTableClustersAt = 56,
        NbSnapshotsAt = 60, SnapshotsOffsetAt = 64, IncompatibleAt = 72, CompatibleAt = 80, AutoclearAt = 88, RefcountOrderAt = 96;

    private const int VersionAt = 4, BackingFileOffsetAt = 8, BackingFileSizeAt = 16, ClusterBitsAt = 20, HeaderLengthAt = 100,
        CompressionTypeAt = 104;

    public required uint Version { get; init; }

    public required ulong BackingFileOffset { get; init; }

    public required uint BackingFileSize { get; init; }

    public required uint ClusterBits { get; init; }

    public required ulong Size { get; init; }

    public required CryptMethod CryptMethod { get; init; }

    public required uint L1Size { get; init; }

    public required ulong L1TableOffset { get; init; }

    public required ulong RefcountTableOffset { get; init; }

    public required uint RefcountTableClusters { get; init; }

    public required uint SnapshotCount { get; init; }

    public required ulong SnapshotsOffset { get; init; }

    public IncompatibleFeatures Incompatible { get; init; }

    public CompatibleFeatures Compatible { get; init; }

    public AutoclearFeatures Autoclear { get; init; }

    public uint RefcountOrder { get; init; } = 4;

    public uint HeaderLength { get; init; } = SizeV2;

    public CompressionType CompressionType { get; init; }

    /// <summary>Bytes of the refcount table.</summary>
    public long RefcountTableBytes => (long)RefcountTableClusters << (int)ClusterBits;

    /// <summary>Size of the disk in bytes: whole sectors only, as every known implementation reads it.</summary>
    public long VirtualSize => (long)(Size & ~511UL);

    /// <summary>Converts the fields; judges only what decides where the fields are.</summary>
    public static Qcow2Header Parse(ReadOnlySpan<byte> bytes, string file)
    {
        ImageFormatException.ThrowIfShort(bytes, SizeV2, file, Structure, default);
        if (BinaryPrimitives.ReadUInt32BigEndian(bytes) != Magic)
        {
            throw new ImageFormatException(
                file, Structure, default, "magic", $"0x{BinaryPrimitives.ReadUInt32BigEndian(bytes):x8}", "is not a qcow2 image", BlockErrorKind.WrongFormat);
        }

        var version = U32(bytes, VersionAt);
        if (version is not (2 or 3))
        {
            throw new ImageFormatException(
                file, Structure, new(VersionAt), "version", version.ToString(CultureInfo.InvariantCulture), "only versions 2 and 3 are supported", BlockErrorKind.Unsupported);
        }

        var header = new Qcow2Header
        {
            Version = version,
            BackingFileOffset = U64(bytes, BackingFileOffsetAt),
            BackingFileSize = U32(bytes, BackingFileSizeAt),
            ClusterBits = U32(bytes, ClusterBitsAt),
            Size = U64(bytes, SizeAt),
            CryptMethod = (CryptMethod)U32(bytes, CryptMethodAt),
            L1Size = U32(bytes, L1SizeAt),
            L1TableOffset = U64(bytes, L1TableOffsetAt),
            RefcountTableOffset = U64(bytes, RefcountTableOffsetAt),
            RefcountTableClusters = U32(bytes, RefcountTableClustersAt),
            SnapshotCount = U32(bytes, NbSnapshotsAt),
            SnapshotsOffset = U64(bytes, SnapshotsOffsetAt),
        };
        if (version == 2)
        {
            return header;
        }

        ImageFormatException.ThrowIfShort(bytes, MinSizeV3, file, Structure, default);
        header = header with
        {
            Incompatible = (IncompatibleFeatures)U64(bytes, IncompatibleAt),
            Compatible = (CompatibleFeatures)U64(bytes, CompatibleAt),
            Autoclear = (AutoclearFeatures)U64(bytes, AutoclearAt),
            RefcountOrder = U32(bytes, RefcountOrderAt),
            HeaderLength = U32(bytes, HeaderLengthAt),
        };
        return header.HeaderLength > CompressionTypeAt && bytes.Length > CompressionTypeAt
            ? header with { CompressionType = (CompressionType)bytes[CompressionTypeAt] }
            : header;
    }

    /// <summary>Writes the fields: <see cref="SizeV2"/> bytes of a version 2 header, otherwise up to <see cref="HeaderLength"/> or <see cref="KnownSize"/>, whichever is less.</summary>
    public void WriteTo(Span<byte> bytes)
    {
        BinaryPrimitives.WriteUInt32BigEndian(bytes, Magic);
        BinaryPrimitives.WriteUInt32BigEndian(bytes[VersionAt..], Version);
        BinaryPrimitives.WriteUInt64BigEndian(bytes[BackingFileOffsetAt..], BackingFileOffset);
        BinaryPrimitives.WriteUInt32BigEndian(bytes[BackingFileSizeAt..], BackingFileSize);
        BinaryPrimitives.WriteUInt32BigEndian(bytes[ClusterBitsAt..], ClusterBits);
        BinaryPrimitives.WriteUInt64BigEndian(bytes[SizeAt..], Size);
        BinaryPrimitives.WriteUInt32BigEndian(bytes[CryptMethodAt..], (uint)CryptMethod);
        BinaryPrimitives.WriteUInt32BigEndian(bytes[L1SizeAt..], L1Size);
        BinaryPrimitives.WriteUInt64BigEndian(bytes[L1TableOffsetAt..], L1TableOffset);
        BinaryPrimitives.WriteUInt64BigEndian(bytes[RefcountTableOffsetAt..], RefcountTableOffset);
        BinaryPrimitives.WriteUInt32BigEndian(bytes[RefcountTableClustersAt..], RefcountTableClusters);
        BinaryPrimitives.WriteUInt32BigEndian(bytes[NbSnapshotsAt..], SnapshotCount);
        BinaryPrimitives.WriteUInt64BigEndian(bytes[SnapshotsOffsetAt..], SnapshotsOffset);
        if (Version == 2)
        {
            return;
        }

        BinaryPrimitives.WriteUInt64BigEndian(bytes[IncompatibleAt..], (ulong)Incompatible);
        BinaryPrimitives.WriteUInt64BigEndian(bytes[CompatibleAt..], (ulong)Compatible);
        BinaryPrimitives.WriteUInt64BigEndian(bytes[AutoclearAt..], (ulong)Autoclear);
        BinaryPrimitives.WriteUInt32BigEndian(bytes[RefcountOrderAt..], RefcountOrder);
        BinaryPrimitives.WriteUInt32BigEndian(bytes[HeaderLengthAt..], HeaderLength);
        if (HeaderLength > CompressionTypeAt)
        {
            // Seven bytes of padding follow, zeros by the spec.
            bytes[CompressionTypeAt..(int)Math.Min(HeaderLength, KnownSize)].Clear();
            bytes[CompressionTypeAt] = (byte)CompressionType;
        }
    }

    /// <summary>Judges what says where the header extensions are; <see cref="Validate"/> judges the rest.</summary>
    public void ValidateExtent(string file)
    {
        if (ClusterBits is < Qcow2Geometry.MinClusterBits or > Qcow2Geometry.MaxClusterBits)
        {
            throw Bad(file, ClusterBitsAt, "cluster_bits", ClusterBits, $"must be between {Qcow2Geometry.MinClusterBits} and {Qcow2Geometry.MaxClusterBits}",
                ClusterBits > Qcow2Geometry.MaxClusterBits && ClusterBits < 63 ? BlockErrorKind.Unsupported : BlockErrorKind.CorruptImage);
        }

        if (Version == 3 && HeaderLength < MinSizeV3)
        {
            throw Bad(file, HeaderLengthAt, "header_length", HeaderLength, $"must be at least {MinSizeV3}");
        }

        if (HeaderLength > 1U << (int)ClusterBits)
        {
            throw Bad(file, HeaderLengthAt, "header_length", HeaderLength, "the header must fit into the first cluster");
        }

        if (BackingFileOffset > 1UL << (int)ClusterBits)
        {
            throw Bad(file, BackingFileOffsetAt, "backing_file_offset", BackingFileOffset, "must lie in the first cluster");
        }
    }

    /// <summary>The header without a refcount table that cannot be one: a repair makes another.</summary>
    public Qcow2Header WithoutImpossibleRefcounts() =>
        RefcountTableBytes <= MaxRefcountTableBytes && (RefcountTableOffset & ((1UL << (int)ClusterBits) - 1)) == 0
            && RefcountTableOffset <= long.MaxValue - MaxRefcountTableBytes
            ? this
            : this with { RefcountTableOffset = 0, RefcountTableClusters = 0 };

    /// <summary>Judges every value, knowing the features' names.</summary>
    /// <param name="file">For messages.</param>
    /// <param name="names">The image's own feature names.</param>
    /// <param name="lenient">The refcount table may be missing: nothing needs it for <c>info</c> and <c>check</c> reports that.</param>
    public void Validate(string file, FeatureNameTable names, bool lenient)
    {
        if ((Incompatible & ~IncompatibleFeatures.Known) is var unknown and not 0)
        {
            if (unknown == IncompatibleFeatures.Unfinished && UnfinishedMark.IsOurs(names))
            {
                throw UnfinishedMark.Refused(file);
            }

            throw new ImageFormatException(
                file, Structure, new(IncompatibleAt), "incompatible_features", $"0x{(ulong)Incompatible:x}",
                $"needs what is not supported: {names.Describe(FeatureKind.Incompatible, (ulong)unknown)}", BlockErrorKind.Unsupported);
        }

        if (RefcountOrder > Qcow2Geometry.MaxRefcountOrder)
        {
            throw Bad(file, RefcountOrderAt, "refcount_order", RefcountOrder, $"must not exceed {Qcow2Geometry.MaxRefcountOrder}");
        }

        if (CryptMethod > CryptMethod.Luks)
        {
            throw Bad(file, CryptMethodAt, "crypt_method", (uint)CryptMethod, "must be 0 (none), 1 (AES) or 2 (LUKS)", BlockErrorKind.Unsupported);
        }

        ValidateCompression(file);
        if ((Incompatible & IncompatibleFeatures.ExtendedL2) != 0 && ClusterBits < Qcow2Geometry.MinExtendedClusterBits)
        {
            throw Bad(file, ClusterBitsAt, "cluster_bits", ClusterBits, $"must be at least {Qcow2Geometry.MinExtendedClusterBits} with extended L2 entries");
        }

        if ((BackingFileOffset != 0) && (BackingFileSize > MaxBackingNameBytes || BackingFileOffset + BackingFileSize > 1UL << (int)ClusterBits))
        {
            throw Bad(file, BackingFileSizeAt, "backing_file_size", BackingFileSize,
                $"the name must have at most {MaxBackingNameBytes} bytes and lie in the first cluster");
        }

        ValidateTable(file, L1TableOffset, L1TableOffsetAt, "l1_table_offset", L1SizeAt, "l1_size", L1Size, 8, MaxL1Bytes);
        var clusterSize = 1L << (int)ClusterBits;
        ValidateTable(
            file, RefcountTableOffset, RefcountTableOffsetAt, "refcount_table_offset", RefcountTableClustersAt, "refcount_table_clusters",
            RefcountTableClusters, clusterSize, MaxRefcountTableBytes);
        if (RefcountTableClusters == 0 && !lenient)
        {
            throw Bad(file, RefcountTableClustersAt, "refcount_table_clusters", 0, "the image has no refcount table");
        }

        // The table's length is not known from the header; its entries have at least 40 bytes each.
        ValidateTable(
            file, SnapshotsOffset, SnapshotsOffsetAt, "snapshots_offset", NbSnapshotsAt, "nb_snapshots",
            SnapshotCount, SnapshotTableEntry.FixedSize, (long)MaxSnapshots * SnapshotTableEntry.FixedSize);
        var extended = (Incompatible & IncompatibleFeatures.ExtendedL2) != 0;
        var bytesPerEntryBits = (2 * (int)ClusterBits) - (extended ? 4 : 3);
        var needed = (Size >> bytesPerEntryBits) + ((Size & ((1UL << bytesPerEntryBits) - 1)) == 0 ? 0UL : 1UL);
        if (needed > MaxL1Bytes / 8 || Size > long.MaxValue)
        {
            throw Bad(file, SizeAt, "size", Size, $"needs an L1 table of more than {MaxL1Bytes >> 20} MiB", BlockErrorKind.LimitExceeded);
        }

        if (needed > L1Size)
        {
            throw Bad(file, L1SizeAt, "l1_size", L1Size, $"a disk of {Size} bytes needs {needed} entries");
        }
    }

    private void ValidateCompression(string file)
    {
        var flagged = (Incompatible & IncompatibleFeatures.CompressionType) != 0;
        if (flagged != (CompressionType != CompressionType.Zlib))
        {
            throw Bad(file, CompressionTypeAt, "compression_type", (byte)CompressionType, flagged
                ? "incompatible feature bit 3 demands a type other than 0"
                : "incompatible feature bit 3 is not set");
        }

        if (CompressionType > CompressionType.Zstd)
        {
            throw Bad(file, CompressionTypeAt, "compression_type", (byte)CompressionType, "must be 0 (zlib) or 1 (zstd)", BlockErrorKind.Unsupported);
        }
    }

    private void ValidateTable(
        string file, ulong offset, int offsetAt, string offsetName, int countAt, string countName, uint count, long entryBytes, long maxBytes)
    {
        if (count * (ulong)entryBytes > (ulong)maxBytes)
        {
            throw Bad(file, countAt, countName, count, $"the limit is {maxBytes / entryBytes}", BlockErrorKind.LimitExceeded);
        }

        if (count != 0 && (offset & ((1UL << (int)ClusterBits) - 1)) != 0)
        {
            throw Bad(file, offsetAt, offsetName, offset, "is not aligned to a cluster");
        }

        if (count != 0 && offset > (ulong)(long.MaxValue - maxBytes))
        {
            throw Bad(file, offsetAt, offsetName, offset, "lies beyond any possible file");
        }
    }

    private static ImageFormatException Bad(
        string file, int fieldAt, string field, ulong value, string problem, BlockErrorKind kind = BlockErrorKind.CorruptImage) =>
        new(file, Structure, new(fieldAt), field, field.EndsWith("offset", StringComparison.Ordinal) ? $"0x{value:x}" : value.ToString(CultureInfo.InvariantCulture), problem, kind);

    private static uint U32(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadUInt32BigEndian(bytes[at..]);

    private static ulong U64(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadUInt64BigEndian(bytes[at..]);
}
