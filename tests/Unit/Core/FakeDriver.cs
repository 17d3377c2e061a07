using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;

namespace Platter.Tests.Unit.Core;

/// <summary>A driver whose map is a list: what the graph makes of it is the test.</summary>
internal sealed class FakeDriver(long size, MemoryStorage storage, params (long Length, ExtentKind Kind, long Host)[] map) : ImageDriver
{
    public override string FormatName => "fake";

    public override Storage Storage => storage;

    public override long VirtualSize => size;

    public override bool SupportsBacking => true;

    public override ValueTask<Extent> MapAsync(GuestOffset at, long length, CancellationToken cancellationToken = default)
    {
        long start = 0;
        foreach (var (partLength, kind, host) in map)
        {
            if (at.Value < start + partLength)
            {
                return new(new Extent
                {
                    Offset = at,
                    Length = Math.Min(length, start + partLength - at.Value),
                    Kind = kind,
                    Storage = kind == ExtentKind.Data ? storage : null,
                    HostOffset = new(host + at.Value - start),
                });
            }

            start += partLength;
        }

        return new(new Extent { Offset = at, Length = length, Kind = ExtentKind.Unallocated });
    }

    public override ValueTask<ImageInfo> GetInfoAsync(CancellationToken cancellationToken = default) =>
        new(new ImageInfo { FileName = storage.Name, Format = FormatName, VirtualSize = size });
}
