using System.Net;
using System.Net.Sockets;
using Platter.Core.Errors;
using Platter.Core.Sockets;
using Platter.Nbd.Protocol;

namespace Platter.Nbd.Server;

/// <summary>Serves disks to any number of NBD clients over TCP and unix sockets.</summary>
/// <remarks>
/// Made to face clients that nobody trusts: see <see cref="NbdServerOptions"/> for the limits. Each client has a thread; nothing that one
/// client does keeps another one waiting. Thread-safe. Without <see cref="NbdServerOptions.Tls"/> everybody who can connect reads all there is: then serve over a unix socket or a network that you trust.
/// </remarks>
/// <example><code>
/// await using var disk = await Disk.OpenAsync("vm.qcow2");
/// await using var server = new NbdServer(new Dictionary&lt;string, NbdExport&gt; { [""] = new(disk.Node) });
/// server.Start(new UnixDomainSocketEndPoint("/run/vm.sock"));
/// </code></example>
public sealed class NbdServer : IAsyncDisposable
{
    private readonly Lock _gate = new();
    private readonly object _slots = new();
    private readonly List<Listener> _listeners = [];
    private readonly HashSet<ClientConnection> _connections = [];
    private readonly TaskCompletionSource _empty = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int _accepted;
    private int _clients;
    private bool _stopping;

    /// <summary>Makes a server; nothing is opened yet.</summary>
    /// <param name="exports">By name. A client that asks for the empty name gets the export of that name, or the only one there is.</param>
    /// <param name="options">Limits; null for the defaults.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>: a name or description that the protocol cannot carry.</exception>
    public NbdServer(IReadOnlyDictionary<string, NbdExport> exports, NbdServerOptions? options = null)
    {
        foreach (var (name, export) in exports)
        {
            if (!NbdText.IsValid(name) || !NbdText.IsValid(export.Description ?? string.Empty))
            {
                throw new BlockException(
                    BlockErrorKind.InvalidRequest, "names and descriptions of exports may have 4096 bytes and no NUL character");
            }
        }

        Exports = exports;
        Options = options ?? new NbdServerOptions();
        Workers = new RequestWorkers(Options.Workers);
        Memory = new RequestMemory(Options.MaxTotalInFlightBytes);
    }

    /// <summary>What it offers.</summary>
    public IReadOnlyDictionary<string, NbdExport> Exports { get; }

    /// <summary>Where it really listens (port 0 has become a number).</summary>
    public IReadOnlyList<EndPoint> EndPoints
    {
        get
        {
            lock (_gate)
            {
                return [.. _listeners.Select(listener => listener.EndPoint).OfType<EndPoint>()];
            }
        }
    }

    internal NbdServerOptions Options { get; }

    internal RequestWorkers Workers { get; }

    internal RequestMemory Memory { get; }

    /// <summary>Connections in the transmission phase.</summary>
    internal int Clients => Volatile.Read(ref _clients);

    /// <summary>Begins to listen, on all of them or none.</summary>
    /// <param name="endPoints"><see cref="IPEndPoint"/>s and <see cref="UnixDomainSocketEndPoint"/>s. A socket file that a crash left behind is
    /// replaced; one that somebody listens on, or a file that is no socket, is an error.</param>
    /// <exception cref="BlockException">An address cannot be used.</exception>
    public void Start(params ReadOnlySpan<EndPoint> endPoints)
    {
        var opened = new List<Listener>();
        try
        {
            foreach (var endPoint in endPoints)
            {
                opened.Add(Listener.Open(endPoint, Options.SocketMode));
            }

            lock (_gate)
            {
                ObjectDisposedException.ThrowIf(_stopping, this);
                _listeners.AddRange(opened);
            }
        }
        catch
        {
            foreach (var listener in opened)
            {
                listener.Dispose();
            }

            throw;
        }

        foreach (var listener in opened)
        {
            listener.Start(AcceptInTurn, Report);
        }
    }

