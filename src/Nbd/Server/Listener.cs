using System.Net;
using System.Net.Sockets;
using Platter.Core.Errors;
using Platter.Core.Sockets;

namespace Platter.Nbd.Server;

/// <summary>One listening socket and the thread that accepts on it.</summary>
internal sealed class Listener : IDisposable
{
    private const int LinuxSolSocket = 1, LinuxSoReuseAddr = 2;

    // What opening a socket's file fails with, on every Unix.
    private const int NoSuchDeviceOrAddress = 6;

    // How often a thread that waits at somebody else's socket looks whether it is still wanted.
    private static readonly TimeSpan s_pollTime = TimeSpan.FromMilliseconds(100);

    private readonly Socket? _socket;
    private readonly ListeningSocket? _special;
    private readonly string? _path;

    // Of the socket's file, by which it is known again: nothing changes that later.
    private readonly DateTime _madeAt;
    private Thread? _thread;
    private volatile bool _disposed;

    private Listener(Socket socket, string? path)
    {
        _socket = socket;
        _path = path;
        EndPoint = socket.LocalEndPoint!;
        _madeAt = path is null ? default : File.GetLastWriteTimeUtc(path);
    }

    private Listener(ListeningSocket special, EndPoint? endPoint) => (_special, EndPoint) = (special, endPoint);

    /// <summary>Where it listens; null for a kind that .NET has no addresses for.</summary>
    public EndPoint? EndPoint { get; }

    private string Name => _special?.Name ?? $"{EndPoint}";

