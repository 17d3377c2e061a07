using System.Buffers.Binary;
using System.Security.Cryptography;

namespace Platter.TestKit;

/// <summary>Bytes of a file under construction: sparse, growing as they are written, and easy to poke at.</summary>
/// <remarks>Only what differs from zero is held, so a 64 TiB image with three clusters costs three clusters.
/// Not thread-safe; finish building before many threads read it through <see cref="SparseStorage"/>.</remarks>
public sealed class SparseBytes
{
    private const int ChunkBytes = 4096;
    private readonly Dictionary<long, byte[]> _chunks = [];

    /// <summary>Makes <paramref name="length"/> zero bytes.</summary>
    public SparseBytes(long length = 0) => Length = length;

    /// <summary>Bytes up to the end of the file.</summary>
    public long Length { get; private set; }

    /// <summary>Takes a copy of an array.</summary>
    public static SparseBytes From(ReadOnlySpan<byte> bytes)
    {
        var result = new SparseBytes(bytes.Length);
        result.Write(0, bytes);
        return result;
    }

    /// <summary>Reads a whole file.</summary>
    public static SparseBytes Load(string path)
    {
        using var file = File.OpenHandle(path);
        var result = new SparseBytes(RandomAccess.GetLength(file));
        var buffer = new byte[1 << 20];
        for (long at = 0; at < result.Length;)
        {
            var read = RandomAccess.Read(file, buffer, at);
            if (read == 0)
            {
                break;
            }

            result.Write(at, buffer.AsSpan(0, read));
            at += read;
        }

        return result;
    }

    /// <summary>An independent copy.</summary>
    public SparseBytes Clone()
    {
        var copy = new SparseBytes(Length);
        foreach (var (index, chunk) in _chunks)
        {
            copy._chunks[index] = [.. chunk];
        }

        return copy;
    }

