using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;

namespace Platter.Core.Graph;

/// <summary>A disk as a storage: what filters of storages work on when they are put over an image. Offsets in it are the guest's.</summary>
/// <param name="node">The disk; taken over. It has its own locks.</param>
internal sealed class NodeStorage(BlockNode node) : Storage
{
    /// <inheritdoc/>
    public override string Name => node.Name;

    /// <inheritdoc/>
    public override long Length => node.VirtualSize;

    /// <inheritdoc/>
    public override bool IsReadOnly => node.IsReadOnly;

    /// <inheritdoc/>
    public override async ValueTask<int> ReadAsync(HostOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        var count = (int)Math.Clamp(node.VirtualSize - at.Value, 0, buffer.Length);
        await node.ReadAsync(new(at.Value), buffer[..count], cancellationToken).ConfigureAwait(false);
        return count;
    }

    /// <inheritdoc/>
    public override async ValueTask<StorageExtent> MapAsync(HostOffset at, long length, CancellationToken cancellationToken = default)
    {
        var extent = await node.MapAsync(new(at.Value), length, MapDetail.Metadata, cancellationToken).ConfigureAwait(false);
        return new(extent.Length, extent.Kind != ExtentKind.Unallocated, extent.ReadsZero);
    }

    /// <inheritdoc/>
    public override ValueTask WriteAsync(HostOffset at, ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default) =>
        node.WriteAsync(new(at.Value), buffer, WriteFlags.None, cancellationToken);

    /// <inheritdoc/>
    public override ValueTask WriteZeroesAsync(HostOffset at, long length, bool mayUnmap, CancellationToken cancellationToken = default) =>
        node.WriteZeroesAsync(new(at.Value), length, mayUnmap ? WriteFlags.MayUnmap : WriteFlags.None, cancellationToken);

    /// <inheritdoc/>
    public override async ValueTask<bool> TryZeroFastAsync(HostOffset at, long length, bool mayUnmap, CancellationToken cancellationToken = default)
    {
        try
        {
            var flags = WriteFlags.NoFallback | (mayUnmap ? WriteFlags.MayUnmap : WriteFlags.None);
            await node.WriteZeroesAsync(new(at.Value), length, flags, cancellationToken).ConfigureAwait(false);
            return true;
        }
        catch (BlockException e) when (e.Kind == BlockErrorKind.Unsupported)
        {
            return false;
        }
    }

    /// <inheritdoc/>
    public override bool PassesDiscards => true;

    /// <inheritdoc/>
    public override ValueTask DiscardAsync(HostOffset at, long length, CancellationToken cancellationToken = default) =>
        node.DiscardAsync(new(at.Value), length, cancellationToken);

    /// <inheritdoc/>
    public override ValueTask FlushAsync(CancellationToken cancellationToken = default) => node.FlushAsync(cancellationToken);

    /// <inheritdoc/>
    public override ValueTask SetLengthAsync(long length, CancellationToken cancellationToken = default) => node.ResizeAsync(length, cancellationToken);

    /// <inheritdoc/>
    public override ValueTask DisposeAsync()
    {
        GC.SuppressFinalize(this);
        return node.DisposeAsync();
    }
}
