using Platter.Core.Units;
using Platter.Formats.Qcow2.Encryption.Ciphers;

namespace Platter.Formats.Qcow2.Encryption;

/// <summary>CBC over any block cipher; the chain starts anew with the vector of each sector.</summary>
/// <remarks>Blocks of one sector can only be encrypted one after the other, so encryption goes through several sectors
/// side by side: block 0 of each, then block 1 of each, and so on.</remarks>
internal sealed class CbcSectorCipher(BlockCipher cipher, IvGenerator vectors) : SectorCipher
{
    private const int BatchSectors = 8;
    private const int MaxBlockBytes = 16;

    protected override void Decrypt(Span<byte> data, ulong firstSector)
    {
        var blockBytes = cipher.BlockBytes;
        Span<byte> ivs = stackalloc byte[BatchSectors * MaxBlockBytes];
        Span<byte> previous = stackalloc byte[BatchSectors * Sizes.SectorBytes];
        while (!data.IsEmpty)
        {
            var sectors = Math.Min(data.Length / Sizes.SectorBytes, BatchSectors);
            var batch = data[..(sectors * Sizes.SectorBytes)];
            vectors.Fill(firstSector, ivs[..(sectors * blockBytes)], blockBytes);

            // What each block is masked with: the ciphertext before it, and at the start of a sector its vector.
            batch[..^blockBytes].CopyTo(previous[blockBytes..]);
            for (var i = 0; i < sectors; i++)
            {
                ivs.Slice(i * blockBytes, blockBytes).CopyTo(previous[(i * Sizes.SectorBytes)..]);
            }

            cipher.Decrypt(batch, batch);
            BlockMath.Xor(batch, previous);
            data = data[batch.Length..];
            firstSector += (ulong)sectors;
        }
    }

    protected override void Encrypt(Span<byte> data, ulong firstSector)
    {
        var blockBytes = cipher.BlockBytes;
        Span<byte> chain = stackalloc byte[BatchSectors * MaxBlockBytes];
        while (!data.IsEmpty)
        {
            var sectors = Math.Min(data.Length / Sizes.SectorBytes, BatchSectors);
            var heads = chain[..(sectors * blockBytes)];
            vectors.Fill(firstSector, heads, blockBytes);
            for (var at = 0; at < Sizes.SectorBytes; at += blockBytes)
            {
                for (var i = 0; i < sectors; i++)
                {
                    BlockMath.Xor(heads.Slice(i * blockBytes, blockBytes), data.Slice((i * Sizes.SectorBytes) + at, blockBytes));
                }

                cipher.Encrypt(heads, heads);
                for (var i = 0; i < sectors; i++)
                {
                    heads.Slice(i * blockBytes, blockBytes).CopyTo(data[((i * Sizes.SectorBytes) + at)..]);
                }
            }

            data = data[(sectors * Sizes.SectorBytes)..];
            firstSector += (ulong)sectors;
        }
    }
}
