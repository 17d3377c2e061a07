using System.Buffers.Binary;
using Platter.Core.Errors;
using Platter.Core.Units;

namespace Platter.Formats.Parallels.Layout;

/// <summary>The fixed header of a Parallels image as stored; all fields are little-endian.</summary>
/// <remarks>Spec: qemu <c>docs/interop/parallels</c>, section "Header".</remarks>
/// <param name="IsExtended">Magic "WithouFreSpacExt" (v2): BAT entries count clusters. Otherwise "WithoutFreeSpace" (v1): they count sectors.</param>
/// <param name="Version">2 in every image.</param>
/// <param name="Heads">Guest geometry; means nothing for the content.</param>
/// <param name="Cylinders">Guest geometry; means nothing for the content.</param>
/// <param name="ClusterSizeSectors">"tracks".</param>
/// <param name="BatEntryCount">"nb_bat_entries".</param>
/// <param name="SizeSectors">"nb_sectors", all 64 bits as stored; see <see cref="DiskSizeSectors"/>.</param>
/// <param name="InUse">"in_use".</param>
/// <param name="DataOffsetSectors">"data_off".</param>
/// <param name="Flags">"flags".</param>
/// <param name="ExtensionOffsetSectors">"ext_off".</param>
internal readonly record struct ParallelsHeader(
    bool IsExtended,
    uint Version,
    uint Heads,
    uint Cylinders,
    uint ClusterSizeSectors,
    uint BatEntryCount,
    ulong SizeSectors,
    uint InUse,
    uint DataOffsetSectors,
    uint Flags,
    ulong ExtensionOffsetSectors)
{
    /// <summary>Bytes of the header; the BAT follows immediately.</summary>
    public const int Size = 64;

    /// <summary>in_use while software has the image open for writing ("Ynot"), and after it crashed.</summary>
    public const uint InUseOpen = 0x746F6E59;

    /// <summary>in_use of an image closed by software that knows the Format Extension ("v2.1").</summary>
    public const uint InUseClosed = 0x312e3276;

    /// <summary>Bit 0 of flags: the image is to be taken as clear, whatever its BAT says.</summary>
    public const uint EmptyImage = 1;

    /// <summary>Bit 1 of flags: conversion between v1 and v2 was going on, so that BAT entries may be in either unit. Not in QEMU's
    /// specification; OpenVZ's ploop sets it.</summary>
    public const uint ConversionInProgress = 2;

    /// <summary>What flags must not be: ploop takes all ones for an invalid word.</summary>
    public const uint InvalidFlags = 0xFFFFFFFF;

    /// <summary>Largest cluster that the peers open: 2 GiB - 1 divided by 513, in sectors.</summary>
    public const uint MaxClusterSizeSectors = int.MaxValue / 513;

    /// <summary>Largest BAT that the peers open, in entries.</summary>
    public const uint MaxBatEntryCount = int.MaxValue / 4;

    private const int VersionAt = 16, HeadsAt = 20, CylindersAt = 24, TracksAt = 28, BatEntriesAt = 32, SectorsAt = 36, InUseAt = 44,
        DataOffsetAt = 48, FlagsAt = 52, ExtensionOffsetAt = 56;

    private const string Structure = "header";

    /// <summary>Disk size in sectors. v1 has 32 bits for it; the high half must be zero, is garbage in some images, and is ignored.</summary>
    public ulong DiskSizeSectors => IsExtended ? SizeSectors : SizeSectors & 0xFFFFFFFF;

    /// <summary>Opened for writing and not closed: the image may be inconsistent.</summary>
    public bool IsDirty => InUse == InUseOpen;

    private static ReadOnlySpan<byte> MagicV1 => "WithoutFreeSpace"u8;

    private static ReadOnlySpan<byte> MagicV2 => "WithouFreSpacExt"u8;

    /// <summary>Whether bytes start with one of the two magics.</summary>
    public static bool HasMagic(ReadOnlySpan<byte> head) => head.StartsWith(MagicV1) || head.StartsWith(MagicV2);

    /// <summary>Converts the bytes; judges only length and magic.</summary>
    /// <exception cref="ImageFormatException"><see cref="BlockErrorKind.WrongFormat"/>: no Parallels image. Or the file is too short.</exception>
    public static ParallelsHeader Parse(ReadOnlySpan<byte> bytes, string file)
    {
        if (!HasMagic(bytes))
        {
            throw new ImageFormatException(
                file, Structure, HostOffset.Zero, "magic", string.Empty, "Image not in Parallels format", BlockErrorKind.WrongFormat);
        }

        ImageFormatException.ThrowIfShort(bytes, Size, file, Structure, HostOffset.Zero);
        return new(
            bytes.StartsWith(MagicV2),
            Version: BinaryPrimitives.ReadUInt32LittleEndian(bytes[VersionAt..]),
            Heads: BinaryPrimitives.ReadUInt32LittleEndian(bytes[HeadsAt..]),
            Cylinders: BinaryPrimitives.ReadUInt32LittleEndian(bytes[CylindersAt..]),
            ClusterSizeSectors: BinaryPrimitives.ReadUInt32LittleEndian(bytes[TracksAt..]),
            BatEntryCount: BinaryPrimitives.ReadUInt32LittleEndian(bytes[BatEntriesAt..]),
            SizeSectors: BinaryPrimitives.ReadUInt64LittleEndian(bytes[SectorsAt..]),
            InUse: BinaryPrimitives.ReadUInt32LittleEndian(bytes[InUseAt..]),
            DataOffsetSectors: BinaryPrimitives.ReadUInt32LittleEndian(bytes[DataOffsetAt..]),
            Flags: BinaryPrimitives.ReadUInt32LittleEndian(bytes[FlagsAt..]),
            ExtensionOffsetSectors: BinaryPrimitives.ReadUInt64LittleEndian(bytes[ExtensionOffsetAt..]));
    }

    /// <summary>Writes the structure's bytes.</summary>
    public void WriteTo(Span<byte> bytes)
    {
        (IsExtended ? MagicV2 : MagicV1).CopyTo(bytes);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes[VersionAt..], Version);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes[HeadsAt..], Heads);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes[CylindersAt..], Cylinders);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes[TracksAt..], ClusterSizeSectors);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes[BatEntriesAt..], BatEntryCount);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes[SectorsAt..], SizeSectors);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes[InUseAt..], InUse);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes[DataOffsetAt..], DataOffsetSectors);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes[FlagsAt..], Flags);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes[ExtensionOffsetAt..], ExtensionOffsetSectors);
    }

    /// <summary>Judges what reading depends on. What only <c>check</c> complains about passes.</summary>
    /// <param name="file">For messages.</param>
    /// <param name="storageLength">Bytes of the file.</param>
    /// <exception cref="ImageFormatException">A field breaks the rules, or the BAT reaches beyond the file.</exception>
    public void Validate(string file, long storageLength)
    {
        if (Version != 2)
        {
            throw Bad(file, VersionAt, "version", Version, "must be 2", BlockErrorKind.Unsupported);
        }

        if (ClusterSizeSectors is 0 or > MaxClusterSizeSectors)
        {
            throw Bad(file, TracksAt, "tracks", ClusterSizeSectors, $"the cluster size must be 1 to {MaxClusterSizeSectors} sectors");
        }

        if (BatEntryCount > MaxBatEntryCount)
        {
            throw Bad(file, BatEntriesAt, "nb_bat_entries", BatEntryCount, $"must be at most {MaxBatEntryCount}");
        }

        if (DiskSizeSectors > long.MaxValue / Sizes.SectorBytes)
        {
            throw Bad(file, SectorsAt, "nb_sectors", DiskSizeSectors, $"must be at most {long.MaxValue / Sizes.SectorBytes}");
        }

        if (Flags == InvalidFlags)
        {
            throw Bad(file, FlagsAt, "flags", $"0x{Flags:x}", "the word is not valid");
        }

        if (IsDirty && (Flags & ConversionInProgress) != 0)
        {
            throw Bad(file, FlagsAt, "flags", $"0x{Flags:x}", "a conversion between the two magics was interrupted, BAT entries may be in either unit");
        }

        // A BAT that was cut off would read as unallocated where data was: unlike the peers, refuse.
        var batEnd = Size + (4L * BatEntryCount);
        if (batEnd > storageLength)
        {
            throw Bad(file, BatEntriesAt, "nb_bat_entries", BatEntryCount, $"the BAT ends at 0x{batEnd:x}, the file at 0x{storageLength:x}");
        }
    }

    private static ImageFormatException Bad<T>(
        string file, int at, string field, T value, string problem, BlockErrorKind kind = BlockErrorKind.CorruptImage) =>
        new(file, Structure, new HostOffset(at), field, $"{value}", problem, kind);
}
