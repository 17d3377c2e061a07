using System.Net;
using System.Net.Sockets;
using Platter.Core.Errors;
using Platter.Nbd.Protocol;

namespace Platter.Nbd.Client;

/// <summary>One connection in its transmission phase, with many requests in flight.</summary>
/// <remarks>
/// Requests go out under a send lock; one loop reads all replies and finds the request by its cookie, whose low bits are the request's
/// slot. An error that the server reports fails one request. Anything that breaks the protocol ends the connection, since nothing after
/// it can be trusted to be where it should. Locks, in this order: a slot, the send lock, <c>_gate</c>, a request's own.
/// Thread-safe.
/// </remarks>
internal sealed partial class NbdConnection : IAsyncDisposable
{
    /// <summary>Requests in flight; common servers work on 16 at a time.</summary>
    public const int MaxInFlight = 16;

    private const int SlotBits = 8;

    private static readonly TimeSpan s_retryDelay = TimeSpan.FromMilliseconds(100);
    private static readonly TimeSpan s_abandonDelay = TimeSpan.FromSeconds(2);

    private readonly Socket _socket;
    private readonly NbdInput _input;
    private readonly string _name;
    private readonly SemaphoreSlim _slots = new(MaxInFlight);
    private readonly SemaphoreSlim _sendLock = new(1);
    private readonly Lock _gate = new();
    private readonly NbdPendingRequest?[] _pending = new NbdPendingRequest?[MaxInFlight];
    private readonly byte[] _requestBytes = new byte[NbdRequest.ExtendedSize];
    private ulong _nextSerial;
    private BlockException? _failure;
    private bool _loopEnded;
    private int _disposed;
    private Task _loop = Task.CompletedTask;

    private NbdConnection(Socket socket, NbdInput input, string name, NbdExportInfo export)
    {
        _socket = socket;
        _input = input;
        _name = name;
        Export = export;
    }

    /// <summary>What the handshake agreed on.</summary>
    public NbdExportInfo Export { get; }

    /// <summary>Connects and enters the transmission phase.</summary>
    /// <exception cref="BlockException">The server cannot be reached, refuses, breaks the protocol or takes too long.</exception>
    public static ValueTask<NbdConnection> OpenAsync(NbdAddress address, NbdTimeouts timeouts, CancellationToken cancellationToken) =>
        HandshakeAsync(
            address,
            timeouts,
            static async (socket, input, handshake, address, token) =>
            {
                var export = await handshake.EnterAsync(address.ExportName, token).ConfigureAwait(false);
                var connection = new NbdConnection(socket, input, address.ToString(), export);
                connection._loop = Task.Run(connection.ReadRepliesAsync, CancellationToken.None);
                return connection;
            },
            cancellationToken);

    /// <summary>Connects, asks for the names of the exports and leaves.</summary>
    /// <exception cref="BlockException">As with <see cref="OpenAsync"/>, or the server does not list its exports.</exception>
    public static ValueTask<IReadOnlyList<NbdListedExport>> ListAsync(NbdAddress address, NbdTimeouts timeouts, CancellationToken cancellationToken) =>
        HandshakeAsync(
            address,
            timeouts,
            static async (socket, input, handshake, address, token) =>
            {
                var exports = await handshake.ListAsync(token).ConfigureAwait(false);
                await handshake.AbortAsync(token).ConfigureAwait(false);
                socket.Dispose();
                return exports;
            },
            cancellationToken);

