using System.Buffers.Binary;
using System.Diagnostics;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Encryption.Ciphers;

namespace Platter.Formats.Qcow2.Encryption;

/// <summary>XTS (IEEE 1619) over any 16-byte block cipher; a data unit is a sector.</summary>
/// <remarks>The tweaks of several sectors are laid out first, so that the block cipher sees one long run of blocks.</remarks>
internal sealed class XtsSectorCipher : SectorCipher
{
    private const int BlockBytes = 16;
    private const int BatchSectors = 8;

    private readonly BlockCipher _data;
    private readonly BlockCipher _tweak;
    private readonly IvGenerator _vectors;

    public XtsSectorCipher(BlockCipher data, BlockCipher tweak, IvGenerator vectors)
    {
        Debug.Assert(data.BlockBytes == BlockBytes && tweak.BlockBytes == BlockBytes);
        _data = data;
        _tweak = tweak;
        _vectors = vectors;
    }

    protected override void Decrypt(Span<byte> data, ulong firstSector) => Run(data, firstSector, encrypt: false);

    protected override void Encrypt(Span<byte> data, ulong firstSector) => Run(data, firstSector, encrypt: true);

    private void Run(Span<byte> data, ulong firstSector, bool encrypt)
    {
        Span<byte> vectors = stackalloc byte[BatchSectors * BlockBytes];
        Span<byte> tweaks = stackalloc byte[BatchSectors * Sizes.SectorBytes];
        while (!data.IsEmpty)
        {
            var sectors = Math.Min(data.Length / Sizes.SectorBytes, BatchSectors);
            var batch = data[..(sectors * Sizes.SectorBytes)];
            FillTweaks(firstSector, vectors[..(sectors * BlockBytes)], tweaks);

            BlockMath.Xor(batch, tweaks);
            if (encrypt)
            {
                _data.Encrypt(batch, batch);
            }
            else
            {
                _data.Decrypt(batch, batch);
            }

            BlockMath.Xor(batch, tweaks);
            data = data[batch.Length..];
            firstSector += (ulong)sectors;
        }
    }

    // Block j of a sector is masked with the encrypted vector times x^j in GF(2^128), least significant bit first.
    private void FillTweaks(ulong firstSector, Span<byte> vectors, Span<byte> tweaks)
    {
        _vectors.Fill(firstSector, vectors, BlockBytes);
        _tweak.Encrypt(vectors, vectors);
        for (; !vectors.IsEmpty; vectors = vectors[BlockBytes..], tweaks = tweaks[Sizes.SectorBytes..])
        {
            var low = BinaryPrimitives.ReadUInt64LittleEndian(vectors);
            var high = BinaryPrimitives.ReadUInt64LittleEndian(vectors[8..]);
            for (var at = 0; at < Sizes.SectorBytes; at += BlockBytes)
            {
                BinaryPrimitives.WriteUInt64LittleEndian(tweaks[at..], low);
                BinaryPrimitives.WriteUInt64LittleEndian(tweaks[(at + 8)..], high);
                var carry = (ulong)((long)high >> 63) & 0x87;
                high = (high << 1) | (low >> 63);
                low = (low << 1) ^ carry;
            }
        }
    }
}
