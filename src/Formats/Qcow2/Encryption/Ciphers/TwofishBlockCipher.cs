using System.Buffers.Binary;
using System.Diagnostics;
using System.Numerics;
using System.Runtime.CompilerServices;

namespace Platter.Formats.Qcow2.Encryption.Ciphers;

/// <summary>Twofish with 128-, 192- or 256-bit keys, written from its paper ("Twofish: A 128-Bit Block Cipher", 1998).</summary>
/// <remarks>Names (q, h, MDS, RS, K) are the paper's. The key-dependent S-boxes and the MDS product are tabulated per key
/// (the paper's "full keying").</remarks>
internal sealed class TwofishBlockCipher : BlockCipher
{
    private const int Rounds = 16;
    private const int MdsPolynomial = 0x169;
    private const int RsPolynomial = 0x14d;

    private static readonly byte[] Q0 = MakeQ(
        [8, 1, 7, 13, 6, 15, 3, 2, 0, 11, 5, 9, 14, 12, 10, 4],
        [14, 12, 11, 8, 1, 2, 3, 5, 15, 4, 10, 6, 7, 0, 9, 13],
        [11, 10, 5, 14, 6, 13, 9, 0, 12, 8, 15, 3, 2, 4, 7, 1],
        [13, 7, 15, 4, 1, 2, 6, 14, 9, 11, 3, 0, 8, 5, 12, 10]);

    private static readonly byte[] Q1 = MakeQ(
        [2, 8, 11, 13, 15, 7, 6, 14, 3, 1, 9, 4, 0, 10, 12, 5],
        [1, 14, 2, 11, 4, 12, 3, 7, 6, 13, 10, 5, 15, 9, 0, 8],
        [4, 12, 7, 5, 1, 6, 9, 10, 0, 14, 13, 8, 2, 11, 3, 15],
        [11, 9, 5, 1, 12, 3, 13, 14, 6, 4, 7, 15, 2, 0, 8, 10]);

    private readonly uint[] _k = new uint[8 + (2 * Rounds)];
    private readonly uint[] _g0 = new uint[256];
    private readonly uint[] _g1 = new uint[256];
    private readonly uint[] _g2 = new uint[256];
    private readonly uint[] _g3 = new uint[256];

    /// <summary>Takes a key of 16, 24 or 32 bytes.</summary>
    public TwofishBlockCipher(ReadOnlySpan<byte> key)
    {
        Debug.Assert(key.Length is 16 or 24 or 32);
        var k = key.Length / 8;
        Span<uint> even = stackalloc uint[k];
        Span<uint> odd = stackalloc uint[k];
        Span<uint> s = stackalloc uint[k];
        for (var i = 0; i < k; i++)
        {
            even[i] = BinaryPrimitives.ReadUInt32LittleEndian(key[(8 * i)..]);
            odd[i] = BinaryPrimitives.ReadUInt32LittleEndian(key[((8 * i) + 4)..]);
            s[k - 1 - i] = ReedSolomon(key.Slice(8 * i, 8));
        }

        for (var i = 0; i < _k.Length / 2; i++)
        {
            var a = H((uint)(2 * i) * 0x01010101, even);
            var b = BitOperations.RotateLeft(H((uint)((2 * i) + 1) * 0x01010101, odd), 8);
            _k[2 * i] = a + b;
            _k[(2 * i) + 1] = BitOperations.RotateLeft(a + (2 * b), 9);
        }

        // Substitution keeps bytes apart and the matrix is linear: g is the XOR of four tables, one per byte.
        for (var x = 0; x < 256; x++)
        {
            var y = Substitute((uint)x * 0x01010101, s);
            _g0[x] = MdsColumn(0, (byte)y);
            _g1[x] = MdsColumn(1, (byte)(y >> 8));
            _g2[x] = MdsColumn(2, (byte)(y >> 16));
            _g3[x] = MdsColumn(3, (byte)(y >> 24));
        }
    }

    /// <inheritdoc/>
    public override int BlockBytes => 16;

