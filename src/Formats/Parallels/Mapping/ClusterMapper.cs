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
        return page.IsCompletedSuccessfully ? new(Lookup(page.Result, at, wanted)) : AwaitedAsync(page, at, wanted);
    }

    private async ValueTask<Extent> AwaitedAsync(ValueTask<uint[]> pending, GuestOffset at, long wanted) =>
        Lookup(await pending.ConfigureAwait(false), at, wanted);

    /// <summary>Finds the longest run of one kind: neighbours that are unallocated too, or that follow each other in the file.</summary>
    private Extent Lookup(ReadOnlySpan<uint> page, GuestOffset at, long wanted)
    {
        var size = _geometry.ClusterSizeBytes;
        var cluster = at.Value / size;
        var within = at.Value - (cluster * size);
        var index = (int)(cluster % BatTable.PageEntries);
        var entry = new BatEntry(page[index]);
        var covered = size - within;
        if (entry.IsUnallocated)
        {
            while (covered < wanted && ++index < page.Length && page[index] == 0)
            {
                covered += size;
            }

            return Unallocated(at, Math.Min(covered, wanted));
        }

        var host = _geometry.HostOffsetOf(entry);
        var storageLength = _storage.Length;
        if (_geometry.ProblemOf(host, storageLength) is { } problem)
        {
            throw Bad(cluster, entry, host, problem);
        }

        // Contiguous neighbours are in order, aligned and above the first: only the end of the file needs a look.
        var step = (uint)(size / _geometry.EntryUnitBytes);
        var next = host + size;
        var value = (ulong)entry.Value;
        while (covered < wanted && ++index < page.Length && page[index] == (value += step) && next < storageLength)
        {
            covered += size;
            next += size;
        }

        return new Extent
        {
            Offset = at,
            Length = Math.Min(covered, wanted),
            Kind = ExtentKind.Data,
            Storage = _storage,
            HostOffset = new HostOffset(host + within),
        };
    }

    private static Extent Unallocated(GuestOffset at, long length) => new() { Offset = at, Length = length, Kind = ExtentKind.Unallocated };

    private ImageFormatException Bad(long index, BatEntry entry, long host, string problem) => new(
        _storage.Name,
        $"BAT entry {index}",
        new HostOffset(BatEntry.PositionOf(index)),
        "value",
        $"0x{entry.Value:x}",
        $"the cluster at 0x{host:x} {problem}");
}
