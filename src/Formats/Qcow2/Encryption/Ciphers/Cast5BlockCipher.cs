using System.Buffers.Binary;
using System.Diagnostics;
using System.Numerics;
using System.Runtime.CompilerServices;

namespace Platter.Formats.Qcow2.Encryption.Ciphers;

/// <summary>CAST5 (CAST-128) with a 128-bit key, written from RFC 2144.</summary>
internal sealed class Cast5BlockCipher : BlockCipher
{
    private const int Rounds = 16;

    private readonly uint[] _masks = new uint[Rounds];
    private readonly int[] _rotations = new int[Rounds];

    /// <summary>Takes a key of 16 bytes.</summary>
    public Cast5BlockCipher(ReadOnlySpan<byte> key)
    {
        Debug.Assert(key.Length == 16);
        Span<byte> x = stackalloc byte[16];
        Span<byte> z = stackalloc byte[16];
        key.CopyTo(x);
        for (var half = 0; half < 2; half++)
        {
            for (var i = 0; i < Rounds; i++)
            {
                var fromZ = (i & 4) == 0;
                if (i % 4 == 0 && fromZ)
                {
                    MixIntoZ(x, z);
                }
                else if (i % 4 == 0)
                {
                    MixIntoX(x, z);
                }

                var subkey = Subkey(i, fromZ ? z : x);
                if (half == 0)
                {
                    _masks[i] = subkey;
                }
                else
                {
                    _rotations[i] = (int)(subkey & 31);
                }
            }
        }
    }

    /// <inheritdoc/>
    public override int BlockBytes => 8;

    /// <inheritdoc/>
    public override void Encrypt(ReadOnlySpan<byte> source, Span<byte> destination)
    {
        Debug.Assert(source.Length == destination.Length && source.Length % 8 == 0);
        for (; source.Length >= 8; source = source[8..], destination = destination[8..])
        {
            var left = BinaryPrimitives.ReadUInt32BigEndian(source);
            var right = BinaryPrimitives.ReadUInt32BigEndian(source[4..]);
            for (var i = 0; i < 15; i += 3)
            {
                (left, right) = (right, left ^ Type1(right, i));
                (left, right) = (right, left ^ Type2(right, i + 1));
                (left, right) = (right, left ^ Type3(right, i + 2));
            }

            left ^= Type1(right, 15);
            BinaryPrimitives.WriteUInt32BigEndian(destination, left);
            BinaryPrimitives.WriteUInt32BigEndian(destination[4..], right);
        }
    }

    /// <inheritdoc/>
    public override void Decrypt(ReadOnlySpan<byte> source, Span<byte> destination)
    {
        Debug.Assert(source.Length == destination.Length && source.Length % 8 == 0);
        for (; source.Length >= 8; source = source[8..], destination = destination[8..])
        {
            var left = BinaryPrimitives.ReadUInt32BigEndian(source);
            var right = BinaryPrimitives.ReadUInt32BigEndian(source[4..]);
            (left, right) = (right, left ^ Type1(right, 15));
            for (var i = 12; i >= 0; i -= 3)
            {
                (left, right) = (right, left ^ Type3(right, i + 2));
                (left, right) = (right, left ^ Type2(right, i + 1));
                (left, right) = (right, left ^ Type1(right, i));
            }

            BinaryPrimitives.WriteUInt32BigEndian(destination, right);
            BinaryPrimitives.WriteUInt32BigEndian(destination[4..], left);
        }
    }

