using System.Buffers.Binary;
using System.Numerics;
using Platter.Core.Units;

namespace Platter.Core.Bitmaps;

/// <summary>Which parts of a disk are dirty: one bit for each granule, in memory that grows with what is dirty.</summary>
/// <remarks>Setting is thread-safe, and so is asking while others set. Bits are kept in chunks; one without set bits costs 8 bytes, one whose bits are all set as well.</remarks>
public sealed class DirtyBits
{
    /// <summary>Bits per chunk: 4 KiB of memory.</summary>
    private const int ChunkBits = 1 << 15;
    private const int ChunkWords = ChunkBits / 64;

    // Shared, and never changed: there is nothing left to set in it.
    private static readonly ulong[] s_full = FullChunk();

    private readonly ulong[]?[] _chunks;

    /// <summary>A set without dirty bits.</summary>
    /// <param name="size">Guest bytes of the disk.</param>
    /// <param name="granularityBits">log2 of the guest bytes that one bit stands for.</param>
    /// <exception cref="ArgumentOutOfRangeException">There would be more than 2^40 bits: the caller bounds them, since they come from an image or a user.</exception>
    public DirtyBits(long size, int granularityBits)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(size);
        ArgumentOutOfRangeException.ThrowIfNegative(granularityBits);
        (Size, GranularityBits) = (size, granularityBits);
        Count = Sizes.DivideRoundingUp(size, 1L << granularityBits);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(Count, 1L << 40);
        _chunks = new ulong[]?[(int)Sizes.DivideRoundingUp(Count, ChunkBits)];
    }

    /// <summary>Guest bytes of the disk.</summary>
    public long Size { get; }

    /// <summary>log2 of the guest bytes that one bit stands for.</summary>
    public int GranularityBits { get; }

    /// <summary>Number of bits.</summary>
    public long Count { get; }

    /// <summary>Sets the bits of every granule that a range touches.</summary>
    /// <param name="at">Start of the range.</param>
    /// <param name="length">Guest bytes; what lies behind the end of the disk is left out.</param>
    public void Set(GuestOffset at, long length)
    {
        var end = length > Size - at.Value ? Size : at.Value + length;
        if (at.Value < end)
        {
            SetBits(at.Value >> GranularityBits, ((end - 1) >> GranularityBits) + 1);
        }
    }

    /// <summary>Whether any bit from <paramref name="first"/> to before <paramref name="end"/> is set.</summary>
    public bool Any(long first, long end)
    {
        end = Math.Min(end, Count);
        return first < end && Find(first, end, set: true) < end;
    }

    /// <summary>Whether every bit from <paramref name="first"/> to before <paramref name="end"/> is set.</summary>
    public bool All(long first, long end)
    {
        end = Math.Min(end, Count);
        return first >= end || Find(first, end, set: false) >= end;
    }

    /// <summary>Sets those bits of a stored bitmap (the first granule in bit 0 of byte 0) that are set here.</summary>
    /// <param name="first">The bit that bit 0 of the bytes stands for; a multiple of 64.</param>
    /// <param name="bytes">A multiple of 8; bits behind the last one are left alone.</param>
    public void OrInto(long first, Span<byte> bytes)
    {
        for (var at = 0; at < bytes.Length && first < Count; at += 8, first += 64)
        {
            if (_chunks[(int)(first / ChunkBits)] is not { } chunk)
            {
                // On to the next chunk.
                var skipped = ChunkBits - (first % ChunkBits) - 64;
                at = (int)Math.Min(bytes.Length, at + (skipped / 8));
                first += skipped;
                continue;
            }

            if (Volatile.Read(ref chunk[(int)(first % ChunkBits / 64)]) is var word and not 0)
            {
                var rest = Count - first;
                word &= rest < 64 ? (1UL << (int)rest) - 1 : ulong.MaxValue;
                var target = bytes.Slice(at, 8);
                BinaryPrimitives.WriteUInt64LittleEndian(target, BinaryPrimitives.ReadUInt64LittleEndian(target) | word);
            }
        }
    }

    /// <summary>The dirty ranges in order; neighbours are merged. What is set meanwhile may be in it or not.</summary>
    public IEnumerable<DirtyRange> Ranges()
    {
        for (long bit = 0; bit < Count;)
        {
            var first = Find(bit, Count, set: true);
            if (first == Count)
            {
                yield break;
            }

            bit = Find(first, Count, set: false);
            var start = first << GranularityBits;
            yield return new(new(start), (bit == Count ? Size : bit << GranularityBits) - start);
        }
    }

    /// <summary>The first bit from <paramref name="from"/> on that is set (or clear); <paramref name="end"/> if there is none before it.</summary>
    /// <param name="from">Number of a bit.</param>
    /// <param name="end">Number of a bit, at most <see cref="Count"/>.</param>
    /// <param name="set">What is looked for.</param>
    public long Find(long from, long end, bool set)
    {
        while (from < end)
        {
            var chunk = _chunks[(int)(from / ChunkBits)];
            var uniform = chunk is null ? (bool?)false : ReferenceEquals(chunk, s_full) ? true : null;
            if (uniform is { } value)
            {
                if (value == set)
                {
                    return from;
                }

                from = ((from / ChunkBits) + 1) * ChunkBits;
                continue;
            }

            var word = Volatile.Read(ref chunk![(int)(from % ChunkBits / 64)]);
            word = (set ? word : ~word) >> (int)(from % 64);
            if (word != 0)
            {
                return Math.Min(end, from + BitOperations.TrailingZeroCount(word));
            }

            from = ((from / 64) + 1) * 64;
        }

        return end;
    }

    private void SetBits(long first, long end)
    {
        while (first < end)
        {
            var index = (int)(first / ChunkBits);
            var chunkEnd = Math.Min(end, (index + 1L) * ChunkBits);
            if (chunkEnd - first == ChunkBits)
            {
                Volatile.Write(ref _chunks[index], s_full);
            }
            else
            {
                SetInChunk(index, (int)(first % ChunkBits), (int)(chunkEnd - (index * (long)ChunkBits)));
            }

            first = chunkEnd;
        }
    }

    private void SetInChunk(int index, int first, int end)
    {
        var chunk = Volatile.Read(ref _chunks[index]);
        if (chunk is null)
        {
            var fresh = new ulong[ChunkWords];
            chunk = Interlocked.CompareExchange(ref _chunks[index], fresh, null) ?? fresh;
        }

        if (ReferenceEquals(chunk, s_full))
        {
            return;
        }

        for (var word = first / 64; word <= (end - 1) / 64; word++)
        {
            var low = Math.Max(first - (word * 64), 0);
            var high = Math.Min(end - (word * 64), 64);
            var mask = (ulong.MaxValue >> (64 - (high - low))) << low;

            // Mostly it is set already: then nobody else's cache is disturbed.
            if ((Volatile.Read(ref chunk[word]) & mask) != mask)
            {
                Interlocked.Or(ref chunk[word], mask);
            }
        }
    }

    private static ulong[] FullChunk()
    {
        var chunk = new ulong[ChunkWords];
        chunk.AsSpan().Fill(ulong.MaxValue);
        return chunk;
    }
}
