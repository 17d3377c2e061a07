using System.Buffers.Binary;
using System.Numerics;
using System.Runtime.CompilerServices;
using Platter.Core.Bitmaps;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Parallels.Layout;

namespace Platter.Formats.Parallels.Bitmaps;

/// <summary>Turns the bits of a dirty bitmap into ranges, piece by piece.</summary>
/// <remarks>Bit n, the least significant of its byte first, stands for the sectors from n × granularity on.</remarks>
internal static class BitmapReader
{
    private const int PieceBytes = 64 * 1024;

    /// <summary>The dirty ranges in order, merged, cut at the end of the disk.</summary>
    public static async IAsyncEnumerable<DirtyRange> ReadAsync(
        DirtyBitmapFeature bitmap, Storage storage, ParallelsGeometry geometry, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var granularity = (long)bitmap.GranularitySectors * Sizes.SectorBytes;
        var bits = Sizes.DivideRoundingUp(geometry.VirtualSize, granularity);
        var bitsPerCluster = geometry.ClusterSizeBytes * 8;
        var run = new Run();
        var buffer = new byte[PieceBytes];
        List<DirtyRange> finished = [];
        for (var i = 0; i < bitmap.L1.Length; i++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var first = i * bitsPerCluster;
            var count = Math.Min(bitsPerCluster, bits - first);
            if (bitmap.L1[i] == DirtyBitmapFeature.AllSet)
            {
                run.Add(first, count, finished);
            }
            else if (bitmap.L1[i] != DirtyBitmapFeature.AllClear)
            {
                var host = new HostOffset((long)bitmap.L1[i] * Sizes.SectorBytes);
                for (long done = 0; done < count; done += PieceBytes * 8)
                {
                    var piece = buffer.AsMemory(0, (int)Math.Min(PieceBytes, Sizes.DivideRoundingUp(count - done, 64) * 8));
                    var read = await storage.ReadAsync(host + (done / 8), piece, cancellationToken).ConfigureAwait(false);
                    piece.Span[read..].Clear();
                    Scan(piece.Span, first + done, first + count, ref run, finished);
                    foreach (var range in finished)
                    {
                        yield return ToBytes(range);
                    }

                    finished.Clear();
                }
            }

            foreach (var range in finished)
            {
                yield return ToBytes(range);
            }

            finished.Clear();
        }

        if (run.Length > 0)
        {
            yield return ToBytes(new(new GuestOffset(run.First), run.Length));
        }

        DirtyRange ToBytes(DirtyRange inBits)
        {
            var start = inBits.Offset.Value * granularity;
            var end = Math.Min(geometry.VirtualSize, start + (inBits.Length * granularity));
            return new(new GuestOffset(start), end - start);
        }
    }

    // The buffer is a whole number of words: clusters are a multiple of 512 bytes.
    private static void Scan(ReadOnlySpan<byte> words, long firstBit, long endBit, ref Run run, List<DirtyRange> finished)
    {
        for (var at = 0; at < words.Length; at += sizeof(ulong))
        {
            var word = BinaryPrimitives.ReadUInt64LittleEndian(words[at..]);
            var bit = firstBit + (at * 8L);
            if (endBit - bit < 64)
            {
                // Bits behind the end of the disk mean nothing.
                word &= endBit <= bit ? 0 : (1UL << (int)(endBit - bit)) - 1;
            }

            while (word != 0)
            {
                var skip = BitOperations.TrailingZeroCount(word);
                var ones = BitOperations.TrailingZeroCount(~(word >> skip));
                run.Add(bit + skip, ones, finished);
                word &= skip + ones >= 64 ? 0 : ulong.MaxValue << (skip + ones);
            }
        }
    }

    private record struct Run
    {
        public long First { get; private set; }

        public long Length { get; private set; }

        public void Add(long first, long length, List<DirtyRange> finished)
        {
            if (Length > 0 && First + Length == first)
            {
                Length += length;
                return;
            }

            if (Length > 0)
            {
                finished.Add(new(new GuestOffset(First), Length));
            }

            (First, Length) = (first, length);
        }
    }
}
