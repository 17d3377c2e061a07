using System.Buffers.Binary;
using System.Globalization;
using System.Text;
using Platter.Core.Errors;
using Platter.Core.Units;

namespace Platter.Formats.Qcow2.Layout;

/// <summary>An entry of the snapshot table: 40 fixed bytes, extra data, id, name, padding to a multiple of 8.</summary>
/// <remarks>Spec: section "Snapshots".</remarks>
internal sealed record SnapshotTableEntry
{
    public const int FixedSize = 40;
    public const int MaxExtraBytes = 1024;

    /// <summary>Version 3 demands the machine state's size and the disk's size.</summary>
    public const int MinExtraBytesV3 = 16;

    private const int L1TableOffsetAt = 0, L1SizeAt = 8, IdSizeAt = 12, NameSizeAt = 14, DateSecondsAt = 16, DateNanosecondsAt = 20,
        VmClockAt = 24, VmStateSizeAt = 32, ExtraSizeAt = 36, ExtraAt = 40;

    private const int ExtraVmStateSizeAt = 0, ExtraDiskSizeAt = 8, ExtraInstructionCountAt = 16;

    public required ulong L1TableOffset { get; init; }

    public required uint L1Size { get; init; }

    public required string Id { get; init; }

    public required string Name { get; init; }

    public required uint DateSeconds { get; init; }

    public required uint DateNanoseconds { get; init; }

    public required ulong VmClockNanoseconds { get; init; }

    public required ulong VmStateSize { get; init; }

    /// <summary>Size of the disk then, or null when the entry does not record it (version 2).</summary>
    public ulong? DiskSize { get; init; }

    /// <summary>Instruction counter; all ones, or absence, means that there was none.</summary>
    public ulong? InstructionCount { get; init; }

    /// <summary>Bytes of extra data in the entry.</summary>
    public required uint ExtraSize { get; init; }

    /// <summary>Bytes of the entry with its padding.</summary>
    public required long EntrySize { get; init; }

    /// <summary>The whole entry in bytes, padding included, as its fixed part declares it.</summary>
    /// <param name="bytes">At least <see cref="FixedSize"/> bytes.</param>
    /// <returns>Up to 4 GiB and 128 KiB: judge <see cref="ExtraSize"/> before anything is read.</returns>
    public static long DeclaredSize(ReadOnlySpan<byte> bytes) =>
        (FixedSize + (long)ExtraSizeOf(bytes) + BinaryPrimitives.ReadUInt16BigEndian(bytes[IdSizeAt..])
            + BinaryPrimitives.ReadUInt16BigEndian(bytes[NameSizeAt..]) + 7) & ~7L;

    /// <summary>The declared size of the extra data.</summary>
    public static uint ExtraSizeOf(ReadOnlySpan<byte> bytes) => BinaryPrimitives.ReadUInt32BigEndian(bytes[ExtraSizeAt..]);

    /// <summary>Converts an entry that is wholly in <paramref name="bytes"/> (padding may be missing).</summary>
    public static SnapshotTableEntry Parse(ReadOnlySpan<byte> bytes, string file, int index, HostOffset at)
    {
        ThrowIfShort(bytes, FixedSize, file, index, at);
        var extraSize = ExtraSizeOf(bytes);
        if (extraSize > MaxExtraBytes)
        {
            throw new ImageFormatException(
                file, NameOf(index), at + ExtraSizeAt, "extra_data_size", extraSize.ToString(CultureInfo.InvariantCulture),
                $"the limit is {MaxExtraBytes}", BlockErrorKind.LimitExceeded);
        }

        var idSize = BinaryPrimitives.ReadUInt16BigEndian(bytes[IdSizeAt..]);
        var nameSize = BinaryPrimitives.ReadUInt16BigEndian(bytes[NameSizeAt..]);
        ThrowIfShort(bytes, FixedSize + (int)extraSize + idSize + nameSize, file, index, at);
        var extra = bytes.Slice(ExtraAt, (int)extraSize);
        var id = bytes.Slice(ExtraAt + (int)extraSize, idSize);
        return new()
        {
            L1TableOffset = BinaryPrimitives.ReadUInt64BigEndian(bytes[L1TableOffsetAt..]),
            L1Size = BinaryPrimitives.ReadUInt32BigEndian(bytes[L1SizeAt..]),
            Id = Encoding.UTF8.GetString(id),
            Name = Encoding.UTF8.GetString(bytes.Slice(ExtraAt + (int)extraSize + idSize, nameSize)),
            DateSeconds = BinaryPrimitives.ReadUInt32BigEndian(bytes[DateSecondsAt..]),
            DateNanoseconds = BinaryPrimitives.ReadUInt32BigEndian(bytes[DateNanosecondsAt..]),
            VmClockNanoseconds = BinaryPrimitives.ReadUInt64BigEndian(bytes[VmClockAt..]),
            VmStateSize = ExtraField(extra, ExtraVmStateSizeAt) ?? BinaryPrimitives.ReadUInt32BigEndian(bytes[VmStateSizeAt..]),
            DiskSize = ExtraField(extra, ExtraDiskSizeAt),
            InstructionCount = ExtraField(extra, ExtraInstructionCountAt) is { } count and not ulong.MaxValue ? count : null,
            ExtraSize = extraSize,
            EntrySize = DeclaredSize(bytes),
        };
    }