    /// <summary>Reads a range that obeys the export's size constraints.</summary>
    /// <exception cref="BlockException">The server could not read it, or the connection failed.</exception>
    public async ValueTask ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellationToken) =>
        await RequestAsync(NbdCommand.Read, offset, (uint)buffer.Length, buffer, cancellationToken).ConfigureAwait(false);

    /// <summary>Asks which parts of a range are allocated; only with <see cref="NbdExportInfo.AllocationContext"/>.</summary>
    /// <returns>Extents from <paramref name="offset"/> on, at least one; together shorter or longer than asked.</returns>
    /// <exception cref="BlockException">The server could not tell, or the connection failed.</exception>
    public async ValueTask<IReadOnlyList<NbdStatusDescriptor>> QueryStatusAsync(long offset, uint length, CancellationToken cancellationToken) =>
        (await RequestAsync(NbdCommand.BlockStatus, offset, length, Memory<byte>.Empty, cancellationToken).ConfigureAwait(false)).Extents!;

    /// <summary>Says goodbye and closes. Requests in flight fail.</summary>
    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0)
        {
            return;
        }

        if (await _sendLock.WaitAsync(TimeSpan.FromSeconds(1)).ConfigureAwait(false))
        {
            try
            {
                var size = new NbdRequest(NbdCommandFlags.None, NbdCommand.Disconnect, 0, 0, 0).WriteTo(_requestBytes, Export.Style);
                using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(1));
                await _socket.SendAsync(_requestBytes.AsMemory(0, size), SocketFlags.None, limit.Token).ConfigureAwait(false);
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException or OperationCanceledException)
            {
                // A goodbye that does not get through changes nothing.
            }
            finally
            {
                _sendLock.Release();
            }
        }

        Kill(new BlockException(BlockErrorKind.Protocol, $"{_name}: the connection is closed"));
        await _loop.ConfigureAwait(false);
    }

    private static async ValueTask<T> HandshakeAsync<T>(
        NbdAddress address,
        NbdTimeouts timeouts,
        Func<Socket, NbdInput, NbdHandshake, NbdAddress, CancellationToken, Task<T>> haggle,
        CancellationToken cancellationToken)
    {
        var name = address.ToString();
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(timeouts.Open);
        Socket? socket = null;
        NbdHandshake? handshake = null;
        try
        {
            socket = await ConnectAsync(address, timeouts.Retry, limit.Token).ConfigureAwait(false);
            var input = new NbdInput(socket);
            handshake = new NbdHandshake(socket, input, name);
            await handshake.GreetAsync(limit.Token).ConfigureAwait(false);
            return await haggle(socket, input, handshake, address, limit.Token).ConfigureAwait(false);
        }
        catch (Exception e)
        {
            if (handshake is { MayAbort: true })
            {
                await TryAbortAsync(handshake).ConfigureAwait(false);
            }

            socket?.Dispose();
            switch (e)
            {
                case OperationCanceledException when !cancellationToken.IsCancellationRequested:
                    var phase = socket is null ? "cannot be reached" : "does not finish the handshake";
                    throw new BlockException(
                        BlockErrorKind.Protocol, $"{name}: the server {phase} within {timeouts.Open.TotalSeconds} s (option {NbdTimeouts.OpenOption})", e);
                case EndOfStreamException:
                    throw new BlockException(BlockErrorKind.Protocol, $"{name}: the server closed the connection during the handshake", e);
                case SocketException broken:
                    throw new BlockException(BlockErrorKind.Protocol, $"{name}: the connection broke during the handshake: {broken.Message}", e);
                default:
                    throw;
            }
        }
    }

    private static async ValueTask TryAbortAsync(NbdHandshake handshake)
    {
        try
        {
            using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(1));
            await handshake.AbortAsync(limit.Token).ConfigureAwait(false);
        }
        catch (Exception e) when (e is SocketException or OperationCanceledException)
        {
            // A goodbye that does not get through changes nothing.
        }
    }

    private static async ValueTask<Socket> ConnectAsync(NbdAddress address, bool retry, CancellationToken cancellationToken)
    {
        while (true)
        {
            try
            {
                return address.SocketPath is { } path
                    ? await ConnectAsync(
                        new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified), new UnixDomainSocketEndPoint(path), cancellationToken).ConfigureAwait(false)
                    : await ConnectToHostAsync(address, cancellationToken).ConfigureAwait(false);
            }
            catch (Exception e)
            {
                switch (e)
                {
                    case SocketException when retry:
                        await Task.Delay(s_retryDelay, cancellationToken).ConfigureAwait(false);
                        break;
                    case SocketException error:
                        var kind = KindOf(error, address);
                        var why = kind == BlockErrorKind.NotFound && address.SocketPath is not null ? "there is no such socket" : error.Message;
                        throw new BlockException(kind, $"{address}: cannot connect: {why}", e);
                    case ArgumentException:
                        throw new BlockException(
                            BlockErrorKind.InvalidRequest, $"{address}: this host cannot use that {(address.SocketPath is null ? "host name" : "socket path")}", e);
                    default:
                        throw;
                }
            }
        }
    }

    // One address after the other, each with a socket of its own: a socket that was set up cannot be connected twice everywhere (.NET 9 on Linux).
    private static async ValueTask<Socket> ConnectToHostAsync(NbdAddress address, CancellationToken cancellationToken)
    {
        var addresses = await Dns.GetHostAddressesAsync(address.Host!, cancellationToken).ConfigureAwait(false);
        SocketException? failure = null;
        foreach (var one in addresses)
        {
            Socket? socket = null;
            try
            {
                socket = new Socket(one.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
                SetUp(socket);
                return await ConnectAsync(socket, new IPEndPoint(one, address.Port), cancellationToken).ConfigureAwait(false);
            }
            catch (SocketException e)
            {
                socket?.Dispose();
                failure = e;
            }
        }

        throw failure ?? new SocketException((int)SocketError.HostNotFound);
    }

    private static async ValueTask<Socket> ConnectAsync(Socket socket, EndPoint to, CancellationToken cancellationToken)
    {
        try
        {
            await socket.ConnectAsync(to, cancellationToken).ConfigureAwait(false);
            return socket;
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    // Requests have no time limit, since a server may have good reasons; a host that vanished without a word must be noticed all the same.
    private static void SetUp(Socket socket)
    {
        socket.NoDelay = true;
        socket.SetSocketOption(SocketOptionLevel.Socket, SocketOptionName.KeepAlive, true);
        socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveTime, 60);
        socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveInterval, 10);
        socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveRetryCount, 6);
    }

    // A missing socket file has no code of its own in .NET; the file system knows better.
    private static BlockErrorKind KindOf(SocketException error, NbdAddress address) => error.SocketErrorCode switch
    {
        SocketError.AccessDenied => BlockErrorKind.AccessDenied,
        SocketError.HostNotFound or SocketError.NoData => BlockErrorKind.NotFound,
        _ when address.SocketPath is ['/', ..] path && !File.Exists(path) => BlockErrorKind.NotFound,
        _ => BlockErrorKind.Io,
    };

    private async ValueTask<NbdPendingRequest> RequestAsync(
        NbdCommand command, long offset, uint length, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        await _slots.WaitAsync(cancellationToken).ConfigureAwait(false);
        NbdPendingRequest request;
        try
        {
            await _sendLock.WaitAsync(cancellationToken).ConfigureAwait(false);
        }
        catch
        {
            _slots.Release();
            throw;
        }

        try
        {
            // From here on the reader loop gives back the slot, unless the connection was dead already.
            request = Register(command, offset, length, buffer);
            var size = new NbdRequest(NbdCommandFlags.None, command, request.Cookie, (ulong)offset, length).WriteTo(_requestBytes, Export.Style);
            await SendRequestAsync(_requestBytes.AsMemory(0, size)).ConfigureAwait(false);
        }
        finally
        {
            _sendLock.Release();
        }

        using (cancellationToken.UnsafeRegister(static (state, by) => Abandon(state, by), (this, request)))
        {
            await request.Done.ConfigureAwait(false);
        }

        return request;
    }

    private NbdPendingRequest Register(NbdCommand command, long offset, uint length, Memory<byte> buffer)
    {
        lock (_gate)
        {
            if (_loopEnded || _failure is not null)
            {
                _slots.Release();
                throw Again(_failure!);
            }

            var slot = Array.IndexOf(_pending, null);
            var request = new NbdPendingRequest(command, (++_nextSerial << SlotBits) | (uint)slot, offset, length, buffer);
            _pending[slot] = request;
            return request;
        }
    }

    // Not cancellable: half a request would leave the server waiting for the rest of it.
    private async ValueTask SendRequestAsync(ReadOnlyMemory<byte> rest)
    {
        try
        {
            while (rest.Length > 0)
            {
                rest = rest[await _socket.SendAsync(rest, SocketFlags.None).ConfigureAwait(false)..];
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // The request is registered: it fails with all others when the loop ends.
            Kill(new BlockException(BlockErrorKind.Protocol, $"{_name}: the connection broke: {e.Message}", e));
        }
    }

    private static void Abandon(object? state, CancellationToken by)
    {
        var (connection, request) = ((NbdConnection, NbdPendingRequest))state!;
        if (request.Abandon(by))
        {
            _ = connection.KillIfStuckAsync(request);
        }
    }

    // A server that stops in the middle of a chunk must not keep a caller that has given up.
    private async Task KillIfStuckAsync(NbdPendingRequest request)
    {
        await Task.WhenAny(request.Done, Task.Delay(s_abandonDelay)).ConfigureAwait(false);
        if (!request.Done.IsCompleted)
        {
            Kill(new BlockException(BlockErrorKind.Protocol, $"{_name}: the server stopped in the middle of a reply"));
        }
    }

    /// <summary>Ends the connection; the first reason counts. Requests fail when the loop notices, and so have their buffers back for sure.</summary>
    private void Kill(BlockException reason)
    {
        lock (_gate)
        {
            _failure ??= reason;
        }

        _socket.Dispose();
    }

    private static BlockException Again(BlockException failure) => new(failure.Kind, failure.Message, failure);
}
