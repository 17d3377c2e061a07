using System.Security.Cryptography;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Encryption.Ciphers;
using Platter.Formats.Qcow2.Encryption.Hashes;

namespace Platter.Formats.Qcow2.Encryption;

/// <summary>A LUKS volume inside a qcow2 image, unlocked with a password.</summary>
/// <remarks>
/// A password is stretched by PBKDF2 into a key that decrypts the material of a key slot; merged by the anti-forensic
/// splitter, that is the master key if the header's digest says so. All active slots are tried, the cheap ones first, so
/// that a slot which asks for an absurd number of iterations cannot keep a good one from opening.
/// In qcow2 sectors are numbered from the start of the file (host offset / 512), and the header's payload offset plays no part.
/// Instances are immutable and thread-safe.
/// </remarks>
internal sealed class LuksVolume
{
    private LuksVolume(LuksHeader header, CipherSpec spec, SectorCipher cipher, int slot)
    {
        Header = header;
        Spec = spec;
        Cipher = cipher;
        Slot = slot;
    }

    /// <summary>The header.</summary>
    public LuksHeader Header { get; }

    /// <summary>What the header says about the cipher.</summary>
    public CipherSpec Spec { get; }

    /// <summary>Decrypts and encrypts sectors numbered by host offset / 512.</summary>
    public SectorCipher Cipher { get; }

    /// <summary>The key slot that the password opened.</summary>
    public int Slot { get; }

    /// <summary>Reads the header, which needs no password. Its cipher may be one that <see cref="OpenAsync"/> refuses.</summary>
    /// <param name="storage">The storage that the image is in.</param>
    /// <param name="headerAt">Host offset of the LUKS header, from the qcow2 header extension.</param>
    /// <param name="headerLength">Bytes of header and key material, from the same extension.</param>
    /// <param name="name">How errors name the image.</param>
    /// <param name="cancellationToken">Cancels the read.</param>
    /// <exception cref="BlockException">The header cannot be read or breaks the format's rules.</exception>
    public static async ValueTask<LuksHeader> ReadHeaderAsync(
        Storage storage, HostOffset headerAt, long headerLength, string name, CancellationToken cancellationToken = default)
    {
        if (headerAt.Value < 0 || !Sizes.TryAdd(headerAt.Value, headerLength, out _) || headerLength < LuksHeader.Size)
        {
            throw new ImageFormatException(
                name, "LUKS header", headerAt, "length", $"{headerLength}", $"there is no room for the {LuksHeader.Size} bytes of a LUKS header");
        }

        var bytes = new byte[LuksHeader.Size];
        var read = await storage.ReadAsync(headerAt, bytes, cancellationToken).ConfigureAwait(false);
        var header = LuksHeader.Parse(bytes.AsSpan(0, read), name, headerAt);
        header.Validate(name, headerAt, headerLength);
        return header;
    }

    /// <summary>Reads the header and unlocks the volume. Takes as long as the header asks for, usually seconds.</summary>
    /// <param name="storage">The storage that the image is in.</param>
    /// <param name="headerAt">Host offset of the LUKS header, from the qcow2 header extension.</param>
    /// <param name="headerLength">Bytes of header and key material, from the same extension.</param>
    /// <param name="password">The password, as bytes.</param>
    /// <param name="name">How errors name the image.</param>
    /// <param name="maxIterations">Iterations of PBKDF2 allowed in all, over the slots tried and their digests; see <see cref="OpenLimits.MaxKeyIterations"/>.</param>
    /// <param name="engine">Which implementation of AES to use.</param>
    /// <param name="cancellationToken">Cancels the reads, and the attempts between two slots.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.WrongSecret"/>: no slot opens;
    /// <see cref="BlockErrorKind.LimitExceeded"/>: trying the remaining slots costs more than allowed;
    /// <see cref="BlockErrorKind.Unsupported"/>: a cipher, mode or hash we do not do; or the header is broken.</exception>
    public static async ValueTask<LuksVolume> OpenAsync(
        Storage storage,
        HostOffset headerAt,
        long headerLength,
        ReadOnlyMemory<byte> password,
        string name,
        long maxIterations,
        AesEngine engine = AesEngine.Fastest,
        CancellationToken cancellationToken = default)
    {
        var found = await FindKeyAsync(storage, headerAt, headerLength, password, name, maxIterations, engine, cancellationToken).ConfigureAwait(false);
        var cipher = found.Spec.CreateCipher(found.MasterKey, engine);
        CryptographicOperations.ZeroMemory(found.MasterKey);
        return new(found.Header, found.Spec, cipher, found.Slot);
    }

