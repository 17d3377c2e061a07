using System.Diagnostics;
using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using X86Aes = System.Runtime.Intrinsics.X86.Aes;

namespace Platter.Formats.Qcow2.Encryption.Ciphers;

/// <summary>AES by the processor's own instructions, eight blocks in flight (one round takes several cycles to come out
/// but a new one can start in each).</summary>
internal sealed class AesNiBlockCipher : BlockCipher
{
    private readonly Vector128<byte>[] _encryptKeys;
    private readonly Vector128<byte>[] _decryptKeys;

    /// <summary>Expands a key of 16, 24 or 32 bytes. Only where <see cref="IsSupported"/>.</summary>
    public AesNiBlockCipher(ReadOnlySpan<byte> key)
    {
        _encryptKeys = Expand(key);

        // The inverse cipher in its equivalent form (FIPS 197, section 5.3.5): keys backwards, inner ones unmixed.
        _decryptKeys = new Vector128<byte>[_encryptKeys.Length];
        for (var i = 0; i < _decryptKeys.Length; i++)
        {
            var forward = _encryptKeys[^(i + 1)];
            _decryptKeys[i] = i == 0 || i == _decryptKeys.Length - 1 ? forward : X86Aes.InverseMixColumns(forward);
        }
    }

    /// <summary>Whether this processor has the instructions.</summary>
    public static bool IsSupported => X86Aes.IsSupported;

    /// <inheritdoc/>
    public override int BlockBytes => 16;

    /// <summary>Round keys in the order encryption uses them.</summary>
    internal ReadOnlySpan<Vector128<byte>> EncryptKeys => _encryptKeys;

    /// <summary>Round keys in the order decryption uses them.</summary>
    internal ReadOnlySpan<Vector128<byte>> DecryptKeys => _decryptKeys;

    /// <inheritdoc/>
    public override void Encrypt(ReadOnlySpan<byte> source, Span<byte> destination) =>
        Run<Forward>(source, destination, _encryptKeys);

    /// <inheritdoc/>
    public override void Decrypt(ReadOnlySpan<byte> source, Span<byte> destination) =>
        Run<Backward>(source, destination, _decryptKeys);

    private static void Run<TDirection>(ReadOnlySpan<byte> source, Span<byte> destination, ReadOnlySpan<Vector128<byte>> keys)
        where TDirection : struct, IDirection
    {
        Debug.Assert(source.Length == destination.Length && source.Length % 16 == 0);
        var from = MemoryMarshal.Cast<byte, Vector128<byte>>(source);
        var to = MemoryMarshal.Cast<byte, Vector128<byte>>(destination);
        for (; from.Length >= 8; from = from[8..], to = to[8..])
        {
            var eightTo = to[..8];
            var k = keys[0];
            var b0 = from[0] ^ k;
            var b1 = from[1] ^ k;
            var b2 = from[2] ^ k;
            var b3 = from[3] ^ k;
            var b4 = from[4] ^ k;
            var b5 = from[5] ^ k;
            var b6 = from[6] ^ k;
            var b7 = from[7] ^ k;
            var last = keys.Length - 1;
            for (var round = 1; round < last; round++)
            {
                k = keys[round];
                b0 = TDirection.Round(b0, k);
                b1 = TDirection.Round(b1, k);
                b2 = TDirection.Round(b2, k);
                b3 = TDirection.Round(b3, k);
                b4 = TDirection.Round(b4, k);
                b5 = TDirection.Round(b5, k);
                b6 = TDirection.Round(b6, k);
                b7 = TDirection.Round(b7, k);
            }

            k = keys[last];
            eightTo[0] = TDirection.LastRound(b0, k);
            eightTo[1] = TDirection.LastRound(b1, k);
            eightTo[2] = TDirection.LastRound(b2, k);
            eightTo[3] = TDirection.LastRound(b3, k);
            eightTo[4] = TDirection.LastRound(b4, k);
            eightTo[5] = TDirection.LastRound(b5, k);
            eightTo[6] = TDirection.LastRound(b6, k);
            eightTo[7] = TDirection.LastRound(b7, k);
        }

        for (var i = 0; i < from.Length; i++)
        {
            to[i] = One<TDirection>(from[i], keys);
        }
    }

    private static Vector128<byte> One<TDirection>(Vector128<byte> block, ReadOnlySpan<Vector128<byte>> keys)
        where TDirection : struct, IDirection
    {
        block ^= keys[0];
        for (var round = 1; round < keys.Length - 1; round++)
        {
            block = TDirection.Round(block, keys[round]);
        }

        return TDirection.LastRound(block, keys[^1]);
    }

    // FIPS 197, section 5.2, word by word; the instruction only serves as SubWord.
    private static Vector128<byte>[] Expand(ReadOnlySpan<byte> key)
    {
        Debug.Assert(key.Length is 16 or 24 or 32);
        var keyWords = key.Length / 4;
        var roundKeys = new Vector128<byte>[keyWords + 7];
        var words = MemoryMarshal.Cast<Vector128<byte>, uint>(roundKeys.AsSpan());
        MemoryMarshal.Cast<byte, uint>(key).CopyTo(words);
        var roundConstant = 1u;
        for (var i = keyWords; i < words.Length; i++)
        {
            var word = words[i - 1];
            if (i % keyWords == 0)
            {
                word = BitOperations.RotateRight(SubWord(word), 8) ^ roundConstant;
                roundConstant = (roundConstant << 1) ^ ((roundConstant >> 7) * 0x11b);
            }
            else if (keyWords == 8 && i % 8 == 4)
            {
                word = SubWord(word);
            }

            words[i] = words[i - keyWords] ^ word;
        }

        return roundKeys;
    }

    private static uint SubWord(uint word) =>
        X86Aes.KeygenAssist(Vector128.Create(0, word, 0, 0).AsByte(), 0).AsUInt32().GetElement(0);

    /// <summary>One of the two directions of the cipher, resolved when the code is compiled.</summary>
    internal interface IDirection
    {
        /// <summary>One inner round.</summary>
        static abstract Vector128<byte> Round(Vector128<byte> block, Vector128<byte> key);

        /// <summary>The last round, which does not mix columns.</summary>
        static abstract Vector128<byte> LastRound(Vector128<byte> block, Vector128<byte> key);
    }

    /// <summary>Encryption.</summary>
    internal readonly struct Forward : IDirection
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector128<byte> Round(Vector128<byte> block, Vector128<byte> key) => X86Aes.Encrypt(block, key);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector128<byte> LastRound(Vector128<byte> block, Vector128<byte> key) => X86Aes.EncryptLast(block, key);
    }

    /// <summary>Decryption.</summary>
    internal readonly struct Backward : IDirection
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector128<byte> Round(Vector128<byte> block, Vector128<byte> key) => X86Aes.Decrypt(block, key);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector128<byte> LastRound(Vector128<byte> block, Vector128<byte> key) => X86Aes.DecryptLast(block, key);
    }
}
