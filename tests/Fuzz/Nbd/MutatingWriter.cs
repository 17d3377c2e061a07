using System.Buffers.Binary;

namespace Platter.Tests.Fuzz;

/// <summary>Writes a protocol's fields in order, big-endian, and now and then another value than asked for.</summary>
/// <param name="random">Decides.</param>
/// <param name="oneIn">One field in so many is broken; 0 for none.</param>
/// <param name="quiet">Fields before the first that may be broken: so many come out right that the conversation gets somewhere.</param>
internal sealed class MutatingWriter(Random random, int oneIn, int quiet = 0)
{
    private static readonly byte[][] s_strings =
    [
        [], [0], "a\0b"u8.ToArray(), "a\u001b[31m"u8.ToArray(), [0xff, 0xfe], new byte[4096], [.. Enumerable.Repeat((byte)'x', 4096)],
        [.. Enumerable.Repeat((byte)'x', 4097)], "base:"u8.ToArray(), "base:allocation"u8.ToArray(), ":"u8.ToArray(), "qemu:dirty-bitmap:"u8.ToArray(),
    ];

    private readonly MemoryStream _bytes = new();
    private int _quiet = quiet;

    /// <summary>Whether anything was broken: after that the two sides may wait for each other.</summary>
    public bool HasBroken { get; private set; }

    public MutatingWriter U16(ulong value) => Number(value, 2);

    public MutatingWriter U32(ulong value) => Number(value, 4);

    public MutatingWriter U64(ulong value) => Number(value, 8);

    public MutatingWriter Raw(ReadOnlySpan<byte> bytes)
    {
        _bytes.Write(bytes);
        return this;
    }

    /// <summary>A string without its length, or another one.</summary>
    public byte[] Text(ReadOnlySpan<byte> text) => Breaks() ? s_strings[random.Next(s_strings.Length)] : text.ToArray();

    /// <summary>A length of 32 bits and as many bytes.</summary>
    public MutatingWriter Counted(ReadOnlySpan<byte> bytes) => U32((ulong)bytes.Length).Raw(bytes);

    /// <summary>What was written since the last call.</summary>
    public byte[] Take()
    {
        var result = _bytes.ToArray();
        _bytes.SetLength(0);
        if (_quiet <= 0 && oneIn > 0 && random.Next(oneIn * 8) == 0)
        {
            HasBroken = true;
            result = result[..random.Next(result.Length + 1)];
        }

        return result;
    }

    private bool Breaks()
    {
        var breaks = _quiet-- <= 0 && oneIn > 0 && random.Next(oneIn) == 0;
        HasBroken |= breaks;
        return breaks;
    }

    private MutatingWriter Number(ulong value, int size)
    {
        if (Breaks())
        {
            var ones = size == 8 ? ulong.MaxValue : (1UL << (8 * size)) - 1;
            value = random.Next(10) switch
            {
                0 => 0,
                1 => ones,
                2 => ones >> 1,
                3 => (ones >> 1) + 1,
                4 => value + 1,
                5 => value - 1,
                6 => value ^ (1UL << random.Next(8 * size)),
                7 => 1UL << random.Next(8 * size),
                8 => unchecked((ulong)random.NextInt64()),
                _ => (ulong)random.Next(40),
            };
        }

        Span<byte> bytes = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64BigEndian(bytes, value);
        _bytes.Write(bytes[(8 - size)..]);
        return this;
    }
}
