using Platter.Core.Errors;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Nbd.Protocol;

namespace Platter.Nbd.Client;

/// <summary>An export of an NBD server, opened for reading, or for reading and writing.</summary>
/// <remarks>
/// Requests of any alignment are accepted: what the server's minimum block size asks for is read, or read and written back, around them, and what exceeds
/// its maximum (or is worth doing in parallel) is split, with several parts in flight.
/// </remarks>
public sealed partial class NbdStorage : Storage
{
    // What a status request asks for at least, so that small questions find their answer in the cache.
    private const long MapAheadBytes = 64 << 20;

    private readonly NbdConnectionGroup _connections;
    private readonly NbdExtentCache _extents = new();
    private readonly int _minimum;
    private readonly int _maximum;

    private readonly string _mapContext;

    // Requests without data: longer than the payloads of others, where the headers have room and until the server says that it is too much.
    private long _maxEffect;

    private NbdStorage(NbdAddress address, NbdConnectionGroup connections, NbdClientOptions options)
    {
        var writable = options.Writable;
        _mapContext = options.MapContext ?? NbdProtocol.AllocationContext;
        Address = address;
        Name = address.ToString();
        IsReadOnly = !writable;
        _connections = connections;
        _minimum = (int)Export.BlockSizes.Minimum;
        _maximum = (int)Math.Max(Sizes.AlignDown(Math.Min(Export.BlockSizes.Maximum, options.MaxRequestBytes), _minimum), _minimum);
        _maxEffect = Sizes.AlignDown(Export.Style == NbdHeaderStyle.Extended ? long.MaxValue : uint.MaxValue, _minimum);
        _blocks = writable && _minimum > 1 ? new() : null;
    }

    /// <summary>Where it was opened.</summary>
    public NbdAddress Address { get; }

    /// <summary>The URI.</summary>
    public override string Name { get; }

    /// <inheritdoc/>
    public override long Length => Export.Size;

    /// <inheritdoc/>
    public override bool IsReadOnly { get; }

    /// <summary>The server's minimum block size.</summary>
    public override int RequestAlignment => _minimum;

    /// <summary>What the server said about sizes of requests.</summary>
    public NbdBlockSizes BlockSizes => Export.BlockSizes;

    /// <summary>What the export offers.</summary>
    public NbdTransmissionFlags Flags => Export.Flags;

    /// <summary>Whether the server tells data from holes (<c>base:allocation</c>).</summary>
    public bool CanMap => Export.Contexts.Count > 0 && Export.Contexts[0].Name == _mapContext;

    /// <summary>Metadata contexts that the server has of those that were asked for.</summary>
    public IEnumerable<string> Contexts => Export.Contexts.Select(context => context.Name);

    /// <summary>Connections that are open now.</summary>
    public int ConnectionCount => _connections.Count;

    /// <summary>What the handshake agreed on.</summary>
    internal NbdExportInfo Export => _connections.Export;

    /// <summary>Connects to an export for reading.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.NotFound"/>: no such server or export; <see cref="BlockErrorKind.AccessDenied"/>;
    /// <see cref="BlockErrorKind.ReadOnly"/>: it cannot be written; <see cref="BlockErrorKind.Unsupported"/>: the server does not encrypt, or its handshake is too old;
    /// <see cref="BlockErrorKind.Io"/>: not reachable; <see cref="BlockErrorKind.Protocol"/>: anything the server does wrong.</exception>
    public static ValueTask<NbdStorage> OpenAsync(NbdAddress address, CancellationToken cancellationToken = default) =>
        OpenAsync(address, new NbdClientOptions(), cancellationToken);

    /// <summary>Connects to an export.</summary>
    /// <exception cref="BlockException">As with the other overload.</exception>
    public static async ValueTask<NbdStorage> OpenAsync(NbdAddress address, NbdClientOptions options, CancellationToken cancellationToken = default)
    {
        var storage = new NbdStorage(address, await NbdConnectionGroup.OpenAsync(address, options, cancellationToken).ConfigureAwait(false), options);
        if (options.MapContext is null || storage.CanMap)
        {
            return storage;
        }

        await storage.DisposeAsync().ConfigureAwait(false);
        throw new BlockException(BlockErrorKind.NotFound, $"{address}: the server has no metadata context '{SafeText.Clean(options.MapContext, 256)}' for this export");
    }

    /// <inheritdoc/>
    public override async ValueTask<int> ReadAsync(HostOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(at.Value, nameof(at));
        if (at.Value >= Length || buffer.Length == 0)
        {
            return 0;
        }

        var count = (int)Math.Min(buffer.Length, Length - at.Value);
        var part = PartLength(at.Value, count);
        if (part == count)
        {
            await ReadPartAsync(at.Value, buffer[..count], cancellationToken).ConfigureAwait(false);
            return count;
        }

        var parts = new List<Task>();
        for (var done = 0; done < count; done += part)
        {
            part = PartLength(at.Value + done, count - done);
            parts.Add(ReadPartAsync(at.Value + done, buffer.Slice(done, part), cancellationToken).AsTask());
        }

        // Waits for all of them even if one fails: until then they own the buffer.
        await Task.WhenAll(parts).ConfigureAwait(false);
        return count;
    }

    /// <inheritdoc/>
    /// <remarks>Without <see cref="CanMap"/>, everything counts as allocated.</remarks>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.Io"/> and others: the server could not tell.</exception>
    public override async ValueTask<StorageExtent> MapAsync(HostOffset at, long length, CancellationToken cancellationToken = default)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(at.Value, nameof(at));
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(at.Value, Length, nameof(at));
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(length);
        length = Math.Min(length, Length - at.Value);
        if (!CanMap)
        {
            return new(length, IsAllocated: true, ReadsZero: false);
        }

