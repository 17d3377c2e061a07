using System.Buffers.Binary;
using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;
using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Platter.Formats.Qcow2.Encryption.Ciphers;

/// <summary>Serpent with 128-, 192- or 256-bit keys, written from its proposal (Anderson, Biham, Knudsen 1998) in the bitslice form.</summary>
/// <remarks>The cipher is logic on four 32-bit words; eight blocks go through side by side, one in each lane of a vector.
/// A call with fewer blocks costs as much as one with eight.</remarks>
internal sealed class SerpentBlockCipher : BlockCipher
{
    private const int Rounds = 32;
    private const int Lanes = 8;
    private const uint Phi = 0x9e3779b9;

    private readonly uint[] _roundKeys = new uint[4 * (Rounds + 1)];

    /// <summary>Takes a key of 16, 24 or 32 bytes.</summary>
    public SerpentBlockCipher(ReadOnlySpan<byte> key)
    {
        Debug.Assert(key.Length is 16 or 24 or 32);

        // A shorter key is filled up with a one bit and zeros. The first eight words are those before the prekeys.
        Span<byte> padded = stackalloc byte[32];
        padded.Clear();
        key.CopyTo(padded);
        if (key.Length < padded.Length)
        {
            padded[key.Length] = 1;
        }

        Span<uint> w = stackalloc uint[8 + _roundKeys.Length];
        for (var i = 0; i < 8; i++)
        {
            w[i] = BinaryPrimitives.ReadUInt32LittleEndian(padded[(4 * i)..]);
        }

        for (var i = 8; i < w.Length; i++)
        {
            w[i] = BitOperations.RotateLeft(w[i - 8] ^ w[i - 5] ^ w[i - 3] ^ w[i - 1] ^ Phi ^ (uint)(i - 8), 11);
        }

        for (var i = 0; i <= Rounds; i++)
        {
            Substitute(w.Slice(8 + (4 * i), 4), (Rounds + 3 - i) % 8);
        }

        w[8..].CopyTo(_roundKeys);
    }

    /// <inheritdoc/>
    public override int BlockBytes => 16;

    /// <inheritdoc/>
    public override void Encrypt(ReadOnlySpan<byte> source, Span<byte> destination) => Run(source, destination, encrypt: true);

    /// <inheritdoc/>
    public override void Decrypt(ReadOnlySpan<byte> source, Span<byte> destination) => Run(source, destination, encrypt: false);

    private void Run(ReadOnlySpan<byte> source, Span<byte> destination, bool encrypt)
    {
        Debug.Assert(source.Length == destination.Length && source.Length % BlockBytes == 0);
        Span<byte> eight = stackalloc byte[Lanes * 16];
        while (!source.IsEmpty)
        {
            var count = Math.Min(source.Length, eight.Length);
            source[..count].CopyTo(eight);
            var words = MemoryMarshal.Cast<byte, uint>(eight);
            var a = Gather(words, 0);
            var b = Gather(words, 1);
            var c = Gather(words, 2);
            var d = Gather(words, 3);
            if (encrypt)
            {
                EncryptEight(ref a, ref b, ref c, ref d);
            }
            else
            {
                DecryptEight(ref a, ref b, ref c, ref d);
            }

            Scatter(a, words, 0);
            Scatter(b, words, 1);
            Scatter(c, words, 2);
            Scatter(d, words, 3);
            eight[..count].CopyTo(destination);
            source = source[count..];
            destination = destination[count..];
        }
    }

    private void EncryptEight(ref Vector256<uint> first, ref Vector256<uint> second, ref Vector256<uint> third, ref Vector256<uint> fourth)
    {
        var (a, b, c, d) = (first, second, third, fourth);
        ReadOnlySpan<uint> keys = _roundKeys;
        for (var i = 0; i < Rounds; i += 8)
        {
            var k = keys.Slice(4 * i, 36);
            MixKey(ref a, ref b, ref c, ref d, k);
            SerpentSBoxes.S0(ref a, ref b, ref c, ref d);
            Transform(ref a, ref b, ref c, ref d);
            MixKey(ref a, ref b, ref c, ref d, k[4..]);
            SerpentSBoxes.S1(ref a, ref b, ref c, ref d);
            Transform(ref a, ref b, ref c, ref d);
            MixKey(ref a, ref b, ref c, ref d, k[8..]);
            SerpentSBoxes.S2(ref a, ref b, ref c, ref d);
            Transform(ref a, ref b, ref c, ref d);
            MixKey(ref a, ref b, ref c, ref d, k[12..]);
            SerpentSBoxes.S3(ref a, ref b, ref c, ref d);
            Transform(ref a, ref b, ref c, ref d);
            MixKey(ref a, ref b, ref c, ref d, k[16..]);
            SerpentSBoxes.S4(ref a, ref b, ref c, ref d);
            Transform(ref a, ref b, ref c, ref d);
            MixKey(ref a, ref b, ref c, ref d, k[20..]);
            SerpentSBoxes.S5(ref a, ref b, ref c, ref d);
            Transform(ref a, ref b, ref c, ref d);
            MixKey(ref a, ref b, ref c, ref d, k[24..]);
            SerpentSBoxes.S6(ref a, ref b, ref c, ref d);
            Transform(ref a, ref b, ref c, ref d);
            MixKey(ref a, ref b, ref c, ref d, k[28..]);
            SerpentSBoxes.S7(ref a, ref b, ref c, ref d);
            if (i + 8 < Rounds)
            {
                Transform(ref a, ref b, ref c, ref d);
            }
        }

        MixKey(ref a, ref b, ref c, ref d, keys[(4 * Rounds)..]);
        (first, second, third, fourth) = (a, b, c, d);
    }