    /// <inheritdoc/>
    public override void Encrypt(ReadOnlySpan<byte> source, Span<byte> destination)
    {
        Debug.Assert(source.Length == destination.Length && source.Length % 16 == 0);
        ReadOnlySpan<uint> k = _k.AsSpan(0, 8 + (2 * Rounds));
        for (var at = 0; at < source.Length; at += 16)
        {
            var block = source.Slice(at, 16);
            var r0 = BinaryPrimitives.ReadUInt32LittleEndian(block) ^ k[0];
            var r1 = BinaryPrimitives.ReadUInt32LittleEndian(block[4..]) ^ k[1];
            var r2 = BinaryPrimitives.ReadUInt32LittleEndian(block[8..]) ^ k[2];
            var r3 = BinaryPrimitives.ReadUInt32LittleEndian(block[12..]) ^ k[3];
            for (var i = 8; i < k.Length; i += 4)
            {
                var t0 = G(r0);
                var t1 = G(BitOperations.RotateLeft(r1, 8));
                r2 = BitOperations.RotateRight(r2 ^ (t0 + t1 + k[i]), 1);
                r3 = BitOperations.RotateLeft(r3, 1) ^ (t0 + (2 * t1) + k[i + 1]);
                t0 = G(r2);
                t1 = G(BitOperations.RotateLeft(r3, 8));
                r0 = BitOperations.RotateRight(r0 ^ (t0 + t1 + k[i + 2]), 1);
                r1 = BitOperations.RotateLeft(r1, 1) ^ (t0 + (2 * t1) + k[i + 3]);
            }

            Store(destination.Slice(at, 16), r2 ^ k[4], r3 ^ k[5], r0 ^ k[6], r1 ^ k[7]);
        }
    }

