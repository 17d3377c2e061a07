using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Encryption.Ciphers;

namespace Platter.Formats.Qcow2.Encryption;

/// <summary>XTS (IEEE 1619) with AES instructions: tweaks, masking and rounds in one pass, eight blocks in flight.</summary>
/// <remarks>The same bytes as <see cref="XtsSectorCipher"/>; QEMU's default for LUKS, so this is the path that matters.</remarks>
internal sealed class AesNiXtsSectorCipher(AesNiBlockCipher data, AesNiBlockCipher tweak, IvGenerator vectors) : SectorCipher
{
    private const int BlockBytes = 16;
    private const int BatchSectors = 8;
    private const int SectorBlocks = Sizes.SectorBytes / BlockBytes;

    protected override void Decrypt(Span<byte> sectors, ulong firstSector) =>
        Run<AesNiBlockCipher.Backward>(sectors, firstSector, data.DecryptKeys);

    protected override void Encrypt(Span<byte> sectors, ulong firstSector) =>
        Run<AesNiBlockCipher.Forward>(sectors, firstSector, data.EncryptKeys);

    private void Run<TDirection>(Span<byte> sectors, ulong firstSector, ReadOnlySpan<Vector128<byte>> keys)
        where TDirection : struct, AesNiBlockCipher.IDirection
    {
        var blocks = MemoryMarshal.Cast<byte, Vector128<byte>>(sectors);
        Span<Vector128<byte>> firstTweaks = stackalloc Vector128<byte>[BatchSectors];
        while (!blocks.IsEmpty)
        {
            var count = Math.Min(blocks.Length / SectorBlocks, BatchSectors);
            var ivs = MemoryMarshal.AsBytes(firstTweaks[..count]);
            vectors.Fill(firstSector, ivs, BlockBytes);
            tweak.Encrypt(ivs, ivs);
            for (var i = 0; i < count; i++)
            {
                Sector<TDirection>(blocks.Slice(i * SectorBlocks, SectorBlocks), firstTweaks[i], keys);
            }

            blocks = blocks[(count * SectorBlocks)..];
            firstSector += (ulong)count;
        }
    }

    private static void Sector<TDirection>(Span<Vector128<byte>> blocks, Vector128<byte> t, ReadOnlySpan<Vector128<byte>> keys)
        where TDirection : struct, AesNiBlockCipher.IDirection
    {
        for (; blocks.Length >= 8; blocks = blocks[8..])
        {
            var t0 = t;
            var t1 = Double(t0);
            var t2 = Double(t1);
            var t3 = Double(t2);
            var t4 = Double(t3);
            var t5 = Double(t4);
            var t6 = Double(t5);
            var t7 = Double(t6);
            t = Double(t7);

            var eight = blocks[..8];
            var k = keys[0];
            var b0 = eight[0] ^ t0 ^ k;
            var b1 = eight[1] ^ t1 ^ k;
            var b2 = eight[2] ^ t2 ^ k;
            var b3 = eight[3] ^ t3 ^ k;
            var b4 = eight[4] ^ t4 ^ k;
            var b5 = eight[5] ^ t5 ^ k;
            var b6 = eight[6] ^ t6 ^ k;
            var b7 = eight[7] ^ t7 ^ k;
            var last = keys.Length - 1;
            for (var round = 1; round < last; round++)
            {
                k = keys[round];
                b0 = TDirection.Round(b0, k);
                b1 = TDirection.Round(b1, k);
                b2 = TDirection.Round(b2, k);
                b3 = TDirection.Round(b3, k);
                b4 = TDirection.Round(b4, k);
                b5 = TDirection.Round(b5, k);
                b6 = TDirection.Round(b6, k);
                b7 = TDirection.Round(b7, k);
            }

            k = keys[last];
            eight[0] = TDirection.LastRound(b0, k) ^ t0;
            eight[1] = TDirection.LastRound(b1, k) ^ t1;
            eight[2] = TDirection.LastRound(b2, k) ^ t2;
            eight[3] = TDirection.LastRound(b3, k) ^ t3;
            eight[4] = TDirection.LastRound(b4, k) ^ t4;
            eight[5] = TDirection.LastRound(b5, k) ^ t5;
            eight[6] = TDirection.LastRound(b6, k) ^ t6;
            eight[7] = TDirection.LastRound(b7, k) ^ t7;
        }
    }

    // Times x in GF(2^128), least significant bit first: all 32-bit lanes shift by one, and the bit that leaves a lane
    // enters the next one, the very last one coming back as the polynomial 0x87.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector128<byte> Double(Vector128<byte> tweak)
    {
        var lanes = tweak.AsInt32();
        var carries = Vector128.Shuffle(Vector128.ShiftRightArithmetic(lanes, 31), Vector128.Create(3, 0, 1, 2));
        return ((lanes + lanes) ^ (carries & Vector128.Create(0x87, 1, 1, 1))).AsByte();
    }
}
