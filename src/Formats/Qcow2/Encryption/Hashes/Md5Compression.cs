using System.Numerics;

namespace Platter.Formats.Qcow2.Encryption.Hashes;

/// <summary>MD5 (RFC 1321). .NET has the hash but no PBKDF2 with it.</summary>
internal readonly struct Md5Compression : ICompression
{
    // RFC 1321, section 3.4: T[i] is the integer part of 2^32 times |sin(i)|, i in radians from 1.
    private static readonly uint[] T = MakeT();

    public static int DigestWords => 4;

    public static bool IsBigEndian => false;

    public static void Start(Span<uint> state)
    {
        ReadOnlySpan<uint> start = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476];
        start.CopyTo(state);
    }

    public static void Compress(Span<uint> state, Span<uint> block)
    {
        ReadOnlySpan<byte> shifts = [7, 12, 17, 22, 5, 9, 14, 20, 4, 11, 16, 23, 6, 10, 15, 21];
        var (a, b, c, d) = (state[0], state[1], state[2], state[3]);
        for (var i = 0; i < 64; i++)
        {
            var (f, word) = (i >> 4) switch
            {
                0 => ((b & c) | (~b & d), i),
                1 => ((d & b) | (~d & c), (5 * i) + 1),
                2 => (b ^ c ^ d, (3 * i) + 5),
                _ => (c ^ (b | ~d), 7 * i),
            };
            var sum = a + f + T[i] + block[word & 15];
            (a, d, c, b) = (d, c, b, b + BitOperations.RotateLeft(sum, shifts[((i >> 4) * 4) + (i & 3)]));
        }

        state[0] += a;
        state[1] += b;
        state[2] += c;
        state[3] += d;
    }

    private static uint[] MakeT()
    {
        var t = new uint[64];
        for (var i = 0; i < t.Length; i++)
        {
            t[i] = (uint)(Math.Abs(Math.Sin(i + 1)) * 4294967296.0);
        }

        return t;
    }
}
