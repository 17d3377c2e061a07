using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;

namespace Platter.Operations.Copy;

/// <summary>One state of a disk, told apart from an earlier one: what both have in the same place of the same file has depth 1, everything else depth 0. Read-only; thread-safe.</summary>
/// <remarks>Zeros are the same wherever they come from. Nothing but metadata is read to tell; owns both disks.</remarks>
public sealed class DifferenceNode : BlockNode
{
    private readonly BlockNode _state, _earlier;

    /// <summary>The difference of <paramref name="state"/> from <paramref name="earlier"/>.</summary>
    public DifferenceNode(BlockNode state, BlockNode earlier) => (_state, _earlier) = (state, earlier);

    /// <inheritdoc/>
    public override string Name => _state.Name;

    /// <inheritdoc/>
    public override string FormatName => _state.FormatName;

    /// <inheritdoc/>
    public override long VirtualSize => _state.VirtualSize;

    /// <inheritdoc/>
    public override IEnumerable<Storage> Storages => _state.Storages;

    /// <inheritdoc/>
    public override async ValueTask<Extent> MapAsync(
        GuestOffset at, long length, MapDetail detail = MapDetail.Metadata, CancellationToken cancellationToken = default)
    {
        var now = await _state.MapAsync(at, length, detail, cancellationToken).ConfigureAwait(false);
        var inside = _earlier.VirtualSize - at.Value;
        var before = inside <= 0
            ? new Extent { Offset = at, Length = now.Length, Kind = ExtentKind.Unallocated }
            : await _earlier.MapAsync(at, Math.Min(now.Length, inside), detail, cancellationToken).ConfigureAwait(false);
        now = now.Take(before.Length);
        return now with { Depth = now.IsSameAs(before) ? 1 : 0 };
    }

    /// <summary>Guest bytes that are not the same, as far as metadata tell.</summary>
    public async ValueTask<long> CountAsync(CancellationToken cancellationToken = default)
    {
        long count = 0;
        for (var at = GuestOffset.Zero; at.Value < VirtualSize;)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var extent = await MapAsync(at, VirtualSize - at.Value, MapDetail.Metadata, cancellationToken).ConfigureAwait(false);
            count += extent.Depth == 0 ? extent.Length : 0;
            at = extent.End;
        }

        return count;
    }

    /// <inheritdoc/>
    public override ValueTask<ImageInfo> GetInfoAsync(CancellationToken cancellationToken = default) => _state.GetInfoAsync(cancellationToken);

    /// <inheritdoc/>
    public override ValueTask<CheckReport> CheckAsync(
        Action<CheckFinding> report, IProgress<double>? progress = null, CancellationToken cancellationToken = default) =>
        throw new BlockException(BlockErrorKind.Unsupported, $"{Name}: a difference of two states cannot be checked");

    /// <inheritdoc/>
    public override async ValueTask DisposeAsync()
    {
        await _state.DisposeAsync().ConfigureAwait(false);
        await _earlier.DisposeAsync().ConfigureAwait(false);
        GC.SuppressFinalize(this);
    }
}
