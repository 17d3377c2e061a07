using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;

namespace Platter.Formats.Raw;

/// <summary>A storage taken as a disk, or a part of one. Thread-safe.</summary>
/// <remarks>A disk is a whole number of sectors: a file of 1000 bytes makes a disk of 1024 whose last 24 read as zeros.</remarks>
internal sealed class RawImage : ImageDriver
{
    private readonly HostOffset _start;
    private readonly long _virtualSize;
    private readonly RawWriter? _writer;

    /// <summary>Takes over a storage.</summary>
    /// <param name="storage">The bytes.</param>
    /// <param name="start">Where the disk begins in the storage.</param>
    /// <param name="virtualSize">Size of the disk in bytes, a multiple of 512.</param>
    public RawImage(Storage storage, HostOffset start, long virtualSize)
    {
        Storage = storage;
        _start = start;
        _virtualSize = virtualSize;
        _writer = storage.IsReadOnly ? null : new RawWriter(storage, start, virtualSize);
    }

    /// <inheritdoc/>
    public override string FormatName => "raw";

    /// <inheritdoc/>
    public override Storage Storage { get; }

    /// <inheritdoc/>
    public override long VirtualSize => _writer?.VirtualSize ?? _virtualSize;

    /// <inheritdoc/>
    public override ImageWriter? Writer => _writer;

    /// <inheritdoc/>
    public override bool IsTransparent => true;

    /// <inheritdoc/>
    public override ValueTask<Extent> MapAsync(GuestOffset at, long length, CancellationToken cancellationToken = default)
    {
        var host = _start + at.Value;
        var wanted = Math.Min(length, VirtualSize - at.Value);
        var stored = Storage.Length - host.Value;

        // Behind the end of the storage is the rest of its last sector, or what somebody cut off since we opened it.
        return new(new Extent
        {
            Offset = at,
            Length = stored > 0 ? Math.Min(wanted, stored) : wanted,
            Kind = stored > 0 ? ExtentKind.Data : ExtentKind.Zero,
            Flags = stored > 0 ? ExtentFlags.MayHaveHoles : ExtentFlags.None,
            Storage = Storage,
            HostOffset = host,
        });
    }

    /// <inheritdoc/>
    public override ValueTask<ImageInfo> GetInfoAsync(CancellationToken cancellationToken = default) => new(new ImageInfo
    {
        FileName = Storage.Name,
        Format = FormatName,
        VirtualSize = VirtualSize,
        AllocatedSize = Storage.AllocatedSize,

        // A file is as it is; of an export nobody can tell, and the peers then say nothing.
        Dirty = Storage.AllocatedSize is null ? null : false,
    });
}
