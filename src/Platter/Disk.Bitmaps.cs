using Platter.Core.Bitmaps;
using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Operations.Offline;

namespace Platter;

// Persistent dirty bitmaps of the top image. A disk that is open for writing tracks what changes into those that are enabled and stores them when it is closed.
// Each change of a bitmap waits for the requests under way, and happens wholly or, at any error or power cut, not at all.
public sealed partial class Disk
{
    /// <summary>Adds a persistent dirty bitmap in which nothing is dirty.</summary>
    /// <param name="name">1 to 1023 bytes of UTF-8.</param>
    /// <param name="granularity">Guest bytes that one bit stands for: a power of two from 512 to 2 GiB; null for the image's cluster size, but 4 KiB to 64 KiB.</param>
    /// <param name="enabled">Whether writes are tracked into it.</param>
    /// <param name="cancellationToken">Stops before it was added.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.ReadOnly"/>; <see cref="BlockErrorKind.Unsupported"/>: the format has no bitmaps;
    /// <see cref="BlockErrorKind.InvalidRequest"/>: the name is taken or no name, or the granularity is none; <see cref="BlockErrorKind.LimitExceeded"/>: the bitmap
    /// would be too large; <see cref="BlockErrorKind.NoSpace"/>.</exception>
    public ValueTask AddBitmapAsync(string name, long? granularity = null, bool enabled = true, CancellationToken cancellationToken = default) =>
        Node.AddBitmapsAsync([new NewBitmap(name, granularity, enabled)], cancellationToken);

    /// <summary>Forgets a bitmap, also an inconsistent one, and gives up its space.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.NotFound"/>, <see cref="BlockErrorKind.ReadOnly"/>, and as met.</exception>
    public ValueTask RemoveBitmapAsync(string name, CancellationToken cancellationToken = default) => Node.RemoveBitmapAsync(name, cancellationToken);

    /// <summary>Makes a bitmap say that nothing is dirty.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.NotFound"/>; <see cref="BlockErrorKind.CorruptImage"/>: it is inconsistent; <see cref="BlockErrorKind.ReadOnly"/>.</exception>
    public ValueTask ClearBitmapAsync(string name, CancellationToken cancellationToken = default) => Node.ClearBitmapAsync(name, cancellationToken);

    /// <summary>From now on writes are tracked into a bitmap, here and by every other program that writes to the image.</summary>
    /// <exception cref="BlockException">As for <see cref="ClearBitmapAsync"/>.</exception>
    public ValueTask EnableBitmapAsync(string name, CancellationToken cancellationToken = default) => Node.SetBitmapEnabledAsync(name, true, cancellationToken);

    /// <summary>From now on writes are not tracked into a bitmap any more.</summary>
    /// <exception cref="BlockException">As for <see cref="ClearBitmapAsync"/>.</exception>
    public ValueTask DisableBitmapAsync(string name, CancellationToken cancellationToken = default) => Node.SetBitmapEnabledAsync(name, false, cancellationToken);

    /// <summary>Makes dirty in a bitmap what is dirty in another one. Their granularities may differ: the target's granules are dirty wholly or not at all.</summary>
    /// <param name="name">The bitmap that changes.</param>
    /// <param name="sourceName">The bitmap that is read.</param>
    /// <param name="source">The disk of that bitmap, as large as this one; null for this disk.</param>
    /// <param name="cancellationToken">Stops before the bitmap was changed.</param>
    /// <exception cref="BlockException">As for <see cref="ClearBitmapAsync"/>, for either bitmap; <see cref="BlockErrorKind.InvalidRequest"/>: the disks differ in size.</exception>
    public async ValueTask MergeBitmapAsync(string name, string sourceName, Disk? source = null, CancellationToken cancellationToken = default)
    {
        var from = (source ?? this).Node;
        if (from.Bitmaps.All(b => b.Name != sourceName))
        {
            throw new BlockException(BlockErrorKind.NotFound, $"Dirty bitmap '{SafeText.Clean(sourceName, 256)}' not found");
        }

        var ranges = from.ReadBitmapAsync(sourceName, cancellationToken);
        BitmapCopy.ThrowIfOtherSize(from, Node);
        await Node.MergeBitmapAsync(name, ranges, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Stores what was tracked until now; closing the disk does that too. From then to the next write a crash costs no bitmap.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.ReadOnly"/>, <see cref="BlockErrorKind.NoSpace"/> and others as met; the bitmaps stay in memory.</exception>
    public ValueTask StoreBitmapsAsync(CancellationToken cancellationToken = default) => Node.StoreBitmapsAsync(cancellationToken);

    /// <summary>Adds the bitmaps of another disk of the same size with their contents, all of them or none.</summary>
    /// <param name="source">Has the bitmaps.</param>
    /// <param name="skipInconsistent">Leaves inconsistent ones out instead of failing.</param>
    /// <param name="warn">Told of each one that is left out.</param>
    /// <param name="cancellationToken">Stops before anything was added.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.CorruptImage"/>: one is inconsistent; others as for <see cref="AddBitmapAsync"/>.</exception>
    public ValueTask CopyBitmapsAsync(Disk source, bool skipInconsistent = false, Action<string>? warn = null, CancellationToken cancellationToken = default) =>
        BitmapCopy.RunAsync(source.Node, BitmapCopy.Select(source.Node, skipInconsistent, warn), Node, cancellationToken);
}
