using Xunit;

namespace Platter.TestKit;

/// <summary>What a range of one layer of a <see cref="ReferenceDisk"/> is.</summary>
public enum ReferenceStatus
{
    /// <summary>Nothing was written here: the backing disk shows through, or zeros.</summary>
    Unallocated,

    /// <summary>Bytes were written.</summary>
    Data,

    /// <summary>Zeros were written without storing them.</summary>
    Zero,
}

/// <summary>The obvious model of a disk: byte-exact, sparse, with a backing disk below; what every image is compared with.</summary>
/// <remarks>Offsets and lengths are guest bytes. Not thread-safe while being written.</remarks>
public sealed class ReferenceDisk
{
    private readonly SparseBytes _bytes;

    // Starts of runs of one status, ascending; the first is at 0. The end of a run is the start of the next.
    private readonly List<(long Start, ReferenceStatus Status)> _runs = [(0, ReferenceStatus.Unallocated)];

    /// <summary>An empty disk, or an empty overlay over <paramref name="backing"/> (which may be shorter or longer).</summary>
    public ReferenceDisk(long size, ReferenceDisk? backing = null)
    {
        Size = size;
        Backing = backing;
        _bytes = new SparseBytes(size);
    }

    /// <summary>Virtual size in bytes.</summary>
    public long Size { get; }

    /// <summary>What shows through where nothing was written.</summary>
    public ReferenceDisk? Backing { get; }

    /// <summary>A copy that can go its own way, over the same backing disk; cut or extended if a size is given.</summary>
    public ReferenceDisk Clone(long? size = null)
    {
        var copy = new ReferenceDisk(size ?? Size, Backing);
        foreach (var (offset, length, status) in Runs(0, Math.Min(Size, copy.Size)))
        {
            if (status == ReferenceStatus.Data)
            {
                foreach (var (at, count) in _bytes.DataRanges(offset, length))
                {
                    copy._bytes.Write(at, _bytes.Slice(at, checked((int)count)));
                }
            }

            copy.Mark(offset, length, status);
        }

        return copy;
    }

    /// <summary>An empty overlay over this disk, of the same size unless told otherwise.</summary>
    public ReferenceDisk Overlay(long? size = null) => new(size ?? Size, this);

    /// <summary>Writes bytes, which must lie inside the disk.</summary>
    public void Write(long offset, ReadOnlySpan<byte> bytes)
    {
        CheckRange(offset, bytes.Length);
        _bytes.Write(offset, bytes);
        Mark(offset, bytes.Length, ReferenceStatus.Data);
    }

    /// <summary>Writes <see cref="TestContent"/> of a seed.</summary>
    public void Fill(int seed, long offset, int length) => Write(offset, TestContent.Make(seed, offset, length));

    /// <summary>Makes a range read as zeros whatever lies below.</summary>
    public void Zero(long offset, long length)
    {
        CheckRange(offset, length);
        _bytes.Zero(offset, length);
        Mark(offset, length, ReferenceStatus.Zero);
    }

    /// <summary>Forgets what this layer holds, so that the backing disk shows through again.</summary>
    public void Unallocate(long offset, long length)
    {
        CheckRange(offset, length);
        _bytes.Zero(offset, length);
        Mark(offset, length, ReferenceStatus.Unallocated);
    }

    /// <summary>Reads the guest's view; bytes beyond the end are zeros.</summary>
    public void Read(long offset, Span<byte> buffer)
    {
        buffer.Clear();
        var end = Math.Min(offset + buffer.Length, Size);
        foreach (var (start, length, status) in Runs(offset, end - offset))
        {
            var part = buffer.Slice((int)(start - offset), (int)length);
            if (status == ReferenceStatus.Data)
            {
                _bytes.Read(start, part);
            }
            else if (status == ReferenceStatus.Unallocated)
            {
                Backing?.Read(start, part);
            }
        }
    }

