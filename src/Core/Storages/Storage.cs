using System.Runtime.InteropServices;
using Platter.Core.Errors;
using Platter.Core.Units;

namespace Platter.Core.Storages;

/// <summary>A byte-addressed place that can be read, and perhaps written and flushed: a file, a device, memory, an NBD export.</summary>
/// <remarks>
/// All members may be called from many threads at once; requests that overlap are not ordered against each other.
/// A buffer belongs to the storage until the task completes. Over a local file a request completes synchronously.
/// Errors are <see cref="BlockException"/>s whose message starts with <see cref="Name"/>.
/// </remarks>
public abstract class Storage : IAsyncDisposable
{
    /// <summary>How messages and <c>info</c> name it: a path or a URI.</summary>
    public abstract string Name { get; }

    /// <summary>Bytes that can be read now. Can change under a growing file.</summary>
    public abstract long Length { get; }

    /// <summary>Bytes the host spends on it (<c>st_blocks</c> times 512), or null when nobody knows.</summary>
    public virtual long? AllocatedSize => null;

    /// <summary>Whether writes are refused.</summary>
    public virtual bool IsReadOnly => true;

    /// <summary>Which file this really is, for finding loops; null when two openings cannot be compared.</summary>
    public virtual StorageIdentity? Identity => null;

    /// <summary>The directory that relative names inside an image start from, as the caller wrote it (empty for the working directory), or null for a storage without one.</summary>
    public virtual string? BaseDirectory => null;

    /// <summary>Requests should start and end at multiples of this (bytes, a power of two); 1 when it does not matter.</summary>
    public virtual int RequestAlignment => 1;

    /// <summary>Reads until <paramref name="buffer"/> is full or the storage ends.</summary>
    /// <returns>Bytes read; less than asked for only at the end of the storage (0 beyond it).</returns>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.Io"/>: the host could not read.</exception>
    public abstract ValueTask<int> ReadAsync(HostOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default);

    /// <summary>Reads only what is there without waiting for a device (the page cache).</summary>
    /// <returns>False when the read might block or the storage cannot tell; nothing is said about the buffer then.</returns>
    public virtual bool TryReadNow(HostOffset at, Span<byte> buffer, out int read)
    {
        read = 0;
        return false;
    }

    /// <summary>Tells data from holes, from <paramref name="at"/> (inside the storage) for at most <paramref name="length"/> bytes.</summary>
    public virtual ValueTask<StorageExtent> MapAsync(HostOffset at, long length, CancellationToken cancellationToken = default) =>
        new(new StorageExtent(length, IsAllocated: true, ReadsZero: false));

    /// <summary>Writes the whole buffer, growing the storage if needed.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.NoSpace"/>, <see cref="BlockErrorKind.Io"/> or <see cref="BlockErrorKind.ReadOnly"/>.</exception>
    public virtual ValueTask WriteAsync(HostOffset at, ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default) =>
        throw NotWritable();

    /// <summary>Makes a range read as zeros, as a hole where the host can and <paramref name="mayUnmap"/> allows it.</summary>
    public virtual ValueTask WriteZeroesAsync(HostOffset at, long length, bool mayUnmap, CancellationToken cancellationToken = default) =>
        throw NotWritable();

    /// <summary>Makes a range read as zeros if that takes less than writing them, like <see cref="WriteZeroesAsync"/> otherwise.</summary>
    /// <returns>False when bytes would have to be written, or nobody can say: none were, but parts of the range may have become zeros.</returns>
    public virtual ValueTask<bool> TryZeroFastAsync(HostOffset at, long length, bool mayUnmap, CancellationToken cancellationToken = default) => new(false);

    /// <summary>Tells the host that nobody needs a range any more: it may take back the space. Afterwards the range reads as before or as zeros. A hint: that the host could not is no
    /// error, unless somebody wants to see it (fault injection).</summary>
    public virtual ValueTask DiscardAsync(HostOffset at, long length, CancellationToken cancellationToken = default) => ValueTask.CompletedTask;

    /// <summary>Whether a guest's discards are to arrive here as what they are, because something below wants to see them, and not as zeros.</summary>
    public virtual bool PassesDiscards => false;

    /// <summary>Makes every completed write durable.</summary>
    public virtual ValueTask FlushAsync(CancellationToken cancellationToken = default) => ValueTask.CompletedTask;

    /// <summary>Cuts or extends the storage; new bytes read as zeros.</summary>
    public virtual ValueTask SetLengthAsync(long length, CancellationToken cancellationToken = default) => throw NotWritable();

    /// <summary>Whether the length cannot be changed (a device).</summary>
    public virtual bool HasFixedLength => false;

    /// <summary>Lets the host set space aside for a range, growing the storage if needed; the bytes stay as they are, new ones read as zeros.</summary>
    /// <returns>False when it cannot; writing the range is then the only way.</returns>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.NoSpace"/>: there is not so much.</exception>
    public virtual bool TryReserve(HostOffset at, long length) => false;

    /// <summary>Gives a range that reads as zeros space on the host: set aside where that is allowed and the host can, written otherwise.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.NoSpace"/>: there is not so much.</exception>
    public async ValueTask GiveSpaceAsync(HostOffset at, long length, bool mayReserve, CancellationToken cancellationToken = default)
    {
        if (length == 0 || (mayReserve && TryReserve(at, length)))
        {
            return;
        }

        const int PieceBytes = 2 << 20;
        var zeros = new byte[(int)Math.Min(PieceBytes, length)];
        for (long done = 0; done < length; done += zeros.Length)
        {
            await WriteAsync(at + done, zeros.AsMemory(0, (int)Math.Min(zeros.Length, length - done)), cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>Lets the host copy from another storage into this one without the bytes passing through us.</summary>
    /// <returns>Bytes copied; 0 when it cannot do this pair of storages or this range (the caller then copies itself).</returns>
    public virtual long TryCopyFrom(Storage source, HostOffset from, HostOffset to, long length) => 0;

    /// <summary>Lets the host send a range to a connected socket.</summary>
    /// <returns>Bytes sent (all of them, or fewer if the storage ended or failed part-way); -1 when it cannot and nothing was sent.</returns>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.Protocol"/>: the socket failed.</exception>
    public virtual long TrySendTo(SafeHandle socket, HostOffset at, long length) => -1;

    /// <summary>Makes sure that nobody changes the image while we read it, where the host has image locks; held until it is closed.</summary>
    /// <param name="allowWriters">Others may write meanwhile (raw images, whose bytes are nobody's metadata).</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.Locked"/>, naming the process that holds it where that can be found.</exception>
    public virtual void LockForReading(bool allowWriters)
    {
    }

    /// <summary>Makes sure that nobody else reads the image's metadata or writes to it while we write, where the host has image locks; held until it is closed.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.Locked"/>, naming the process that holds it where that can be found.</exception>
    public virtual void LockForWriting()
    {
    }

    /// <summary>Says what the next access is for. Means nothing to a storage; filters that inject faults listen.</summary>
    public virtual void Announce(StorageEvent purpose)
    {
    }

    /// <summary>Tells the host that a range will be read soon. A hint: never fails.</summary>
    /// <returns>Whether anybody begins to read now.</returns>
    public virtual bool Prefetch(HostOffset at, long length) => false;

    /// <summary>Closes it; closing twice is harmless. Nothing is flushed.</summary>
    public virtual ValueTask DisposeAsync()
    {
        GC.SuppressFinalize(this);
        return ValueTask.CompletedTask;
    }

    private BlockException NotWritable() => new(BlockErrorKind.ReadOnly, $"{Name}: is open for reading only");
}
