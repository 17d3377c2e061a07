using System.Buffers;
using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Units;

namespace Platter.Operations.Offline;

/// <summary>Lets an overlay stand on another backing file without a change of what it reads.</summary>
/// <remarks>
/// What the overlay does not store and the new backing file has otherwise is copied into the overlay first, and flushed. Over the old backing file that changes nothing,
/// so a cut leaves an overlay that is as good as before, and the rebase can be run again. Then one write of the header names the new backing file.
/// </remarks>
public static class RebaseOperation
{
    private const int ChunkBytes = 1 << 20;

    /// <summary>Copies what would read otherwise, and flushes the overlay.</summary>
    /// <param name="overlay">Open for writing, with its old chain.</param>
    /// <param name="backing">The new backing file's disk; null for none, which reads as zeros.</param>
    /// <param name="compresses">Store what is copied compressed, in whole clusters.</param>
    /// <param name="progress">Told 0 to 1.</param>
    /// <param name="cancellationToken">Stops between chunks.</param>
    /// <exception cref="BlockException">Reading or writing failed, or the overlay cannot hold compressed clusters; it reads as before.</exception>
    public static async Task CopyDifferencesAsync(
        ImageNode overlay, BlockNode? backing, bool compresses = false, IProgress<double>? progress = null, CancellationToken cancellationToken = default)
    {
        var unit = (int)Math.Clamp(overlay.Driver.Writer?.ZeroUnit ?? Sizes.SectorBytes, Sizes.SectorBytes, ChunkBytes);
        var buffers = ArrayPool<byte>.Shared.Rent(2 * ChunkBytes);
        try
        {
            for (var at = GuestOffset.Zero; at.Value < overlay.VirtualSize;)
            {
                cancellationToken.ThrowIfCancellationRequested();
                progress?.Report((double)at.Value / overlay.VirtualSize);
                var before = await overlay.MapAsync(at, overlay.VirtualSize - at.Value, MapDetail.Metadata, cancellationToken).ConfigureAwait(false);
                if (before is { Depth: 0, Kind: not ExtentKind.Unallocated })
                {
                    at = before.End;
                    continue;
                }

                var after = await MapAsync(backing, at, before.Length, cancellationToken).ConfigureAwait(false);
                before = before.Take(after.Length);
                if (!before.IsSameAs(after))
                {
                    before = before.Take(ChunkBytes - (at.Value & (ChunkBytes - 1)));
                    await CopyAsync(overlay, before, after.Take(before.Length), buffers, unit, compresses, cancellationToken).ConfigureAwait(false);
                }

                at = before.End;
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffers);
        }

        await overlay.FlushAsync(cancellationToken).ConfigureAwait(false);
        progress?.Report(1);
    }

    private static async ValueTask<Extent> MapAsync(BlockNode? backing, GuestOffset at, long length, CancellationToken cancellationToken)
    {
        var inside = (backing?.VirtualSize ?? 0) - at.Value;
        return inside <= 0
            ? new Extent { Offset = at, Length = length, Kind = ExtentKind.Unallocated }
            : await backing!.MapAsync(at, Math.Min(length, inside), MapDetail.Metadata, cancellationToken).ConfigureAwait(false);
    }

    private static async ValueTask CopyAsync(ImageNode overlay, Extent before, Extent after, byte[] buffers, int unit, bool compresses, CancellationToken cancellationToken)
    {
        var old = buffers.AsMemory(0, (int)before.Length);
        var now = buffers.AsMemory(ChunkBytes, (int)before.Length);
        await BlockNode.ReadExtentAsync(before, before.Offset, old, cancellationToken).ConfigureAwait(false);
        await BlockNode.ReadExtentAsync(after, before.Offset, now, cancellationToken).ConfigureAwait(false);
        for (var from = 0; from < old.Length;)
        {
            var end = NextBoundary(from);
            if (old.Span[from..end].SequenceEqual(now.Span[from..end]))
            {
                from = end;
                continue;
            }

            while (end < old.Length && NextBoundary(end) is var next && !old.Span[end..next].SequenceEqual(now.Span[end..next]))
            {
                end = next;
            }

            var target = before.Offset + from;
            if (before.ReadsZero)
            {
                await overlay.WriteZeroesAsync(target, end - from, WriteFlags.MayUnmap, cancellationToken).ConfigureAwait(false);
            }
            else if (compresses)
            {
                await CompressAsync(overlay, target, end - from, cancellationToken).ConfigureAwait(false);
            }
            else
            {
                await overlay.WriteAsync(target, old[from..end], WriteFlags.None, cancellationToken).ConfigureAwait(false);
            }

            from = end;
        }

        // Not past the chunk: its pieces end with units of the disk, or with the extent.
        int NextBoundary(int from) => (int)Math.Min(old.Length, from + unit - ((before.Offset.Value + from) % unit));
    }

    // Every cluster that the range touches, as it reads now: part of it may be stored already.
    private static async ValueTask CompressAsync(ImageNode overlay, GuestOffset at, int length, CancellationToken cancellationToken)
    {
        var unit = overlay.Driver.Writer!.AllocationUnit;
        var bytes = ArrayPool<byte>.Shared.Rent((int)unit);
        try
        {
            for (var cluster = Sizes.AlignDown(at.Value, unit); cluster < at.Value + length; cluster += unit)
            {
                var part = bytes.AsMemory(0, (int)Math.Min(unit, overlay.VirtualSize - cluster));
                await overlay.ReadAsync(new(cluster), part, cancellationToken).ConfigureAwait(false);
                await overlay.WriteCompressedAsync(new(cluster), part, cancellationToken).ConfigureAwait(false);
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(bytes);
        }
    }
}
