using System.Net;
using System.Net.Sockets;
using System.Text;
using Platter.Cli.Options;
using Platter.Core.Errors;
using Platter.Host.Sockets;
using Platter.Nbd.Server;

namespace Platter.Cli.Serving;

/// <summary>Opens what is to be served and serves it until a signal or, if so asked, until the last client has gone.</summary>
internal static class ServeRunner
{
    // Of sun_path's 108 bytes the last one is NUL.
    private const int MaxSocketPathBytes = 107;

    /// <summary>Serves.</summary>
    /// <returns>The exit code: a signal is the ordinary end, and 0.</returns>
    /// <exception cref="BlockException">An image cannot be opened, or the address not be listened on.</exception>
    public static async ValueTask<int> RunAsync(Session session, ServeSettings settings, ImageArguments images)
    {
        // A device alone needs no address.
        var inherited = settings.Device is not null ? [] : InheritedSockets.Take(session);
        if (inherited.Count > 0 && (settings.HasAddress || settings.VsockPort is not null))
        {
            throw new UsageException("a service manager has handed over sockets (LISTEN_FDS): an address cannot be given as well");
        }

        var endPoint = inherited.Count > 0 || settings.VsockPort is not null || (settings.Device is not null && !settings.HasAddress) ? null : EndPointOf(settings);
        var interrupted = session.WatchInterrupts();
        var disks = await ServedDisks.OpenAsync(settings.Exports, images, interrupted).ConfigureAwait(false);
        await using var closing = disks.ConfigureAwait(false);
        var end = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        using var ending = interrupted.Register(() => end.TrySetResult());
        var server = new NbdServer(disks.Exports, OptionsOf(session, settings, end));
        await using var stopping = server.ConfigureAwait(false);
        if (endPoint is not null)
        {
            server.Start(endPoint);
        }

        if (settings.VsockPort is { } vsock)
        {
            server.Start(Vsock.Listen(vsock));
        }

        foreach (var socket in inherited)
        {
            server.Start(socket);
        }

        using var device = settings.Device is { } path ? KernelDisk.Attach(server, disks.Exports.First().Key, path) : null;
        WritePid(settings.PidFile);
        if (settings.PrintsUri && (endPoint is not null || settings.VsockPort is not null))
        {
            PrintUris(session, settings, disks, (server.EndPoints.FirstOrDefault() as IPEndPoint)?.Port ?? 0);
        }

        if (settings.PrintsUri && device is not null)
        {
            session.Out.Write($"{settings.Device}\n");
            session.Out.Flush();
        }

        if (BackgroundServer.IsChild(session))
        {
            BackgroundServer.TellReady(session);
        }

        await end.Task.ConfigureAwait(false);

        // The kernel writes what it still has: before the server stops.
        device?.Dispose();
        await server.StopAsync(settings.Limits.Stop).ConfigureAwait(false);
        return 0;
    }

    private static void PrintUris(Session session, ServeSettings settings, ServedDisks disks, int port)
    {
        foreach (var name in disks.Exports.Keys)
        {
            session.Out.Write($"{settings.UriOf(name, port)}\n");
        }

        session.Out.Flush();
    }

    private static NbdServerOptions OptionsOf(Session session, ServeSettings settings, TaskCompletionSource end)
    {
        var options = new NbdServerOptions
        {
            Log = settings.Verbose ? session.Complain : null,
            SocketMode = settings.SocketMode,
            Tls = settings.Tls,
            HandshakeTimeout = settings.Limits.Handshake,
            SendTimeout = settings.Limits.Stall,
            ReceiveTimeout = settings.Limits.Stall,
            MaxTotalInFlightBytes = settings.Limits.Memory,
        };
        if (settings.MaxClients is { } most)
        {
            options = options with { MaxConnections = most == 0 ? int.MaxValue : most };
        }

        return settings.Persistent ? options : options with
        {
            ClientsChanged = count =>
            {
                if (count == 0)
                {
                    end.TrySetResult();
                }
            },
        };
    }

    private static EndPoint EndPointOf(ServeSettings settings)
    {
        if (settings.SocketPath is { } path)
        {
            return Encoding.UTF8.GetByteCount(path) is > 0 and <= MaxSocketPathBytes
                ? new UnixDomainSocketEndPoint(path)
                : throw new UsageException($"the path of a unix socket may have 1 to {MaxSocketPathBytes} bytes");
        }

        // Clients try ::1 first and then come here; listening on both would need the same free port twice.
        return settings.Bind == "localhost" ? new IPEndPoint(IPAddress.Loopback, settings.Port) : new IPEndPoint(AddressOf(settings.Bind), settings.Port);
    }

    private static IPAddress AddressOf(string text)
    {
        if (IPAddress.TryParse(text, out var address))
        {
            return address;
        }

        try
        {
            return Dns.GetHostAddresses(text)[0];
        }
        catch (Exception e) when (e is SocketException or ArgumentException or IndexOutOfRangeException)
        {
            throw new BlockException(BlockErrorKind.NotFound, $"cannot listen on '{SafeText.Clean(text, 256)}': no such address", e);
        }
    }

    private static void WritePid(string? path)
    {
        if (path is null)
        {
            return;
        }

        try
        {
            File.WriteAllText(path, $"{Environment.ProcessId}\n");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            throw new BlockException(BlockErrorKind.AccessDenied, $"{path}: the process id cannot be written", e);
        }
    }
}
