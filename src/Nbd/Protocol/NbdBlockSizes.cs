using System.Buffers.Binary;

namespace Platter.Nbd.Protocol;

/// <summary>Size constraints of an export, in bytes (proto.md, "Size constraints").</summary>
/// <remarks>0: minimum, 4: preferred, 8: maximum payload.</remarks>
/// <param name="Minimum">Offsets and lengths are multiples of it; a power of two up to 65536.</param>
/// <param name="Preferred">Requests of this size are efficient; a power of two, at least 512.</param>
/// <param name="Maximum">Longest payload of one request.</param>
public readonly record struct NbdBlockSizes(uint Minimum, uint Preferred, uint Maximum)
{
    internal const int Size = 12;

    /// <summary>What holds when a server says nothing.</summary>
    public static NbdBlockSizes Default { get; } = new(1, 4096, NbdProtocol.MaxPayloadBytes);

    internal static NbdBlockSizes Parse(ReadOnlySpan<byte> bytes) => new(
        BinaryPrimitives.ReadUInt32BigEndian(bytes),
        BinaryPrimitives.ReadUInt32BigEndian(bytes[4..]),
        BinaryPrimitives.ReadUInt32BigEndian(bytes[8..]));

    internal void WriteTo(Span<byte> bytes)
    {
        BinaryPrimitives.WriteUInt32BigEndian(bytes, Minimum);
        BinaryPrimitives.WriteUInt32BigEndian(bytes[4..], Preferred);
        BinaryPrimitives.WriteUInt32BigEndian(bytes[8..], Maximum);
    }

    /// <summary>Says what the protocol forbids about these values, or null.</summary>
    internal string? FindProblem() =>
        !uint.IsPow2(Minimum) || Minimum > 65536 ? $"minimum block size {Minimum}: must be a power of two up to 65536"
        : !uint.IsPow2(Preferred) || Preferred < Math.Max(Minimum, 512) ? $"preferred block size {Preferred}: must be a power of two, at least 512 and the minimum"
        : Maximum < Preferred ? $"maximum payload size {Maximum}: must not be below the preferred block size {Preferred}"
        : null;
}