        if (_extents.TryFind(at.Value, length, out var extent))
        {
            return extent;
        }

        var start = Sizes.AlignDown(at.Value, _minimum);
        var generation = _extents.Generation;
        var reply = await QueryStatusAsync(0, start, Math.Min(Math.Max(length, MapAheadBytes) + (at.Value - start), Length - start), cancellationToken).ConfigureAwait(false);
        _extents.Add(generation, start, _mapContext == NbdProtocol.AllocationContext ? reply.Statuses[0]! : [.. reply.Statuses[0]!.Select(WithoutZeros)], Length);
        if (_extents.TryFind(at.Value, length, out extent))
        {
            return extent;
        }

        // Only possible when the server described less than one of its own blocks, or others wrote or replaced the reply at once.
        return new(Math.Min(length, _minimum - (at.Value - start)), IsAllocated: true, ReadsZero: false);
    }

    /// <summary>Reads what a metadata context says, from <paramref name="at"/> on.</summary>
    /// <param name="context">One of the <see cref="Contexts"/>.</param>
    /// <param name="at">Where, inside the export.</param>
    /// <param name="length">How much of it is of interest, in bytes.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <returns>Extents one after the other, at least one, the last one cut at the end of the range; together perhaps shorter than asked.</returns>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>: the server does not have the context; or it could not tell.</exception>
    public async ValueTask<IReadOnlyList<NbdContextExtent>> ReadContextAsync(string context, long at, long length, CancellationToken cancellationToken = default)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(at);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(at, Length);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(length);
        var index = Contexts.ToList().IndexOf(context);
        if (index < 0)
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, $"{Name}: the server has no metadata context '{SafeText.Clean(context, 256)}' for this export");
        }

        var end = at + Math.Min(length, Length - at);
        var start = Sizes.AlignDown(at, _minimum);
        var reply = await QueryStatusAsync(index, start, end - start, cancellationToken).ConfigureAwait(false);
        var result = new List<NbdContextExtent>();
        foreach (var extent in reply.Statuses[index]!)
        {
            var extentEnd = extent.Length > (ulong)(end - start) ? end : start + (long)extent.Length;
            if (extentEnd > at)
            {
                result.Add(new(at, extentEnd - at, extent.Status));
                at = extentEnd;
            }

            start = extentEnd;
        }

        return result.Count > 0 ? result
            : throw new BlockException(BlockErrorKind.Protocol, $"{Name}: the server describes less than one of its own blocks at {at}");
    }

    // Whole blocks, but the end of the export may lie inside one; and no more than a request has room for. Other contexts are left out where the server can do that: theirs may cost it a lot.
    private ValueTask<NbdPendingRequest> QueryStatusAsync(int context, long start, long length, CancellationToken cancellationToken)
    {
        length = Math.Min(AlignUp(length), Length - start);
        length = Math.Min(length, Export.Style == NbdHeaderStyle.Extended ? long.MaxValue : Sizes.AlignDown(uint.MaxValue, _minimum));
        var others = Export.Contexts.Count > 1 && Export.Style == NbdHeaderStyle.Extended && Export.Can(NbdTransmissionFlags.BlockStatusPayload);
        return RequestAsync(new(NbdCommand.BlockStatus, start, length) { OnlyContext = others ? context : null }, cancellationToken);
    }

    // Bit 1 means zeros in base:allocation only; in another context it means something else, and nobody must read zeros because of it.
    private static NbdStatusDescriptor WithoutZeros(NbdStatusDescriptor extent) => extent with { Status = extent.Status & (ulong)NbdBlockState.Hole };

    /// <inheritdoc/>
    public override async ValueTask DisposeAsync()
    {
        await _connections.DisposeAsync().ConfigureAwait(false);
        GC.SuppressFinalize(this);
    }

    /// <summary>How much of a range one request can bring: aligned blocks up to the maximum, or the rest of one block.</summary>
    private int PartLength(long at, int length)
    {
        var inBlock = (int)(at & (_minimum - 1));
        if (inBlock != 0 || length < _minimum)
        {
            return Math.Min(length, _minimum - inBlock);
        }

        return length <= _maximum && at + length == Length ? length : Math.Min((int)Sizes.AlignDown(length, _minimum), _maximum);
    }

    private bool IsWholeBlocks(long at, long length) => (at & (_minimum - 1)) == 0 && (((at + length) & (_minimum - 1)) == 0 || at + length == Length);

    private async ValueTask ReadPartAsync(long at, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        if (IsWholeBlocks(at, buffer.Length))
        {
            await RequestAsync(NbdOperation.Read(at, buffer), cancellationToken).ConfigureAwait(false);
            return;
        }

        // Part of a block: the whole of it is read, aside.
        var (start, block) = await ReadBlockAsync(at, cancellationToken).ConfigureAwait(false);
        block.AsMemory((int)(at - start), buffer.Length).CopyTo(buffer);
    }

    private async ValueTask<(long Start, byte[] Bytes)> ReadBlockAsync(long at, CancellationToken cancellationToken)
    {
        var start = Sizes.AlignDown(at, _minimum);
        var block = new byte[(int)Math.Min(_minimum, Length - start)];
        await RequestAsync(NbdOperation.Read(start, block), cancellationToken).ConfigureAwait(false);
        return (start, block);
    }

    private ValueTask<NbdPendingRequest> RequestAsync(NbdOperation operation, CancellationToken cancellationToken) =>
        _connections.RequestAsync(operation, cancellationToken);
}
