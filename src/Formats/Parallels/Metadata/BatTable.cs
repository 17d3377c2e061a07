using System.Buffers;
using System.Buffers.Binary;
using System.Runtime.InteropServices;
using Platter.Core.Errors;
using Platter.Core.Metadata;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Parallels.Layout;

namespace Platter.Formats.Parallels.Metadata;

/// <summary>The BAT in pages, read when needed and kept in the graph's cache: a disk of 64 TiB opens without reading any of its 256 MiB.</summary>
internal sealed class BatTable
{
    /// <summary>Entries in a page (64 KiB); with clusters of 1 MiB a page maps 16 GiB.</summary>
    public const int PageEntries = 16 * 1024;

    // What remembering an empty page costs: the cache's own entry.
    private const int EmptyPageCost = 200;

    private static readonly uint[] s_emptyPage = new uint[PageEntries];

    private readonly Storage _storage;
    private readonly MetadataCache _cache;
    private readonly long _count;
    private readonly int _owner = MetadataCache.NewOwner();

    /// <summary>A table of <paramref name="count"/> entries behind the header.</summary>
    public BatTable(Storage storage, MetadataCache cache, long count) => (_storage, _cache, _count) = (storage, cache, count);

    /// <summary>The page that holds an entry: entries from <c>index / PageEntries * PageEntries</c>, as many as there are.</summary>
    /// <param name="index">Below the number of entries.</param>
    /// <param name="cancellationToken">Stops the read.</param>
    /// <returns>Never changed; may be used after the cache has dropped it.</returns>
    public ValueTask<uint[]> GetPageAsync(long index, CancellationToken cancellationToken)
    {
        var page = index / PageEntries;
        return _cache.TryGet<uint[]>(_owner, page, out var entries) ? new(entries) : ReadPageAsync(page, cancellationToken);
    }

    /// <summary>Reads entries past the cache, for whoever reads all of them once.</summary>
    /// <param name="first">Index of the first.</param>
    /// <param name="entries">Filled entirely; must not reach beyond the last entry.</param>
    /// <param name="scratch">At least four bytes per entry.</param>
    /// <param name="cancellationToken">Stops the read.</param>
    public async ValueTask ReadAsync(long first, Memory<uint> entries, Memory<byte> scratch, CancellationToken cancellationToken)
    {
        var bytes = scratch[..(entries.Length * BatEntry.Size)];
        var at = new HostOffset(BatEntry.PositionOf(first));
        var read = await _storage.ReadAsync(at, bytes, cancellationToken).ConfigureAwait(false);
        ImageFormatException.ThrowIfShort(bytes.Span[..read], bytes.Length, _storage.Name, $"BAT from entry {first}", at);
        MemoryMarshal.Cast<byte, uint>(bytes.Span).CopyTo(entries.Span);
        if (!BitConverter.IsLittleEndian)
        {
            BinaryPrimitives.ReverseEndianness(entries.Span, entries.Span);
        }
    }

    private async ValueTask<uint[]> ReadPageAsync(long page, CancellationToken cancellationToken)
    {
        var first = page * PageEntries;
        var scratch = ArrayPool<byte>.Shared.Rent(PageEntries * BatEntry.Size);
        var entries = ArrayPool<uint>.Shared.Rent(PageEntries);
        try
        {
            var count = (int)Math.Min(PageEntries, _count - first);
            await ReadAsync(first, entries.AsMemory(0, count), scratch, cancellationToken).ConfigureAwait(false);

            // A BAT of gigabytes that is a hole in its file shall cost nothing.
            var isEmpty = count == PageEntries && !entries.AsSpan(0, count).ContainsAnyExcept(0U);
            var kept = isEmpty ? s_emptyPage : entries.AsSpan(0, count).ToArray();
            _cache.Add(_owner, page, kept, isEmpty ? EmptyPageCost : count * BatEntry.Size);
            return kept;
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(scratch);
            ArrayPool<uint>.Shared.Return(entries);
        }
    }
}
