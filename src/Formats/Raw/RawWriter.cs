using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;

namespace Platter.Formats.Raw;

/// <summary>Writing a raw image: everything is in its place already. Thread-safe.</summary>
internal sealed class RawWriter(Storage storage, HostOffset start, long virtualSize) : ImageWriter
{
    private long _virtualSize = virtualSize;

    /// <summary>Size of the disk in bytes, as it is now.</summary>
    public long VirtualSize => Volatile.Read(ref _virtualSize);

    /// <inheritdoc/>
    public override long AllocationUnit => 1;

    /// <inheritdoc/>
    public override bool TryPlanInPlace(GuestOffset at, long length, out WritePlan plan)
    {
        plan = new() { Offset = at, Length = length, Storage = storage, HostOffset = start + at.Value };
        return true;
    }

    /// <inheritdoc/>
    public override ValueTask<WritePlan> ReserveAsync(GuestOffset at, long length, CancellationToken cancellationToken = default)
    {
        _ = TryPlanInPlace(at, length, out var plan);
        return new(plan);
    }

    /// <inheritdoc/>
    public override ValueTask CommitAsync(WritePlan plan, CancellationToken cancellationToken = default) => ValueTask.CompletedTask;

    /// <inheritdoc/>
    public override ValueTask AbandonAsync(WritePlan plan) => ValueTask.CompletedTask;

    /// <inheritdoc/>
    public override async ValueTask<bool> TryWriteZeroesAsync(
        GuestOffset at, long length, bool mayUnmap, CancellationToken cancellationToken = default)
    {
        await storage.WriteZeroesAsync(start + at.Value, length, mayUnmap, cancellationToken).ConfigureAwait(false);
        return true;
    }

    /// <inheritdoc/>
    public override ValueTask<bool> TryZeroFastAsync(GuestOffset at, long length, bool mayUnmap, CancellationToken cancellationToken = default) =>
        storage.TryZeroFastAsync(start + at.Value, length, mayUnmap, cancellationToken);

    /// <inheritdoc/>
    /// <remarks>A hole, where the host can make one. Nobody gains by bytes that are written only to be given up.</remarks>
    public override async ValueTask DiscardAsync(GuestOffset at, long length, CancellationToken cancellationToken = default)
    {
        if (storage.PassesDiscards)
        {
            await storage.DiscardAsync(start + at.Value, length, cancellationToken).ConfigureAwait(false);
        }
        else
        {
            _ = await storage.TryZeroFastAsync(start + at.Value, length, mayUnmap: true, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <inheritdoc/>
    public override ValueTask FlushAsync(CancellationToken cancellationToken = default) => storage.FlushAsync(cancellationToken);

    /// <inheritdoc/>
    public override ValueTask ResizeAsync(long virtualSize, long backingSize, CancellationToken cancellationToken = default) =>
        ResizeAsync(virtualSize, backingSize, ResizePreallocation.Off, cancellationToken);

    /// <inheritdoc/>
    public override async ValueTask ResizeAsync(
        long virtualSize, long backingSize, ResizePreallocation preallocation, CancellationToken cancellationToken = default)
    {
        if (start.Value != 0)
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, $"{storage.Name}: a part of a file (option 'offset') cannot change its size");
        }

        var old = VirtualSize;
        if (preallocation == ResizePreallocation.Metadata)
        {
            throw new BlockException(BlockErrorKind.Unsupported, "Unsupported preallocation mode: metadata");
        }

        await storage.SetLengthAsync(virtualSize, cancellationToken).ConfigureAwait(false);
        if (preallocation != ResizePreallocation.Off)
        {
            try
            {
                await storage.GiveSpaceAsync(new(old), virtualSize - old, mayReserve: preallocation == ResizePreallocation.Falloc, cancellationToken).ConfigureAwait(false);
            }
            catch
            {
                await storage.SetLengthAsync(old, CancellationToken.None).ConfigureAwait(false);
                throw;
            }
        }

        await storage.FlushAsync(cancellationToken).ConfigureAwait(false);
        Volatile.Write(ref _virtualSize, virtualSize);
    }
}
