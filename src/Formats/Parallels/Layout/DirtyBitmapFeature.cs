using System.Buffers.Binary;
using Platter.Core.Errors;
using Platter.Core.Units;

namespace Platter.Formats.Parallels.Layout;

/// <summary>Data of the dirty bitmaps feature: one bitmap, its bits in clusters that an L1 table names; all fields are little-endian.</summary>
/// <remarks>Spec: qemu <c>docs/interop/parallels</c>, section "Dirty bitmaps feature". L1 entries are sector offsets (an older edition says bytes).</remarks>
/// <param name="SizeSectors">Size of the disk.</param>
/// <param name="Id">Identifier; its 16 bytes are shown in the order they are stored.</param>
/// <param name="GranularitySectors">Sectors for one bit.</param>
/// <param name="L1">For each cluster of bits: <see cref="AllClear"/>, <see cref="AllSet"/>, or the sector the cluster starts at.</param>
internal sealed record DirtyBitmapFeature(ulong SizeSectors, Guid Id, uint GranularitySectors, ulong[] L1)
{
    /// <summary>L1 entry of bits that are all 0 and not stored.</summary>
    public const ulong AllClear = 0;

    /// <summary>L1 entry of bits that are all 1 and not stored.</summary>
    public const ulong AllSet = 1;

    private const int IdAt = 8, GranularityAt = 24, L1SizeAt = 28, L1At = 32;

    /// <summary>Most sectors for one bit: 2 GiB.</summary>
    public const uint MaxGranularitySectors = 1 << 22;

    private const string Structure = "dirty bitmap";

    /// <summary>The name it goes by: the format has none, so it is the identifier.</summary>
    public string Name => NameOf(Id);

    /// <summary>The name of a bitmap with an identifier.</summary>
    public static string NameOf(Guid id) => id.ToString("D");

    /// <summary>Bytes of the feature's data with so many L1 entries.</summary>
    public static long SizeFor(long l1Entries) => L1At + (l1Entries * sizeof(ulong));

    /// <summary>Makes the feature's data.</summary>
    public byte[] ToBytes()
    {
        var data = new byte[SizeFor(L1.Length)];
        BinaryPrimitives.WriteUInt64LittleEndian(data, SizeSectors);
        Id.TryWriteBytes(data.AsSpan(IdAt, GranularityAt - IdAt), bigEndian: true, out _);
        BinaryPrimitives.WriteUInt32LittleEndian(data.AsSpan(GranularityAt), GranularitySectors);
        BinaryPrimitives.WriteUInt32LittleEndian(data.AsSpan(L1SizeAt), (uint)L1.Length);
        for (var i = 0; i < L1.Length; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(data.AsSpan(L1At + (i * sizeof(ulong))), L1[i]);
        }

        return data;
    }

    /// <summary>Converts the bytes; the L1 table is as long as they allow at most.</summary>
    /// <param name="data">The feature's data.</param>
    /// <param name="file">For messages.</param>
    /// <param name="at">Where they are.</param>
    public static DirtyBitmapFeature Parse(ReadOnlySpan<byte> data, string file, HostOffset at)
    {
        ImageFormatException.ThrowIfShort(data, L1At, file, Structure, at);
        var count = BinaryPrimitives.ReadUInt32LittleEndian(data[L1SizeAt..]);
        if (count > (data.Length - L1At) / sizeof(ulong))
        {
            throw new ImageFormatException(file, Structure, at + L1SizeAt, "l1_size", $"{count}", "the L1 table reaches beyond the feature's data");
        }

        var l1 = new ulong[count];
        for (var i = 0; i < l1.Length; i++)
        {
            l1[i] = BinaryPrimitives.ReadUInt64LittleEndian(data[(L1At + (i * sizeof(ulong)))..]);
        }

        return new(
            BinaryPrimitives.ReadUInt64LittleEndian(data),
            new Guid(data[IdAt..GranularityAt], bigEndian: true),
            BinaryPrimitives.ReadUInt32LittleEndian(data[GranularityAt..]),
            l1);
    }

    /// <summary>Judges the values against the image.</summary>
    /// <exception cref="ImageFormatException">One breaks the rules.</exception>
    public void Validate(ParallelsGeometry geometry, long storageLength, string file, HostOffset at)
    {
        if ((long)SizeSectors != geometry.VirtualSize / Sizes.SectorBytes)
        {
            throw new ImageFormatException(
                file, Structure, at, "size", $"{SizeSectors}", $"the disk has {geometry.VirtualSize / Sizes.SectorBytes} sectors");
        }

        if (GranularitySectors > MaxGranularitySectors || !Sizes.IsPowerOfTwo(GranularitySectors))
        {
            throw new ImageFormatException(
                file, Structure, at + GranularityAt, "granularity", $"{GranularitySectors}", $"must be a power of two from 1 to {MaxGranularitySectors} sectors");
        }

        var bits = Sizes.DivideRoundingUp((long)SizeSectors, GranularitySectors);
        var needed = Sizes.DivideRoundingUp(Sizes.DivideRoundingUp(bits, 8), geometry.ClusterSizeBytes);
        if (L1.Length != needed)
        {
            throw new ImageFormatException(file, Structure, at + L1SizeAt, "l1_size", $"{L1.Length}", $"the disk needs {needed}");
        }

        for (var i = 0; i < L1.Length; i++)
        {
            if (L1[i] is AllClear or AllSet)
            {
                continue;
            }

            var problem = L1[i] > long.MaxValue / Sizes.SectorBytes
                ? "is too large"
                : geometry.ProblemOf((long)L1[i] * Sizes.SectorBytes, storageLength);
            if (problem is not null)
            {
                throw new ImageFormatException(file, Structure, at + (L1At + (i * sizeof(ulong))), $"L1 entry {i}", $"0x{L1[i]:x}", problem);
            }
        }
    }
}
