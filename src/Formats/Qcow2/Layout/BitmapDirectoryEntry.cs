using System.Buffers.Binary;
using System.Globalization;
using System.Text;
using Platter.Core.Errors;
using Platter.Core.Units;

namespace Platter.Formats.Qcow2.Layout;

/// <summary>Flags of a bitmap.</summary>
[Flags]
internal enum BitmapFlags : uint
{
    None = 0,
    InUse = 1 << 0,
    Auto = 1 << 1,
    ExtraDataCompatible = 1 << 2,
    Known = InUse | Auto | ExtraDataCompatible,
}

/// <summary>An entry of the bitmap directory: 24 fixed bytes, extra data, name, padding to a multiple of 8.</summary>
/// <remarks>Spec: section "Bitmap directory".</remarks>
internal sealed record BitmapDirectoryEntry
{
    public const int FixedSize = 24;
    public const int MaxNameBytes = 1023;
    public const int MinGranularityBits = 9;
    public const int MaxGranularityBits = 31;
    public const uint MaxTableEntries = 0x8000000;
    public const long MaxPayloadBytes = 512 << 20;

    private const int TableOffsetAt = 0, TableSizeAt = 8, FlagsAt = 12, TypeAt = 16, GranularityAt = 17, NameSizeAt = 18, ExtraSizeAt = 20;
    private const byte DirtyTracking = 1;

    public required ulong TableOffset { get; init; }

    /// <summary>Entries in the bitmap table.</summary>
    public required uint TableSize { get; init; }

    public required BitmapFlags Flags { get; init; }

    public required byte Type { get; init; }

    public required byte GranularityBits { get; init; }

    public required string Name { get; init; }

    public required int NameSize { get; init; }

    /// <summary>Bytes of data that we do not know.</summary>
    public required uint ExtraSize { get; init; }

    /// <summary>Host offset of the entry.</summary>
    public required HostOffset At { get; init; }

    /// <summary>The entry as it is stored, padding included: what we do not know in it is kept.</summary>
    public ReadOnlyMemory<byte> Raw { get; init; }

    /// <summary>It was not stored when the image was last closed: its contents mean nothing.</summary>
    public bool IsInconsistent => (Flags & BitmapFlags.InUse) != 0;

    /// <summary>Writes are tracked into it.</summary>
    public bool IsEnabled => (Flags & BitmapFlags.Auto) != 0;

    /// <summary>Guest bytes that one bit stands for.</summary>
    public long Granularity => 1L << GranularityBits;

    /// <summary>Its extra data is unknown to us and does not say that this is harmless.</summary>
    public bool NeedsExtraData => ExtraSize != 0 && (Flags & BitmapFlags.ExtraDataCompatible) == 0;

    /// <summary>Converts the entry that starts at <paramref name="bytes"/>.</summary>
    /// <param name="bytes">The rest of the directory.</param>
    /// <param name="file">For messages.</param>
    /// <param name="index">Which entry.</param>
    /// <param name="at">Its host offset.</param>
    /// <param name="size">Its size with padding.</param>
    public static BitmapDirectoryEntry Parse(ReadOnlySpan<byte> bytes, string file, int index, HostOffset at, out int size)
    {
        if (bytes.Length < FixedSize)
        {
            throw Bad(file, index, at, string.Empty, string.Empty, "the directory ends inside the entry");
        }

        var nameSize = BinaryPrimitives.ReadUInt16BigEndian(bytes[NameSizeAt..]);
        var extraSize = BinaryPrimitives.ReadUInt32BigEndian(bytes[ExtraSizeAt..]);
        var whole = (FixedSize + (long)extraSize + nameSize + 7) & ~7L;
        if (whole > bytes.Length)
        {
            throw Bad(file, index, at, string.Empty, string.Empty, "the directory ends inside the entry");
        }

        size = (int)whole;
        return new()
        {
            TableOffset = BinaryPrimitives.ReadUInt64BigEndian(bytes[TableOffsetAt..]),
            TableSize = BinaryPrimitives.ReadUInt32BigEndian(bytes[TableSizeAt..]),
            Flags = (BitmapFlags)BinaryPrimitives.ReadUInt32BigEndian(bytes[FlagsAt..]),
            Type = bytes[TypeAt],
            GranularityBits = bytes[GranularityAt],
            Name = Encoding.UTF8.GetString(bytes.Slice(FixedSize + (int)extraSize, nameSize)),
            NameSize = nameSize,
            ExtraSize = extraSize,
            At = at,
        };
    }

