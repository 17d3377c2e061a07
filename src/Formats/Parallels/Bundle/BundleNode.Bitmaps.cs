using Platter.Core.Bitmaps;
using Platter.Core.Errors;
using Platter.Core.Graph;

namespace Platter.Formats.Parallels.Bundle;

// Changes of dirty bitmaps: those of the current state's image. The parts of a split disk would each need theirs, changed together or not at all, which the files of a
// bundle have no place to say; so a split disk's bitmaps are kept up to date and read, and not changed.
internal sealed partial class BundleNode
{
    /// <inheritdoc/>
    public override ValueTask AddBitmapsAsync(IReadOnlyList<NewBitmap> bitmaps, CancellationToken cancellationToken = default) =>
        ChangeBitmapsAsync(image => image.AddBitmapsAsync(bitmaps, cancellationToken), cancellationToken);

    /// <inheritdoc/>
    public override ValueTask RemoveBitmapAsync(string name, CancellationToken cancellationToken = default) =>
        ChangeBitmapsAsync(image => image.RemoveBitmapAsync(name, cancellationToken), cancellationToken);

    /// <inheritdoc/>
    public override ValueTask ClearBitmapAsync(string name, CancellationToken cancellationToken = default) =>
        ChangeBitmapsAsync(image => image.ClearBitmapAsync(name, cancellationToken), cancellationToken);

    /// <inheritdoc/>
    public override ValueTask SetBitmapEnabledAsync(string name, bool enabled, CancellationToken cancellationToken = default) =>
        ChangeBitmapsAsync(image => image.SetBitmapEnabledAsync(name, enabled, cancellationToken), cancellationToken);

    /// <inheritdoc/>
    public override ValueTask MergeBitmapAsync(string name, IAsyncEnumerable<DirtyRange> ranges, CancellationToken cancellationToken = default) =>
        ChangeBitmapsAsync(image => image.MergeBitmapAsync(name, ranges, cancellationToken), cancellationToken);

    /// <inheritdoc/>
    public override async ValueTask StoreBitmapsAsync(CancellationToken cancellationToken = default)
    {
        Writable(default);
        using (await SharedAsync(cancellationToken).ConfigureAwait(false))
        {
            foreach (var segment in Segments)
            {
                await segment.Node.StoreBitmapsAsync(cancellationToken).ConfigureAwait(false);
            }
        }
    }

    private async ValueTask ChangeBitmapsAsync(Func<ImageNode, ValueTask> change, CancellationToken cancellationToken)
    {
        Writable(default);
        using (await SharedAsync(cancellationToken).ConfigureAwait(false))
        {
            if (Segments.Count > 1)
            {
                throw new BlockException(BlockErrorKind.Unsupported, $"{Name}: is split into {Segments.Count} parts, and bitmaps of a split disk cannot be changed");
            }

            await change(SegmentAt(default).Node).ConfigureAwait(false);
        }
    }
}
