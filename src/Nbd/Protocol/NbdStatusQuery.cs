using System.Buffers.Binary;

namespace Platter.Nbd.Protocol;

/// <summary>Payload of a BLOCK_STATUS request that wants only some of the contexts (extended headers, <c>BLOCK_STATUS_PAYLOAD</c>).</summary>
/// <remarks>64-bit effect length in bytes, then a 32-bit id for each context.</remarks>
internal readonly record struct NbdStatusQuery(ulong EffectLength, IReadOnlyList<uint> ContextIds)
{
    private const int PrefixSize = 8;

    /// <summary>Bytes of a payload that asks for so many contexts.</summary>
    public static int SizeOf(int contexts) => PrefixSize + (contexts * 4);

    /// <summary>Reads a payload; false if its length is wrong or an id comes twice.</summary>
    public static bool TryParse(ReadOnlySpan<byte> payload, out NbdStatusQuery query)
    {
        query = default;
        if (payload.Length < PrefixSize || (payload.Length - PrefixSize) % 4 != 0)
        {
            return false;
        }

        var ids = new uint[(payload.Length - PrefixSize) / 4];
        var seen = new HashSet<uint>();
        for (var i = 0; i < ids.Length; i++)
        {
            ids[i] = BinaryPrimitives.ReadUInt32BigEndian(payload[SizeOf(i)..]);
            if (!seen.Add(ids[i]))
            {
                return false;
            }
        }

        query = new(BinaryPrimitives.ReadUInt64BigEndian(payload), ids);
        return true;
    }

    /// <summary>The payload.</summary>
    public byte[] ToArray()
    {
        var bytes = new byte[SizeOf(ContextIds.Count)];
        BinaryPrimitives.WriteUInt64BigEndian(bytes, EffectLength);
        for (var i = 0; i < ContextIds.Count; i++)
        {
            BinaryPrimitives.WriteUInt32BigEndian(bytes.AsSpan(SizeOf(i)), ContextIds[i]);
        }

        return bytes;
    }
}
