using System.Buffers.Binary;

namespace Platter.TestKit;

/// <summary>Writes zstd streams without a zstd library: frames of raw and run-length blocks, as RFC 8878 defines them.</summary>
/// <remarks>Enough for qcow2 clusters, and for streams no compressor makes: several frames, skippable frames, garbage behind the last.</remarks>
public static class ZstdFrames
{
    /// <summary>One frame for a content: runs of one byte become run-length blocks, the rest raw blocks.</summary>
    /// <param name="content">At most 4 GiB.</param>
    /// <param name="declareSize">Writes the content size into the frame header (else a window descriptor).</param>
    public static byte[] Frame(ReadOnlySpan<byte> content, bool declareSize = true)
    {
        var frame = new List<byte>((content.Length / 2) + 16);
        AddU32(frame, 0xFD2FB528);
        if (declareSize)
        {
            // Frame_Header_Descriptor: content size in 4 bytes (2 << 6), single segment (1 << 5).
            frame.Add((2 << 6) | (1 << 5));
            AddU32(frame, (uint)content.Length);
        }
        else
        {
            // No content size; Window_Descriptor: exponent 11, a window of 2 MiB.
            frame.Add(0);
            frame.Add(11 << 3);
        }

        // A block holds at most 128 KiB and never more than the window, which for a single segment is the content.
        var blockMax = declareSize ? Math.Min(128 * 1024, Math.Max(1, content.Length)) : 128 * 1024;
        if (content.IsEmpty)
        {
            AddBlock(frame, last: true, type: 0, size: 0);
        }

        while (content.Length > 0)
        {
            var run = RunLength(content);
            if (run >= 16)
            {
                var count = Math.Min(run, blockMax);
                AddBlock(frame, count == content.Length, type: 1, count);
                frame.Add(content[0]);
                content = content[count..];
            }
            else
            {
                var count = 0;
                while (count < content.Length && count < blockMax && RunLength(content[count..]) < 16)
                {
                    count++;
                }

                AddBlock(frame, count == content.Length, type: 0, count);
                frame.AddRange(content[..count]);
                content = content[count..];
            }
        }

        return [.. frame];
    }

    /// <summary>A frame that decoders skip.</summary>
    public static byte[] Skippable(ReadOnlySpan<byte> data)
    {
        var frame = new List<byte>();
        AddU32(frame, 0x184D2A50);
        AddU32(frame, (uint)data.Length);
        frame.AddRange(data);
        return [.. frame];
    }

    private static int RunLength(ReadOnlySpan<byte> content)
    {
        var other = content.IndexOfAnyExcept(content[0]);
        return other < 0 ? content.Length : other;
    }

    private static void AddBlock(List<byte> frame, bool last, int type, int size)
    {
        var header = (last ? 1 : 0) | (type << 1) | (size << 3);
        frame.Add((byte)header);
        frame.Add((byte)(header >> 8));
        frame.Add((byte)(header >> 16));
    }

    private static void AddU32(List<byte> frame, uint value)
    {
        var bytes = new byte[4];
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, value);
        frame.AddRange(bytes);
    }
}