    /// <summary>The guest's view of a range as an array.</summary>
    public byte[] Slice(long offset, int length)
    {
        var result = new byte[length];
        Read(offset, result);
        return result;
    }

    /// <summary>The whole guest's view; for disks that fit an array.</summary>
    public byte[] ToArray() => Slice(0, checked((int)Size));

    /// <summary>Runs of one status in this layer, in order, clipped to the range.</summary>
    public IEnumerable<(long Offset, long Length, ReferenceStatus Status)> Runs(long offset, long length)
    {
        var end = offset + length;
        for (var i = FindRun(offset); i < _runs.Count && _runs[i].Start < end; i++)
        {
            var start = Math.Max(offset, _runs[i].Start);
            var stop = Math.Min(end, i + 1 < _runs.Count ? _runs[i + 1].Start : long.MaxValue);
            if (stop > start)
            {
                yield return (start, stop - start, _runs[i].Status);
            }
        }
    }

    /// <summary>Status of one byte in this layer.</summary>
    public ReferenceStatus StatusAt(long offset) => _runs[FindRun(offset)].Status;

    /// <summary>Ranges of the guest's view that may differ from zero, in order, through all layers; neighbours are joined.</summary>
    public IReadOnlyList<(long Offset, long Length)> DataRanges()
    {
        var cuts = new SortedSet<long>();
        for (var disk = this; disk is not null; disk = disk.Backing)
        {
            foreach (var (start, length) in disk._bytes.DataRanges())
            {
                cuts.Add(start);
                cuts.Add(start + length);
            }

            foreach (var (start, _) in disk._runs)
            {
                cuts.Add(start);
            }
        }

        cuts.Add(Size);
        var result = new List<(long Offset, long Length)>();
        long from = 0;
        foreach (var to in cuts.Where(c => c > 0 && c <= Size))
        {
            if (MayHoldData(from))
            {
                if (result.Count > 0 && result[^1].Offset + result[^1].Length == from)
                {
                    result[^1] = (result[^1].Offset, to - result[^1].Offset);
                }
                else
                {
                    result.Add((from, to - from));
                }
            }

            from = to;
        }

        return result;
    }

    /// <summary>SHA-256 of the guest's view in lower-case hexadecimal.</summary>
    public string Sha256() => Flatten().Sha256();

    /// <summary>The guest's view as the bytes of a raw image.</summary>
    public SparseBytes Flatten()
    {
        var result = new SparseBytes(Size);
        var buffer = new byte[1 << 20];
        foreach (var (offset, length) in DataRanges())
        {
            for (long done = 0; done < length; done += buffer.Length)
            {
                var part = buffer.AsSpan(0, (int)Math.Min(buffer.Length, length - done));
                Read(offset + done, part);
                result.Write(offset + done, part);
            }
        }

        return result;
    }

    /// <summary>Fails unless <paramref name="actual"/> is what this disk holds at <paramref name="offset"/>.</summary>
    public void AssertEqual(long offset, ReadOnlySpan<byte> actual)
    {
        var expected = Slice(offset, actual.Length);
        var same = expected.AsSpan().CommonPrefixLength(actual);
        if (same < actual.Length)
        {
            Assert.Fail(Difference(offset + same, expected, actual, same));
        }
    }

    /// <summary>Fails unless <paramref name="actual"/> is the whole disk.</summary>
    public void AssertEqual(ReadOnlySpan<byte> actual)
    {
        Assert.Equal(Size, actual.Length);
        AssertEqual(0, actual);
    }

    /// <summary>Fails unless a raw file is the whole disk.</summary>
    public void AssertEqualsFile(string rawPath)
    {
        using var file = File.OpenHandle(rawPath);
        Assert.Equal(Size, RandomAccess.GetLength(file));
        var buffer = new byte[1 << 20];
        for (long at = 0; at < Size;)
        {
            var read = RandomAccess.Read(file, buffer, at);
            Assert.True(read > 0, $"{rawPath} ends at {at}");
            AssertEqual(at, buffer.AsSpan(0, read));
            at += read;
        }
    }

