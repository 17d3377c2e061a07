using System.Buffers.Binary;
using Platter.Formats.Qcow2.Encryption.Ciphers;
using Platter.Formats.Qcow2.Encryption.Hashes;

namespace Platter.Formats.Qcow2.Encryption;

/// <summary>Spreads a key over many stripes so that losing any one of them loses the key, and puts it together again.</summary>
/// <remarks>LUKS on-disk format 1.2.3, section 2.4 (AFsplit, AFmerge): every stripe but the last is folded into a running
/// block, which is diffused by hashing in between.</remarks>
internal static class AntiForensicSplitter
{
    /// <summary>Recovers the key: <paramref name="material"/> holds a whole number of stripes of the key's size.</summary>
    public static void Merge(ReadOnlySpan<byte> material, Span<byte> key, LuksHash hash)
    {
        key.Clear();
        for (; material.Length > key.Length; material = material[key.Length..])
        {
            BlockMath.Xor(key, material);
            Diffuse(key, hash);
        }

        BlockMath.Xor(key, material);
    }

    /// <summary>Spreads a key; all stripes but the last must have been filled with random bytes, the last one is computed.</summary>
    public static void Split(ReadOnlySpan<byte> key, Span<byte> material, LuksHash hash)
    {
        var last = material[^key.Length..];
        Merge(material[..^key.Length], last, hash);
        Diffuse(last, hash);
        BlockMath.Xor(last, key);
    }

    // Every digest-sized piece becomes the digest of its number and itself; the last one may be cut.
    private static void Diffuse(Span<byte> block, LuksHash hash)
    {
        Span<byte> numbered = stackalloc byte[4 + LuksHash.MaxDigestBytes];
        Span<byte> digest = stackalloc byte[LuksHash.MaxDigestBytes];
        for (var number = 0; !block.IsEmpty; number++)
        {
            var piece = block[..Math.Min(block.Length, hash.DigestBytes)];
            BinaryPrimitives.WriteInt32BigEndian(numbered, number);
            piece.CopyTo(numbered[4..]);
            hash.Hash(numbered[..(4 + piece.Length)], digest);
            digest[..piece.Length].CopyTo(piece);
            block = block[piece.Length..];
        }
    }
}
