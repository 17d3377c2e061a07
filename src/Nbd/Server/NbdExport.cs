using Platter.Core.Graph;

namespace Platter.Nbd.Server;

/// <summary>A disk that an <see cref="NbdServer"/> offers, and how.</summary>
/// <param name="Node">The disk. The server uses it from many threads and never disposes it: close it after the server has stopped.</param>
/// <param name="Description">Words for people, shown to clients that ask; at most 4096 bytes of UTF-8 without NUL.</param>
public sealed record NbdExport(BlockNode Node, string? Description = null)
{
    /// <summary>Whether clients may write; the node must be open for that.</summary>
    public bool IsWritable { get; init; }

    /// <summary>Whether clients may ask how deep in the backing chain data lie (<c>qemu:allocation-depth</c>).</summary>
    public bool TellsDepth { get; init; }

    /// <summary>Dirty bitmaps that clients may read (<c>qemu:dirty-bitmap:NAME</c>), each name once.</summary>
    public IReadOnlyList<NbdBitmap> Bitmaps { get; init; } = [];

    /// <summary>Whether TRIM reaches the disk, and zeros may give up the host's space; otherwise TRIM is answered and does nothing.</summary>
    public bool Unmaps { get; init; } = true;

    /// <summary>What is done about writes that contain nothing but zeros.</summary>
    public NbdZeroDetection DetectZeroes { get; init; }

    /// <summary>Whether every write is durable before it is answered, as with <c>cache=writethrough</c>.</summary>
    public bool WritesThrough { get; init; }

    /// <summary>Whether FLUSH and FUA are answered without making anything durable, as with <c>cache=unsafe</c>. For disks that nobody needs after a crash.</summary>
    public bool IgnoresFlush { get; init; }
}