    /// <summary>Writes, growing the file if it ends before.</summary>
    public void Write(long at, ReadOnlySpan<byte> bytes)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(at);
        Length = Math.Max(Length, checked(at + bytes.Length));
        while (bytes.Length > 0)
        {
            var (index, within) = Math.DivRem(at, ChunkBytes);
            var part = bytes[..(int)Math.Min(bytes.Length, ChunkBytes - within)];
            if (!_chunks.TryGetValue(index, out var chunk) && part.ContainsAnyExcept((byte)0))
            {
                _chunks[index] = chunk = new byte[ChunkBytes];
            }

            if (chunk is not null)
            {
                part.CopyTo(chunk.AsSpan((int)within));
            }

            at += part.Length;
            bytes = bytes[part.Length..];
        }
    }

    /// <summary>Makes a range read as zeros, growing the file if it ends before.</summary>
    public void Zero(long at, long length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(at);
        Length = Math.Max(Length, checked(at + length));
        ClearRange(at, length);
    }

    /// <summary>Reads what the file holds; bytes beyond its end come as zeros.</summary>
    /// <returns>Bytes that lie inside the file.</returns>
    public int Read(long at, Span<byte> buffer)
    {
        buffer.Clear();
        var inside = (int)Math.Clamp(Length - at, 0, buffer.Length);
        for (var done = 0; done < inside;)
        {
            var (index, within) = Math.DivRem(at + done, ChunkBytes);
            var count = (int)Math.Min(inside - done, ChunkBytes - within);
            if (_chunks.TryGetValue(index, out var chunk))
            {
                chunk.AsSpan((int)within, count).CopyTo(buffer[done..]);
            }

            done += count;
        }

        return inside;
    }

    /// <summary>A range as an array; bytes beyond the end are zeros.</summary>
    public byte[] Slice(long at, int length)
    {
        var result = new byte[length];
        Read(at, result);
        return result;
    }

    /// <summary>Cuts or extends the file.</summary>
    public void SetLength(long length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        if (length < Length)
        {
            ClearRange(length, Length - length);
        }

        Length = length;
    }

    /// <summary>The ranges that may differ from zero, in order, as (offset, length); neighbours are joined.</summary>
    public IEnumerable<(long At, long Length)> DataRanges()
    {
        long start = -1, end = -1;
        foreach (var index in _chunks.Keys.Order())
        {
            var at = index * ChunkBytes;
            if (at != end)
            {
                if (start >= 0)
                {
                    yield return (start, end - start);
                }

                start = at;
            }

            end = Math.Min(at + ChunkBytes, Length);
        }

        if (start >= 0 && end > start)
        {
            yield return (start, end - start);
        }
    }

    /// <summary>The parts of a range that may differ from zero, in order, none longer than 1 MiB.</summary>
    public IEnumerable<(long At, long Length)> DataRanges(long at, long length)
    {
        foreach (var (start, count) in DataRanges())
        {
            var end = Math.Min(start + count, at + length);
            for (var from = Math.Max(start, at); from < end; from += 1 << 20)
            {
                yield return (from, Math.Min(1 << 20, end - from));
            }
        }
    }

    /// <summary>Writes a file with holes where there are zeros (at the grain of 4 KiB).</summary>
    public void SaveTo(string path)
    {
        using var file = File.OpenHandle(path, FileMode.Create, FileAccess.ReadWrite);
        RandomAccess.SetLength(file, Length);
        foreach (var index in _chunks.Keys.Order())
        {
            var at = index * ChunkBytes;
            var chunk = _chunks[index].AsSpan(0, (int)Math.Min(ChunkBytes, Length - at));
            if (chunk.ContainsAnyExcept((byte)0))
            {
                RandomAccess.Write(file, chunk, at);
            }
        }
    }

    /// <summary>The whole content; for files that fit an array.</summary>
    public byte[] ToArray() => Slice(0, checked((int)Length));

    /// <summary>SHA-256 of the content in lower-case hexadecimal, as <c>sha256sum</c> prints it.</summary>
    public string Sha256()
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        var buffer = new byte[1 << 16];
        for (long at = 0; at < Length; at += buffer.Length)
        {
            hash.AppendData(buffer.AsSpan(0, Read(at, buffer)));
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    public byte U8(long at) => Slice(at, 1)[0];

    public ushort U16Le(long at) => BinaryPrimitives.ReadUInt16LittleEndian(Slice(at, 2));

    public uint U32Le(long at) => BinaryPrimitives.ReadUInt32LittleEndian(Slice(at, 4));

    public ulong U64Le(long at) => BinaryPrimitives.ReadUInt64LittleEndian(Slice(at, 8));

    public ushort U16Be(long at) => BinaryPrimitives.ReadUInt16BigEndian(Slice(at, 2));

    public uint U32Be(long at) => BinaryPrimitives.ReadUInt32BigEndian(Slice(at, 4));

    public ulong U64Be(long at) => BinaryPrimitives.ReadUInt64BigEndian(Slice(at, 8));

    public void PutU8(long at, byte value) => Write(at, [value]);

    public void PutU16Le(long at, ushort value) => PutLittleEndian(at, value, 2);

    public void PutU32Le(long at, uint value) => PutLittleEndian(at, value, 4);

    public void PutU64Le(long at, ulong value) => PutLittleEndian(at, value, 8);

    public void PutU16Be(long at, ushort value) => PutBigEndian(at, value, 2);

    public void PutU32Be(long at, uint value) => PutBigEndian(at, value, 4);

    public void PutU64Be(long at, ulong value) => PutBigEndian(at, value, 8);

    /// <summary>Puts the low <paramref name="size"/> bytes of a value, the lowest first.</summary>
    public void PutLittleEndian(long at, ulong value, int size)
    {
        Span<byte> bytes = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, value);
        Write(at, bytes[..size]);
    }

    /// <summary>Puts the low <paramref name="size"/> bytes of a value, the highest first.</summary>
    public void PutBigEndian(long at, ulong value, int size)
    {
        Span<byte> bytes = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64BigEndian(bytes, value);
        Write(at, bytes[(8 - size)..]);
    }

    /// <summary>Inverts one bit (0 is the least significant of its byte).</summary>
    public void FlipBit(long at, int bit) => PutU8(at, (byte)(U8(at) ^ (1 << bit)));

    private void ClearRange(long at, long length)
    {
        var end = at + length;
        if (length <= 0)
        {
            return;
        }

        // Whichever is less: the chunks of the range, or those that there are.
        long first = at / ChunkBytes, last = (end - 1) / ChunkBytes;
        var indexes = last - first < _chunks.Count
            ? Enumerable.Range(0, (int)(last - first + 1)).Select(i => first + i).Where(_chunks.ContainsKey)
            : _chunks.Keys.Where(i => i >= first && i <= last);
        foreach (var index in indexes.ToArray())
        {
            var start = Math.Max(at - (index * ChunkBytes), 0);
            var stop = Math.Min(end - (index * ChunkBytes), ChunkBytes);
            if (stop - start == ChunkBytes)
            {
                _chunks.Remove(index);
            }
            else
            {
                _chunks[index].AsSpan((int)start, (int)(stop - start)).Clear();
            }
        }
    }
}
