using System.Buffers.Binary;

namespace Platter.TestKit;

/// <summary>Content that knows where it belongs: every 512-byte sector starts with a mark of its seed and guest offset, the rest is noise.</summary>
/// <remarks>When a reader returns the wrong sector, <see cref="Describe"/> tells which one it returned instead.</remarks>
public static class TestContent
{
    private const int SectorBytes = 512;
    private const uint Mark = 0x54_4c_50_ff;

    /// <summary>The sectors of <paramref name="seed"/> at a guest offset (any offset, any length).</summary>
    public static byte[] Make(int seed, long guestOffset, int length)
    {
        var result = new byte[length];
        Fill(result, seed, guestOffset);
        return result;
    }

    /// <summary>Fills a buffer with the sectors of <paramref name="seed"/> at a guest offset.</summary>
    public static void Fill(Span<byte> buffer, int seed, long guestOffset)
    {
        Span<byte> sector = stackalloc byte[SectorBytes];
        while (buffer.Length > 0)
        {
            var (number, within) = Math.DivRem(guestOffset, SectorBytes);
            MakeSector(sector, seed, number);
            var count = (int)Math.Min(buffer.Length, SectorBytes - within);
            sector.Slice((int)within, count).CopyTo(buffer);
            buffer = buffer[count..];
            guestOffset += count;
        }
    }

    /// <summary>Says what a sector holds: zeros, one of ours (seed and guest offset), or something else.</summary>
    public static string Describe(ReadOnlySpan<byte> sector)
    {
        if (!sector.ContainsAnyExcept((byte)0))
        {
            return "zeros";
        }

        if (sector.Length >= 16 && BinaryPrimitives.ReadUInt32LittleEndian(sector) == Mark)
        {
            var seed = BinaryPrimitives.ReadInt32LittleEndian(sector[4..]);
            var number = BinaryPrimitives.ReadInt64LittleEndian(sector[8..]);
            return $"content of seed {seed} for guest offset 0x{number * SectorBytes:x}";
        }

        return $"foreign bytes {Convert.ToHexStringLower(sector[..Math.Min(sector.Length, 16)])}";
    }

    /// <summary>Bytes that compress well: short words repeated, different for each seed.</summary>
    public static byte[] MakeCompressible(int seed, int length)
    {
        var random = new Random(seed);
        var words = new byte[16][];
        for (var i = 0; i < words.Length; i++)
        {
            words[i] = new byte[random.Next(3, 12)];
            random.NextBytes(words[i]);
        }

        var result = new byte[length];
        for (var at = 0; at < length;)
        {
            var word = words[random.Next(words.Length)];
            var count = Math.Min(word.Length, length - at);
            word.AsSpan(0, count).CopyTo(result.AsSpan(at));
            at += count;
        }

        return result;
    }

    private static void MakeSector(Span<byte> sector, int seed, long number)
    {
        // splitmix64: position-addressable noise, so that any slice can be made without its neighbours.
        var state = unchecked(((ulong)number * 0x9e3779b97f4a7c15) ^ ((ulong)(uint)seed * 0xd1342543de82ef95));
        for (var at = 0; at < SectorBytes; at += 8)
        {
            state = unchecked(state + 0x9e3779b97f4a7c15);
            var z = unchecked((state ^ (state >> 30)) * 0xbf58476d1ce4e5b9);
            z = unchecked((z ^ (z >> 27)) * 0x94d049bb133111eb);
            BinaryPrimitives.WriteUInt64LittleEndian(sector[at..], z ^ (z >> 31));
        }

        BinaryPrimitives.WriteUInt32LittleEndian(sector, Mark);
        BinaryPrimitives.WriteInt32LittleEndian(sector[4..], seed);
        BinaryPrimitives.WriteInt64LittleEndian(sector[8..], number);
    }
}
