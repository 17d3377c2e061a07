using Platter.Core.Errors;
using Platter.Core.Storages;
using Platter.Nbd.Protocol;

namespace Platter.Nbd.Client;

/// <summary>All connections of a storage: spreads requests over them, and makes new ones when they are lost.</summary>
/// <remarks>
/// <para>Connections come in sets. When one of a set is lost, all of it is given up: a server that was started anew, or a host that lost its memory, looks no
/// different from a cable that was out for a second, and the other connections may only not have noticed yet.</para>
/// <para>Every request may be repeated on another set, for it says where and what: reads, writes of the same bytes, zeros, discards. Whether the first try was
/// done does not matter. (A server that goes on to work on what it had received from the old connection after it has answered on the new one can undo a
/// later write to the same place; nothing in the protocol prevents that, and no server that is known works so long on a dead connection.)</para>
/// <para>A flush promises that all acknowledged writes are durable. A server that lost its memory between such a write and the flush would keep that promise
/// for what it still has, which is not what was meant. So, where lost connections are made anew, everything acknowledged and not yet flushed is remembered
/// (<see cref="NbdWriteLog"/>), and a new set does all of it again, in order, before any other request sees it: reads find what was written, and a flush
/// covers it. Without reconnecting, a lost connection fails everything from then on, flushes first of all.</para>
/// <para>A set's requests have all ended, and what was acknowledged is in the log, before the next set begins. Thread-safe.</para>
/// </remarks>
internal sealed class NbdConnectionGroup : IAsyncDisposable
{
    private static readonly TimeSpan s_firstPause = TimeSpan.FromMilliseconds(100);
    private static readonly TimeSpan s_longestPause = TimeSpan.FromSeconds(5);

    // A server that offers several connections and lets none in (it may have a limit) does not hold up the first one for longer.
    private static readonly TimeSpan s_moreTimeout = TimeSpan.FromSeconds(1);

    private readonly NbdAddress _address;
    private readonly NbdClientOptions _options;
    private readonly NbdWriteLog? _log;
    private readonly SemaphoreSlim _flushLock = new(1);
    private readonly CancellationTokenSource _stop = new();
    private readonly Lock _gate = new();
    private ConnectionSet? _current;
    private TaskCompletionSource _changed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private BlockException? _failure;
    private Task _reconnecting = Task.CompletedTask;

    private NbdConnectionGroup(NbdAddress address, NbdClientOptions options, NbdConnection first)
    {
        _address = address;
        _options = options;
        Export = first.Export;
        _current = new(first);
        _log = options.Writable && Reconnects && Export.Can(NbdTransmissionFlags.SendFlush) ? new() : null;
    }

    /// <summary>What the first handshake agreed on; later ones must agree on the same.</summary>
    public NbdExportInfo Export { get; }

    /// <summary>Connections that are open now.</summary>
    public int Count => Volatile.Read(ref _current)?.Connections.Length ?? 0;

    private bool Reconnects => _options.ReconnectDelay > TimeSpan.Zero;

    private string Name => _address.ToString();

    /// <summary>Connects.</summary>
    /// <exception cref="BlockException">As with <see cref="NbdConnection.OpenAsync"/>; <see cref="BlockErrorKind.ReadOnly"/>: the export cannot be written.</exception>
    public static async ValueTask<NbdConnectionGroup> OpenAsync(NbdAddress address, NbdClientOptions options, CancellationToken cancellationToken)
    {
        options = options.ResolveTls(address);
        var first = await NbdConnection.OpenAsync(address, options, cancellationToken).ConfigureAwait(false);
        if (options.Writable && first.Export.Can(NbdTransmissionFlags.ReadOnly))
        {
            await first.DisposeAsync().ConfigureAwait(false);
            throw new BlockException(BlockErrorKind.ReadOnly, $"{address}: the server offers this export for reading only");
        }

        var group = new NbdConnectionGroup(address, options, first);
        if (options.Writable)
        {
            // Before the first write: a flush answered on one connection then speaks for the server that took the writes on the others.
            await group.AddConnectionsAsync(group._current!, cancellationToken).ConfigureAwait(false);
        }

        return group;
    }

