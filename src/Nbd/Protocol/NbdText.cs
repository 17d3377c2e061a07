using System.Buffers.Binary;
using System.Text;
using System.Text.Unicode;

namespace Platter.Nbd.Protocol;

/// <summary>Strings as the protocol defines them: UTF-8, no NUL, at most 4096 bytes, their length in front.</summary>
internal static class NbdText
{
    /// <summary>Bytes of the length in front of a string inside a structure.</summary>
    public const int LengthSize = 4;

    /// <summary>Reads a string; false if it is too long, holds a NUL or is not UTF-8.</summary>
    public static bool TryRead(ReadOnlySpan<byte> bytes, out string text)
    {
        text = string.Empty;
        if (bytes.Length > NbdProtocol.MaxStringBytes || bytes.Contains((byte)0) || !Utf8.IsValid(bytes))
        {
            return false;
        }

        text = Encoding.UTF8.GetString(bytes);
        return true;
    }

    /// <summary>Reads a 32-bit length and as many bytes, and moves <paramref name="rest"/> behind them.</summary>
    public static bool TryReadCounted(ref ReadOnlySpan<byte> rest, out string text)
    {
        text = string.Empty;
        if (rest.Length < LengthSize)
        {
            return false;
        }

        var length = BinaryPrimitives.ReadUInt32BigEndian(rest);
        if (length > rest.Length - LengthSize)
        {
            return false;
        }

        var bytes = rest.Slice(LengthSize, (int)length);
        rest = rest[(LengthSize + (int)length)..];
        return TryRead(bytes, out text);
    }

    /// <summary>Writes length and bytes.</summary>
    /// <returns>Bytes written.</returns>
    public static int WriteCounted(Span<byte> bytes, string text)
    {
        var count = Encoding.UTF8.GetBytes(text, bytes[LengthSize..]);
        BinaryPrimitives.WriteUInt32BigEndian(bytes, (uint)count);
        return LengthSize + count;
    }

    /// <summary>Whether the protocol can carry a string.</summary>
    public static bool IsValid(string text) =>
        !text.Contains('\0', StringComparison.Ordinal) && Encoding.UTF8.GetByteCount(text) <= NbdProtocol.MaxStringBytes;
}
