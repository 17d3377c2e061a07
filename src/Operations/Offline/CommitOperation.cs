using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Operations.Copy;

namespace Platter.Operations.Offline;

/// <summary>Writes what an overlay stores into an image below it.</summary>
/// <remarks>
/// The order that every power cut survives: the target takes everything and is flushed, and only then is the overlay emptied. Until then the overlay hides all
/// that was written below it, so the same commit can be run again, to the same end.
/// </remarks>
public static class CommitOperation
{
    /// <summary>Copies all that lies above <paramref name="target"/> into it, and flushes it. The overlay stays as it is.</summary>
    /// <param name="top">The overlay.</param>
    /// <param name="target">An image of its backing chain, open for writing; it grows when it is shorter.</param>
    /// <param name="bytesPerSecond">At most so many; 0 is unlimited.</param>
    /// <param name="progress">Told 0 to 1.</param>
    /// <param name="cancellationToken">Stops between chunks.</param>
    /// <exception cref="BlockException">Reading or writing failed. The overlay still has everything.</exception>
    public static async Task CopyDownAsync(
        BlockNode top, BlockNode target, long bytesPerSecond = 0, IProgress<double>? progress = null, CancellationToken cancellationToken = default)
    {
        var depth = DepthOf(top, target);
        if (target.VirtualSize < top.VirtualSize)
        {
            await target.ResizeAsync(top.VirtualSize, cancellationToken).ConfigureAwait(false);
        }

        // What reads as zeros in the target already is left alone, also where an image between is too short to let it show through.
        var copy = new CopyOptions { SharedDepth = depth, BytesPerSecond = bytesPerSecond };
        await CopyEngine.CopyAsync(
            top, CopyTarget.Of(target, target.AllocationUnit), copy, progress is null ? null : new Share(progress), cancellationToken).ConfigureAwait(false);
        progress?.Report(1);
    }

    private static int DepthOf(BlockNode top, BlockNode target)
    {
        var depth = 0;
        for (var node = top; !ReferenceEquals(node, target); node = node.Backing)
        {
            depth = node.Backing is null ? throw new ArgumentException("not in the backing chain", nameof(target)) : depth + 1;
        }

        return depth;
    }

    private sealed class Share(IProgress<double> progress) : IProgress<CopyProgress>
    {
        public void Report(CopyProgress value) => progress.Report((double)value.Done / Math.Max(value.Total, 1));
    }
}