    /// <summary>A new entry.</summary>
    /// <param name="name">1 to <see cref="MaxNameBytes"/> bytes of UTF-8.</param>
    /// <param name="granularityBits">log2 of the guest bytes of a bit.</param>
    /// <param name="flags">Its flags.</param>
    public static BitmapDirectoryEntry Make(string name, int granularityBits, BitmapFlags flags)
    {
        var nameBytes = Encoding.UTF8.GetBytes(name);
        var raw = new byte[(FixedSize + nameBytes.Length + 7) & ~7];
        raw[TypeAt] = DirtyTracking;
        raw[GranularityAt] = (byte)granularityBits;
        BinaryPrimitives.WriteUInt16BigEndian(raw.AsSpan(NameSizeAt), (ushort)nameBytes.Length);
        BinaryPrimitives.WriteUInt32BigEndian(raw.AsSpan(FlagsAt), (uint)flags);
        nameBytes.CopyTo(raw, FixedSize);
        return Parse(raw, string.Empty, 0, default, out _) with { Raw = raw };
    }

    /// <summary>This entry with other flags.</summary>
    public BitmapDirectoryEntry WithFlags(BitmapFlags flags)
    {
        var raw = Raw.ToArray();
        BinaryPrimitives.WriteUInt32BigEndian(raw.AsSpan(FlagsAt), (uint)flags);
        return this with { Flags = flags, Raw = raw };
    }

    /// <summary>This entry with another table.</summary>
    /// <param name="at">Where it is.</param>
    /// <param name="entries">Its entries.</param>
    public BitmapDirectoryEntry WithTable(HostOffset at, int entries)
    {
        var raw = Raw.ToArray();
        BinaryPrimitives.WriteUInt64BigEndian(raw.AsSpan(TableOffsetAt), (ulong)at.Value);
        BinaryPrimitives.WriteUInt32BigEndian(raw.AsSpan(TableSizeAt), (uint)entries);
        return this with { TableOffset = (ulong)at.Value, TableSize = (uint)entries, Raw = raw };
    }

    /// <summary>Judges the values.</summary>
    public void Validate(Qcow2Geometry geometry, string file, int index)
    {
        if (Type != DirtyTracking)
        {
            throw Bad(file, index, At + TypeAt, "type", Number(Type), "only dirty tracking bitmaps (1) are known", BlockErrorKind.Unsupported);
        }

        if ((Flags & ~BitmapFlags.Known) != 0)
        {
            throw Bad(file, index, At + FlagsAt, "flags", $"0x{(uint)Flags:x}", "reserved flags are set", BlockErrorKind.Unsupported);
        }

        if (GranularityBits is < MinGranularityBits or > MaxGranularityBits)
        {
            throw Bad(
                file, index, At + GranularityAt, "granularity_bits", Number(GranularityBits), $"must be between {MinGranularityBits} and {MaxGranularityBits}",
                GranularityBits > 63 ? BlockErrorKind.CorruptImage : BlockErrorKind.Unsupported);
        }

        if (NameSize is 0 or > MaxNameBytes)
        {
            throw Bad(file, index, At + NameSizeAt, "name_size", Number(NameSize), $"must be between 1 and {MaxNameBytes}");
        }

        if (TableSize is 0 or > MaxTableEntries || (long)TableSize << geometry.ClusterBits > MaxPayloadBytes)
        {
            throw Bad(
                file, index, At + TableSizeAt, "bitmap_table_size", Number(TableSize),
                $"must be between 1 and {Math.Min(MaxTableEntries, MaxPayloadBytes >> geometry.ClusterBits)}",
                TableSize == 0 ? BlockErrorKind.CorruptImage : BlockErrorKind.LimitExceeded);
        }

        if (TableOffset == 0 || (TableOffset & (ulong)geometry.ClusterMask) != 0 || TableOffset > long.MaxValue - (MaxTableEntries * 8L))
        {
            throw Bad(file, index, At + TableOffsetAt, "bitmap_table_offset", $"0x{TableOffset:x}", "is not the offset of a cluster");
        }
    }

    private static string Number(long value) => value.ToString(CultureInfo.InvariantCulture);

    private static ImageFormatException Bad(
        string file, int index, HostOffset at, string field, string value, string problem, BlockErrorKind kind = BlockErrorKind.CorruptImage) =>
        new(file, string.Create(CultureInfo.InvariantCulture, $"bitmap directory entry {index}"), at, field, value, problem, kind);
}
