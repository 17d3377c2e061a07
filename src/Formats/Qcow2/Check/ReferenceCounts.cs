using System.Buffers.Binary;
using System.Diagnostics.CodeAnalysis;
using Platter.Core.Errors;

namespace Platter.Formats.Qcow2.Check;

/// <summary>What the refcount of a cluster on disk is, as far as the COPIED flag cares.</summary>
internal enum StoredRefcount : byte
{
    Zero = 0,
    One = 1,
    Many = 2,

    /// <summary>Its refcount block cannot be read.</summary>
    Unknown = 3,
}

/// <summary>For every host cluster: how many references were found, and what kind of refcount is stored. Two bytes per cluster.</summary>
/// <remarks>
/// Pages come into being when they are first needed, so that memory follows what is used and not the length of a sparse file, and
/// <see cref="MaxBytes"/> stops an image that was made to spread its references thinly. A count too large for its 14 bits goes on in a dictionary.
/// </remarks>
internal sealed class ReferenceCounts(string file)
{
    /// <summary>log2 of the clusters in a page.</summary>
    public const int PageBits = 12;

    /// <summary>Most memory that pages may take: enough for a file of 16 TiB in clusters of 64 KiB, each of them used.</summary>
    public const long MaxBytes = 512L << 20;

    private const int CountShift = 2;
    private const ushort StoredMask = 3;
    private const int CountMax = (1 << 14) - 1;

    private readonly Dictionary<long, ushort[]> _pages = [];
    private readonly Dictionary<long, ulong> _large = [];
    private long _lastPageIndex = -1;
    private ushort[] _lastPage = [];

    /// <summary>Pages that exist in a range (both ends included), in order.</summary>
    public IEnumerable<long> PagesIn(long first, long last) =>
        last - first < _pages.Count ? Enumerate(first, last) : _pages.Keys.Where(p => p >= first && p <= last).Order();

    /// <summary>The page, if it exists: for going through many clusters at once.</summary>
    public bool TryGetPage(long pageIndex, [NotNullWhen(true)] out ushort[]? page) => _pages.TryGetValue(pageIndex, out page);

    /// <summary>References found to a cluster.</summary>
    public ulong Count(long cluster) =>
        _pages.TryGetValue(cluster >> PageBits, out var page) ? CountOf(page[cluster & ((1 << PageBits) - 1)], cluster) : 0;

    /// <summary>Whether a page's entry has counted any reference.</summary>
    public static bool IsCounted(ushort entry) => entry >> CountShift != 0;

    /// <summary>The count in a page's entry.</summary>
    public ulong CountOf(ushort entry, long cluster) =>
        entry >> CountShift is var count and < CountMax ? (ulong)count : _large.GetValueOrDefault(cluster, (ulong)CountMax);

    /// <summary>How many entries from the first on have the count that a big-endian refcount of 16 bits beside them says.</summary>
    /// <param name="entries">Of a page.</param>
    /// <param name="refcounts">As they are on disk.</param>
    /// <param name="lastUsed">Index of the last of them that is not 0, or -1.</param>
    public static int CommonPrefix(ReadOnlySpan<ushort> entries, ReadOnlySpan<ushort> refcounts, out int lastUsed)
    {
        lastUsed = -1;
        for (var i = 0; i < entries.Length && i < refcounts.Length; i++)
        {
            var count = entries[i] >> CountShift;
            var refcount = BitConverter.IsLittleEndian ? BinaryPrimitives.ReverseEndianness(refcounts[i]) : refcounts[i];
            if (count != refcount || count == CountMax)
            {
                return i;
            }

            if (count != 0)
            {
                lastUsed = i;
            }
        }

        return entries.Length;
    }

    /// <summary>Counts one more reference, but never above <paramref name="max"/>.</summary>
    /// <returns>False when it is at its maximum already.</returns>
    public bool TryAdd(long cluster, ulong max)
    {
        ref var entry = ref Page(cluster >> PageBits)[cluster & ((1 << PageBits) - 1)];
        var count = entry >> CountShift;
        if (count < CountMax - 1)
        {
            if ((ulong)count >= max)
            {
                return false;
            }

            entry += 1 << CountShift;
            return true;
        }

        var large = CountOf(entry, cluster);
        if (large >= max)
        {
            return false;
        }

        entry |= CountMax << CountShift;
        _large[cluster] = large + 1;
        return true;
    }