    /// <summary>As <see cref="OpenAsync"/>, for whoever needs the master key itself; it is theirs to wipe.</summary>
    public static async ValueTask<(LuksHeader Header, CipherSpec Spec, LuksHash Hash, int Slot, byte[] MasterKey)> FindKeyAsync(
        Storage storage,
        HostOffset headerAt,
        long headerLength,
        ReadOnlyMemory<byte> password,
        string name,
        long maxIterations,
        AesEngine engine = AesEngine.Fastest,
        CancellationToken cancellationToken = default)
    {
        var header = await ReadHeaderAsync(storage, headerAt, headerLength, name, cancellationToken).ConfigureAwait(false);
        var spec = CipherSpec.Parse(name, headerAt, header.CipherName, header.CipherMode, header.KeyBytes);
        var hash = LuksHash.Find(header.HashSpec) ?? throw new ImageFormatException(
            name, "LUKS header", headerAt, "hash-spec", $"\"{header.HashSpec}\"", "this hash is not supported", BlockErrorKind.Unsupported);

        var active = Enumerable.Range(0, LuksHeader.SlotCount).Where(i => header.Slots[i].IsActive)
            .OrderBy(i => header.Slots[i].Iterations).ToArray();
        if (active.Length == 0)
        {
            throw new BlockException(BlockErrorKind.WrongSecret, $"{name}: no LUKS key slot is active, so no password opens it");
        }

        var left = Math.Min(maxIterations, int.MaxValue);
        foreach (var index in active)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var slot = header.Slots[index];
            left -= (long)slot.Iterations + header.MasterKeyDigestIterations;
            if (left < 0)
            {
                throw new ImageFormatException(
                    name, $"LUKS key slot {index}", headerAt + LuksHeader.SlotOffset(index), "iterations", $"{slot.Iterations}",
                    $"trying the password takes more than {maxIterations} iterations", BlockErrorKind.LimitExceeded);
            }

            var key = await TrySlotAsync(storage, headerAt, header, spec, hash, index, password, name, engine, cancellationToken).ConfigureAwait(false);
            if (key is not null)
            {
                return (header, spec, hash, index, key);
            }
        }

        throw new BlockException(
            BlockErrorKind.WrongSecret,
            $"{name}: wrong password: it opens none of the {active.Length} active LUKS key slots");
    }

    /// <summary>Tries a password on one slot.</summary>
    /// <returns>The master key, or null when it does not open the slot.</returns>
    public static async ValueTask<byte[]?> TrySlotAsync(
        Storage storage, HostOffset headerAt, LuksHeader header, CipherSpec spec, LuksHash hash, int index, ReadOnlyMemory<byte> password, string name,
        AesEngine engine, CancellationToken cancellationToken)
    {
        var material = await ReadMaterialAsync(storage, headerAt, header, index, name, cancellationToken).ConfigureAwait(false);

        // Seconds of computing do not belong on the caller's thread.
        return await Task.Run(() => TryUnlock(header, spec, hash, header.Slots[index], material, password.Span, engine), cancellationToken).ConfigureAwait(false);
    }

    private static async ValueTask<byte[]> ReadMaterialAsync(
        Storage storage, HostOffset headerAt, LuksHeader header, int index, string name, CancellationToken cancellationToken)
    {
        var slot = header.Slots[index];
        var at = headerAt + slot.KeyMaterialOffset;
        var material = new byte[slot.MaterialBytes((int)header.KeyBytes)];
        var read = await storage.ReadAsync(at, material, cancellationToken).ConfigureAwait(false);
        ImageFormatException.ThrowIfShort(material.AsSpan(0, read), material.Length, name, $"key material of LUKS key slot {index}", at);
        return material;
    }

    /// <returns>The master key, or null when the digest tells that the password is not this slot's.</returns>
    private static byte[]? TryUnlock(
        LuksHeader header, CipherSpec spec, LuksHash hash, LuksKeySlot slot, Span<byte> material, ReadOnlySpan<byte> password, AesEngine engine)
    {
        Span<byte> slotKey = new byte[spec.KeyBytes];
        hash.StretchPassword(password, slot.Salt.Span, (int)slot.Iterations, slotKey);

        // Key material is encrypted like payload, with sectors numbered from its own start.
        spec.CreateCipher(slotKey, engine).DecryptSectors(material, firstSector: 0);
        CryptographicOperations.ZeroMemory(slotKey);

        var key = new byte[spec.KeyBytes];
        AntiForensicSplitter.Merge(material[..((int)slot.Stripes * key.Length)], key, hash);
        CryptographicOperations.ZeroMemory(material);

        Span<byte> digest = new byte[header.MasterKeyDigest.Length];
        hash.StretchPassword(key, header.MasterKeyDigestSalt.Span, (int)header.MasterKeyDigestIterations, digest);
        return CryptographicOperations.FixedTimeEquals(digest, header.MasterKeyDigest.Span) ? key : null;
    }
}
