using System.Net;
using System.Net.Sockets;
using Platter.Core.Errors;
using Platter.Nbd.Wire;

namespace Platter.Nbd.Client;

/// <summary>Finds a server, connects to it and begins the handshake.</summary>
/// <remarks>All of it waits on a thread of its own, which then is the connection's. A socket that was once waited for asynchronously would have .NET's event thread woken for
/// whatever arrives, for as long as it lives.</remarks>
internal static class NbdConnector
{
    private const int SendBufferBytes = 1 << 20;

    private static readonly TimeSpan s_retryDelay = TimeSpan.FromMilliseconds(100);

    /// <summary>Connects, greets, encrypts if the options say so, and goes on with whatever the connection is for.</summary>
    /// <param name="address">The server.</param>
    /// <param name="options">How long to try, and how to encrypt.</param>
    /// <param name="haggle">The rest of the handshake. The wire is its own once it returns, and disposed if it throws.</param>
    /// <param name="run">What the thread does once the caller has the result; never throws.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <exception cref="BlockException">The server cannot be reached, refuses, breaks the protocol or takes too long.</exception>
    public static async ValueTask<T> OpenAsync<T>(
        NbdAddress address, NbdClientOptions options, Func<NbdHandshake, CancellationToken, Task<T>> haggle, Action<T>? run, CancellationToken cancellationToken)
    {
        var opened = new TaskCompletionSource<T>(TaskCreationOptions.RunContinuationsAsynchronously);
        var thread = new Thread(() =>
        {
            T result;
            try
            {
                result = Open(address, options, haggle, cancellationToken);
            }
            catch (Exception e)
            {
                opened.SetException(e);
                return;
            }

            opened.SetResult(result);
            run?.Invoke(result);
        }) { IsBackground = true, Name = "NBD client" };
        thread.UnsafeStart();
        return await opened.Task.ConfigureAwait(false);
    }

    private static T Open<T>(NbdAddress address, NbdClientOptions options, Func<NbdHandshake, CancellationToken, Task<T>> haggle, CancellationToken cancellationToken)
    {
        var name = address.ToString();
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(options.OpenTimeout);
        Socket? socket = null;
        NbdHandshake? handshake = null;
        try
        {
            socket = address.Vsock is { } vsock
                ? ConnectToMachine(vsock, address, options, limit.Token)
                : Connect(address, options.RetriesOpening, limit.Token);
            handshake = new NbdHandshake(new SocketWire(socket, blocking: true), name);

            // The wire does what it is asked for before it returns: nothing is left to be waited for here.
            Finish(handshake.GreetAsync(limit.Token));
            if (options.Tls is { } tls)
            {
                Finish(handshake.StartTlsAsync(tls, options.TlsHostName, limit.Token));
            }

            return haggle(handshake, limit.Token).GetAwaiter().GetResult();
        }
        catch (Exception e)
        {
            if (handshake is { MayAbort: true })
            {
                TryAbort(handshake);
            }

            // With TLS 1.3 we are through before the server looks at our certificate, and some say no in no other way.
            var hint = handshake is { Wire: not SocketWire } && e is EndOfStreamException or SocketException { SocketErrorCode: SocketError.Shutdown or SocketError.ConnectionReset }
                ? "; it may not accept our credentials" : string.Empty;
            handshake?.Wire.Dispose();
            socket?.Dispose();
            switch (e)
            {
                case OperationCanceledException when !cancellationToken.IsCancellationRequested:
                    var phase = socket is null ? "cannot be reached" : "does not finish the handshake";
                    throw new BlockException(
                        BlockErrorKind.Protocol, $"{name}: the server {phase} within {options.OpenTimeout.TotalSeconds} s (option {NbdClientOptions.OpenTimeoutOption})", e);
                case EndOfStreamException:
                    throw new BlockException(BlockErrorKind.Protocol, $"{name}: the server closed the connection during the handshake{hint}", e);
                case SocketException or ObjectDisposedException:
                    throw new BlockException(BlockErrorKind.Protocol, $"{name}: the connection broke during the handshake: {e.Message}{hint}", e);
                default:
                    throw;
            }
        }
    }

