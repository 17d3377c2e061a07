using Platter.Core.Bitmaps;
using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Operations.Copy;
using Platter.Operations.Offline;

namespace Platter;

/// <summary>Fills an image with a disk's content and bitmaps. Until it is whole, a new image says that it is an unfinished copy, if its format can say so.</summary>
/// <param name="source">The disk.</param>
/// <param name="target">The image, open for writing.</param>
/// <param name="bitmaps">Bitmaps of the source that go with it.</param>
internal sealed class ImageFilling(BlockNode source, BlockNode target, IReadOnlyList<BitmapInfo> bitmaps)
{
    // What an interruption costs at most; large enough that nobody waits for the disk more often than otherwise.
    public const long FlushEveryBytes = 256L << 20;

    /// <summary>Whether the target, as it is now, says that it is an unfinished copy.</summary>
    public bool SaysUnfinished { get; private set; }

    /// <summary>Copies, and makes it durable.</summary>
    /// <param name="copy">How.</param>
    /// <param name="compresses">Clusters are written compressed.</param>
    /// <param name="isNew">The target was made for this copy; else it says nothing of itself.</param>
    /// <param name="resumes">The target is new, and the rest of a copy that was interrupted.</param>
    /// <param name="progress">Told how far it is.</param>
    /// <param name="cancellationToken">Interrupts.</param>
    /// <exception cref="BlockException">Reading or writing failed.</exception>
    public async ValueTask RunAsync(
        CopyOptions copy, bool compresses, bool isNew, bool resumes, IProgress<CopyProgress>? progress, CancellationToken cancellationToken)
    {
        SaysUnfinished = resumes || (isNew && await target.SetUnfinishedAsync(true, cancellationToken).ConfigureAwait(false));
        var unit = target.AllocationUnit;
        var to = compresses ? CopyTarget.Compressed(target, unit) : CopyTarget.Of(target, unit);
        if (resumes)
        {
            await target.GiveUpLeaksAsync(cancellationToken).ConfigureAwait(false);
            to = CopyTarget.Completing(to, target);
        }

        copy = SaysUnfinished ? copy with { FlushEveryBytes = FlushEveryBytes } : copy;
        await CopyEngine.CopyAsync(source, to, copy, progress, cancellationToken).ConfigureAwait(false);
        if (bitmaps.Count > 0)
        {
            await BitmapCopy.RunAsync(source, bitmaps, target, cancellationToken).ConfigureAwait(false);
        }

        if (SaysUnfinished)
        {
            await target.SetUnfinishedAsync(false, cancellationToken).ConfigureAwait(false);
            SaysUnfinished = false;
        }
    }
}