    /// <summary>Makes a new entry, with the extra data that version 3 demands and an instruction counter of 0 as QEMU's tools write it.</summary>
    /// <param name="l1At">Where the snapshot's L1 table is.</param>
    /// <param name="l1Size">Its entries.</param>
    /// <param name="id">Identifier.</param>
    /// <param name="name">Name.</param>
    /// <param name="date">When.</param>
    /// <param name="diskSize">Size of the disk in bytes.</param>
    public static byte[] Make(HostOffset l1At, uint l1Size, string id, string name, DateTimeOffset date, long diskSize)
    {
        const int ExtraSize = 24;
        var (idBytes, nameBytes) = (Encoding.UTF8.GetBytes(id), Encoding.UTF8.GetBytes(name));
        var bytes = new byte[(FixedSize + ExtraSize + idBytes.Length + nameBytes.Length + 7) & ~7];
        BinaryPrimitives.WriteUInt64BigEndian(bytes.AsSpan(L1TableOffsetAt), (ulong)l1At.Value);
        BinaryPrimitives.WriteUInt32BigEndian(bytes.AsSpan(L1SizeAt), l1Size);
        BinaryPrimitives.WriteUInt16BigEndian(bytes.AsSpan(IdSizeAt), (ushort)idBytes.Length);
        BinaryPrimitives.WriteUInt16BigEndian(bytes.AsSpan(NameSizeAt), (ushort)nameBytes.Length);
        BinaryPrimitives.WriteUInt32BigEndian(bytes.AsSpan(DateSecondsAt), (uint)date.ToUnixTimeSeconds());
        BinaryPrimitives.WriteUInt32BigEndian(bytes.AsSpan(DateNanosecondsAt), (uint)(date.Ticks % TimeSpan.TicksPerSecond * 100));
        BinaryPrimitives.WriteUInt32BigEndian(bytes.AsSpan(ExtraSizeAt), ExtraSize);
        BinaryPrimitives.WriteUInt64BigEndian(bytes.AsSpan(ExtraAt + ExtraDiskSizeAt), (ulong)diskSize);
        idBytes.CopyTo(bytes, ExtraAt + ExtraSize);
        nameBytes.CopyTo(bytes, ExtraAt + ExtraSize + idBytes.Length);
        return bytes;
    }

    /// <summary>The entry with the extra data that version 3 demands; as it is, if it has them.</summary>
    /// <param name="bytes">Of this entry.</param>
    /// <param name="diskSize">What an entry that does not say means.</param>
    public byte[] WithExtraDataOfVersion3(byte[] bytes, long diskSize) =>
        ExtraSize >= MinExtraBytesV3 ? bytes : Complete(bytes, DiskSize ?? (ulong)diskSize);

    /// <summary>An entry's bytes without extra data beyond the limit.</summary>
    public static byte[] CutExtra(ReadOnlySpan<byte> fixedPart, ReadOnlySpan<byte> extra, ReadOnlySpan<byte> idAndName) =>
        Join(fixedPart, extra[..Math.Min(extra.Length, MaxExtraBytes)], idAndName);

    /// <summary>An entry's bytes with the extra data that version 3 demands.</summary>
    /// <param name="entry">Whole, with less of them.</param>
    /// <param name="diskSize">What the snapshot's disk is taken to have had, in bytes.</param>
    public static byte[] Complete(ReadOnlySpan<byte> entry, ulong diskSize)
    {
        var had = (int)ExtraSizeOf(entry);
        var extra = new byte[24];
        BinaryPrimitives.WriteUInt64BigEndian(extra.AsSpan(ExtraVmStateSizeAt), BinaryPrimitives.ReadUInt32BigEndian(entry[VmStateSizeAt..]));
        if (had >= ExtraDiskSizeAt)
        {
            entry.Slice(ExtraAt, ExtraDiskSizeAt).CopyTo(extra);
        }

        BinaryPrimitives.WriteUInt64BigEndian(extra.AsSpan(ExtraDiskSizeAt), diskSize);
        BinaryPrimitives.WriteUInt64BigEndian(extra.AsSpan(ExtraInstructionCountAt), ulong.MaxValue);
        return Join(entry[..FixedSize], extra, entry.Slice(ExtraAt + had, IdAndNameSizeOf(entry)));
    }

    /// <summary>Says where the snapshot's L1 table is.</summary>
    public static void SetL1(Span<byte> entry, HostOffset at) => BinaryPrimitives.WriteUInt64BigEndian(entry[L1TableOffsetAt..], (ulong)at.Value);

    /// <summary>Bytes of id and name together.</summary>
    public static int IdAndNameSizeOf(ReadOnlySpan<byte> entry) =>
        BinaryPrimitives.ReadUInt16BigEndian(entry[IdSizeAt..]) + BinaryPrimitives.ReadUInt16BigEndian(entry[NameSizeAt..]);

    private static byte[] Join(ReadOnlySpan<byte> fixedPart, ReadOnlySpan<byte> extra, ReadOnlySpan<byte> idAndName)
    {
        var bytes = new byte[(FixedSize + extra.Length + idAndName.Length + 7) & ~7];
        fixedPart[..FixedSize].CopyTo(bytes);
        BinaryPrimitives.WriteInt32BigEndian(bytes.AsSpan(ExtraSizeAt), extra.Length);
        extra.CopyTo(bytes.AsSpan(ExtraAt));
        idAndName.CopyTo(bytes.AsSpan(ExtraAt + extra.Length));
        return bytes;
    }

    // Texts only for errors: there may be 65536 entries.
    private static void ThrowIfShort(ReadOnlySpan<byte> bytes, int needed, string file, int index, HostOffset at)
    {
        if (bytes.Length < needed)
        {
            ImageFormatException.ThrowIfShort(bytes, needed, file, NameOf(index), at);
        }
    }

    private static string NameOf(int index) => string.Create(CultureInfo.InvariantCulture, $"snapshot table entry {index}");

    private static ulong? ExtraField(ReadOnlySpan<byte> extra, int at) =>
        extra.Length >= at + 8 ? BinaryPrimitives.ReadUInt64BigEndian(extra[at..]) : null;
}
