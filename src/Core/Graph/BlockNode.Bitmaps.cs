using Platter.Core.Bitmaps;
using Platter.Core.Errors;

namespace Platter.Core.Graph;

// Persistent dirty bitmaps. Nodes that have none refuse; a bundle hands them to its current state's image.
public abstract partial class BlockNode
{
    /// <summary>Adds bitmaps to the top image, all of them or none.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.Unsupported"/>: there is no place for them; others as for <see cref="Images.ImageWriter.AddBitmapsAsync"/>.</exception>
    public virtual ValueTask AddBitmapsAsync(IReadOnlyList<NewBitmap> bitmaps, CancellationToken cancellationToken = default) => throw NoBitmaps();

    /// <summary>Forgets a bitmap.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.Unsupported"/>, <see cref="BlockErrorKind.NotFound"/>, <see cref="BlockErrorKind.ReadOnly"/>, and as met.</exception>
    public virtual ValueTask RemoveBitmapAsync(string name, CancellationToken cancellationToken = default) => throw NoBitmaps();

    /// <summary>Makes a bitmap say that nothing is dirty.</summary>
    /// <exception cref="BlockException">As for <see cref="RemoveBitmapAsync"/>.</exception>
    public virtual ValueTask ClearBitmapAsync(string name, CancellationToken cancellationToken = default) => throw NoBitmaps();

    /// <summary>Says whether writes are tracked into a bitmap.</summary>
    /// <exception cref="BlockException">As for <see cref="RemoveBitmapAsync"/>.</exception>
    public virtual ValueTask SetBitmapEnabledAsync(string name, bool enabled, CancellationToken cancellationToken = default) => throw NoBitmaps();

    /// <summary>Makes ranges dirty in a bitmap.</summary>
    /// <exception cref="BlockException">As for <see cref="RemoveBitmapAsync"/>.</exception>
    public virtual ValueTask MergeBitmapAsync(string name, IAsyncEnumerable<DirtyRange> ranges, CancellationToken cancellationToken = default) => throw NoBitmaps();

    /// <summary>Stores what was tracked until now.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.Unsupported"/>, <see cref="BlockErrorKind.ReadOnly"/>, and as met.</exception>
    public virtual ValueTask StoreBitmapsAsync(CancellationToken cancellationToken = default) => throw NoBitmaps();

    private BlockException NoBitmaps() => new(BlockErrorKind.Unsupported, $"Can't store persistent bitmaps to {Name}: Operation not supported");
}
