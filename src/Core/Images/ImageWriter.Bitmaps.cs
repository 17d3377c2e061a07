using Platter.Core.Bitmaps;
using Platter.Core.Errors;
using Platter.Core.Units;

namespace Platter.Core.Images;

// Persistent dirty bitmaps. Their changes are made while no request is under way; each of them happens wholly or, at any error or power cut, not at all.
public abstract partial class ImageWriter
{
    /// <summary>Bitmaps as they are now; null when the format has none that change.</summary>
    public virtual IReadOnlyList<BitmapInfo>? Bitmaps => null;

    /// <summary>Told of every range that a request changes, by its caller, while the range is held and before anything of it is written.</summary>
    /// <param name="at">Inside the disk.</param>
    /// <param name="length">Guest bytes of the request itself, not widened to any unit; what lies behind the end of the disk does not count.</param>
    /// <param name="cancellationToken">Stops before anything was noted.</param>
    /// <exception cref="BlockException">The image could not be told that its bitmaps are in use: the request must not go on.</exception>
    public virtual ValueTask NoteChangeAsync(GuestOffset at, long length, CancellationToken cancellationToken = default) => ValueTask.CompletedTask;

    /// <summary>Adds bitmaps, all of them or none.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.Unsupported"/>: the format has no bitmaps; <see cref="BlockErrorKind.InvalidRequest"/>: a name is
    /// taken or no name, or a granularity is none; <see cref="BlockErrorKind.LimitExceeded"/>: there would be too many, or one would be too large.</exception>
    public virtual ValueTask AddBitmapsAsync(IReadOnlyList<NewBitmap> bitmaps, CancellationToken cancellationToken = default) =>
        throw new BlockException(BlockErrorKind.Unsupported, "Can't store persistent bitmaps: Operation not supported");

    /// <summary>Forgets a bitmap and gives up its space; an inconsistent one too.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.NotFound"/>.</exception>
    public virtual ValueTask RemoveBitmapAsync(string name, CancellationToken cancellationToken = default) => throw NoBitmap(name);

    /// <summary>Makes a bitmap say that nothing is dirty.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.NotFound"/>, or <see cref="BlockErrorKind.CorruptImage"/> for an inconsistent bitmap.</exception>
    public virtual ValueTask ClearBitmapAsync(string name, CancellationToken cancellationToken = default) => throw NoBitmap(name);

    /// <summary>Says whether writes are tracked into a bitmap from now on.</summary>
    /// <exception cref="BlockException">As for <see cref="ClearBitmapAsync"/>.</exception>
    public virtual ValueTask SetBitmapEnabledAsync(string name, bool enabled, CancellationToken cancellationToken = default) => throw NoBitmap(name);

    /// <summary>Makes ranges dirty in a bitmap, besides those that are.</summary>
    /// <param name="name">The bitmap.</param>
    /// <param name="ranges">In any order; widened to the bitmap's granules.</param>
    /// <param name="cancellationToken">Stops before the bitmap was changed.</param>
    /// <exception cref="BlockException">As for <see cref="ClearBitmapAsync"/>, and whatever <paramref name="ranges"/> throws.</exception>
    public virtual ValueTask MergeBitmapAsync(string name, IAsyncEnumerable<DirtyRange> ranges, CancellationToken cancellationToken = default) =>
        throw NoBitmap(name);

    /// <summary>Stores what was tracked: until the next write a power cut costs no bitmap. Closing does this too.</summary>
    public virtual ValueTask StoreBitmapsAsync(CancellationToken cancellationToken = default) => ValueTask.CompletedTask;

    /// <summary>The error of a bitmap that is not there.</summary>
    protected static BlockException NoBitmap(string name) => new(BlockErrorKind.NotFound, $"Dirty bitmap '{SafeText.Clean(name, 256)}' not found");
}
