using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace Platter.Formats.Qcow2.Layout;

/// <summary>Tables of big-endian 64-bit words.</summary>
internal static class BigEndianWords
{
    /// <summary>Turns a table into words of the host's byte order, in place.</summary>
    /// <remarks>Word by word and not in one <see cref="BinaryPrimitives"/> call: a native build for any x86-64 has no byte shuffle, and the
    /// call's substitute for it takes ten times as long. Tables are mostly zeros at the ends, which need no turning.</remarks>
    public static Span<ulong> ToHost(Span<byte> table)
    {
        var words = MemoryMarshal.Cast<byte, ulong>(table);
        if (BitConverter.IsLittleEndian)
        {
            var first = words.IndexOfAnyExcept(0UL);
            for (var i = first; (uint)i < (uint)words.Length; i++)
            {
                words[i] = BinaryPrimitives.ReverseEndianness(words[i]);
            }
        }

        return words;
    }
}