    // The three round functions of section 2.2.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private uint Type1(uint d, int round)
    {
        var i = BitOperations.RotateLeft(_masks[round] + d, _rotations[round]);
        return (Cast5Tables.S1[(int)(i >> 24)] ^ Cast5Tables.S2[(byte)(i >> 16)]) - Cast5Tables.S3[(byte)(i >> 8)] + Cast5Tables.S4[(byte)i];
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private uint Type2(uint d, int round)
    {
        var i = BitOperations.RotateLeft(_masks[round] ^ d, _rotations[round]);
        return (Cast5Tables.S1[(int)(i >> 24)] - Cast5Tables.S2[(byte)(i >> 16)] + Cast5Tables.S3[(byte)(i >> 8)]) ^ Cast5Tables.S4[(byte)i];
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private uint Type3(uint d, int round)
    {
        var i = BitOperations.RotateLeft(_masks[round] - d, _rotations[round]);
        return ((Cast5Tables.S1[(int)(i >> 24)] + Cast5Tables.S2[(byte)(i >> 16)]) ^ Cast5Tables.S3[(byte)(i >> 8)]) - Cast5Tables.S4[(byte)i];
    }

    // Section 2.4: the sixteen bytes are remixed from x to z and back; every remix is followed by four subkeys.
    private static void MixIntoZ(ReadOnlySpan<byte> x, Span<byte> z)
    {
        MixWord(x, 0, x, 0xd, 0xf, 0xc, 0xe, Cast5Tables.S7[x[8]], z, 0);
        MixWord(x, 8, z, 0, 2, 1, 3, Cast5Tables.S8[x[0xa]], z, 4);
        MixWord(x, 0xc, z, 7, 6, 5, 4, Cast5Tables.S5[x[9]], z, 8);
        MixWord(x, 4, z, 0xa, 9, 0xb, 8, Cast5Tables.S6[x[0xb]], z, 0xc);
    }

    private static void MixIntoX(Span<byte> x, ReadOnlySpan<byte> z)
    {
        MixWord(z, 8, z, 5, 7, 4, 6, Cast5Tables.S7[z[0]], x, 0);
        MixWord(z, 0, x, 0, 2, 1, 3, Cast5Tables.S8[z[2]], x, 4);
        MixWord(z, 4, x, 7, 6, 5, 4, Cast5Tables.S5[z[1]], x, 8);
        MixWord(z, 0xc, x, 0xa, 9, 0xb, 8, Cast5Tables.S6[z[3]], x, 0xc);
    }

    private static void MixWord(
        ReadOnlySpan<byte> from, int wordAt, ReadOnlySpan<byte> bytes, int s5, int s6, int s7, int s8, uint extra, Span<byte> to, int toAt)
    {
        var word = BinaryPrimitives.ReadUInt32BigEndian(from[wordAt..]);
        word ^= Cast5Tables.S5[bytes[s5]] ^ Cast5Tables.S6[bytes[s6]] ^ Cast5Tables.S7[bytes[s7]] ^ Cast5Tables.S8[bytes[s8]] ^ extra;
        BinaryPrimitives.WriteUInt32BigEndian(to[toAt..], word);
    }

    // Which bytes go through S5, S6, S7 and S8 for K1 to K16, and a fifth one through S5 to S8 in turn.
    private static uint Subkey(int index, ReadOnlySpan<byte> bytes)
    {
        ReadOnlySpan<byte> picks =
        [
            0x8, 0x9, 0x7, 0x6, 0x2, 0xa, 0xb, 0x5, 0x4, 0x6, 0xc, 0xd, 0x3, 0x2, 0x9, 0xe, 0xf, 0x1, 0x0, 0xc,
            0x3, 0x2, 0xc, 0xd, 0x8, 0x1, 0x0, 0xe, 0xf, 0xd, 0x7, 0x6, 0x8, 0x9, 0x3, 0x5, 0x4, 0xa, 0xb, 0x7,
            0x3, 0x2, 0xc, 0xd, 0x9, 0x1, 0x0, 0xe, 0xf, 0xc, 0x7, 0x6, 0x8, 0x9, 0x2, 0x5, 0x4, 0xa, 0xb, 0x6,
            0x8, 0x9, 0x7, 0x6, 0x3, 0xa, 0xb, 0x5, 0x4, 0x7, 0xc, 0xd, 0x3, 0x2, 0x8, 0xe, 0xf, 0x1, 0x0, 0xd,
        ];
        var pick = picks.Slice(5 * index, 5);
        var fifth = (index % 4) switch
        {
            0 => Cast5Tables.S5,
            1 => Cast5Tables.S6,
            2 => Cast5Tables.S7,
            _ => Cast5Tables.S8,
        };
        return Cast5Tables.S5[bytes[pick[0]]] ^ Cast5Tables.S6[bytes[pick[1]]] ^ Cast5Tables.S7[bytes[pick[2]]]
            ^ Cast5Tables.S8[bytes[pick[3]]] ^ fifth[bytes[pick[4]]];
    }
}
