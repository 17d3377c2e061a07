using Platter.Formats.Qcow2.Encryption.Ciphers;

namespace Platter.Formats.Qcow2.Encryption;

/// <summary>ECB: every block by itself, whatever its sector. Weak, but QEMU can write it and so it can be read.</summary>
internal sealed class EcbSectorCipher(BlockCipher cipher) : SectorCipher
{
    protected override void Decrypt(Span<byte> data, ulong firstSector) => cipher.Decrypt(data, data);

    protected override void Encrypt(Span<byte> data, ulong firstSector) => cipher.Encrypt(data, data);
}