    private static void Finish(ValueTask step) => step.AsTask().GetAwaiter().GetResult();

    private static void TryAbort(NbdHandshake handshake)
    {
        try
        {
            using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(1));
            Finish(handshake.AbortAsync(limit.Token));
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException or OperationCanceledException)
        {
            // A goodbye that does not get through changes nothing.
        }
    }

    private static Socket ConnectToMachine(
        (uint ContextId, uint Port) vsock, NbdAddress address, NbdClientOptions options, CancellationToken cancellationToken)
    {
        var connect = options.ConnectVsock ?? throw new BlockException(BlockErrorKind.Unsupported, $"{address}: vsock cannot be used here");
        while (true)
        {
            try
            {
                // The call waits for the other machine, and nothing can interrupt it.
                return Task.Run(() => connect(vsock.ContextId, vsock.Port), cancellationToken).WaitAsync(cancellationToken).GetAwaiter().GetResult();
            }
            catch (BlockException) when (options.RetriesOpening)
            {
                Pause(cancellationToken);
            }
        }
    }

    private static Socket Connect(NbdAddress address, bool retry, CancellationToken cancellationToken)
    {
        while (true)
        {
            try
            {
                return address.SocketPath is { } path ? ConnectToPath(path, cancellationToken) : ConnectToHost(address, cancellationToken);
            }
            catch (Exception e)
            {
                switch (e)
                {
                    case SocketException when retry:
                        Pause(cancellationToken);
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

    private static void Pause(CancellationToken cancellationToken)
    {
        cancellationToken.WaitHandle.WaitOne(s_retryDelay);
        cancellationToken.ThrowIfCancellationRequested();
    }

    // A server that has too many waiting for it makes connecting wait, and nothing but a time limit ends that.
    private static Socket ConnectToPath(string path, CancellationToken cancellationToken)
    {
        while (true)
        {
            var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified) { SendTimeout = (int)s_retryDelay.TotalMilliseconds };
            try
            {
                Connect(socket, new UnixDomainSocketEndPoint(path), cancellationToken);
                socket.SendTimeout = 0;

                // A write's payload goes out at once, instead of in halves between which two processes wake each other. (TCP finds its own size.)
                socket.SendBufferSize = SendBufferBytes;
                return socket;
            }
            catch (SocketException e) when (e.SocketErrorCode is SocketError.WouldBlock or SocketError.TimedOut)
            {
                cancellationToken.ThrowIfCancellationRequested();
            }
        }
    }

    // One address after the other, each with a socket of its own: a socket that was set up cannot be connected twice everywhere (.NET 9 on Linux).
    private static Socket ConnectToHost(NbdAddress address, CancellationToken cancellationToken)
    {
        var addresses = Dns.GetHostAddressesAsync(address.Host!, cancellationToken).GetAwaiter().GetResult();
        SocketException? failure = null;
        foreach (var one in addresses)
        {
            try
            {
                var socket = new Socket(one.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
                SetUp(socket);
                Connect(socket, new IPEndPoint(one, address.Port), cancellationToken);
                return socket;
            }
            catch (SocketException e)
            {
                failure = e;
            }
        }

        throw failure ?? new SocketException((int)SocketError.HostNotFound);
    }

    private static void Connect(Socket socket, EndPoint to, CancellationToken cancellationToken)
    {
        try
        {
            using (cancellationToken.UnsafeRegister(static socket => ((Socket)socket!).Dispose(), socket))
            {
                socket.Connect(to);
            }

            cancellationToken.ThrowIfCancellationRequested();
        }
        catch (Exception e)
        {
            socket.Dispose();
            if (e is SocketException or ObjectDisposedException)
            {
                cancellationToken.ThrowIfCancellationRequested();
            }

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
        _ when address.SocketPath is { Length: > 0 } path && path[0] != '\0' && !File.Exists(path) => BlockErrorKind.NotFound,
        _ => BlockErrorKind.Io,
    };
}
