using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;

namespace Platter.Core.Graph;

/// <summary>A disk with zeros behind its end. Read-only; thread-safe.</summary>
public sealed class PaddedNode : BlockNode
{
    private readonly BlockNode _inner;

    /// <summary>Takes over the disk.</summary>
    /// <param name="inner">The disk.</param>
    /// <param name="size">Guest bytes, not less than the disk has.</param>
    public PaddedNode(BlockNode inner, long size)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(size, inner.VirtualSize);
        (_inner, VirtualSize) = (inner, size);
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
    public override ValueTask<Extent> MapAsync(
        GuestOffset at, long length, MapDetail detail = MapDetail.Metadata, CancellationToken cancellationToken = default) =>
        at.Value < _inner.VirtualSize
            ? _inner.MapAsync(at, Math.Min(length, _inner.VirtualSize - at.Value), detail, cancellationToken)
            : new(new Extent { Offset = at, Length = Math.Min(length, VirtualSize - at.Value), Kind = ExtentKind.Unallocated });

    /// <inheritdoc/>
    public override ValueTask<ImageInfo> GetInfoAsync(CancellationToken cancellationToken = default) => _inner.GetInfoAsync(cancellationToken);

    /// <inheritdoc/>
    public override ValueTask<CheckReport> CheckAsync(
        Action<CheckFinding> report, IProgress<double>? progress = null, CancellationToken cancellationToken = default) =>
        throw new BlockException(BlockErrorKind.Unsupported, $"{Name}: part of a disk cannot be checked");

    /// <inheritdoc/>
    public override async ValueTask DisposeAsync()
    {
        await _inner.DisposeAsync().ConfigureAwait(false);
        GC.SuppressFinalize(this);
    }
}
