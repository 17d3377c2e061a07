using System.Buffers.Binary;
using System.Diagnostics;
using System.Security.Cryptography;

namespace Platter.Formats.Qcow2.Encryption.Hashes;

/// <summary>Hashing and PBKDF2 over a compression function that .NET does not offer.</summary>
/// <remarks>For PBKDF2 the HMAC key is compressed once, so that an iteration is two compressions and nothing else.</remarks>
internal sealed class BlockHash<TCompression>(string name) : LuksHash
    where TCompression : struct, ICompression
{
    private const int BlockBytes = 64;
    private const int BlockWords = 16;
    private const int MaxStateWords = 8;

    public override string Name => name;

    public override int DigestBytes => TCompression.DigestWords * 4;

    public override void Hash(ReadOnlySpan<byte> data, Span<byte> digest)
    {
        Span<uint> state = stackalloc uint[MaxStateWords];
        TCompression.Start(state);
        Finish(state, data, precedingBytes: 0);
        WriteDigest(state, digest);
    }

    public override void StretchPassword(ReadOnlySpan<byte> password, ReadOnlySpan<byte> salt, int iterations, Span<byte> key)
    {
        Debug.Assert(iterations > 0);
        Span<byte> pad = stackalloc byte[BlockBytes];
        pad.Clear();
        if (password.Length > BlockBytes)
        {
            Hash(password, pad);
        }
        else
        {
            password.CopyTo(pad);
        }

        Span<uint> inner = stackalloc uint[MaxStateWords];
        Span<uint> outer = stackalloc uint[MaxStateWords];
        AbsorbPad(pad, 0x36, inner);
        AbsorbPad(pad, 0x5c, outer);
        CryptographicOperations.ZeroMemory(pad);

        Span<byte> salted = new byte[salt.Length + 4];
        salt.CopyTo(salted);
        Span<byte> digest = stackalloc byte[MaxDigestBytes];
        Span<uint> sum = stackalloc uint[MaxStateWords];
        for (var number = 1; !key.IsEmpty; number++)
        {
            BinaryPrimitives.WriteInt32BigEndian(salted[salt.Length..], number);
            DeriveBlock(inner, outer, salted, iterations, sum);
            WriteDigest(sum, digest);
            var count = Math.Min(key.Length, DigestBytes);
            digest[..count].CopyTo(key);
            key = key[count..];
        }
    }

    // F of RFC 8018: the XOR of U1 = HMAC(salt || number), U2 = HMAC(U1), ...
    private static void DeriveBlock(ReadOnlySpan<uint> inner, ReadOnlySpan<uint> outer, ReadOnlySpan<byte> salted, int iterations, Span<uint> sum)
    {
        Span<uint> state = stackalloc uint[MaxStateWords];
        Span<uint> block = stackalloc uint[BlockWords];
        inner.CopyTo(state);
        Finish(state, salted, BlockBytes);
        CompressDigest(outer, state, block);
        state.CopyTo(sum);
        for (var i = 1; i < iterations; i++)
        {
            CompressDigest(inner, state, block);
            CompressDigest(outer, state, block);
            for (var j = 0; j < TCompression.DigestWords; j++)
            {
                sum[j] ^= state[j];
            }
        }
    }

    // The digest in state, padded to a block of its own behind the pad block, goes through a compression from start.
    private static void CompressDigest(ReadOnlySpan<uint> start, Span<uint> state, Span<uint> block)
    {
        block.Clear();
        state[..TCompression.DigestWords].CopyTo(block);
        block[TCompression.DigestWords] = TCompression.IsBigEndian ? 0x80000000 : 0x80;
        block[TCompression.IsBigEndian ? 15 : 14] = (uint)(BlockBytes + (TCompression.DigestWords * 4)) * 8;
        start.CopyTo(state);
        TCompression.Compress(state, block);
    }

    private static void AbsorbPad(ReadOnlySpan<byte> pad, byte mask, Span<uint> state)
    {
        Span<byte> masked = stackalloc byte[BlockBytes];
        for (var i = 0; i < BlockBytes; i++)
        {
            masked[i] = (byte)(pad[i] ^ mask);
        }

        TCompression.Start(state);
        Span<uint> block = stackalloc uint[BlockWords];
        Load(masked, block);
        TCompression.Compress(state, block);
        CryptographicOperations.ZeroMemory(masked);
    }

    // Takes in the rest of a message and its padding: a one bit, zeros, and the length in bits.
    private static void Finish(Span<uint> state, ReadOnlySpan<byte> data, int precedingBytes)
    {
        var bits = ((ulong)precedingBytes + (ulong)data.Length) * 8;
        Span<uint> block = stackalloc uint[BlockWords];
        for (; data.Length >= BlockBytes; data = data[BlockBytes..])
        {
            Load(data, block);
            TCompression.Compress(state, block);
        }

        Span<byte> last = stackalloc byte[2 * BlockBytes];
        last.Clear();
        data.CopyTo(last);
        last[data.Length] = 0x80;
        last = last[..(data.Length + 9 > BlockBytes ? 2 * BlockBytes : BlockBytes)];
        if (TCompression.IsBigEndian)
        {
            BinaryPrimitives.WriteUInt64BigEndian(last[^8..], bits);
        }
        else
        {
            BinaryPrimitives.WriteUInt64LittleEndian(last[^8..], bits);
        }

        for (; !last.IsEmpty; last = last[BlockBytes..])
        {
            Load(last, block);
            TCompression.Compress(state, block);
        }
    }

    private static void Load(ReadOnlySpan<byte> bytes, Span<uint> block)
    {
        for (var i = 0; i < block.Length; i++)
        {
            block[i] = TCompression.IsBigEndian
                ? BinaryPrimitives.ReadUInt32BigEndian(bytes[(4 * i)..])
                : BinaryPrimitives.ReadUInt32LittleEndian(bytes[(4 * i)..]);
        }
    }

    private static void WriteDigest(ReadOnlySpan<uint> state, Span<byte> digest)
    {
        for (var i = 0; i < TCompression.DigestWords; i++)
        {
            if (TCompression.IsBigEndian)
            {
                BinaryPrimitives.WriteUInt32BigEndian(digest[(4 * i)..], state[i]);
            }
            else
            {
                BinaryPrimitives.WriteUInt32LittleEndian(digest[(4 * i)..], state[i]);
            }
        }
    }
}