    private void DecryptEight(ref Vector256<uint> first, ref Vector256<uint> second, ref Vector256<uint> third, ref Vector256<uint> fourth)
    {
        var (a, b, c, d) = (first, second, third, fourth);
        ReadOnlySpan<uint> keys = _roundKeys;
        MixKey(ref a, ref b, ref c, ref d, keys[(4 * Rounds)..]);
        for (var i = Rounds - 8; i >= 0; i -= 8)
        {
            var k = keys.Slice(4 * i, 36);
            if (i + 8 < Rounds)
            {
                Untransform(ref a, ref b, ref c, ref d);
            }

            SerpentSBoxes.Inverse7(ref a, ref b, ref c, ref d);
            MixKey(ref a, ref b, ref c, ref d, k[28..]);
            Untransform(ref a, ref b, ref c, ref d);
            SerpentSBoxes.Inverse6(ref a, ref b, ref c, ref d);
            MixKey(ref a, ref b, ref c, ref d, k[24..]);
            Untransform(ref a, ref b, ref c, ref d);
            SerpentSBoxes.Inverse5(ref a, ref b, ref c, ref d);
            MixKey(ref a, ref b, ref c, ref d, k[20..]);
            Untransform(ref a, ref b, ref c, ref d);
            SerpentSBoxes.Inverse4(ref a, ref b, ref c, ref d);
            MixKey(ref a, ref b, ref c, ref d, k[16..]);
            Untransform(ref a, ref b, ref c, ref d);
            SerpentSBoxes.Inverse3(ref a, ref b, ref c, ref d);
            MixKey(ref a, ref b, ref c, ref d, k[12..]);
            Untransform(ref a, ref b, ref c, ref d);
            SerpentSBoxes.Inverse2(ref a, ref b, ref c, ref d);
            MixKey(ref a, ref b, ref c, ref d, k[8..]);
            Untransform(ref a, ref b, ref c, ref d);
            SerpentSBoxes.Inverse1(ref a, ref b, ref c, ref d);
            MixKey(ref a, ref b, ref c, ref d, k[4..]);
            Untransform(ref a, ref b, ref c, ref d);
            SerpentSBoxes.Inverse0(ref a, ref b, ref c, ref d);
            MixKey(ref a, ref b, ref c, ref d, k);
        }

        (first, second, third, fourth) = (a, b, c, d);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void MixKey(
        ref Vector256<uint> a, ref Vector256<uint> b, ref Vector256<uint> c, ref Vector256<uint> d, ReadOnlySpan<uint> key)
    {
        a ^= Vector256.Create(key[0]);
        b ^= Vector256.Create(key[1]);
        c ^= Vector256.Create(key[2]);
        d ^= Vector256.Create(key[3]);
    }

    // The linear transformation between rounds.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Transform(ref Vector256<uint> a, ref Vector256<uint> b, ref Vector256<uint> c, ref Vector256<uint> d)
    {
        a = RotateLeft(a, 13);
        c = RotateLeft(c, 3);
        b ^= a ^ c;
        d ^= c ^ (a << 3);
        b = RotateLeft(b, 1);
        d = RotateLeft(d, 7);
        a ^= b ^ d;
        c ^= d ^ (b << 7);
        a = RotateLeft(a, 5);
        c = RotateLeft(c, 22);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Untransform(ref Vector256<uint> a, ref Vector256<uint> b, ref Vector256<uint> c, ref Vector256<uint> d)
    {
        c = RotateLeft(c, 10);
        a = RotateLeft(a, 27);
        c ^= d ^ (b << 7);
        a ^= b ^ d;
        d = RotateLeft(d, 25);
        b = RotateLeft(b, 31);
        d ^= c ^ (a << 3);
        b ^= a ^ c;
        c = RotateLeft(c, 29);
        a = RotateLeft(a, 19);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<uint> RotateLeft(Vector256<uint> value, [ConstantExpected] int bits) => (value << bits) | (value >>> (32 - bits));

    // Word of every block, one block to a lane. On a big-endian machine the words would have to be swapped here.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<uint> Gather(ReadOnlySpan<uint> words, int word)
    {
        words = words.Slice(word, (4 * Lanes) - 3);
        return Vector256.Create(words[0], words[4], words[8], words[12], words[16], words[20], words[24], words[28]);
    }

    private static void Scatter(Vector256<uint> value, Span<uint> words, int word)
    {
        for (var lane = 0; lane < Lanes; lane++)
        {
            words[(4 * lane) + word] = value[lane];
        }
    }

    private static void Substitute(Span<uint> words, int box)
    {
        var a = Vector256.Create(words[0]);
        var b = Vector256.Create(words[1]);
        var c = Vector256.Create(words[2]);
        var d = Vector256.Create(words[3]);
        switch (box)
        {
            case 0: SerpentSBoxes.S0(ref a, ref b, ref c, ref d); break;
            case 1: SerpentSBoxes.S1(ref a, ref b, ref c, ref d); break;
            case 2: SerpentSBoxes.S2(ref a, ref b, ref c, ref d); break;
            case 3: SerpentSBoxes.S3(ref a, ref b, ref c, ref d); break;
            case 4: SerpentSBoxes.S4(ref a, ref b, ref c, ref d); break;
            case 5: SerpentSBoxes.S5(ref a, ref b, ref c, ref d); break;
            case 6: SerpentSBoxes.S6(ref a, ref b, ref c, ref d); break;
            default: SerpentSBoxes.S7(ref a, ref b, ref c, ref d); break;
        }

        words[0] = a[0];
        words[1] = b[0];
        words[2] = c[0];
        words[3] = d[0];
    }
}