    /// <summary>Has a request done, whatever happens to connections meanwhile.</summary>
    /// <exception cref="BlockException">The server refuses or failed, or no connection can be had.</exception>
    public async ValueTask<NbdPendingRequest> RequestAsync(NbdOperation operation, CancellationToken cancellationToken)
    {
        if (_log is { IsFull: true } && NbdWriteLog.Concerns(operation))
        {
            await FlushAsync(onlyIfFull: true, cancellationToken).ConfigureAwait(false);
        }

        while (true)
        {
            var set = await GetCurrentAsync(cancellationToken).ConfigureAwait(false);
            if (set.TryEnter())
            {
                try
                {
                    var connection = set.Choose();
                    if (connection.InFlight > 1 && !_options.Writable && set.MayGrow())
                    {
                        _ = AddConnectionsAsync(set, CancellationToken.None);
                    }

                    var request = await connection.RequestAsync(operation, set.MayCompleteInline && InlineCompletions.AreAllowed, cancellationToken).ConfigureAwait(false);
                    if (_log is not null && NbdWriteLog.Concerns(operation))
                    {
                        _log.Add(operation);
                    }

                    return request;
                }
                catch (NbdConnectionException e)
                {
                    GiveUp(set, e);
                }
                catch (BlockException e) when (Reconnects && e.Kind == BlockErrorKind.Protocol)
                {
                    // It says that it is shutting down: the next one may do it.
                    GiveUp(set, new NbdConnectionException(e.Message, isLost: true, e));
                }
                finally
                {
                    set.Leave();
                }
            }
        }
    }

    /// <summary>Makes everything durable that was acknowledged before.</summary>
    /// <exception cref="BlockException">The server could not, or no connection can be had.</exception>
    public ValueTask FlushAsync(CancellationToken cancellationToken) => FlushAsync(onlyIfFull: false, cancellationToken);

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        ConnectionSet? set;
        lock (_gate)
        {
            if (_stop.IsCancellationRequested)
            {
                return;
            }

            _stop.Cancel();
            (set, _current) = (_current, null);
            _failure = new BlockException(BlockErrorKind.Protocol, $"{Name}: the connection is closed");
            _changed.TrySetResult();
        }

