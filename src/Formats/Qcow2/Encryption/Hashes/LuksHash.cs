using System.Diagnostics;
using System.Security.Cryptography;

namespace Platter.Formats.Qcow2.Encryption.Hashes;

/// <summary>A hash that a LUKS header can name: for stretching the password, for spreading key material, for ESSIV.</summary>
/// <remarks>Stateless and thread-safe. What .NET has comes from there; the rest is managed code next to this file.</remarks>
internal abstract class LuksHash
{
    private static readonly LuksHash[] All =
    [
        new BlockHash<Md5Compression>("md5"),
        new SystemHash("sha1", HashAlgorithmName.SHA1, 20),
        new BlockHash<Sha224Compression>("sha224"),
        new SystemHash("sha256", HashAlgorithmName.SHA256, 32),
        new SystemHash("sha384", HashAlgorithmName.SHA384, 48),
        new SystemHash("sha512", HashAlgorithmName.SHA512, 64),
        new BlockHash<Ripemd160Compression>("ripemd160"),
    ];

    /// <summary>Largest <see cref="DigestBytes"/> of any of them.</summary>
    public const int MaxDigestBytes = 64;

    /// <summary>As headers and QEMU write it: "sha256".</summary>
    public abstract string Name { get; }

    /// <summary>Bytes in a digest.</summary>
    public abstract int DigestBytes { get; }

    /// <summary>The hash of that name, or null when there is none.</summary>
    public static LuksHash? Find(string name) => Array.Find(All, hash => hash.Name == name);

    /// <summary>Hashes <paramref name="data"/>; <paramref name="digest"/> has at least <see cref="DigestBytes"/>.</summary>
    public abstract void Hash(ReadOnlySpan<byte> data, Span<byte> digest);

    /// <summary>PBKDF2 (RFC 8018) with HMAC of this hash, filling <paramref name="key"/>.</summary>
    /// <remarks>Makes that many HMACs for every digest that fits in the key, uninterrupted; the caller has bounded that.</remarks>
    public abstract void StretchPassword(ReadOnlySpan<byte> password, ReadOnlySpan<byte> salt, int iterations, Span<byte> key);

    private sealed class SystemHash(string name, HashAlgorithmName algorithm, int digestBytes) : LuksHash
    {
        public override string Name => name;

        public override int DigestBytes => digestBytes;

        public override void Hash(ReadOnlySpan<byte> data, Span<byte> digest)
        {
            var written = CryptographicOperations.HashData(algorithm, data, digest);
            Debug.Assert(written == digestBytes);
        }

        public override void StretchPassword(ReadOnlySpan<byte> password, ReadOnlySpan<byte> salt, int iterations, Span<byte> key) =>
            Rfc2898DeriveBytes.Pbkdf2(password, salt, key, iterations, algorithm);
    }
}
