using System.Text.Json.Nodes;
using Platter.Core.Bitmaps;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Parallels.Bitmaps;
using Platter.Formats.Parallels.Check;
using Platter.Formats.Parallels.Layout;
using Platter.Formats.Parallels.Mapping;
using Platter.Formats.Parallels.Metadata;
using Platter.Formats.Parallels.Writing;

namespace Platter.Formats.Parallels;

/// <summary>A Parallels expandable image, open for reading, or for writing as well. Thread-safe.</summary>
/// <remarks>Spec: qemu <c>docs/interop/parallels</c>. An unallocated cluster shows the parent: alone an image has none, in a bundle it may.</remarks>
internal sealed class ParallelsImage : ImageDriver
{
    private readonly ParallelsHeader _header;
    private readonly ParallelsGeometry _geometry;
    private readonly BatTable _bat;
    private readonly ClusterMapper _mapper;
    private readonly ImageExtension _extension;
    private readonly ParallelsWriter? _writer;
    private readonly IReadOnlyList<BitmapInfo> _bitmaps;

    private ParallelsImage(
        Storage storage, ParallelsHeader header, ParallelsGeometry geometry, ImageExtension extension, OpenContext context, ParallelsWriter? writer)
    {
        Storage = storage;
        _writer = writer;
        _extension = extension;
        _bitmaps = [.. extension.Bitmaps.Select(bitmap =>
            new BitmapInfo(bitmap.Name, (long)bitmap.GranularitySectors * Sizes.SectorBytes, InUse: false, Enabled: true))];
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
    public override long VirtualSize => _writer?.VirtualSize ?? _geometry.VirtualSize;

    /// <inheritdoc/>
    public override ImageWriter? Writer => _writer;

    /// <inheritdoc/>
    public override long ClusterSize => _geometry.ClusterSizeBytes;

    /// <inheritdoc/>
    public override bool SupportsBacking => true;

    /// <summary>The bitmaps of the Format Extension, named by their identifier; none when it does not count or is damaged.</summary>
    public override IReadOnlyList<BitmapInfo> Bitmaps => _writer?.Bitmaps ?? _bitmaps;

    /// <summary>Whether it was opened for writing and never closed ("Ynot").</summary>
    public bool IsDirty => _header.IsDirty;

    internal ParallelsHeader Header => _header;

    /// <summary>Opens the image that a storage holds: for writing when the storage is writable, unless only its metadata are wanted.</summary>
    internal static async ValueTask<ParallelsImage> OpenAsync(Storage storage, NodeOptions options, OpenContext context, CancellationToken cancellationToken)
    {
        var bytes = new byte[ParallelsHeader.Size];
        var read = await storage.ReadAsync(default, bytes, cancellationToken).ConfigureAwait(false);
        var header = ParallelsHeader.Parse(bytes.AsSpan(0, read), storage.Name);
        header.Validate(storage.Name, storage.Length);
        var geometry = new ParallelsGeometry(header, storage.Length);
        var extension = await ImageExtension.LoadAsync(storage, header, geometry, context.Limits, cancellationToken).ConfigureAwait(false);
        var writer = storage.IsReadOnly || context.MetadataOnly
            ? null
            : await ParallelsWritableOpening.OpenAsync(storage, header, geometry, extension, options, context, cancellationToken).ConfigureAwait(false);
        var image = new ParallelsImage(storage, header, geometry, extension, context, writer);
        
        // Who only looks at the metadata is told there, or checks it.
        image.WarnAbout(context.Warn, context.MetadataOnly);
        return image;
    }

    /// <inheritdoc/>
    public override ValueTask<Extent> MapAsync(GuestOffset at, long length, CancellationToken cancellationToken = default) =>
        _writer is null ? _mapper.MapAsync(at, length, cancellationToken) : _writer.MapAsync(at, length, cancellationToken);

    /// <inheritdoc/>
    public override IAsyncEnumerable<DirtyRange> ReadBitmapAsync(string name, CancellationToken cancellationToken = default) => _writer is not null
        ? _writer.ReadBitmap(name) ?? base.ReadBitmapAsync(name, cancellationToken)
        : _extension.Bitmaps.FirstOrDefault(b => b.Name.Equals(name, StringComparison.OrdinalIgnoreCase)) is { } bitmap
            ? BitmapReader.ReadAsync(bitmap, Storage, _geometry, cancellationToken)
            : base.ReadBitmapAsync(name, cancellationToken);

    /// <inheritdoc/>
    public override ValueTask<CheckReport> CheckAsync(
        Action<CheckFinding> report, IProgress<double>? progress = null, CancellationToken cancellationToken = default) =>
        new ImageCheck(Storage, _header, _geometry, _bat, _extension, report, progress).RunAsync(cancellationToken);

    /// <inheritdoc/>
    public override ValueTask<RepairReport> RepairAsync(
        RepairOptions options, Action<CheckFinding> report, IProgress<double>? progress = null, CancellationToken cancellationToken = default) =>
        !Storage.IsReadOnly
            ? new ImageRepair(Storage, _header, _geometry, _extension, options, report, progress).RunAsync(cancellationToken)
            : throw new BlockException(BlockErrorKind.InvalidRequest, $"{Storage.Name}: was not opened for repair");

    /// <inheritdoc/>
    public override ValueTask<ImageInfo> GetInfoAsync(CancellationToken cancellationToken = default) => new(new ImageInfo
    {
        FileName = Storage.Name,
        Format = FormatName,
        VirtualSize = VirtualSize,
        AllocatedSize = Storage.AllocatedSize,

        // The peers print neither cluster size nor state; a dirty image is worth more than equality.
        Dirty = _header.IsDirty ? true : null,

        // The peers print nothing; who has bitmaps wants to know their names.
        FormatSpecific = Bitmaps.Count == 0
            ? null
            : new JsonObject
            {
                ["bitmaps"] = new JsonArray([.. Bitmaps.Select(b => new JsonObject
                {
                    ["flags"] = new JsonArray("auto"), ["name"] = b.Name, ["granularity"] = b.Granularity,
                })]),
            },
    });

    private void WarnAbout(Action<string> warn, bool isLook)
    {
        if (_header.IsDirty)
        {
            warn($"{Storage.Name}: was not closed correctly (in_use is \"Ynot\"); it may be inconsistent{(isLook ? string.Empty : ", 'check' tells")}");
        }

        if (VirtualSize > _geometry.BatCoverage)
        {
            warn($"{Storage.Name}: its BAT ends at 0x{_geometry.BatCoverage:x}, the disk at 0x{VirtualSize:x}; the rest is taken as not allocated");
        }

        if (!_geometry.DataOffsetIsValid)
        {
            warn($"{Storage.Name}: data_off {_header.DataOffsetSectors} in its header cannot be right; it is taken from the size of the BAT");
        }

        if (_extension.Stale is { } reason)
        {
            warn($"{Storage.Name}: its Format Extension (dirty bitmaps) is ignored: {reason}");
        }

        foreach (var problem in _extension.Problems)
        {
            warn($"{Storage.Name}: part of its Format Extension is ignored: {problem}");
        }

        foreach (var magic in _writer is null ? [] : _extension.Dropped)
        {
            warn($"{Storage.Name}: feature 0x{magic:x} of its Format Extension is unknown, and will be gone when the image is changed");
        }
    }
}