    /// <inheritdoc/>
    public override void Decrypt(ReadOnlySpan<byte> source, Span<byte> destination)
    {
        Debug.Assert(source.Length == destination.Length && source.Length % 16 == 0);
        ReadOnlySpan<uint> k = _k.AsSpan(0, 8 + (2 * Rounds));
        for (var at = 0; at < source.Length; at += 16)
        {
            var block = source.Slice(at, 16);
            var r2 = BinaryPrimitives.ReadUInt32LittleEndian(block) ^ k[4];
            var r3 = BinaryPrimitives.ReadUInt32LittleEndian(block[4..]) ^ k[5];
            var r0 = BinaryPrimitives.ReadUInt32LittleEndian(block[8..]) ^ k[6];
            var r1 = BinaryPrimitives.ReadUInt32LittleEndian(block[12..]) ^ k[7];
            for (var i = k.Length - 4; i >= 8; i -= 4)
            {
                var t0 = G(r2);
                var t1 = G(BitOperations.RotateLeft(r3, 8));
                r0 = BitOperations.RotateLeft(r0, 1) ^ (t0 + t1 + k[i + 2]);
                r1 = BitOperations.RotateRight(r1 ^ (t0 + (2 * t1) + k[i + 3]), 1);
                t0 = G(r0);
                t1 = G(BitOperations.RotateLeft(r1, 8));
                r2 = BitOperations.RotateLeft(r2, 1) ^ (t0 + t1 + k[i]);
                r3 = BitOperations.RotateRight(r3 ^ (t0 + (2 * t1) + k[i + 1]), 1);
            }

            Store(destination.Slice(at, 16), r0 ^ k[0], r1 ^ k[1], r2 ^ k[2], r3 ^ k[3]);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private uint G(uint x) => _g0[(byte)x] ^ _g1[(byte)(x >> 8)] ^ _g2[(byte)(x >> 16)] ^ _g3[x >> 24];

    private static void Store(Span<byte> block, uint w0, uint w1, uint w2, uint w3)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(block, w0);
        BinaryPrimitives.WriteUInt32LittleEndian(block[4..], w1);
        BinaryPrimitives.WriteUInt32LittleEndian(block[8..], w2);
        BinaryPrimitives.WriteUInt32LittleEndian(block[12..], w3);
    }

    private static uint H(uint x, ReadOnlySpan<uint> list)
    {
        var y = Substitute(x, list);
        return MdsColumn(0, (byte)y) ^ MdsColumn(1, (byte)(y >> 8)) ^ MdsColumn(2, (byte)(y >> 16)) ^ MdsColumn(3, (byte)(y >> 24));
    }

    // The part of h before the MDS matrix; bytes stay in their places.
    private static uint Substitute(uint x, ReadOnlySpan<uint> list)
    {
        if (list.Length == 4)
        {
            x = Layer(x, Q1, Q0, Q0, Q1) ^ list[3];
        }

        if (list.Length >= 3)
        {
            x = Layer(x, Q1, Q1, Q0, Q0) ^ list[2];
        }

        x = Layer(x, Q0, Q1, Q0, Q1) ^ list[1];
        x = Layer(x, Q0, Q0, Q1, Q1) ^ list[0];
        return Layer(x, Q1, Q0, Q1, Q0);
    }

    private static uint Layer(uint x, byte[] q0, byte[] q1, byte[] q2, byte[] q3) =>
        q0[(byte)x] | ((uint)q1[(byte)(x >> 8)] << 8) | ((uint)q2[(byte)(x >> 16)] << 16) | ((uint)q3[x >> 24] << 24);

    // Column of the MDS matrix times y.
    private static uint MdsColumn(int column, byte y)
    {
        ReadOnlySpan<byte> rows = column switch
        {
            0 => [0x01, 0x5b, 0xef, 0xef],
            1 => [0xef, 0xef, 0x5b, 0x01],
            2 => [0x5b, 0xef, 0x01, 0xef],
            _ => [0x5b, 0x01, 0xef, 0x5b],
        };
        var result = 0u;
        for (var i = 0; i < 4; i++)
        {
            result |= (uint)Multiply(rows[i], y, MdsPolynomial) << (8 * i);
        }

        return result;
    }

    private static uint ReedSolomon(ReadOnlySpan<byte> key)
    {
        ReadOnlySpan<byte> rs =
        [
            0x01, 0xa4, 0x55, 0x87, 0x5a, 0x58, 0xdb, 0x9e,
            0xa4, 0x56, 0x82, 0xf3, 0x1e, 0xc6, 0x68, 0xe5,
            0x02, 0xa1, 0xfc, 0xc1, 0x47, 0xae, 0x3d, 0x19,
            0xa4, 0x55, 0x87, 0x5a, 0x58, 0xdb, 0x9e, 0x03,
        ];
        var result = 0u;
        for (var row = 0; row < 4; row++)
        {
            var sum = 0;
            for (var i = 0; i < 8; i++)
            {
                sum ^= Multiply(rs[(8 * row) + i], key[i], RsPolynomial);
            }

            result |= (uint)sum << (8 * row);
        }

        return result;
    }

    private static int Multiply(int left, int right, int polynomial)
    {
        var product = 0;
        for (; right != 0; right >>= 1)
        {
            product ^= (right & 1) * left;
            left <<= 1;
            left ^= (left >> 8) * polynomial;
        }

        return product;
    }

    // The fixed permutations q0 and q1 from their 4-bit tables (paper, section 4.3.5).
    private static byte[] MakeQ(ReadOnlySpan<byte> t0, ReadOnlySpan<byte> t1, ReadOnlySpan<byte> t2, ReadOnlySpan<byte> t3)
    {
        var q = new byte[256];
        for (var x = 0; x < 256; x++)
        {
            var (a, b) = Mix(x >> 4, x & 15);
            (a, b) = Mix(t0[a], t1[b]);
            q[x] = (byte)((t3[b] << 4) | t2[a]);
        }

        return q;

        static (int A, int B) Mix(int a, int b) => (a ^ b, a ^ ((b >> 1) | ((b & 1) << 3)) ^ ((a << 3) & 15));
    }
}
