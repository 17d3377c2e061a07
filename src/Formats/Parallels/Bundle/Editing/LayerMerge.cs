using System.Buffers;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Units;

namespace Platter.Formats.Parallels.Bundle.Editing;

/// <summary>Makes one image of two that lie on each other, whichever way is shorter. What the upper one reads stays the same at every moment.</summary>
internal static class LayerMerge
{
    private const int PieceBytes = 1 << 20;

    /// <summary>Bytes that would have to be copied down: all that the upper image has.</summary>
    public static async ValueTask<long> CountDownAsync(ImageNode upper, CancellationToken cancellationToken)
    {
        long bytes = 0;
        await foreach (var extent in OwnAsync(upper.Driver, upper.VirtualSize, cancellationToken).ConfigureAwait(false))
        {
            bytes += extent.Kind == ExtentKind.Unallocated ? 0 : extent.Length;
        }

        return bytes;
    }

    /// <summary>Bytes that would have to be copied up: what the lower image has and the upper one has not.</summary>
    public static async ValueTask<long> CountUpAsync(ImageNode upper, CancellationToken cancellationToken)
    {
        long bytes = 0;
        await foreach (var (_, length, _) in MissingAsync(upper, cancellationToken).ConfigureAwait(false))
        {
            bytes += length;
        }

        return bytes;
    }

    /// <summary>Writes what the upper image has into the lower one, which is open for writing, and flushes it.</summary>
    public static async ValueTask CopyDownAsync(ImageNode upper, IProgress<double>? progress, CancellationToken cancellationToken)
    {
        var lower = upper.Backing!;
        var buffer = ArrayPool<byte>.Shared.Rent(PieceBytes);
        try
        {
            await foreach (var extent in OwnAsync(upper.Driver, upper.VirtualSize, cancellationToken).ConfigureAwait(false))
            {
                for (long done = 0; done < extent.Length && extent.Kind != ExtentKind.Unallocated;)
                {
                    cancellationToken.ThrowIfCancellationRequested();
                    var piece = buffer.AsMemory(0, (int)Math.Min(PieceBytes, extent.Length - done));
                    await BlockNode.ReadExtentAsync(extent, extent.Offset + done, piece, cancellationToken).ConfigureAwait(false);
                    await lower.WriteAsync(extent.Offset + done, piece, WriteFlags.None, cancellationToken).ConfigureAwait(false);
                    done += piece.Length;
                    progress?.Report((double)(extent.Offset.Value + done) / upper.VirtualSize);
                }
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }

        await lower.FlushAsync(cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Writes what the lower image has and the upper one has not into the upper one, which is open for writing, and flushes it.</summary>
    public static async ValueTask CopyUpAsync(ImageNode upper, IProgress<double>? progress, CancellationToken cancellationToken)
    {
        var buffer = ArrayPool<byte>.Shared.Rent(PieceBytes);
        try
        {
            await foreach (var (start, length, isZero) in MissingAsync(upper, cancellationToken).ConfigureAwait(false))
            {
                for (long done = 0; done < length;)
                {
                    cancellationToken.ThrowIfCancellationRequested();
                    var piece = buffer.AsMemory(0, (int)Math.Min(PieceBytes, length - done));
                    var at = new GuestOffset(start + done);
                    if (isZero)
                    {
                        // As bytes: the format has no other way to hide what lies below.
                        piece.Span.Clear();
                    }
                    else
                    {
                        await upper.ReadAsync(at, piece, cancellationToken).ConfigureAwait(false);
                    }

                    await upper.WriteAsync(at, piece, WriteFlags.None, cancellationToken).ConfigureAwait(false);
                    done += piece.Length;
                    progress?.Report((double)(start + done) / upper.VirtualSize);
                }
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }

        await upper.FlushAsync(cancellationToken).ConfigureAwait(false);
    }

    private static async IAsyncEnumerable<Extent> OwnAsync(
        ImageDriver driver, long end, [System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken cancellationToken)
    {
        for (long at = 0; at < end;)
        {
            var extent = await driver.MapAsync(new(at), end - at, cancellationToken).ConfigureAwait(false);
            yield return extent;
            at = extent.End.Value;
        }
    }

    // The ranges that the upper image shows from the lower one itself, and those where the lower one is too short to let something below it show through.
    private static async IAsyncEnumerable<(long Start, long Length, bool IsZero)> MissingAsync(
        ImageNode upper, [System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var lower = (ImageNode)upper.Backing!;
        var below = lower.Backing;
        var alone = new ImageNode(lower.Driver, backing: null);
        await foreach (var hole in OwnAsync(upper.Driver, upper.VirtualSize, cancellationToken).ConfigureAwait(false))
        {
            for (var at = hole.Offset; at.Value < hole.End.Value && hole.Kind == ExtentKind.Unallocated;)
            {
                var (length, kind) = (hole.End.Value - at.Value, ExtentKind.Zero);
                if (at.Value < lower.VirtualSize)
                {
                    // Of plain images only what is no hole: to the disk above, both are zeros.
                    var found = await alone.MapAsync(
                        at, Math.Min(length, lower.VirtualSize - at.Value), MapDetail.StorageHoles, cancellationToken).ConfigureAwait(false);
                    (length, kind) = (found.Length, found.Kind == ExtentKind.Unallocated ? ExtentKind.Unallocated : found.ReadsZero && !lower.Driver.SupportsBacking ? ExtentKind.Zero : ExtentKind.Data);
                }

                if (kind == ExtentKind.Zero)
                {
                    // Where something below would come to light.
                    if (below is not null && at.Value < below.VirtualSize)
                    {
                        var under = await below.MapAsync(at, Math.Min(length, below.VirtualSize - at.Value), MapDetail.Metadata, cancellationToken).ConfigureAwait(false);
                        length = under.Length;
                        if (!under.ReadsZero)
                        {
                            yield return (at.Value, length, true);
                        }
                    }
                }
                else if (kind == ExtentKind.Data)
                {
                    yield return (at.Value, length, false);
                }

                at += length;
            }
        }
    }
}
