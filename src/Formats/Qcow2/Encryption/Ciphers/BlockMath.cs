using System.Numerics;
using System.Runtime.InteropServices;

namespace Platter.Formats.Qcow2.Encryption.Ciphers;

/// <summary>Small helpers on runs of blocks.</summary>
internal static class BlockMath
{
    /// <summary><paramref name="data"/> becomes data XOR <paramref name="mask"/>, which is at least as long.</summary>
    public static void Xor(Span<byte> data, ReadOnlySpan<byte> mask)
    {
        mask = mask[..data.Length];
        var wide = MemoryMarshal.Cast<byte, Vector<byte>>(data);
        var wideMask = MemoryMarshal.Cast<byte, Vector<byte>>(mask);
        for (var i = 0; i < wide.Length; i++)
        {
            wide[i] ^= wideMask[i];
        }

        for (var i = wide.Length * Vector<byte>.Count; i < data.Length; i++)
        {
            data[i] ^= mask[i];
        }
    }
}
