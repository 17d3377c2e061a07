using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Nbd.Protocol;

namespace Platter.Nbd.Client;

/// <summary>An export of an NBD server, opened for reading over one connection.</summary>
/// <remarks>
/// Requests of any alignment are accepted: what the server's minimum block size asks for is read around them, and what exceeds its
/// maximum (or is worth doing in parallel) is split, with several parts in flight. A connection that is lost stays lost.
/// </remarks>
public sealed class NbdStorage : Storage
{
    // Parts of this size keep several of a server's workers busy; at most a connection's slots of them are in flight.
    private const int MaxPartBytes = 1 << 20;

    // What a status request asks for at least, so that small questions find their answer in the cache.
    private const long MapAheadBytes = 64 << 20;

    // Lengths in requests have 32 bits.
    private const long MaxMapBytes = uint.MaxValue;

    private readonly NbdConnection _connection;
    private readonly NbdExtentCache _extents = new();
    private readonly int _minimum;
    private readonly int _maximum;

    private NbdStorage(NbdAddress address, NbdConnection connection)
    {
        Address = address;
        Name = address.ToString();
        _connection = connection;
        _minimum = (int)connection.Export.BlockSizes.Minimum;
        _maximum = (int)Sizes.AlignDown(Math.Min(connection.Export.BlockSizes.Maximum, MaxPartBytes), _minimum);
    }

    /// <summary>Where it was opened.</summary>
    public NbdAddress Address { get; }

    /// <summary>The URI.</summary>
    public override string Name { get; }

    /// <inheritdoc/>
    public override long Length => _connection.Export.Size;

    /// <summary>The server's minimum block size.</summary>
    public override int RequestAlignment => _minimum;

    /// <summary>What the server said about sizes of requests.</summary>
    public NbdBlockSizes BlockSizes => _connection.Export.BlockSizes;

    /// <summary>What the export offers.</summary>
    public NbdTransmissionFlags Flags => _connection.Export.Flags;

    /// <summary>Whether the server tells data from holes (<c>base:allocation</c>).</summary>
    public bool CanMap => _connection.Export.AllocationContext is not null;

    /// <summary>Connects to the export that options of driver <c>nbd</c> name; see <see cref="NbdAddress.FromOptions"/>.</summary>
    /// <param name="options">Besides the address: <c>open-timeout</c>, seconds. When given and not 0, a refused connection is tried again until
    /// then; otherwise there is one attempt, which may take 10 seconds.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>: options; <see cref="BlockErrorKind.NotFound"/>: no such server or
    /// export; <see cref="BlockErrorKind.AccessDenied"/>; <see cref="BlockErrorKind.Unsupported"/>: TLS, or a handshake that is too old;
    /// <see cref="BlockErrorKind.Io"/>: not reachable; <see cref="BlockErrorKind.Protocol"/>: anything the server does wrong.</exception>
    public static ValueTask<NbdStorage> OpenAsync(NodeOptions options, CancellationToken cancellationToken = default) =>
        OpenAsync(NbdAddress.FromOptions(options), NbdTimeouts.FromOptions(options), cancellationToken);

    /// <summary>Connects to an export.</summary>
    /// <exception cref="BlockException">As with the other overload.</exception>
    public static ValueTask<NbdStorage> OpenAsync(NbdAddress address, CancellationToken cancellationToken = default) =>
        OpenAsync(address, NbdTimeouts.Default, cancellationToken);

    internal static async ValueTask<NbdStorage> OpenAsync(NbdAddress address, NbdTimeouts timeouts, CancellationToken cancellationToken) =>
        new(address, await NbdConnection.OpenAsync(address, timeouts, cancellationToken).ConfigureAwait(false));

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
        var wanted = Math.Min(Math.Max(length, MapAheadBytes) + (at.Value - start), MaxMapBytes - _minimum);

        // Whole blocks, but the end of the export may lie inside one.
        wanted = Math.Min(Sizes.AlignDown(wanted + _minimum - 1, _minimum), Length - start);
        var reply = await _connection.QueryStatusAsync(start, (uint)wanted, cancellationToken).ConfigureAwait(false);
        _extents.Add(start, reply, Length);
        if (_extents.TryFind(at.Value, length, out extent))
        {
            return extent;
        }

        // Only possible when the server described less than one of its own blocks, or other walks replaced the reply at once.
        return new(Math.Min(length, _minimum - (at.Value - start)), IsAllocated: true, ReadsZero: false);
    }

    /// <inheritdoc/>
    public override async ValueTask DisposeAsync()
    {
        await _connection.DisposeAsync().ConfigureAwait(false);
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

    private async ValueTask ReadPartAsync(long at, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        var start = Sizes.AlignDown(at, _minimum);
        var end = at + buffer.Length;
        if (start == at && ((end & (_minimum - 1)) == 0 || end == Length))
        {
            await _connection.ReadAsync(at, buffer, cancellationToken).ConfigureAwait(false);
            return;
        }

        // Part of a block: the whole of it is read, aside.
        var blockLength = (int)Math.Min(_minimum, Length - start);
        var block = new byte[blockLength];
        await _connection.ReadAsync(start, block, cancellationToken).ConfigureAwait(false);
        block.AsMemory((int)(at - start), buffer.Length).CopyTo(buffer);
    }
}