        await _reconnecting.ConfigureAwait(false);
        if (set is not null)
        {
            await set.CloseAsync().ConfigureAwait(false);
        }
    }

    private async ValueTask FlushAsync(bool onlyIfFull, CancellationToken cancellationToken)
    {
        var flush = new NbdOperation(NbdCommand.Flush, 0, 0);
        if (_log is null)
        {
            await RequestAsync(flush, cancellationToken).ConfigureAwait(false);
            return;
        }

        // One at a time, so that marks are met in order.
        await _flushLock.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            if (onlyIfFull && !_log.IsFull)
            {
                return;
            }

            var mark = _log.Mark;
            await RequestAsync(flush, cancellationToken).ConfigureAwait(false);
            _log.Forget(mark);
        }
        finally
        {
            _flushLock.Release();
        }
    }

    private async ValueTask<ConnectionSet> GetCurrentAsync(CancellationToken cancellationToken)
    {
        while (true)
        {
            Task changed;
            lock (_gate)
            {
                if (_current is { } set)
                {
                    return set;
                }

                if (_failure is { } failure)
                {
                    throw new BlockException(failure.Kind, failure.Message, failure);
                }

                changed = _changed.Task;
            }

            await changed.WaitAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    // A set that is of no use any more; the first who notices begins with the next.
    private void GiveUp(ConnectionSet set, NbdConnectionException why)
    {
        lock (_gate)
        {
            if (_current != set)
            {
                return;
            }

            _current = null;
            if (Reconnects && why.IsLost)
            {
                _reconnecting = Task.Run(() => ReconnectAsync(set, why));
            }
            else
            {
                _failure = new BlockException(why.Kind, why.Message, why);
                _changed.TrySetResult();
            }
        }

        set.Drop();
    }

    private async Task ReconnectAsync(ConnectionSet lost, NbdConnectionException why)
    {
        BlockException last = why;
        var isOver = false;
        using var delay = new Timer(_ => StopWaiting(), null, _options.ReconnectDelay, Timeout.InfiniteTimeSpan);
        try
        {
            await lost.Settled.ConfigureAwait(false);
            await lost.CloseAsync().ConfigureAwait(false);
            for (var pause = s_firstPause; true; pause = pause * 2 > s_longestPause ? s_longestPause : pause * 2)
            {
                try
                {
                    await TryReconnectAsync().ConfigureAwait(false);
                    return;
                }
                catch (BlockException e) when (e is not ExportChangedException)
                {
                    last = e;
                }

                await Task.Delay(pause, _stop.Token).ConfigureAwait(false);
            }
        }
        catch (ExportChangedException e)
        {
            Fail(new BlockException(e.Kind, e.Message, e));
        }
        catch (OperationCanceledException)
        {
            // Closed.
        }
        finally
        {
            Volatile.Write(ref isOver, true);
        }

        // Connecting goes on, but nobody waits for it any more.
        void StopWaiting()
        {
            if (!Volatile.Read(ref isOver))
            {
                Fail(new BlockException(
                    BlockErrorKind.Protocol,
                    $"{last.Message}; no new connection within {_options.ReconnectDelay.TotalSeconds} s (option {NbdClientOptions.ReconnectDelayOption})", last));
            }
        }
    }

    private void Fail(BlockException failure)
    {
        lock (_gate)
        {
            if (_current is null && !_stop.IsCancellationRequested)
            {
                _failure = failure;
                _changed.TrySetResult();
            }
        }
    }

    private async ValueTask TryReconnectAsync()
    {
        var first = await NbdConnection.OpenAsync(_address, _options with { RetriesOpening = false }, _stop.Token).ConfigureAwait(false);
        var set = new ConnectionSet(first);
        try
        {
            if (Export.FindChange(first.Export) is { } change)
            {
                throw new ExportChangedException($"{Name}: the export is not what it was before the connection was lost: {change}");
            }

            if (_options.Writable)
            {
                await AddConnectionsAsync(set, _stop.Token).ConfigureAwait(false);
            }

            foreach (var operation in _log?.ToArray() ?? [])
            {
                await first.RequestAsync(operation, inline: false, _stop.Token).ConfigureAwait(false);
            }
        }
        catch
        {
            await set.CloseAsync().ConfigureAwait(false);
            throw;
        }

        lock (_gate)
        {
            if (!_stop.IsCancellationRequested)
            {
                (_current, _failure) = (set, null);
                var changed = _changed;
                _changed = new(TaskCreationOptions.RunContinuationsAsynchronously);
                changed.TrySetResult();
                return;
            }
        }

        await set.CloseAsync().ConfigureAwait(false);
    }

    // As many as the server lets in; one is enough.
    private async Task AddConnectionsAsync(ConnectionSet set, CancellationToken cancellationToken)
    {
        var count = Export.Can(NbdTransmissionFlags.CanMultiConn) ? _options.ConnectionsTo(_address) : 1;
        if (count <= 1)
        {
            return;
        }

        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, _stop.Token);
        limit.CancelAfter(s_moreTimeout);
        await Task.WhenAll(Enumerable.Range(1, count - 1).Select(_ => AddOneAsync())).ConfigureAwait(false);
        cancellationToken.ThrowIfCancellationRequested();

        async Task AddOneAsync()
        {
            try
            {
                var connection = await NbdConnection.OpenAsync(_address, _options with { RetriesOpening = false }, limit.Token).ConfigureAwait(false);
                if (Export.FindChange(connection.Export) is not null || !set.TryAdd(connection))
                {
                    await connection.DisposeAsync().ConfigureAwait(false);
                }
            }
            catch (Exception e) when (e is BlockException or OperationCanceledException)
            {
                // The others will do.
            }
        }
    }

    private sealed class ExportChangedException(string message) : BlockException(BlockErrorKind.Protocol, message);

    /// <summary>Connections that live and die together.</summary>
    private sealed class ConnectionSet(NbdConnection first)
    {
        private readonly Lock _gate = new();
        private readonly TaskCompletionSource _settled = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private volatile NbdConnection[] _connections = [first];
        private int _active;
        private int _next;
        private int _grown;
        private bool _dropped;

        public NbdConnection[] Connections => _connections;

        /// <summary>Completes when the set was dropped and its last request has ended.</summary>
        public Task Settled => _settled.Task;

        /// <summary>Whether the threads that receive shall do the callers' work as well: not the only one, where another processor could do that.</summary>
        public bool MayCompleteInline => _connections.Length > 1 || Environment.ProcessorCount <= 2;

        /// <summary>Counts a request in, unless it is too late.</summary>
        public bool TryEnter()
        {
            lock (_gate)
            {
                _active += _dropped ? 0 : 1;
                return !_dropped;
            }
        }

        public void Leave()
        {
            lock (_gate)
            {
                if (--_active == 0 && _dropped)
                {
                    _settled.TrySetResult();
                }
            }
        }

        /// <summary>Whether more connections shall be opened; true once.</summary>
        public bool MayGrow() => Volatile.Read(ref _grown) == 0 && Interlocked.Exchange(ref _grown, 1) == 0;

        /// <summary>The one with the least to do.</summary>
        public NbdConnection Choose()
        {
            var connections = _connections;
            var start = connections.Length == 1 ? 0 : (int)((uint)Interlocked.Increment(ref _next) % (uint)connections.Length);
            var best = connections[start];
            for (var i = 1; i < connections.Length && best.InFlight > 0; i++)
            {
                var other = connections[(start + i) % connections.Length];
                best = other.InFlight < best.InFlight ? other : best;
            }

            return best;
        }

        public bool TryAdd(NbdConnection connection)
        {
            lock (_gate)
            {
                if (!_dropped)
                {
                    _connections = [.. _connections, connection];
                }

                return !_dropped;
            }
        }

        /// <summary>Ends all connections: requests in flight fail.</summary>
        public void Drop()
        {
            lock (_gate)
            {
                _dropped = true;
                if (_active == 0)
                {
                    _settled.TrySetResult();
                }
            }

            foreach (var connection in _connections)
            {
                connection.Drop("another connection to the server was lost");
            }
        }

        public async ValueTask CloseAsync()
        {
            lock (_gate)
            {
                _dropped = true;
            }

            await Task.WhenAll(_connections.Select(connection => connection.DisposeAsync().AsTask())).ConfigureAwait(false);
        }
    }
}
