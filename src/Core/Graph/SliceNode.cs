using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;

namespace Platter.Core.Graph;

/// <summary>Part of a disk as a disk of its own.</summary>
public sealed class SliceNode : BlockNode
{
    private readonly BlockNode _inner;
    private readonly long _start;

    /// <summary>Takes over the disk.</summary>
    /// <param name="inner">The disk.</param>
    /// <param name="start">Guest offset of the first byte.</param>
    /// <param name="size">Guest bytes.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>: the part reaches beyond the disk.</exception>
    public SliceNode(BlockNode inner, GuestOffset start, long size)
    {
        if (start.Value < 0 || size < 0 || start.Value > inner.VirtualSize || size > inner.VirtualSize - start.Value)
        {
            throw new BlockException(
                BlockErrorKind.InvalidRequest, $"{inner.Name}: {size} bytes at {start} reach beyond the end of the disk at 0x{inner.VirtualSize:x}");
        }

        _inner = inner;
        _start = start.Value;
        VirtualSize = size;
    }

    /// <inheritdoc/>
    public override string Name => _inner.Name;

    /// <inheritdoc/>
    public override string FormatName => _inner.FormatName;

    /// <inheritdoc/>
    public override long VirtualSize { get; }

    /// <inheritdoc/>
    public override IEnumerable<Storage> Storages => _inner.Storages;

    /// <inheritdoc/>
    public override IEnumerable<StorageDirectory> Directories => _inner.Directories;

    /// <inheritdoc/>
    public override async ValueTask<Extent> MapAsync(
        GuestOffset at, long length, MapDetail detail = MapDetail.Metadata, CancellationToken cancellationToken = default)
    {
        var extent = await _inner.MapAsync(at + _start, Math.Min(length, VirtualSize - at.Value), detail, cancellationToken).ConfigureAwait(false);
        return extent.Kind == ExtentKind.Encoded
            ? extent with { Offset = at, Driver = new ShiftedDriver(extent.Driver!, -_start) }
            : extent with { Offset = at };
    }

    /// <inheritdoc/>
    public override ValueTask<ImageInfo> GetInfoAsync(CancellationToken cancellationToken = default) => _inner.GetInfoAsync(cancellationToken);

    /// <inheritdoc/>
    public override ValueTask<CheckReport> CheckAsync(
        Action<CheckFinding> report, IProgress<double>? progress = null, CancellationToken cancellationToken = default) =>
        _inner.CheckAsync(report, progress, cancellationToken);

    /// <inheritdoc/>
    public override bool IsReadOnly => _inner.IsReadOnly;

    /// <inheritdoc/>
    public override ValueTask WriteAsync(
        GuestOffset at, ReadOnlyMemory<byte> buffer, WriteFlags flags = WriteFlags.None, CancellationToken cancellationToken = default)
    {
        ThrowIfOutside(at, buffer.Length);
        return _inner.WriteAsync(at + _start, buffer, flags, cancellationToken);
    }

    /// <inheritdoc/>
    public override ValueTask WriteZeroesAsync(
        GuestOffset at, long length, WriteFlags flags = WriteFlags.None, CancellationToken cancellationToken = default)
    {
        ThrowIfOutside(at, length);
        return _inner.WriteZeroesAsync(at + _start, length, flags, cancellationToken);
    }

    /// <inheritdoc/>
    public override ValueTask DiscardAsync(GuestOffset at, long length, CancellationToken cancellationToken = default)
    {
        ThrowIfOutside(at, length);
        return _inner.DiscardAsync(at + _start, length, cancellationToken);
    }

    /// <inheritdoc/>
    public override ValueTask FlushAsync(CancellationToken cancellationToken = default) => _inner.FlushAsync(cancellationToken);

    /// <inheritdoc/>
    public override ValueTask DisposeAsync() => _inner.DisposeAsync();
}
