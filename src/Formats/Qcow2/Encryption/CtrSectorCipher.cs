using System.Buffers.Binary;
using System.Diagnostics;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Encryption.Ciphers;

namespace Platter.Formats.Qcow2.Encryption;

/// <summary>CTR over a 16-byte block cipher; the sector's vector is its first counter, which counts up big-endian.</summary>
/// <remarks>With plain vectors the counters of neighbouring sectors do not collide, because a vector holds the sector
/// number at its little end and the counter grows from the other one. Reusing a sector's key stream for new data makes
/// this mode weak on a disk; QEMU can write it and so it can be read.</remarks>
internal sealed class CtrSectorCipher : SectorCipher
{
    private const int BlockBytes = 16;
    private const int BatchSectors = 8;

    private readonly BlockCipher _cipher;
    private readonly IvGenerator _vectors;

    public CtrSectorCipher(BlockCipher cipher, IvGenerator vectors)
    {
        Debug.Assert(cipher.BlockBytes == BlockBytes);
        _cipher = cipher;
        _vectors = vectors;
    }

    protected override void Decrypt(Span<byte> data, ulong firstSector) => Run(data, firstSector);

    protected override void Encrypt(Span<byte> data, ulong firstSector) => Run(data, firstSector);

    private void Run(Span<byte> data, ulong firstSector)
    {
        Span<byte> ivs = stackalloc byte[BatchSectors * BlockBytes];
        Span<byte> stream = stackalloc byte[BatchSectors * Sizes.SectorBytes];
        while (!data.IsEmpty)
        {
            var sectors = Math.Min(data.Length / Sizes.SectorBytes, BatchSectors);
            var batch = data[..(sectors * Sizes.SectorBytes)];
            _vectors.Fill(firstSector, ivs[..(sectors * BlockBytes)], BlockBytes);
            for (var i = 0; i < sectors; i++)
            {
                var counter = BinaryPrimitives.ReadUInt128BigEndian(ivs[(i * BlockBytes)..]);
                for (var at = i * Sizes.SectorBytes; at < (i + 1) * Sizes.SectorBytes; at += BlockBytes)
                {
                    BinaryPrimitives.WriteUInt128BigEndian(stream[at..], counter);
                    counter++;
                }
            }

            _cipher.Encrypt(stream[..batch.Length], stream[..batch.Length]);
            BlockMath.Xor(batch, stream);
            data = data[batch.Length..];
            firstSector += (ulong)sectors;
        }
    }
}
