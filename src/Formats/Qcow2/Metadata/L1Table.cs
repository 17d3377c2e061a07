using System.Globalization;
using Platter.Core.Errors;
using Platter.Core.Metadata;
using Platter.Core.Units;
using Platter.Formats.Qcow2.Layout;

namespace Platter.Formats.Qcow2.Metadata;

/// <summary>An L1 table (of the disk or of a snapshot), read page by page through the cache: it can have 32 MiB.</summary>
/// <remarks>Thread-safe.</remarks>
internal sealed class L1Table
{
    private const int PageBytes = 16 * 1024;
    private const int PageEntryBits = 11;

    private readonly TableReader _reader;
    private readonly MetadataCache _cache;
    private readonly int _owner = MetadataCache.NewOwner();
    private readonly Lock _judging = new();
    private readonly HashSet<long> _judgedPages = [];
    private long _usedEntries;
    private volatile string? _problem;

    public L1Table(TableReader reader, MetadataCache cache, HostOffset at, long entryCount)
    {
        _reader = reader;
        _cache = cache;
        Offset = at;
        EntryCount = entryCount;
    }

    /// <summary>Where the table starts.</summary>
    public HostOffset Offset { get; }

    /// <summary>Entries in the table.</summary>
    public long EntryCount { get; }

    /// <summary>The entry of an L2 table; synchronous when its page is cached.</summary>
    /// <remarks>Beyond the end of the table nothing is allocated: a snapshot's table may be shorter than the disk that shows it.</remarks>
    public ValueTask<L1Entry> GetAsync(long index, CancellationToken cancellationToken)
    {
        if (index >= EntryCount)
        {
            return default;
        }

        if (_cache.TryGet(_owner, index >> PageEntryBits, out TableSlice? page))
        {
            return new(new L1Entry(page.Words[(int)(index & ((1 << PageEntryBits) - 1))]));
        }

        return LoadAndGetAsync(index, cancellationToken);
    }

    /// <summary>How many entries from <paramref name="index"/> on have no L2 table, at most <paramref name="limit"/>.</summary>
    public async ValueTask<long> CountAbsentAsync(long index, long limit, CancellationToken cancellationToken)
    {
        var count = 0L;
        while (count < limit)
        {
            if (index + count >= EntryCount)
            {
                return limit;
            }

            var page = await PageAsync((index + count) >> PageEntryBits, cancellationToken).ConfigureAwait(false);
            var first = (int)((index + count) & ((1 << PageEntryBits) - 1));
            var run = LeadingAbsent(page.Words[first..]);
            count += run;
            if (first + run < page.Words.Length)
            {
                break;
            }
        }

        return Math.Min(count, limit);
    }

    private static int LeadingAbsent(ReadOnlySpan<ulong> entries)
    {
        var count = 0;
        while (count < entries.Length)
        {
            var used = entries[count..].IndexOfAnyExcept(0UL);
            if (used < 0)
            {
                return entries.Length;
            }

            count += used;
            if (!new L1Entry(entries[count]).IsAbsent)
            {
                break;
            }

            count++;
        }

        return count;
    }

    private async ValueTask<L1Entry> LoadAndGetAsync(long index, CancellationToken cancellationToken)
    {
        var page = await PageAsync(index >> PageEntryBits, cancellationToken).ConfigureAwait(false);
        return new(page.Words[(int)(index & ((1 << PageEntryBits) - 1))]);
    }

    private async ValueTask<TableSlice> PageAsync(long pageIndex, CancellationToken cancellationToken)
    {
        if (_cache.TryGet(_owner, pageIndex, out TableSlice? cached))
        {
            return cached;
        }

        var first = pageIndex << PageEntryBits;
        var bytes = new byte[(int)Math.Min(PageBytes, (EntryCount - first) * L1Entry.Size)];
        var at = Offset + (first * L1Entry.Size);
        await _reader.ReadAsync(at, bytes, "L1 table, entries from", first, cancellationToken).ConfigureAwait(false);
        var page = new TableSlice(pageIndex, at, bytes);
        Judge(page);
        _cache.Add(_owner, pageIndex, page, bytes.Length + TableSlice.Overhead);
        return page;
    }

    // Each L2 table has clusters of its own. More tables than the file has clusters are the same ones again and again: 32 MiB that claim a
    // disk of 2^51 bytes without a hole. That one is refused, as soon as its pages have shown it, instead of being read for hours.
    private void Judge(TableSlice page)
    {
        var possible = _reader.FileClusters;
        if (EntryCount <= possible)
        {
            return;
        }

        lock (_judging)
        {
            if (_judgedPages.Add(page.Index))
            {
                foreach (var word in page.Words)
                {
                    _usedEntries += new L1Entry(word).IsAbsent ? 0 : 1;
                }

                if (_usedEntries > possible)
                {
                    _problem = string.Create(CultureInfo.InvariantCulture, $"names more L2 tables than the file's {possible} clusters can hold");
                }
            }
        }

        if (_problem is { } problem)
        {
            throw new ImageFormatException(_reader.FileName, "L1 table", Offset, "size", string.Create(CultureInfo.InvariantCulture, $"{EntryCount} entries"), problem);
        }
    }
}
