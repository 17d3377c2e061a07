using Platter.Core.Bitmaps;
using Platter.Core.Errors;
using Platter.Core.Graph;

namespace Platter.Nbd.Server;

/// <summary>A dirty bitmap as it was when it was read, for clients that copy only what changed.</summary>
/// <remarks>Immutable and thread-safe.</remarks>
public sealed class NbdBitmap
{
    private readonly DirtyBits _bits;

    private NbdBitmap(string name, DirtyBits bits)
    {
        Name = name;
        _bits = bits;
    }

    /// <summary>Its name; clients ask for <c>qemu:dirty-bitmap:NAME</c>.</summary>
    public string Name { get; }

    /// <summary>Reads a bitmap of a disk's top image, or of the nearest image below that has one of this name.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.NotFound"/>: there is none; others: it cannot be trusted or read.</exception>
    public static async ValueTask<NbdBitmap> ReadAsync(BlockNode node, string name, CancellationToken cancellationToken = default)
    {
        for (var image = node; image is not null; image = image.Backing)
        {
            foreach (var bitmap in image.Bitmaps)
            {
                if (bitmap.Name == name)
                {
                    return await ReadAsync(node, image, bitmap, cancellationToken).ConfigureAwait(false);
                }
            }
        }

        throw new BlockException(BlockErrorKind.NotFound, $"{node.Name}: no bitmap '{SafeText.Clean(name, 256)}'");
    }

    /// <summary>Whether a byte is dirty, and how far that goes.</summary>
    /// <param name="at">Guest byte, inside the disk.</param>
    /// <param name="end">Where the question ends.</param>
    internal (bool IsDirty, long Length) Find(long at, long end)
    {
        var shift = _bits.GranularityBits;
        var (first, last) = (at >> shift, ((end - 1) >> shift) + 1);
        var dirty = _bits.Any(first, first + 1);
        var change = _bits.Find(first, last, !dirty);
        return (dirty, Math.Min(end, change >= last ? end : change << shift) - at);
    }

    private static async ValueTask<NbdBitmap> ReadAsync(BlockNode node, BlockNode image, BitmapInfo bitmap, CancellationToken cancellationToken)
    {
        var bits = new DirtyBits(node.VirtualSize, System.Numerics.BitOperations.Log2((ulong)bitmap.Granularity));
        await foreach (var range in image.ReadBitmapAsync(bitmap.Name, cancellationToken).ConfigureAwait(false))
        {
            bits.Set(range.Offset, range.Length);
        }

        return new NbdBitmap(bitmap.Name, bits);
    }
}
