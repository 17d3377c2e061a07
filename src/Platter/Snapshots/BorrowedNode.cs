using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;

namespace Platter.Snapshots;

/// <summary>A disk of somebody else's: disposing it leaves it open.</summary>
internal sealed class BorrowedNode(BlockNode node) : BlockNode
{
    public override string Name => node.Name;

    public override string FormatName => node.FormatName;

    public override long VirtualSize => node.VirtualSize;

    public override IEnumerable<Storage> Storages => node.Storages;

    public override ValueTask<Extent> MapAsync(
        GuestOffset at, long length, MapDetail detail = MapDetail.Metadata, CancellationToken cancellationToken = default) =>
        node.MapAsync(at, length, detail, cancellationToken);

    public override ValueTask<ImageInfo> GetInfoAsync(CancellationToken cancellationToken = default) => node.GetInfoAsync(cancellationToken);

    public override ValueTask<CheckReport> CheckAsync(
        Action<CheckFinding> report, IProgress<double>? progress = null, CancellationToken cancellationToken = default) =>
        throw new BlockException(BlockErrorKind.Unsupported, $"{Name}: cannot be checked here");

    public override ValueTask DisposeAsync() => ValueTask.CompletedTask;
}
