using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Parallels.Layout;
using Platter.Formats.Parallels.Metadata;

namespace Platter.Formats.Parallels.Mapping;

/// <summary>Turns a guest range into one extent: the lookup is pure, over one page of the BAT.</summary>
internal sealed class ClusterMapper
{
    private readonly Storage _storage;
    private readonly ParallelsGeometry _geometry;
    private readonly BatTable _bat;
    private readonly bool _isEmpty;

    /// <summary>A mapper of an image; <paramref name="isEmpty"/> when its header says that nothing is allocated.</summary>
    public ClusterMapper(Storage storage, ParallelsGeometry geometry, BatTable bat, bool isEmpty) =>
        (_storage, _geometry, _bat, _isEmpty) = (storage, geometry, bat, isEmpty);

    /// <summary>What the range from <paramref name="at"/> is, at most to the end of the BAT page.</summary>
    public ValueTask<Extent> MapAsync(GuestOffset at, long length, CancellationToken cancellationToken)
    {
        var wanted = Math.Min(length, _geometry.VirtualSize - at.Value);
        if (_isEmpty || at.Value >= _geometry.BatCoverage)
        {
            return new(Unallocated(at, wanted));
        }

        var cluster = at.Value / _geometry.ClusterSizeBytes;
        var page = _bat.GetPageAsync(cluster, cancellationToken);
        return page.IsCompletedSuccessfully ? new(Lookup(PageOf(page.Result, cluster), _geometry, _storage, at, wanted)) : AwaitedAsync(page, cluster, at, wanted);
    }

    private static BatPage PageOf(uint[] entries, long cluster) => new(entries, (int)(cluster % BatTable.PageEntries), entries.Length);

    private async ValueTask<Extent> AwaitedAsync(ValueTask<uint[]> pending, long cluster, GuestOffset at, long wanted) =>
        Lookup(PageOf(await pending.ConfigureAwait(false), cluster), _geometry, _storage, at, wanted);

    /// <summary>Finds the longest run of one kind: neighbours that are unallocated too, or that follow each other in the file.</summary>
    /// <param name="page">The piece of the BAT where the entry of <paramref name="at"/> is.</param>
    /// <param name="geometry">Of the image.</param>
    /// <param name="storage">The image.</param>
    /// <param name="at">Inside what the BAT has entries for.</param>
    /// <param name="wanted">At most so many bytes.</param>
    /// <exception cref="ImageFormatException">The entry points to where no cluster can be.</exception>
    public static Extent Lookup(in BatPage page, ParallelsGeometry geometry, Storage storage, GuestOffset at, long wanted)
    {
        var size = geometry.ClusterSizeBytes;
        var cluster = at.Value / size;
        var within = at.Value - (cluster * size);
        var entries = page.Slots.AsSpan(0, page.End);
        var index = page.Index;
        var entry = new BatEntry(Volatile.Read(ref entries[index]));
        var covered = size - within;
        if (entry.IsUnallocated)
        {
            while (covered < wanted && ++index < entries.Length && entries[index] == 0)
            {
                covered += size;
            }

            return Unallocated(at, Math.Min(covered, wanted));
        }

        var host = geometry.HostOffsetOf(entry);
        var storageLength = storage.Length;
        if (geometry.ProblemOf(host, storageLength) is { } problem)
        {
            throw Bad(storage, cluster, entry, host, problem);
        }

        // Contiguous neighbours are in order, aligned and above the first: only the end of the file needs a look.
        var step = (uint)(size / geometry.EntryUnitBytes);
        var next = host + size;
        var value = (ulong)entry.Value;
        while (covered < wanted && ++index < entries.Length && entries[index] == (value += step) && next < storageLength)
        {
            covered += size;
            next += size;
        }

        return new Extent
        {
            Offset = at,
            Length = Math.Min(covered, wanted),
            Kind = ExtentKind.Data,
            Storage = storage,
            HostOffset = new HostOffset(host + within),
        };
    }

    private static Extent Unallocated(GuestOffset at, long length) => new() { Offset = at, Length = length, Kind = ExtentKind.Unallocated };

    /// <summary>The error of an entry that points to where no cluster can be.</summary>
    public static ImageFormatException Bad(Storage storage, long index, BatEntry entry, long host, string problem) => new(
        storage.Name,
        $"BAT entry {index}",
        new HostOffset(BatEntry.PositionOf(index)),
        "value",
        $"0x{entry.Value:x}",
        $"the cluster at 0x{host:x} {problem}");
}