    /// <summary>Binds and listens.</summary>
    /// <param name="endPoint">Where.</param>
    /// <param name="mode">Permissions of a unix socket, or null.</param>
    /// <exception cref="BlockException">The address cannot be used.</exception>
    public static Listener Open(EndPoint endPoint, UnixFileMode? mode)
    {
        var path = endPoint is UnixDomainSocketEndPoint ? endPoint.ToString() : null;
        var socket = new Socket(endPoint.AddressFamily, SocketType.Stream, path is null ? ProtocolType.Tcp : ProtocolType.Unspecified);
        try
        {
            if (path is null)
            {
                // As servers do: a port whose connections of a moment ago are not quite over can be used again.
                // .NET's own option would let a second server share the port as well (SO_REUSEPORT), and clients would get either one's disk.
                if (OperatingSystem.IsLinux())
                {
                    socket.SetRawSocketOption(LinuxSolSocket, LinuxSoReuseAddr, [1, 0, 0, 0]);
                }

                if (endPoint.AddressFamily == AddressFamily.InterNetworkV6)
                {
                    socket.DualMode = true;
                }
            }

            Bind(socket, endPoint, path);
            if (path is not null && mode is { } permissions && !OperatingSystem.IsWindows())
            {
                // Nobody can connect before the socket listens.
                File.SetUnixFileMode(path, permissions);
            }

            socket.Listen(128);
            return new Listener(socket, path);
        }
        catch (SocketException e)
        {
            socket.Dispose();
            throw new BlockException(
                e.SocketErrorCode == SocketError.AccessDenied ? BlockErrorKind.AccessDenied : BlockErrorKind.Locked,
                $"{endPoint}: cannot listen: {(path is not null && !Directory.Exists(Path.GetDirectoryName(Path.GetFullPath(path))) ? "No such directory" : e.Message)}", e);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    /// <summary>Takes over a socket that listens already, as a service manager hands it over. Its file, if it has one, is not ours to remove.</summary>
    public static Listener Adopt(Socket socket) => new(new BorrowedSocket(socket), socket.LocalEndPoint);

    /// <summary>Takes over a socket that listens already, of a kind that .NET has no addresses for.</summary>
    public static Listener Adopt(ListeningSocket special) => new(special, null);

    /// <summary>Starts to accept.</summary>
    /// <param name="accept">Takes over a connection; may take its time.</param>
    /// <param name="report">Told what went wrong.</param>
    public void Start(Action<Socket> accept, Action<string> report)
    {
        _thread = new Thread(() => Run(accept, report), 256 << 10) { IsBackground = true, Name = "NBD listener" };
        _thread.Start();
    }

    /// <summary>Stops listening; a unix socket's file goes with it.</summary>
    public void Dispose()
    {
        if (_disposed)
        {
            return;
        }

        _disposed = true;
        if (_special is not null)
        {
            // It looks now and then whether it is still wanted.
            _thread?.Join();
        }

        if (_path is not null && File.GetLastWriteTimeUtc(_path) != _madeAt)
        {
            // Somebody else's by now. The class would delete it all the same when it closes.
            Abandon(_socket!);
        }
        else
        {
            if (_path is not null)
            {
                TryDelete(_path);
            }

            _socket?.Dispose();
        }

        _special?.Dispose();
    }

    private static void Abandon(Socket socket)
    {
        try
        {
            // Wakes who waits to accept.
            socket.Shutdown(SocketShutdown.Both);
        }
        catch (SocketException)
        {
            // Not on every system; its thread then stays with the process.
        }

        GC.SuppressFinalize(socket);
        socket.SafeHandle.Dispose();
    }

    private static void Bind(Socket socket, EndPoint endPoint, string? path)
    {
        try
        {
            socket.Bind(endPoint);
        }
        catch (SocketException e) when (e.SocketErrorCode == SocketError.AddressAlreadyInUse && path is not null)
        {
            if (!IsStale(endPoint, path))
            {
                throw;
            }

            TryDelete(path);
            socket.Bind(endPoint);
        }
    }

    /// <summary>Whether a path is a socket that nobody listens on any more.</summary>
    private static bool IsStale(EndPoint endPoint, string path)
    {
        // A link may lead to a socket, but is none; nor is anything below /dev, where a device without a driver cannot be told from one.
        var full = Path.GetFullPath(path);
        if (new FileInfo(path).LinkTarget is not null
            || (full.StartsWith("/dev/", StringComparison.Ordinal) && !full.StartsWith("/dev/shm/", StringComparison.Ordinal)))
        {
            return false;
        }

        // Where somebody listens whose queue is full, connecting would wait.
        using var probe = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified) { Blocking = false };
        try
        {
            probe.Connect(endPoint);
            return false;
        }
        catch (SocketException e) when (e.SocketErrorCode == SocketError.ConnectionRefused)
        {
            // Any other file refuses connections, too; but it can be opened, which a socket cannot. For writing, so that a FIFO does not wait.
            try
            {
                using var file = File.OpenHandle(path, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite | FileShare.Delete);
                return false;
            }
            catch (IOException cannotOpen)
            {
                return cannotOpen.HResult == NoSuchDeviceOrAddress;
            }
            catch (UnauthorizedAccessException)
            {
                return false;
            }
        }
        catch (SocketException)
        {
            return false;
        }
    }

    private static void TryDelete(string path)
    {
        try
        {
            File.Delete(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Whoever binds next finds it stale, or tells why not.
        }
    }

    private void Run(Action<Socket> accept, Action<string> report)
    {
        while (!_disposed)
        {
            try
            {
                if (AcceptOne() is { } client)
                {
                    accept(client);
                }
            }
            catch (Exception) when (_disposed)
            {
                return;
            }
            catch (Exception e) when (e is SocketException or BlockException)
            {
                // The client gave up while it waited, or this process has no descriptors left: the next one may succeed.
                report($"{Name}: cannot accept: {e.Message}");
                Thread.Sleep(50);
            }
        }
    }

    private Socket? AcceptOne() => _special is not null ? _special.Accept(s_pollTime) : _socket!.Accept();

    /// <summary>A socket that somebody else listens on, too: waking a thread that waits in it by closing would shut it down for the service manager as well.</summary>
    private sealed class BorrowedSocket(Socket socket) : ListeningSocket
    {
        public override string Name { get; } = $"{socket.LocalEndPoint}";

        public override Socket? Accept(TimeSpan timeout) => socket.Poll(timeout, SelectMode.SelectRead) ? socket.Accept() : null;

        public override void Dispose() => socket.Dispose();
    }
}
