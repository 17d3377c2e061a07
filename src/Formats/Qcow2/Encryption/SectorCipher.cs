using Platter.Core.Units;

namespace Platter.Formats.Qcow2.Encryption;

/// <summary>Encrypts and decrypts whole 512-byte sectors in place with one key.</summary>
/// <remarks>
/// An instance may be used by many threads at once, and a call allocates nothing. What a sector's number counts is the
/// format's choice: guest sectors for the old AES method of qcow2, host sectors for LUKS (qcow2 specification, section
/// "Data encryption").
/// </remarks>
internal abstract class SectorCipher
{
    /// <summary>Turns ciphertext into plaintext.</summary>
    /// <param name="data">Whole sectors; the length is a multiple of 512 bytes.</param>
    /// <param name="firstSector">Number of the first sector of <paramref name="data"/>.</param>
    public void DecryptSectors(Span<byte> data, ulong firstSector)
    {
        ThrowUnlessWhole(data);
        Decrypt(data, firstSector);
    }

    /// <summary>Turns plaintext into ciphertext.</summary>
    /// <param name="data">Whole sectors; the length is a multiple of 512 bytes.</param>
    /// <param name="firstSector">Number of the first sector of <paramref name="data"/>.</param>
    public void EncryptSectors(Span<byte> data, ulong firstSector)
    {
        ThrowUnlessWhole(data);
        Encrypt(data, firstSector);
    }

    /// <summary>Decrypts whole sectors; the length has been checked.</summary>
    protected abstract void Decrypt(Span<byte> data, ulong firstSector);

    /// <summary>Encrypts whole sectors; the length has been checked.</summary>
    protected abstract void Encrypt(Span<byte> data, ulong firstSector);

    private static void ThrowUnlessWhole(ReadOnlySpan<byte> data)
    {
        if (data.Length % Sizes.SectorBytes != 0)
        {
            throw new ArgumentException($"{data.Length} bytes are not whole sectors.", nameof(data));
        }
    }
}
