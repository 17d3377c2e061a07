using Platter.Formats.Qcow2.Encryption.Ciphers;

namespace Platter.Formats.Qcow2.Encryption;

/// <summary>The first encryption method of qcow2 (crypt_method 1): AES-128-CBC with the password itself as the key.</summary>
/// <remarks>Weak by design and only read for old images. Sectors are numbered from the start of the virtual disk
/// (guest offset / 512), and nothing on disk tells whether a password is the right one.</remarks>
internal static class LegacyAes
{
    private const int KeyBytes = 16;

    /// <summary>The cipher for a password, of which 16 bytes count; a shorter one is filled up with zeros.</summary>
    public static SectorCipher CreateCipher(ReadOnlySpan<byte> password, AesEngine engine = AesEngine.Fastest)
    {
        Span<byte> key = stackalloc byte[KeyBytes];
        key.Clear();
        password[..Math.Min(password.Length, KeyBytes)].CopyTo(key);
        return new CbcSectorCipher(AesEngines.Create(key, engine), IvGenerator.Plain64);
    }
}
