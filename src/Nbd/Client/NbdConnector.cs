using System.Net;
using System.Net.Sockets;
using Platter.Core.Errors;
using Platter.Nbd.Wire;

namespace Platter.Nbd.Client;

/// <summary>Finds a server, connects to it and begins the handshake.</summary>
internal static class NbdConnector
{
    private static readonly TimeSpan s_retryDelay = TimeSpan.FromMilliseconds(100);

    /// <summary>Connects, greets, encrypts if the options say so, and goes on with whatever the connection is for.</summary>
    /// <param name="address">The server.</param>
    /// <param name="options">How long to try, and how to encrypt.</param>
    /// <param name="haggle">The rest of the handshake. The wire is its own once it returns, and disposed if it throws.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <exception cref="BlockException">The server cannot be reached, refuses, breaks the protocol or takes too long.</exception>
    public static async ValueTask<T> OpenAsync<T>(
        NbdAddress address, NbdClientOptions options, Func<NbdHandshake, CancellationToken, Task<T>> haggle, CancellationToken cancellationToken)
    {
        var name = address.ToString();
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(options.OpenTimeout);
        Socket? socket = null;
        NbdHandshake? handshake = null;
        try
        {
            socket = address.Vsock is { } vsock
                ? await ConnectToMachineAsync(vsock, address, options, limit.Token).ConfigureAwait(false)
                : await ConnectAsync(address, options.RetriesOpening, limit.Token).ConfigureAwait(false);
            handshake = new NbdHandshake(new SocketWire(socket), name);
            await handshake.GreetAsync(limit.Token).ConfigureAwait(false);
            if (options.Tls is { } tls)
            {
                await handshake.StartTlsAsync(tls, options.TlsHostName, limit.Token).ConfigureAwait(false);
            }

            return await haggle(handshake, limit.Token).ConfigureAwait(false);
        }
        catch (Exception e)
        {
            if (handshake is { MayAbort: true })
            {
                await TryAbortAsync(handshake).ConfigureAwait(false);
            }

            handshake?.Wire.Dispose();
            socket?.Dispose();
            switch (e)
            {
                case OperationCanceledException when !cancellationToken.IsCancellationRequested:
                    var phase = socket is null ? "cannot be reached" : "does not finish the handshake";
                    throw new BlockException(
                        BlockErrorKind.Protocol, $"{name}: the server {phase} within {options.OpenTimeout.TotalSeconds} s (option {NbdClientOptions.OpenTimeoutOption})", e);
                case EndOfStreamException:
                    throw new BlockException(BlockErrorKind.Protocol, $"{name}: the server closed the connection during the handshake", e);
                case SocketException or ObjectDisposedException:
                    throw new BlockException(BlockErrorKind.Protocol, $"{name}: the connection broke during the handshake: {e.Message}", e);
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
        catch (Exception e) when (e is SocketException or ObjectDisposedException or OperationCanceledException)
        {
            // A goodbye that does not get through changes nothing.
        }
    }

    private static async ValueTask<Socket> ConnectToMachineAsync(
        (uint ContextId, uint Port) vsock, NbdAddress address, NbdClientOptions options, CancellationToken cancellationToken)
    {
        var connect = options.ConnectVsock ?? throw new BlockException(BlockErrorKind.Unsupported, $"{address}: vsock cannot be used here");
        while (true)
        {
            try
            {
                // The call waits for the other machine.
                return await Task.Run(() => connect(vsock.ContextId, vsock.Port), cancellationToken).WaitAsync(cancellationToken).ConfigureAwait(false);
            }
            catch (BlockException) when (options.RetriesOpening)
            {
                await Task.Delay(s_retryDelay, cancellationToken).ConfigureAwait(false);
            }
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
}
