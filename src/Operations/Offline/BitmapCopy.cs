using Platter.Core.Bitmaps;
using Platter.Core.Errors;
using Platter.Core.Graph;

namespace Platter.Operations.Offline;

/// <summary>Copies persistent dirty bitmaps from one disk to another: names, granularities, contents, and whether they are enabled.</summary>
public static class BitmapCopy
{
    /// <summary>The bitmaps that can be copied; asked before a copy of the data begins.</summary>
    /// <param name="source">The disk; bitmaps of its backing chain do not count.</param>
    /// <param name="skipInconsistent">Leaves inconsistent ones out instead of refusing them.</param>
    /// <param name="warn">Told of each one that is left out.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.CorruptImage"/>: one is inconsistent. <see cref="BlockErrorKind.Unsupported"/>: the source's format has no bitmaps.</exception>
    public static IReadOnlyList<BitmapInfo> Select(BlockNode source, bool skipInconsistent = false, Action<string>? warn = null)
    {
        if (source.FormatName == "raw")
        {
            throw new BlockException(BlockErrorKind.Unsupported, "Source lacks bitmap support");
        }

        var result = new List<BitmapInfo>();
        foreach (var bitmap in source.Bitmaps)
        {
            if (!bitmap.InUse)
            {
                result.Add(bitmap);
                continue;
            }

            var name = SafeText.Clean(bitmap.Name, 256);
            if (!skipInconsistent)
            {
                throw new BlockException(
                    BlockErrorKind.CorruptImage, $"Cannot copy inconsistent bitmap '{name}'; it can be skipped (--skip-broken-bitmaps) or removed (bitmap --remove)");
            }

            warn?.Invoke($"Skipping inconsistent bitmap '{name}'");
        }

        return result;
    }

    /// <summary>Adds bitmaps of one disk to another, all of them or none. Writes of the copy itself should be over: they would be tracked.</summary>
    /// <param name="source">Has the bitmaps; as large as the target.</param>
    /// <param name="bitmaps">Those that <see cref="Select"/> found.</param>
    /// <param name="target">Open for writing, in a format that has bitmaps.</param>
    /// <param name="cancellationToken">Stops before anything was added.</param>
    /// <exception cref="BlockException">As for <see cref="Core.Images.ImageWriter.AddBitmapsAsync"/>, or a bitmap cannot be read.</exception>
    public static ValueTask RunAsync(
        BlockNode source, IReadOnlyList<BitmapInfo> bitmaps, BlockNode target, CancellationToken cancellationToken = default)
    {
        if (bitmaps.Count == 0)
        {
            return ValueTask.CompletedTask;
        }

        ThrowIfOtherSize(source, target);
        return target.AddBitmapsAsync(
            [.. bitmaps.Select(b => new NewBitmap(b.Name, b.Granularity, b.Enabled, source.ReadBitmapAsync(b.Name, cancellationToken)))], cancellationToken);
    }

    /// <summary>Refuses bitmaps of disks of different sizes.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>.</exception>
    public static void ThrowIfOtherSize(BlockNode source, BlockNode target)
    {
        if (source.VirtualSize != target.VirtualSize)
        {
            throw new BlockException(
                BlockErrorKind.InvalidRequest,
                $"Bitmaps are of different sizes (destination size is {target.VirtualSize}, source size is {source.VirtualSize}) and can't be merged");
        }
    }
}
