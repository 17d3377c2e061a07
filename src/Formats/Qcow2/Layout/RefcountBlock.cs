using System.Buffers.Binary;
using System.Numerics;
using System.Runtime.InteropServices;

namespace Platter.Formats.Qcow2.Layout;

/// <summary>Reads the refcounts of a block; widths of 1 to 64 bits.</summary>
/// <remarks>Spec: section "Host cluster management". Wide refcounts are big-endian; below one byte, the first is in the lowest bits.</remarks>
internal static class RefcountBlock
{
    /// <summary>One refcount.</summary>
    /// <param name="block">Bytes of the block, or of as much of it as is at hand.</param>
    /// <param name="index">Which refcount.</param>
    /// <param name="order">log2 of the width in bits.</param>
    public static ulong Get(ReadOnlySpan<byte> block, int index, int order) => order switch
    {
        6 => BinaryPrimitives.ReadUInt64BigEndian(block[(index * 8)..]),
        5 => BinaryPrimitives.ReadUInt32BigEndian(block[(index * 4)..]),
        4 => BinaryPrimitives.ReadUInt16BigEndian(block[(index * 2)..]),
        3 => block[index],
        _ => (ulong)((block[index >> (3 - order)] >> ((index << order) & 7)) & ((1 << (1 << order)) - 1)),
    };

    /// <summary>Changes one refcount.</summary>
    /// <param name="block">Bytes of the block.</param>
    /// <param name="index">Which refcount.</param>
    /// <param name="order">log2 of the width in bits.</param>
    /// <param name="value">At most <see cref="Max"/>.</param>
    public static void Set(Span<byte> block, int index, int order, ulong value)
    {
        switch (order)
        {
            case 6:
                BinaryPrimitives.WriteUInt64BigEndian(block[(index * 8)..], value);
                break;
            case 5:
                BinaryPrimitives.WriteUInt32BigEndian(block[(index * 4)..], (uint)value);
                break;
            case 4:
                BinaryPrimitives.WriteUInt16BigEndian(block[(index * 2)..], (ushort)value);
                break;
            case 3:
                block[index] = (byte)value;
                break;
            default:
                ref var bits = ref block[index >> (3 - order)];
                var shift = (index << order) & 7;
                bits = (byte)((bits & ~(((1 << (1 << order)) - 1) << shift)) | ((int)value << shift));
                break;
        }
    }

    /// <summary>The largest refcount of a width.</summary>
    public static ulong Max(int order) => order == 6 ? ulong.MaxValue : (1UL << (1 << order)) - 1;

    /// <summary>Where a refcount is in its block, in bytes.</summary>
    public static int ByteOf(int index, int order) => order >= 3 ? index << (order - 3) : index >> (3 - order);

    /// <summary>How many of the first <paramref name="count"/> refcounts are not 0.</summary>
    public static int CountUsed(ReadOnlySpan<byte> block, int count, int order)
    {
        switch (order)
        {
            case 6:
                return count - MemoryMarshal.Cast<byte, ulong>(block)[..count].Count(0UL);
            case 5:
                return count - MemoryMarshal.Cast<byte, uint>(block)[..count].Count(0U);
            case 4:
                return count - MemoryMarshal.Cast<byte, ushort>(block)[..count].Count((ushort)0);
            case 3:
                return count - block[..count].Count((byte)0);
        }

        // Narrow ones: fold the bits of each refcount onto its lowest bit and count those.
        var used = 0;
        var perByte = 8 >> order;
        var lowest = order switch { 0 => 0xff, 1 => 0x55, _ => 0x11 };
        for (var at = 0; at < count; at += perByte)
        {
            var bits = (int)block[at / perByte];
            if (order >= 1)
            {
                bits |= bits >> 1;
            }

            if (order >= 2)
            {
                bits |= bits >> 2;
            }

            bits &= lowest;
            if (count - at < perByte)
            {
                bits &= (1 << ((count - at) << order)) - 1;
            }

            used += BitOperations.PopCount((uint)bits);
        }

        return used;
    }
}
