using Platter.Core.Bitmaps;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;

namespace Platter.Core.Graph;

/// <summary>How much work a mapping may cost.</summary>
public enum MapDetail
{
    /// <summary>What the images' own metadata say.</summary>
    Metadata,

    /// <summary>Also ask the storages for holes under data, where the image cannot exclude them. For <c>map</c>, <c>convert</c> and block status.</summary>
    StorageHoles,
}

/// <summary>A disk as a guest sees it: an image with its backing chain, a bundle, or a filter around another node.</summary>
/// <remarks>
/// All members may be called from many threads at once. Errors are <see cref="BlockException"/>s. Disposing closes everything below.
/// The mover is here: <see cref="ReadAsync"/> turns any mapping into bytes, whatever the format; no driver reads guest data on its own
/// except to decode.
/// </remarks>
public abstract class BlockNode : IAsyncDisposable
{
    /// <summary>The name of the file or node, for messages and <c>info</c>.</summary>
    public abstract string Name { get; }

    /// <summary>The format's name.</summary>
    public abstract string FormatName { get; }

    /// <summary>Size of the virtual disk, in bytes.</summary>
    public abstract long VirtualSize { get; }

    /// <summary>The node under this one in its backing chain, or null.</summary>
    public virtual BlockNode? Backing => null;

    /// <summary>Every storage that this node and those under it read.</summary>
    public abstract IEnumerable<Storage> Storages { get; }

    /// <summary>Directories all of whose files belong to this disk and those under it, whether they are read or not (bundles).</summary>
    public virtual IEnumerable<StorageDirectory> Directories => Backing?.Directories ?? [];

    /// <summary>Snapshots that can be opened as a source.</summary>
    public virtual IReadOnlyList<SnapshotInfo> Snapshots => [];

    /// <summary>Persistent dirty bitmaps of the top image.</summary>
    public virtual IReadOnlyList<BitmapInfo> Bitmaps => [];

    /// <summary>What the range from <paramref name="at"/> is, the whole chain considered.</summary>
    /// <param name="at">Inside the disk.</param>
    /// <param name="length">At least 1; the answer is never longer and never reaches beyond the disk.</param>
    /// <param name="detail">How much it may cost.</param>
    /// <param name="cancellationToken">Stops reading metadata.</param>
    /// <returns>One extent from <paramref name="at"/>. <see cref="ExtentKind.Unallocated"/> means that no image of the chain has it: it reads as zeros.</returns>
    public abstract ValueTask<Extent> MapAsync(
        GuestOffset at, long length, MapDetail detail = MapDetail.Metadata, CancellationToken cancellationToken = default);

    /// <summary>What <c>info</c> tells of the top image.</summary>
    public abstract ValueTask<ImageInfo> GetInfoAsync(CancellationToken cancellationToken = default);

    /// <summary>Verifies the structures of the top image, or of every file of a bundle; changes nothing.</summary>
    public abstract ValueTask<CheckReport> CheckAsync(
        Action<CheckFinding> report, IProgress<double>? progress = null, CancellationToken cancellationToken = default);

    /// <summary>The dirty ranges of a bitmap of the top image.</summary>
    public virtual IAsyncEnumerable<DirtyRange> ReadBitmapAsync(string name, CancellationToken cancellationToken = default) =>
        throw new BlockException(BlockErrorKind.NotFound, $"{Name}: no bitmap '{SafeText.Clean(name, 256)}'");

    /// <summary>Reads guest bytes, all of them or none.</summary>
    /// <param name="at">Any alignment.</param>
    /// <param name="buffer">Filled entirely.</param>
    /// <param name="cancellationToken">Stops the read.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>: the range reaches beyond the disk; others as met on the way.</exception>
    public virtual ValueTask ReadAsync(GuestOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        if (at.Value < 0 || at.Value > VirtualSize || buffer.Length > VirtualSize - at.Value)
        {
            throw new BlockException(
                BlockErrorKind.InvalidRequest, $"{Name}: {buffer.Length} bytes at {at} reach beyond the end of the disk at 0x{VirtualSize:x}");
        }

        return MoveAsync(at, buffer, cancellationToken);
    }

    /// <summary>Reads the bytes of one extent, which <see cref="MapAsync"/> of this node returned (perhaps shortened).</summary>
    /// <param name="extent">What is there.</param>
    /// <param name="at">Where to start, inside the extent.</param>
    /// <param name="buffer">Filled entirely; lies inside the extent.</param>
    /// <param name="cancellationToken">Stops the read.</param>
    public static ValueTask ReadExtentAsync(
        Extent extent, GuestOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        if (extent.Kind == ExtentKind.Encoded)
        {
            return extent.Driver!.ReadEncodedAsync(extent, at, buffer, cancellationToken);
        }

        if (extent.ReadsZero)
        {
            buffer.Span.Clear();
            return ValueTask.CompletedTask;
        }

        var read = extent.Storage!.ReadAsync(extent.HostOffset + (at - extent.Offset), buffer, cancellationToken);
        if (!read.IsCompletedSuccessfully)
        {
            return FinishAsync(read, buffer);
        }

        // Images may end inside their last cluster: what the storage does not have reads as zeros.
        buffer.Span[read.Result..].Clear();
        return ValueTask.CompletedTask;

        static async ValueTask FinishAsync(ValueTask<int> pending, Memory<byte> target)
        {
            var count = await pending.ConfigureAwait(false);
            target.Span[count..].Clear();
        }
    }

    /// <inheritdoc/>
    public abstract ValueTask DisposeAsync();

    private async ValueTask MoveAsync(GuestOffset at, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        while (buffer.Length > 0)
        {
            var extent = await MapAsync(at, buffer.Length, MapDetail.Metadata, cancellationToken).ConfigureAwait(false);
            var part = buffer[..(int)extent.Length];
            await ReadExtentAsync(extent, at, part, cancellationToken).ConfigureAwait(false);
            at += part.Length;
            buffer = buffer[part.Length..];
        }
    }
}
