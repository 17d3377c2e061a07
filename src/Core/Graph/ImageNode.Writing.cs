using System.Buffers;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;

namespace Platter.Core.Graph;

// The writing half: holds ranges, asks the format where bytes go, fills new clusters from the chain, and publishes what has been written.
// Order: the bytes of a plan reach the storage before the plan is committed; what makes the storage's own order durable is the format's business.
public sealed partial class ImageNode
{
    // What is written around a request at most in one piece. A larger write is several plans.
    private const int MaxPieceBytes = 4 << 20;

    // A request with what is filled around it is one write up to this. The clusters of some formats are larger: they are filled piece by piece.
    private const int MaxFilledBytes = 8 << 20, FillPieceBytes = 1 << 20;

    private readonly ImageWriter? _writer;
    private readonly RequestTracker _requests = new();
    private bool _writerClosed;

    /// <summary>Judges writes to the first bytes of a disk whose format was not declared; null where nobody has to.</summary>
    internal HeadGuard? HeadGuard { get; init; }

    /// <inheritdoc/>
    public override bool IsReadOnly => _writer is null;

    /// <inheritdoc/>
    public override long AllocationUnit => _writer?.AllocationUnit ?? 1;

    /// <inheritdoc/>
    public override ValueTask ReadAsync(GuestOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        if (_writer is null)
        {
            return base.ReadAsync(at, buffer, cancellationToken);
        }

        ThrowIfOutside(at, buffer.Length);
        return HeldReadAsync(at, buffer, cancellationToken);
    }

    /// <summary>Holds a range against writers: for whoever uses a mapping of a writable node for I/O of their own.</summary>
    /// <param name="at">Start of the range.</param>
    /// <param name="length">Guest bytes.</param>
    /// <param name="cancellationToken">Gives up waiting.</param>
    public ValueTask<RequestTracker.Hold> HoldAsync(GuestOffset at, long length, CancellationToken cancellationToken = default) =>
        _writer is null ? default : _requests.EnterAsync(at.Value, at.Value + length, exclusive: false, cancellationToken);

