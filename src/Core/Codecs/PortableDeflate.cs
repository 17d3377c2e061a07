using System.Buffers.Binary;

namespace Platter.Core.Codecs;

/// <summary>Encodes raw deflate (RFC 1951) with distances up to 4 KiB, which .NET's own streams cannot promise. One block with the fixed codes; greedy.</summary>
/// <remarks>The way out where no native library can be used: its output is larger than theirs, and just as valid.</remarks>
internal sealed class PortableDeflate : Compressor
{
    private const int WindowBytes = 4096;
    private const int MinMatch = 3, MaxMatch = 258;
    private const int HashBits = 13;
    private const int EndOfBlock = 256;

    // RFC 1951, section 3.2.5: the first length or distance of each code, and the extra bits behind it.
    private static ReadOnlySpan<ushort> LengthBase =>
        [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258];

    private static ReadOnlySpan<byte> LengthExtra => [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];

    private static ReadOnlySpan<ushort> DistanceBase =>
        [1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073];

    private readonly int[] _lastSeen = new int[1 << HashBits];

    /// <inheritdoc/>
    public override int Compress(ReadOnlySpan<byte> input, Span<byte> output)
    {
        Array.Fill(_lastSeen, -WindowBytes - 1);
        var bits = new BitWriter(output);
        bits.Put(0b011, 3); // The last block, fixed codes.
        for (var at = 0; at < input.Length && !bits.IsFull;)
        {
            var length = FindMatch(input, at, out var distance);
            if (length < MinMatch)
            {
                PutSymbol(ref bits, input[at]);
                at++;
                continue;
            }

            PutMatch(ref bits, length, distance);
            at += length;
        }

        PutSymbol(ref bits, EndOfBlock);
        return bits.Finish();
    }

    /// <inheritdoc/>
    public override void Dispose()
    {
    }

    private int FindMatch(ReadOnlySpan<byte> input, int at, out int distance)
    {
        distance = 0;
        if (at + sizeof(uint) > input.Length)
        {
            return 0;
        }

        ref var seen = ref _lastSeen[(int)((BinaryPrimitives.ReadUInt32LittleEndian(input[at..]) & 0xffffff) * 0x9E3779B1u >> (32 - HashBits))];
        var candidate = seen;
        seen = at;
        distance = at - candidate;
        return distance > WindowBytes - MaxMatch
            ? 0
            : input[at..Math.Min(input.Length, at + MaxMatch)].CommonPrefixLength(input[candidate..]);
    }

    private static void PutMatch(ref BitWriter bits, int length, int distance)
    {
        var code = LengthBase.Length - 1;
        while (LengthBase[code] > length)
        {
            code--;
        }

        PutSymbol(ref bits, 257 + code);
        bits.Put((uint)(length - LengthBase[code]), LengthExtra[code]);
        code = DistanceBase.Length - 1;
        while (DistanceBase[code] > distance)
        {
            code--;
        }

        bits.Put(Reversed((uint)code, 5), 5);
        bits.Put((uint)(distance - DistanceBase[code]), code < 2 ? 0 : (code / 2) - 1);
    }

    // RFC 1951, section 3.2.6.
    private static void PutSymbol(ref BitWriter bits, int symbol)
    {
        var (code, length) = symbol switch
        {
            < 144 => (0b00110000 + symbol, 8),
            < 256 => (0b110010000 + symbol - 144, 9),
            < 280 => (symbol - 256, 7),
            _ => (0b11000000 + symbol - 280, 8),
        };
        bits.Put(Reversed((uint)code, length), length);
    }

    // Huffman codes go into the stream from their highest bit on.
    private static uint Reversed(uint code, int length)
    {
        var result = 0u;
        for (var i = 0; i < length; i++)
        {
            result = (result << 1) | ((code >> i) & 1);
        }

        return result;
    }

    private ref struct BitWriter(Span<byte> output)
    {
        private readonly Span<byte> _output = output;
        private ulong _pending;
        private int _count;
        private int _written;

        public bool IsFull { get; private set; }

        public void Put(uint value, int count)
        {
            _pending |= (ulong)value << _count;
            _count += count;
            while (_count >= 8)
            {
                PutByte();
            }
        }

        public int Finish()
        {
            if (_count > 0)
            {
                _count = 8;
                PutByte();
            }

            return IsFull ? -1 : _written;
        }

        private void PutByte()
        {
            if (_written == _output.Length)
            {
                IsFull = true;
            }
            else
            {
                _output[_written++] = (byte)_pending;
            }

            _pending >>= 8;
            _count -= 8;
        }
    }
}
