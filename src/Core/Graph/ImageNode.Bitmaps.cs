using Platter.Core.Bitmaps;
using Platter.Core.Images;

namespace Platter.Core.Graph;

// Persistent dirty bitmaps of a writable image. Each change waits for every request under way, and happens wholly or not at all.
public sealed partial class ImageNode
{
    /// <summary>Adds bitmaps; see <see cref="ImageWriter.AddBitmapsAsync"/>.</summary>
    public override ValueTask AddBitmapsAsync(IReadOnlyList<NewBitmap> bitmaps, CancellationToken cancellationToken = default) =>
        AloneAsync(writer => writer.AddBitmapsAsync(bitmaps, cancellationToken), cancellationToken);

    /// <summary>Forgets a bitmap; see <see cref="ImageWriter.RemoveBitmapAsync"/>.</summary>
    public override ValueTask RemoveBitmapAsync(string name, CancellationToken cancellationToken = default) =>
        AloneAsync(writer => writer.RemoveBitmapAsync(name, cancellationToken), cancellationToken);

    /// <summary>Makes a bitmap say that nothing is dirty; see <see cref="ImageWriter.ClearBitmapAsync"/>.</summary>
    public override ValueTask ClearBitmapAsync(string name, CancellationToken cancellationToken = default) =>
        AloneAsync(writer => writer.ClearBitmapAsync(name, cancellationToken), cancellationToken);

    /// <summary>Says whether writes are tracked into a bitmap; see <see cref="ImageWriter.SetBitmapEnabledAsync"/>.</summary>
    public override ValueTask SetBitmapEnabledAsync(string name, bool enabled, CancellationToken cancellationToken = default) =>
        AloneAsync(writer => writer.SetBitmapEnabledAsync(name, enabled, cancellationToken), cancellationToken);

    /// <summary>Makes ranges dirty in a bitmap; see <see cref="ImageWriter.MergeBitmapAsync"/>.</summary>
    public override ValueTask MergeBitmapAsync(string name, IAsyncEnumerable<DirtyRange> ranges, CancellationToken cancellationToken = default) =>
        AloneAsync(writer => writer.MergeBitmapAsync(name, ranges, cancellationToken), cancellationToken);

    /// <summary>Stores what was tracked; see <see cref="ImageWriter.StoreBitmapsAsync"/>.</summary>
    public override ValueTask StoreBitmapsAsync(CancellationToken cancellationToken = default) =>
        AloneAsync(writer => writer.StoreBitmapsAsync(cancellationToken), cancellationToken);
}