    /// <summary>Compares through a reader: all ranges with data and samples of the zeros between, so that a 64 TiB disk is done in a moment.</summary>
    /// <param name="read">Reads (guest offset, buffer) and returns the bytes read; must fill the buffer inside the disk.</param>
    /// <param name="seed">Chooses the sizes of the requests and the samples.</param>
    public async Task AssertEqualAsync(Func<long, Memory<byte>, ValueTask<int>> read, int seed = 1)
    {
        var random = new Random(seed);
        var buffer = new byte[256 * 1024];
        long done = 0;
        foreach (var (offset, length) in DataRanges().Append((Size, 0)))
        {
            // The zeros before this data: their edges and three places within.
            if (offset > done)
            {
                var gap = offset - done;
                long[] samples = [done, done + random.NextInt64(gap), done + random.NextInt64(gap), Math.Max(done, offset - 4096)];
                foreach (var sample in samples)
                {
                    await CompareAsync(read, sample, buffer.AsMemory(0, (int)Math.Min(4096, offset - sample)));
                }
            }

            for (done = offset; done < offset + length;)
            {
                var count = (int)Math.Min(random.Next(1, buffer.Length), offset + length - done);
                await CompareAsync(read, done, buffer.AsMemory(0, count));
                done += count;
            }
        }
    }

    private async Task CompareAsync(Func<long, Memory<byte>, ValueTask<int>> read, long offset, Memory<byte> buffer)
    {
        buffer.Span.Fill(0xA5);
        var count = await read(offset, buffer);
        Assert.True(count == buffer.Length, $"a read of {buffer.Length} bytes at guest offset 0x{offset:x} returned {count}");
        AssertEqual(offset, buffer.Span);
    }

    private static string Difference(long at, ReadOnlySpan<byte> expected, ReadOnlySpan<byte> actual, int index)
    {
        var sector = Math.Max(0, index - (int)(at % 512));
        var length = Math.Min(512, expected.Length - sector);
        return $"guest offset 0x{at:x} (sector {at / 512}, cluster of 64 KiB {at / 65536}): expected 0x{expected[index]:x2}, got 0x{actual[index]:x2}; "
            + $"the sector should hold {TestContent.Describe(expected.Slice(sector, length))}, it holds {TestContent.Describe(actual.Slice(sector, length))}";
    }

    private bool MayHoldData(long offset) => offset < Size && StatusAt(offset) switch
    {
        ReferenceStatus.Data => true,
        ReferenceStatus.Zero => false,
        _ => Backing?.MayHoldData(offset) ?? false,
    };

    private int FindRun(long offset)
    {
        int low = 0, high = _runs.Count - 1;
        while (low < high)
        {
            var middle = (low + high + 1) / 2;
            if (_runs[middle].Start <= offset)
            {
                low = middle;
            }
            else
            {
                high = middle - 1;
            }
        }

        return low;
    }

    private void Mark(long offset, long length, ReferenceStatus status)
    {
        if (length == 0)
        {
            return;
        }

        var end = offset + length;
        var after = StatusAt(end);
        var first = FindRun(offset);
        if (_runs[first].Start < offset)
        {
            first++;
        }

        var last = FindRun(end);
        _runs.RemoveRange(first, Math.Max(0, last - first + 1));
        _runs.Insert(first, (offset, status));
        _runs.Insert(first + 1, (end, after));

        // Equal neighbours are joined, so that Runs() are as long as they can be.
        for (var i = Math.Min(first + 1, _runs.Count - 1); i >= Math.Max(1, first); i--)
        {
            if (_runs[i].Status == _runs[i - 1].Status)
            {
                _runs.RemoveAt(i);
            }
        }
    }

    private void CheckRange(long offset, long length)
    {
        if (offset < 0 || length < 0 || offset > Size - length)
        {
            throw new ArgumentOutOfRangeException(nameof(offset), $"{length} bytes at {offset} do not lie inside a disk of {Size}");
        }
    }
}