    /// <summary>Takes one reference back; where more were found than could be counted, there may be none left to take.</summary>
    public void Remove(long cluster)
    {
        ref var entry = ref Page(cluster >> PageBits)[cluster & ((1 << PageBits) - 1)];
        if (entry >> CountShift == CountMax)
        {
            // Stays in the dictionary even if it would fit again.
            _large[cluster]--;
        }
        else if (entry >> CountShift != 0)
        {
            entry -= 1 << CountShift;
        }
    }

    /// <summary>Whether exactly one reference to a cluster was found.</summary>
    public bool IsOne(long cluster)
    {
        var pageIndex = cluster >> PageBits;
        if (pageIndex != _lastPageIndex)
        {
            if (!_pages.TryGetValue(pageIndex, out var page))
            {
                return false;
            }

            (_lastPageIndex, _lastPage) = (pageIndex, page);
        }

        return CountOf(_lastPage[cluster & ((1 << PageBits) - 1)], cluster) == 1;
    }

    /// <summary>Counts the first reference to a cluster whose stored refcount is 1; false, and nothing counted, when it is not the first or
    /// the refcount is another.</summary>
    public bool TryAddFirst(long cluster)
    {
        var pageIndex = cluster >> PageBits;
        var page = _lastPage;
        if (pageIndex != _lastPageIndex)
        {
            if (!_pages.TryGetValue(pageIndex, out page))
            {
                return false;
            }

            (_lastPageIndex, _lastPage) = (pageIndex, page);
        }

        ref var entry = ref page[cluster & ((1 << PageBits) - 1)];
        if (entry != (ushort)StoredRefcount.One)
        {
            return false;
        }

        entry = (1 << CountShift) | (ushort)StoredRefcount.One;
        return true;
    }

    /// <summary>Remembers the kind of the stored refcount.</summary>
    public void SetStored(long cluster, StoredRefcount stored)
    {
        ref var entry = ref Page(cluster >> PageBits)[cluster & ((1 << PageBits) - 1)];
        entry = (ushort)((entry & ~StoredMask) | (ushort)stored);
    }

    /// <summary>Remembers the kinds of neighbouring refcounts, before anything was counted.</summary>
    /// <param name="cluster">The first.</param>
    /// <param name="refcounts">16 bits each, big-endian as they are on disk.</param>
    public void SetStored(long cluster, ReadOnlySpan<ushort> refcounts)
    {
        var one = BitConverter.IsLittleEndian ? (ushort)0x100 : (ushort)1;
        while (!refcounts.IsEmpty)
        {
            var inPage = (int)(cluster & ((1 << PageBits) - 1));
            var part = refcounts[..Math.Min(refcounts.Length, (1 << PageBits) - inPage)];
            if (part.ContainsAnyExcept((ushort)0))
            {
                var entries = Page(cluster >> PageBits).AsSpan(inPage, part.Length);
                for (var i = 0; i < entries.Length; i++)
                {
                    var stored = part[i] == 0 ? StoredRefcount.Zero : part[i] == one ? StoredRefcount.One : StoredRefcount.Many;
                    entries[i] = (ushort)stored;
                }
            }

            cluster += part.Length;
            refcounts = refcounts[part.Length..];
        }
    }

    /// <summary>The kind of the stored refcount.</summary>
    public StoredRefcount Stored(long cluster)
    {
        var pageIndex = cluster >> PageBits;
        if (pageIndex != _lastPageIndex)
        {
            if (!_pages.TryGetValue(pageIndex, out var page))
            {
                return StoredRefcount.Zero;
            }

            (_lastPageIndex, _lastPage) = (pageIndex, page);
        }

        return (StoredRefcount)(_lastPage[cluster & ((1 << PageBits) - 1)] & StoredMask);
    }

    private IEnumerable<long> Enumerate(long first, long last)
    {
        for (var page = first; page <= last; page++)
        {
            if (_pages.ContainsKey(page))
            {
                yield return page;
            }
        }
    }

    private ushort[] Page(long pageIndex)
    {
        if (pageIndex == _lastPageIndex)
        {
            return _lastPage;
        }

        if (!_pages.TryGetValue(pageIndex, out var page))
        {
            if ((_pages.Count + 1L) << (PageBits + 1) > MaxBytes)
            {
                throw new BlockException(
                    BlockErrorKind.LimitExceeded, $"{file}: counting its references needs more than {MaxBytes >> 20} MiB");
            }

            page = new ushort[1 << PageBits];
            _pages.Add(pageIndex, page);
        }

        (_lastPageIndex, _lastPage) = (pageIndex, page);
        return page;
    }
}
