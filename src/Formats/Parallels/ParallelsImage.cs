using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Parallels.Layout;
using Platter.Formats.Parallels.Mapping;
using Platter.Formats.Parallels.Metadata;

namespace Platter.Formats.Parallels;

/// <summary>A Parallels expandable image, open for reading. Thread-safe.</summary>
/// <remarks>Spec: qemu <c>docs/interop/parallels</c>. An unallocated cluster shows the parent: alone an image has none, in a bundle it may.</remarks>
public sealed class ParallelsImage : ImageDriver
{
    private readonly ParallelsHeader _header;
    private readonly ParallelsGeometry _geometry;
    private readonly BatTable _bat;
    private readonly ClusterMapper _mapper;

    private ParallelsImage(Storage storage, ParallelsHeader header, ParallelsGeometry geometry, OpenContext context)
    {
        Storage = storage;
        _header = header;
        _geometry = geometry;
        _bat = new BatTable(storage, context.Cache, geometry.BatEntryCount);
        _mapper = new ClusterMapper(storage, geometry, _bat, (header.Flags & ParallelsHeader.EmptyImage) != 0);
    }

    /// <inheritdoc/>
    public override string FormatName => "parallels";

    /// <inheritdoc/>
    public override Storage Storage { get; }

    /// <inheritdoc/>
    public override long VirtualSize => _geometry.VirtualSize;

    /// <inheritdoc/>
    public override long ClusterSize => _geometry.ClusterSizeBytes;

    /// <inheritdoc/>
    public override bool SupportsBacking => true;

    /// <summary>Whether it was opened for writing and never closed ("Ynot").</summary>
    public bool IsDirty => _header.IsDirty;

    internal ParallelsHeader Header => _header;

    internal static async ValueTask<ParallelsImage> OpenAsync(Storage storage, OpenContext context, CancellationToken cancellationToken)
    {
        var bytes = new byte[ParallelsHeader.Size];
        var read = await storage.ReadAsync(default, bytes, cancellationToken).ConfigureAwait(false);
        var header = ParallelsHeader.Parse(bytes.AsSpan(0, read), storage.Name);
        header.Validate(storage.Name, storage.Length);
        var image = new ParallelsImage(storage, header, new ParallelsGeometry(header, storage.Length), context);
        if (header.IsDirty)
        {
            context.Warn($"{storage.Name}: was not closed correctly (in_use is \"Ynot\"); it may be inconsistent, 'check' tells");
        }

        if (image.VirtualSize > image._geometry.BatCoverage)
        {
            context.Warn(
                $"{storage.Name}: its BAT ends at 0x{image._geometry.BatCoverage:x}, the disk at 0x{image.VirtualSize:x}; the rest is taken as not allocated");
        }

        return image;
    }

    /// <inheritdoc/>
    public override ValueTask<Extent> MapAsync(GuestOffset at, long length, CancellationToken cancellationToken = default) =>
        _mapper.MapAsync(at, length, cancellationToken);

    /// <inheritdoc/>
    public override ValueTask<ImageInfo> GetInfoAsync(CancellationToken cancellationToken = default) => new(new ImageInfo
    {
        FileName = Storage.Name,
        Format = FormatName,
        VirtualSize = VirtualSize,
        AllocatedSize = Storage.AllocatedSize,

        // The peers print neither cluster size nor state; a dirty image is worth more than equality.
        Dirty = _header.IsDirty ? true : null,
    });
}
