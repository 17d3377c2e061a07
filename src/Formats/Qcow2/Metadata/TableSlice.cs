using System.Runtime.InteropServices;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Layout;

namespace Platter.Formats.Qcow2.Metadata;

/// <summary>A piece of an L1 table as the cache holds it: 64-bit words in host byte order. Immutable.</summary>
internal sealed class TableSlice
{
    private readonly byte[] _bytes;

    /// <summary>Takes over big-endian bytes and swaps them in place.</summary>
    /// <param name="index">Number of the piece, counted from the start of the disk or of the table.</param>
    /// <param name="at">Where it is in the file.</param>
    /// <param name="bytes">A multiple of 8 bytes.</param>
    public TableSlice(long index, HostOffset at, byte[] bytes)
    {
        Index = index;
        Offset = at;
        _bytes = bytes;
        BigEndianWords.ToHost(bytes);
    }

    /// <summary>What a slice costs beside its words, in bytes: objects, dictionary entry, clock entry.</summary>
    public const int Overhead = 200;

    /// <summary>Number of the piece.</summary>
    public long Index { get; }

    /// <summary>Where it is in the file.</summary>
    public HostOffset Offset { get; }

    /// <summary>The entries.</summary>
    public ReadOnlySpan<ulong> Words => MemoryMarshal.Cast<byte, ulong>(_bytes.AsSpan());
}
