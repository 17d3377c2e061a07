using System.Buffers;
using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Units;
using Platter.Operations.Copy;

namespace Platter.Operations.Offline;

/// <summary>Writes what an overlay stores into an image below it.</summary>
/// <remarks>
/// The order that every power cut survives: the target takes everything and is flushed, and only then is the overlay emptied. Until then the overlay hides all
/// that was written below it, so the same commit can be run again, to the same end.
/// </remarks>
public static class CommitOperation
{
    private const int ChunkBytes = 1 << 20;

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

        var limiter = bytesPerSecond > 0 ? new RateLimiter(bytesPerSecond) : null;
        var buffer = ArrayPool<byte>.Shared.Rent(ChunkBytes);
        try
        {
            for (var at = GuestOffset.Zero; at.Value < top.VirtualSize;)
            {
                cancellationToken.ThrowIfCancellationRequested();
                progress?.Report((double)at.Value / top.VirtualSize);
                var extent = await top.MapAsync(at, top.VirtualSize - at.Value, MapDetail.Metadata, cancellationToken).ConfigureAwait(false);
                if (extent.Depth < depth)
                {
                    await CopyAsync(top, target, extent, buffer.AsMemory(0, ChunkBytes), limiter, cancellationToken).ConfigureAwait(false);
                }

                at = extent.End;
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }

        await target.FlushAsync(cancellationToken).ConfigureAwait(false);
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

    private static async ValueTask CopyAsync(
        BlockNode top, BlockNode target, Extent extent, Memory<byte> buffer, RateLimiter? limiter, CancellationToken cancellationToken)
    {
        if (extent.ReadsZero)
        {
            await ZeroAsync(target, extent, cancellationToken).ConfigureAwait(false);
            return;
        }

        for (long done = 0; done < extent.Length;)
        {
            var part = buffer[..(int)Math.Min(buffer.Length, extent.Length - done)];
            if (limiter is not null)
            {
                await limiter.TakeAsync(part.Length, cancellationToken).ConfigureAwait(false);
            }

            await top.ReadAsync(extent.Offset + done, part, cancellationToken).ConfigureAwait(false);
            await target.WriteAsync(extent.Offset + done, part, WriteFlags.None, cancellationToken).ConfigureAwait(false);
            done += part.Length;
        }
    }

    // Also where an image between is too short to let the target show through. What reads as zeros there already is left alone.
    private static async ValueTask ZeroAsync(BlockNode target, Extent extent, CancellationToken cancellationToken)
    {
        for (var at = extent.Offset; at.Value < extent.End.Value;)
        {
            var below = await target.MapAsync(at, extent.End.Value - at.Value, MapDetail.Metadata, cancellationToken).ConfigureAwait(false);
            if (!below.ReadsZero)
            {
                await target.WriteZeroesAsync(at, below.Length, WriteFlags.MayUnmap, cancellationToken).ConfigureAwait(false);
            }

            at = below.End;
        }
    }
}