    /// <summary>Begins to accept clients from a socket that listens already (a service manager's). The server owns it from now on.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>: it is not a stream socket that listens; it is still the caller's.</exception>
    public void Start(Socket listening)
    {
        if (listening.SocketType != SocketType.Stream
            || listening.GetSocketOption(SocketOptionLevel.Socket, SocketOptionName.AcceptConnection) is not (int and not 0))
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, $"{listening.LocalEndPoint}: the socket that was handed over does not listen for streams");
        }

        // Accepting waits, on a thread of its own.
        listening.Blocking = true;
        Start(Listener.Adopt(listening));
    }

    /// <summary>Begins to accept clients from a socket of a kind that .NET has no addresses for (vsock). The server owns it from now on.</summary>
    public void Start(ListeningSocket listening) => Start(Listener.Adopt(listening));

    private void Start(Listener listener)
    {
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_stopping, this);
            _listeners.Add(listener);
        }

        listener.Start(AcceptInTurn, Report);
    }

    /// <summary>What an export offers to a client that agreed on nothing.</summary>
    /// <exception cref="KeyNotFoundException">There is no export of this name.</exception>
    public NbdTransmissionFlags FlagsOf(string exportName) => new ServerHandshake(Exports, Options).FlagsOf(Exports[exportName]);

    /// <summary>Serves a client that needs no handshake, since it was told of the export in another way: the kernel. Simple replies, no contexts.</summary>
    /// <param name="connected">A stream socket; the server owns it from now on.</param>
    /// <param name="exportName">Which export.</param>
    /// <exception cref="KeyNotFoundException">There is no export of this name; the socket is still the caller's.</exception>
    public void Serve(Socket connected, string exportName) => Accept(connected, Exports[exportName]);

    /// <summary>Stops: no new clients, requests that were received are answered, then all connections end.</summary>
    /// <param name="deadline">How long that may take before connections are cut.</param>
    public async ValueTask StopAsync(TimeSpan deadline)
    {
        ClientConnection[] connections;
        Listener[] listeners;
        lock (_gate)
        {
            _stopping = true;
            connections = [.. _connections];
            listeners = [.. _listeners];
            if (_connections.Count == 0)
            {
                _empty.TrySetResult();
            }
        }

        lock (_slots)
        {
            Monitor.PulseAll(_slots);
        }

        foreach (var listener in listeners)
        {
            listener.Dispose();
        }

        foreach (var connection in connections)
        {
            connection.Stop();
        }

        if (!await EndsWithinAsync(deadline).ConfigureAwait(false))
        {
            lock (_gate)
            {
                connections = [.. _connections];
            }

            foreach (var connection in connections)
            {
                connection.Cut();
            }

            // A read that hangs in the host cannot be ended by anybody; its thread is left to it.
            await EndsWithinAsync(TimeSpan.FromSeconds(1)).ConfigureAwait(false);
        }

        Workers.Dispose();
    }

    /// <summary>Stops within five seconds.</summary>
    public ValueTask DisposeAsync() => StopAsync(TimeSpan.FromSeconds(5));

    internal void Report(string message) => Options.Log?.Invoke(SafeText.Clean(message, 512));

    internal void ClientBegan()
    {
        var clients = Interlocked.Increment(ref _clients);
        Options.ClientsChanged?.Invoke(clients);
    }

    internal void ClientEnded()
    {
        var clients = Interlocked.Decrement(ref _clients);
        Options.ClientsChanged?.Invoke(clients);
    }

    internal void Remove(ClientConnection connection)
    {
        lock (_gate)
        {
            _connections.Remove(connection);
            if (_stopping && _connections.Count == 0)
            {
                _empty.TrySetResult();
            }
        }

        lock (_slots)
        {
            Monitor.PulseAll(_slots);
        }
    }

    private async ValueTask<bool> EndsWithinAsync(TimeSpan deadline)
    {
        try
        {
            await _empty.Task.WaitAsync(deadline).ConfigureAwait(false);
            return true;
        }
        catch (TimeoutException)
        {
            return false;
        }
    }

    /// <summary>Takes over a client as soon as there is a place for it. Until then the listener that found it waits, too; whoever comes after it waits in the host's queue.</summary>
    private void AcceptInTurn(Socket socket)
    {
        if (TryAccept(socket))
        {
            return;
        }

        Report($"a client waits: {Options.MaxConnections} are connected, as many as may be");
        lock (_slots)
        {
            while (!TryAccept(socket))
            {
                Monitor.Wait(_slots);
            }
        }
    }

    private bool TryAccept(Socket socket) => TryAccept(socket, null, Options.MaxConnections);

    private void Accept(Socket socket, NbdExport? begun) => TryAccept(socket, begun, int.MaxValue);

    private bool TryAccept(Socket socket, NbdExport? begun, int limit)
    {
        ClientConnection connection;
        lock (_gate)
        {
            if (_stopping)
            {
                socket.Dispose();
                return true;
            }

            if (_connections.Count >= limit)
            {
                return false;
            }

            connection = new ClientConnection(socket, this, ++_accepted, begun);
            _connections.Add(connection);
        }

        // Not under the lock: what fails here takes the other one, which is held by whoever waits for a place and asks for this one.
        try
        {
            connection.Start();
        }
        catch (OutOfMemoryException)
        {
            // The host has no thread left. The others' threads go on.
            socket.Dispose();
            Remove(connection);
            Report($"client {connection.Number}: no thread can be started for it");
        }

        return true;
    }
}
