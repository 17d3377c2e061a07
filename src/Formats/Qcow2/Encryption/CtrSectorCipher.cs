using System.Buffers.Binary;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Encryption.Ciphers;

namespace Platter.Formats.Qcow2.Encryption;

/// <summary>CTR over any block cipher; the sector's vector is its first counter, which counts up big-endian.</summary>
/// <remarks>With plain vectors the counters of neighbouring sectors do not meet, because a vector holds the sector number
/// at its front and the counter grows from its end. Reusing a sector's key stream for new data makes this mode weak
/// on a disk; QEMU can write it and so it can be read.</remarks>
internal sealed class CtrSectorCipher(BlockCipher cipher, IvGenerator vectors) : SectorCipher
{
    private const int BatchSectors = 8;
    private const int MaxBlockBytes = 16;

    protected override void Decrypt(Span<byte> data, ulong firstSector) => Run(data, firstSector);

    protected override void Encrypt(Span<byte> data, ulong firstSector) => Run(data, firstSector);

    private void Run(Span<byte> data, ulong firstSector)
    {
        var blockBytes = cipher.BlockBytes;
        Span<byte> ivs = stackalloc byte[BatchSectors * MaxBlockBytes];
        Span<byte> stream = stackalloc byte[BatchSectors * Sizes.SectorBytes];
        while (!data.IsEmpty)
        {
            var sectors = Math.Min(data.Length / Sizes.SectorBytes, BatchSectors);
            var batch = data[..(sectors * Sizes.SectorBytes)];
            vectors.Fill(firstSector, ivs[..(sectors * blockBytes)], blockBytes);
            for (var i = 0; i < sectors; i++)
            {
                FillCounters(ivs.Slice(i * blockBytes, blockBytes), stream.Slice(i * Sizes.SectorBytes, Sizes.SectorBytes));
            }

            cipher.Encrypt(stream[..batch.Length], stream[..batch.Length]);
            BlockMath.Xor(batch, stream);
            data = data[batch.Length..];
            firstSector += (ulong)sectors;
        }
    }

    private static void FillCounters(ReadOnlySpan<byte> first, Span<byte> counters)
    {
        if (first.Length == 8)
        {
            for (var value = BinaryPrimitives.ReadUInt64BigEndian(first); !counters.IsEmpty; value++, counters = counters[8..])
            {
                BinaryPrimitives.WriteUInt64BigEndian(counters, value);
            }
        }
        else
        {
            for (var value = BinaryPrimitives.ReadUInt128BigEndian(first); !counters.IsEmpty; value++, counters = counters[16..])
            {
                BinaryPrimitives.WriteUInt128BigEndian(counters, value);
            }
        }
    }
}
