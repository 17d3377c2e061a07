using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;

namespace Platter.Core.Graph;

/// <summary>Decodes extents whose guest offsets were moved by a node that shows a disk at another place.</summary>
/// <param name="inner">The driver that returned the extents.</param>
/// <param name="by">Bytes that were added to its guest offsets.</param>
internal sealed class ShiftedDriver(ImageDriver inner, long by) : ImageDriver
{
    public override string FormatName => inner.FormatName;

    public override Storage Storage => inner.Storage;

    public override long VirtualSize => inner.VirtualSize;

    public override ValueTask<Extent> MapAsync(GuestOffset at, long length, CancellationToken cancellationToken = default) =>
        inner.MapAsync(at, length, cancellationToken);

    public override ValueTask<ImageInfo> GetInfoAsync(CancellationToken cancellationToken = default) => inner.GetInfoAsync(cancellationToken);

    public override ValueTask ReadEncodedAsync(
        Extent extent, GuestOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default) =>
        inner.ReadEncodedAsync(extent with { Offset = new(extent.Offset.Value - by), Driver = inner }, new(at.Value - by), buffer, cancellationToken);
}