    /// <inheritdoc/>
    public override async ValueTask WriteAsync(
        GuestOffset at, ReadOnlyMemory<byte> buffer, WriteFlags flags = WriteFlags.None, CancellationToken cancellationToken = default)
    {
        var writer = Writable();
        ThrowIfOutside(at, buffer.Length);
        using var pass = HeadGuard is { } guard && HeadGuard.Concerns(at) ? await guard.EnterAsync(at, buffer, cancellationToken).ConfigureAwait(false) : null;
        var rest = buffer;
        while (!rest.IsEmpty)
        {
            var part = rest[..(int)Math.Min(rest.Length, MaxPieceBytes)];
            if (!await TryWriteInPlaceAsync(writer, at, part, cancellationToken).ConfigureAwait(false))
            {
                await WriteAllocatingAsync(writer, at, part, cancellationToken).ConfigureAwait(false);
            }

            at += part.Length;
            rest = rest[part.Length..];
        }

        if ((flags & WriteFlags.ForceUnitAccess) != 0)
        {
            await writer.FlushAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    /// <inheritdoc/>
    public override async ValueTask WriteZeroesAsync(
        GuestOffset at, long length, WriteFlags flags = WriteFlags.None, CancellationToken cancellationToken = default)
    {
        var writer = Writable();
        ThrowIfOutside(at, length);
        var end = at.Value + length;
        var unit = writer.ZeroUnit;

        // Whole units are the format's to zero; an edge is too, if the rest of its unit reads as zeros anyway.
        var bodyStart = await GrowsDownAsync(at, unit, cancellationToken).ConfigureAwait(false) ? Sizes.AlignDown(at.Value, unit) : AlignUp(at.Value, unit);
        var bodyEnd = await GrowsUpAsync(end, unit, cancellationToken).ConfigureAwait(false) ? Math.Min(AlignUp(end, unit), VirtualSize) : Sizes.AlignDown(end, unit);
        if (bodyStart >= bodyEnd)
        {
            await WriteZeroBytesAsync(at, length, flags, cancellationToken).ConfigureAwait(false);
        }
        else if ((flags & WriteFlags.NoFallback) != 0 && (bodyStart > at.Value || bodyEnd < end))
        {
            // Before anything has changed.
            throw NotFast(bodyStart > at.Value ? at : new(bodyEnd));
        }
        else
        {
            await WriteZeroBytesAsync(at, bodyStart - at.Value, flags, cancellationToken).ConfigureAwait(false);
            using (await HoldUnitsAsync(writer, bodyStart, bodyEnd, cancellationToken).ConfigureAwait(false))
            {
                var first = Math.Max(bodyStart, at.Value);
                await writer.NoteChangeAsync(new(first), Math.Min(bodyEnd, end) - first, cancellationToken).ConfigureAwait(false);

                // The edges may have been written meanwhile: then they are not zero any more, and were not asked to become so.
                if (await StillZeroAsync(bodyStart, at.Value, cancellationToken).ConfigureAwait(false)
                    && await StillZeroAsync(end, bodyEnd, cancellationToken).ConfigureAwait(false)
                    && await ZeroBodyAsync(writer, new(bodyStart), bodyEnd - bodyStart, flags, cancellationToken).ConfigureAwait(false))
                {
                    bodyStart = bodyEnd;
                }
            }

            var from = Math.Max(bodyStart, at.Value);
            await WriteZeroBytesAsync(new(from), end - from, flags, cancellationToken).ConfigureAwait(false);
        }

        if ((flags & WriteFlags.ForceUnitAccess) != 0)
        {
            await writer.FlushAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    /// <inheritdoc/>
    public override async ValueTask DiscardAsync(GuestOffset at, long length, CancellationToken cancellationToken = default)
    {
        var writer = Writable();
        ThrowIfOutside(at, length);
        var unit = writer.AllocationUnit;
        var start = AlignUp(at.Value, unit);
        var end = at.Value + length == VirtualSize ? VirtualSize : Sizes.AlignDown(at.Value + length, unit);
        if (start >= end)
        {
            // Nothing is given up, but a bitmap has every request, as for the peers.
            await writer.NoteChangeAsync(at, length, cancellationToken).ConfigureAwait(false);
            return;
        }

        using (await HoldUnitsAsync(writer, start, end, cancellationToken).ConfigureAwait(false))
        {
            await writer.NoteChangeAsync(at, length, cancellationToken).ConfigureAwait(false);
            await writer.DiscardAsync(new(start), end - start, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <inheritdoc/>
    public override async ValueTask WriteCompressedAsync(GuestOffset at, ReadOnlyMemory<byte> cluster, CancellationToken cancellationToken = default)
    {
        var writer = Writable();
        var unit = writer.AllocationUnit;
        var length = Math.Min(unit, VirtualSize - at.Value);
        if (at.Value % unit != 0 || cluster.Length != length)
        {
            throw new BlockException(
                BlockErrorKind.InvalidRequest, $"{Name}: compressed writes are of one cluster of {unit} bytes; {cluster.Length} bytes at {at} are not");
        }

        using (await HoldUnitsAsync(writer, at.Value, at.Value + length, cancellationToken).ConfigureAwait(false))
        {
            await writer.NoteChangeAsync(at, length, cancellationToken).ConfigureAwait(false);
            var padded = cluster;
            if (length < unit)
            {
                var whole = new byte[unit];
                cluster.CopyTo(whole);
                padded = whole;
            }

            if (!await writer.TryWriteCompressedAsync(at, padded, cancellationToken).ConfigureAwait(false))
            {
                await WriteReservedAsync(writer, at, cluster, cancellationToken).ConfigureAwait(false);
            }
        }
    }

    /// <inheritdoc/>
    public override ValueTask FlushAsync(CancellationToken cancellationToken = default) =>
        _writer is null ? ValueTask.CompletedTask : _writer.FlushAsync(cancellationToken);

    /// <inheritdoc/>
    public override ValueTask ResizeAsync(
        long virtualSize, ResizePreallocation preallocation, CancellationToken cancellationToken = default) =>
        AloneAsync(
            async writer =>
            {
                if (virtualSize < VirtualSize && preallocation != ResizePreallocation.Off)
                {
                    throw new BlockException(BlockErrorKind.InvalidRequest, "Preallocation can only be used for growing images");
                }

                if (virtualSize > VirtualSize)
                {
                    await HideRestOfLastUnitAsync(writer, cancellationToken).ConfigureAwait(false);
                }

                await writer.ResizeAsync(virtualSize, _backing?.VirtualSize ?? 0, preallocation, cancellationToken).ConfigureAwait(false);
            },
            cancellationToken);

    /// <summary>Marks the image as an unfinished copy, or takes the mark away; see <see cref="ImageWriter.SetUnfinishedAsync"/>. Waits for every request under way.</summary>
    public override async ValueTask<bool> SetUnfinishedAsync(bool unfinished, CancellationToken cancellationToken = default)
    {
        var done = false;
        await AloneAsync(
            async writer => done = await writer.SetUnfinishedAsync(unfinished, cancellationToken).ConfigureAwait(false), cancellationToken).ConfigureAwait(false);
        return done;
    }

    /// <summary>Gives back what is leaked; see <see cref="ImageWriter.GiveUpLeaksAsync"/>. Waits for every request under way.</summary>
    public override ValueTask GiveUpLeaksAsync(CancellationToken cancellationToken = default) =>
        AloneAsync(writer => writer.GiveUpLeaksAsync(cancellationToken), cancellationToken);

    /// <summary>Takes an internal snapshot of the disk as it is; see <see cref="ImageWriter.CreateSnapshotAsync"/>. Waits for every request under way.</summary>
    public override ValueTask CreateSnapshotAsync(string name, DateTimeOffset date, CancellationToken cancellationToken = default) =>
        AloneAsync(writer => writer.CreateSnapshotAsync(name, date, cancellationToken), cancellationToken);

    /// <summary>Makes the disk what it was at a snapshot; see <see cref="ImageWriter.ApplySnapshotAsync"/>. Waits for every request under way.</summary>
    public override ValueTask ApplySnapshotAsync(SnapshotSelector selector, CancellationToken cancellationToken = default) =>
        AloneAsync(writer => writer.ApplySnapshotAsync(selector, cancellationToken), cancellationToken);

    /// <summary>Forgets a snapshot; see <see cref="ImageWriter.DeleteSnapshotAsync"/>. Waits for every request under way.</summary>
    public override ValueTask DeleteSnapshotAsync(SnapshotSelector selector, CancellationToken cancellationToken = default) =>
        AloneAsync(writer => writer.DeleteSnapshotAsync(selector, cancellationToken), cancellationToken);

    /// <summary>Lets the backing file show through everywhere; see <see cref="ImageWriter.MakeEmptyAsync"/>. Waits for every request under way.</summary>
    public ValueTask MakeEmptyAsync(CancellationToken cancellationToken = default) =>
        AloneAsync(writer => writer.MakeEmptyAsync(cancellationToken), cancellationToken);

    /// <summary>Records another backing file; see <see cref="ImageWriter.ChangeBackingAsync"/>. This node goes on with the one that it has: it is to be closed.</summary>
    public ValueTask ChangeBackingAsync(string? name, string? format, CancellationToken cancellationToken = default) =>
        AloneAsync(writer => writer.ChangeBackingAsync(name, format, cancellationToken), cancellationToken);

    /// <summary>Changes options of the image; see <see cref="ImageWriter.AmendAsync"/>. Waits for every request under way.</summary>
    /// <returns>What is left to do after the image was closed and opened again; empty when all is done.</returns>
    public async ValueTask<NodeOptions> AmendAsync(NodeOptions options, AmendContext context, CancellationToken cancellationToken = default)
    {
        await AloneAsync(
            async writer => options = await writer.AmendAsync(options, context, cancellationToken).ConfigureAwait(false), cancellationToken).ConfigureAwait(false);
        if (options["size"] is { } size && options.Keys.Count == 1)
        {
            var bytes = Sizes.TryAlignUp(long.Parse(size, System.Globalization.CultureInfo.InvariantCulture), Sizes.SectorBytes, out var aligned)
                ? aligned
                : throw new BlockException(BlockErrorKind.InvalidRequest, "Image size must be less than 8 EiB!");
            await ResizeAsync(bytes, cancellationToken).ConfigureAwait(false);
            return new NodeOptions();
        }

        return options;
    }

    private async ValueTask AloneAsync(Func<ImageWriter, ValueTask> operation, CancellationToken cancellationToken)
    {
        var writer = Writable();
        using (await _requests.EnterAsync(0, long.MaxValue, exclusive: true, cancellationToken).ConfigureAwait(false))
        {
            await operation(writer).ConfigureAwait(false);
        }
    }

    // What a larger disk once had behind the end, or what the backing file has there, must not come to light: zeros are written over it, like any
    // data, so that a snapshot that shares the cluster keeps its own.
    private async ValueTask HideRestOfLastUnitAsync(ImageWriter writer, CancellationToken cancellationToken)
    {
        var end = VirtualSize;
        var rest = AlignUp(end, writer.AllocationUnit) - end;
        if (rest > 0 && ((_backing is not null && _backing.VirtualSize > end) || await writer.HasPlaceAsync(new(end), cancellationToken).ConfigureAwait(false)))
        {
            var zeros = new byte[(int)Math.Min(rest, FillPieceBytes)];
            for (long done = 0; done < rest; done += zeros.Length)
            {
                await WriteReservedAsync(writer, new(end + done), zeros.AsMemory(0, (int)Math.Min(zeros.Length, rest - done)), cancellationToken).ConfigureAwait(false);
            }
        }
    }

    private ImageWriter Writable() => _writer ?? throw NotWritable();

    private async ValueTask CloseWriterAsync()
    {
        if (_writer is not null && !_writerClosed)
        {
            _writerClosed = true;
            await _writer.CloseAsync().ConfigureAwait(false);
        }
    }

    private async ValueTask HeldReadAsync(GuestOffset at, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        using (await _requests.EnterAsync(at.Value, at.Value + buffer.Length, exclusive: false, cancellationToken).ConfigureAwait(false))
        {
            await MoveAsync(at, buffer, cancellationToken).ConfigureAwait(false);
        }
    }

    private ValueTask<RequestTracker.Hold> HoldUnitsAsync(ImageWriter writer, long start, long end, CancellationToken cancellationToken) =>
        _requests.EnterAsync(Sizes.AlignDown(start, writer.AllocationUnit), AlignUp(end, writer.AllocationUnit), exclusive: true, cancellationToken);

    // All of the range is stored already: it is overwritten where it is, and only itself held.
    private async ValueTask<bool> TryWriteInPlaceAsync(ImageWriter writer, GuestOffset at, ReadOnlyMemory<byte> data, CancellationToken cancellationToken)
    {
        // A look without the range: no reason to hold it if even the first byte has no place.
        if (!writer.TryPlanInPlace(at, data.Length, out var first) || first.Length < data.Length || (first.NeedsEncoding && !IsSectors(at, data.Length)))
        {
            return false;
        }

        using (await _requests.EnterAsync(at.Value, at.Value + data.Length, exclusive: true, cancellationToken).ConfigureAwait(false))
        {
            if (!writer.TryPlanInPlace(at, data.Length, out var plan) || plan.Length < data.Length)
            {
                return false;
            }

            await writer.NoteChangeAsync(at, data.Length, cancellationToken).ConfigureAwait(false);
            await WritePlannedAsync(writer, plan, data, cancellationToken).ConfigureAwait(false);
            return true;
        }
    }

    private async ValueTask WriteAllocatingAsync(ImageWriter writer, GuestOffset at, ReadOnlyMemory<byte> data, CancellationToken cancellationToken)
    {
        using (await HoldUnitsAsync(writer, at.Value, at.Value + data.Length, cancellationToken).ConfigureAwait(false))
        {
            await writer.NoteChangeAsync(at, data.Length, cancellationToken).ConfigureAwait(false);
            await WriteReservedAsync(writer, at, data, cancellationToken).ConfigureAwait(false);
        }
    }

    private async ValueTask WriteReservedAsync(ImageWriter writer, GuestOffset at, ReadOnlyMemory<byte> data, CancellationToken cancellationToken)
    {
        while (!data.IsEmpty)
        {
            var plan = await writer.ReserveAsync(at, data.Length, cancellationToken).ConfigureAwait(false);
            var part = data[..(int)plan.Length];
            try
            {
                await WritePlannedAsync(writer, plan, part, cancellationToken).ConfigureAwait(false);
            }
            catch
            {
                await writer.AbandonAsync(plan).ConfigureAwait(false);
                throw;
            }

            if (plan.Token is not null)
            {
                // Published whatever happens: the bytes are there.
                await writer.CommitAsync(plan, CancellationToken.None).ConfigureAwait(false);
            }

            at += part.Length;
            data = data[part.Length..];
        }
    }

    private ValueTask WritePlannedAsync(ImageWriter writer, in WritePlan plan, ReadOnlyMemory<byte> data, CancellationToken cancellationToken)
    {
        if (plan is { FillBefore: 0, FillAfter: 0, NeedsEncoding: false })
        {
            plan.Storage.Announce(StorageEvent.WriteAio);
            return plan.Storage.WriteAsync(plan.HostOffset, data, cancellationToken);
        }

        return WriteFilledAsync(writer, plan, data, cancellationToken);
    }

    // One write for the data and what is filled around it: large requests fill little, small ones are one cluster in all.
    private async ValueTask WriteFilledAsync(ImageWriter writer, WritePlan plan, ReadOnlyMemory<byte> data, CancellationToken cancellationToken)
    {
        var (before, after) = (plan.FillBefore, plan.FillAfter);
        if (plan.NeedsEncoding)
        {
            // Encoding works on sectors. What a request in place lacks at its ends is read and written again; nobody else can be there.
            before += (plan.Offset.Value - before) & (Sizes.SectorBytes - 1);
            after += -(plan.Offset.Value + data.Length + after) & (Sizes.SectorBytes - 1);
        }
        else if (plan.HostReadsZero)
        {
            // What is zero on both sides need not be written.
            before = await ReadsZeroAsync(plan.Offset.Value - before, before, cancellationToken).ConfigureAwait(false) ? 0 : before;
            after = await ReadsZeroAsync(plan.Offset.Value + data.Length, after, cancellationToken).ConfigureAwait(false) ? 0 : after;
            if (before == 0 && after == 0)
            {
                plan.Storage.Announce(StorageEvent.WriteAio);
                await plan.Storage.WriteAsync(plan.HostOffset, data, cancellationToken).ConfigureAwait(false);
                return;
            }
        }

        if (before + data.Length + after > MaxFilledBytes && !plan.NeedsEncoding)
        {
            await FillAsync(plan, -before, 0, cancellationToken).ConfigureAwait(false);
            plan.Storage.Announce(StorageEvent.WriteAio);
            await plan.Storage.WriteAsync(plan.HostOffset, data, cancellationToken).ConfigureAwait(false);
            await FillAsync(plan, data.Length, data.Length + after, cancellationToken).ConfigureAwait(false);
            return;
        }

        var start = plan.Offset + -before;
        var total = (int)(before + data.Length + after);
        var buffer = ArrayPool<byte>.Shared.Rent(total);
        try
        {
            var bytes = buffer.AsMemory(0, total);
            plan.Storage.Announce(StorageEvent.CowRead);
            await ReadOrZeroAsync(start, bytes[..(int)before], cancellationToken).ConfigureAwait(false);
            data.CopyTo(bytes[(int)before..]);
            await ReadOrZeroAsync(plan.Offset + data.Length, bytes[((int)before + data.Length)..], cancellationToken).ConfigureAwait(false);
            var host = plan.HostOffset + -before;
            if (plan.NeedsEncoding)
            {
                writer.Encode(start, host, bytes.Span);
            }

            // One write for both.
            plan.Storage.Announce(StorageEvent.CowWrite);
            plan.Storage.Announce(StorageEvent.WriteAio);
            await plan.Storage.WriteAsync(host, bytes, cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer, clearArray: plan.NeedsEncoding);
        }
    }

    // What is around a request in a large new cluster, from and to distances from the plan's offset: as it reads now.
    private async ValueTask FillAsync(WritePlan plan, long from, long to, CancellationToken cancellationToken)
    {
        var buffer = from < to ? ArrayPool<byte>.Shared.Rent(FillPieceBytes) : [];
        try
        {
            while (from < to)
            {
                var piece = buffer.AsMemory(0, (int)Math.Min(FillPieceBytes, to - from));
                var isZero = await ReadsZeroAsync((plan.Offset + from).Value, piece.Length, cancellationToken).ConfigureAwait(false);
                if (!isZero)
                {
                    plan.Storage.Announce(StorageEvent.CowRead);
                    await ReadOrZeroAsync(plan.Offset + from, piece, cancellationToken).ConfigureAwait(false);
                    plan.Storage.Announce(StorageEvent.CowWrite);
                    await plan.Storage.WriteAsync(plan.HostOffset + from, piece, cancellationToken).ConfigureAwait(false);
                }
                else if (!plan.HostReadsZero)
                {
                    plan.Storage.Announce(StorageEvent.CowWrite);
                    await plan.Storage.WriteZeroesAsync(plan.HostOffset + from, piece.Length, mayUnmap: true, cancellationToken).ConfigureAwait(false);
                }

                from += piece.Length;
            }
        }
        finally
        {
            if (buffer.Length > 0)
            {
                ArrayPool<byte>.Shared.Return(buffer);
            }
        }
    }

    private async ValueTask ReadOrZeroAsync(GuestOffset at, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        var inside = (int)Math.Clamp(VirtualSize - at.Value, 0, buffer.Length);
        buffer.Span[inside..].Clear();
        await MoveAsync(at, buffer[..inside], cancellationToken).ConfigureAwait(false);
    }

    private async ValueTask<bool> ReadsZeroAsync(long start, long length, CancellationToken cancellationToken)
    {
        for (var end = Math.Min(start + length, VirtualSize); start < end;)
        {
            var extent = await MapAsync(new(start), end - start, MapDetail.Metadata, cancellationToken).ConfigureAwait(false);
            if (!extent.ReadsZero)
            {
                return false;
            }

            start = extent.End.Value;
        }

        return true;
    }

    private ValueTask<bool> GrowsDownAsync(GuestOffset at, long unit, CancellationToken cancellationToken) =>
        ReadsZeroAsync(Sizes.AlignDown(at.Value, unit), at.Value % unit, cancellationToken);

    private ValueTask<bool> GrowsUpAsync(long end, long unit, CancellationToken cancellationToken) =>
        ReadsZeroAsync(end, AlignUp(end, unit) - end, cancellationToken);

    private ValueTask<bool> StillZeroAsync(long start, long end, CancellationToken cancellationToken) =>
        start < end ? ReadsZeroAsync(start, end - start, cancellationToken) : new(true);

    private static ValueTask<bool> ZeroBodyAsync(ImageWriter writer, GuestOffset at, long length, WriteFlags flags, CancellationToken cancellationToken)
    {
        var mayUnmap = (flags & WriteFlags.MayUnmap) != 0;
        return (flags & WriteFlags.NoFallback) != 0
            ? writer.TryZeroFastAsync(at, length, mayUnmap, cancellationToken)
            : writer.TryWriteZeroesAsync(at, length, mayUnmap, cancellationToken);
    }

    private BlockException NotFast(GuestOffset at) => new(BlockErrorKind.Unsupported, $"{Name}: zeros at {at} would have to be written as bytes");

    private async ValueTask WriteZeroBytesAsync(GuestOffset at, long length, WriteFlags flags, CancellationToken cancellationToken)
    {
        if (length <= 0)
        {
            return;
        }

        if ((flags & WriteFlags.NoFallback) != 0)
        {
            throw NotFast(at);
        }

        var size = (int)Math.Min(length, 1 << 20);
        var zeros = ArrayPool<byte>.Shared.Rent(size);
        try
        {
            zeros.AsSpan(0, size).Clear();
            for (long done = 0; done < length; done += size)
            {
                await WriteAsync(at + done, zeros.AsMemory(0, (int)Math.Min(size, length - done)), WriteFlags.None, cancellationToken).ConfigureAwait(false);
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(zeros);
        }
    }

    private static bool IsSectors(GuestOffset at, int length) => ((at.Value | (long)length) & (Sizes.SectorBytes - 1)) == 0;

    private static long AlignUp(long value, long unit) => Sizes.TryAlignUp(value, unit, out var aligned) ? aligned : long.MaxValue;
}
