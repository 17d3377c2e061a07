using System.Buffers.Binary;
using System.Text;

namespace Platter.Nbd.Protocol;

/// <summary>Payload of an error chunk: 32-bit error, 16-bit length of a message, the message; with <see cref="NbdChunkType.ErrorOffset"/>
/// also the 64-bit offset where it happened.</summary>
internal readonly record struct NbdErrorChunk(NbdError Error, string Message)
{
    /// <summary>Bytes before the message.</summary>
    public const int PrefixSize = 6;

    /// <summary>Bytes after the message in a chunk of type <see cref="NbdChunkType.ErrorOffset"/>.</summary>
    public const int OffsetSize = 8;

    /// <summary>Reads a payload; false if it contradicts itself. A message that is not UTF-8 is tolerated: it is only shown.</summary>
    public static bool TryParse(ReadOnlySpan<byte> payload, NbdChunkType type, out NbdErrorChunk chunk)
    {
        chunk = default;
        var tail = type == NbdChunkType.ErrorOffset ? OffsetSize : 0;
        if (payload.Length < PrefixSize + tail)
        {
            return false;
        }

        var error = BinaryPrimitives.ReadUInt32BigEndian(payload);
        int length = BinaryPrimitives.ReadUInt16BigEndian(payload[4..]);
        if (error == 0 || length > NbdProtocol.MaxStringBytes || length > payload.Length - PrefixSize - tail)
        {
            return false;
        }

        chunk = new((NbdError)error, Encoding.UTF8.GetString(payload.Slice(PrefixSize, length)));
        return true;
    }

    /// <summary>Bytes of a chunk without its message, at most.</summary>
    public const int MaxOverhead = NbdChunkHeader.ExtendedSize + PrefixSize;

    /// <summary>Writes a whole final chunk of type <see cref="NbdChunkType.Error"/>.</summary>
    /// <returns>Bytes written; at most <see cref="MaxOverhead"/> + three times the message's length.</returns>
    public int WriteFinalChunk(Span<byte> bytes, NbdHeaderStyle style, in NbdRequest request)
    {
        var head = NbdChunkHeader.SizeOf(style);
        var length = Encoding.UTF8.GetBytes(Message, bytes[(head + PrefixSize)..]);
        BinaryPrimitives.WriteUInt32BigEndian(bytes[head..], (uint)Error);
        BinaryPrimitives.WriteUInt16BigEndian(bytes[(head + 4)..], (ushort)length);
        new NbdChunkHeader(NbdChunkFlags.Done, NbdChunkType.Error, request.Cookie, request.Offset, (ulong)(PrefixSize + length)).WriteTo(bytes, style);
        return head + PrefixSize + length;
    }
}
