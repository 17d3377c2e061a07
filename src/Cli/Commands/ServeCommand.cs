using System.Globalization;
using System.Net;
using System.Net.Sockets;
using Platter.Cli.Options;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Nbd.Server;

namespace Platter.Cli.Commands;

/// <summary><c>serve</c>: offers a disk, read-only, to NBD clients. Under the name <c>qemu-nbd</c> it has that tool's options and defaults.</summary>
internal sealed class ServeCommand(bool asQemuNbd = false) : Command
{
    private const int DefaultPort = 10809;

    private static readonly TimeSpan s_timeToFinish = TimeSpan.FromSeconds(5);

    private static readonly Option s_bind = new(
        'b', "bind", "ADDRESS", "Listen on this address. serve listens on the local host without it, qemu-nbd everywhere.");

    private static readonly Option s_port = new('p', "port", "PORT", "Listen on this TCP port (10809); 0 takes a free one.");
    private static readonly Option s_socket = new('k', "socket", "PATH", "Listen on a unix socket instead of TCP.");
    private static readonly Option s_name = new('x', "export-name", "NAME", "The export's name. Clients that ask for none get it as well.");
    private static readonly Option s_description = new('D', "description", "TEXT", "Words about the export for people.");

    private static readonly Option s_shared = new(
        'e', "shared", "N", "Serve at most N clients at one time; the others wait. serve allows 100 without it, qemu-nbd one.");

    private static readonly Option s_persistent = new(
        't', "persistent", null, "Go on when the last client has gone. serve always does, qemu-nbd only with this option.");

    private static readonly Option s_readOnly = new('r', "read-only", null, "Serve read-only; this version always does.");
    private static readonly Option s_verbose = new('v', "verbose", null, "Tell about clients that break the protocol or get lost.");
    private static readonly Option s_pidFile = new('\0', "pid-file", "PATH", "Write the process id to a file once clients can connect.");
    private static readonly Option s_loadSnapshot = new('l', "load-snapshot", "SNAPSHOT", "Serve this snapshot: its id or name.");

    // What tunes QEMU's I/O has no counterpart here and does no harm.
    private static readonly Option[] s_tuning =
    [
        new('n', "nocache", null, string.Empty), new('\0', "cache", "MODE", string.Empty), new('\0', "aio", "MODE", string.Empty),
        new('\0', "discard", "MODE", string.Empty), new('\0', "detect-zeroes", "MODE", string.Empty),
    ];

    private static readonly Option[] s_missing =
    [
        new('o', "offset", "OFFSET", string.Empty), new('s', "snapshot", null, string.Empty), new('B', "bitmap", "NAME", string.Empty),
        new('A', "allocation-depth", null, string.Empty), new('L', "list", null, string.Empty), new('c', "connect", "DEV", string.Empty),
        new('d', "disconnect", null, string.Empty), new('\0', "fork", null, string.Empty), new('\0', "tls-creds", "ID", string.Empty),
        new('\0', "tls-authz", "ID", string.Empty), new('\0', "tls-hostname", "NAME", string.Empty), new('\0', "selinux-label", "LABEL", string.Empty),
    ];

    public override string Name => "serve";

    public override string Summary => "Serve a disk over the network block device protocol, read-only.";

    public override string Operands => "IMAGE";

    public override string Details => asQemuNbd ? string.Empty :
        "Prints the URI that clients use, and serves until SIGINT or SIGTERM. There is no encryption yet: listen on a unix socket or on a\n"
        + "network that you trust.\n";

    public override IReadOnlyList<Option> Options { get; } =
    [
        CommonOptions.Help, CommonOptions.Format, CommonOptions.ImageOpts, asQemuNbd ? s_loadSnapshot : CommonOptions.Snapshot,
        s_bind, s_port, s_socket, s_name, s_description, s_shared, s_persistent, s_readOnly, s_verbose, s_pidFile, CommonOptions.Object,
        CommonOptions.PasswordFile, CommonOptions.Disk, CommonOptions.Untrusted,
        .. asQemuNbd ? [CommonOptions.Version, .. s_tuning, .. s_missing] : (Option[])[CommonOptions.ForceShare],
    ];

    public override async ValueTask<int> RunAsync(Session session, Arguments arguments)
    {
        foreach (var option in s_missing)
        {
            if (arguments.Has(option))
            {
                throw new UsageException($"option '{option}' is not in this version, which serves read-only and without TLS");
            }
        }

        var name = OneImage(arguments);
        var endPoint = EndPointOf(arguments);
        var exportName = arguments.Get(s_name) ?? string.Empty;
        var shared = Number(arguments, s_shared, asQemuNbd ? 1 : 100, 0, 1_000_000);
        var untilLast = asQemuNbd && !arguments.Has(s_persistent);
        if (asQemuNbd && !arguments.Has(s_readOnly))
        {
            session.Warn("this version serves read-only, as with --read-only");
        }

        var interrupted = session.WatchInterrupts();
        var disk = await ImageArguments.From(arguments, session).OpenAsync(name, options => WithSnapshot(options, arguments), interrupted)
            .ConfigureAwait(false);
        await using var closing = disk.ConfigureAwait(false);
        using var end = CancellationTokenSource.CreateLinkedTokenSource(interrupted);
        var server = new NbdServer(
            new Dictionary<string, NbdExport> { [exportName] = new(disk.Node, arguments.Get(s_description)) },
            new NbdServerOptions
            {
                // QEMU's 0 is "no limit".
                MaxConnections = shared == 0 ? int.MaxValue : shared,
                Log = arguments.Has(s_verbose) ? session.Complain : null,
                ClientsChanged = count => EndAfterLast(count, untilLast, end),
            });
        await using var stopping = server.ConfigureAwait(false);
        server.Start(endPoint);
        if (!asQemuNbd)
        {
            session.Out.Write(UriOf(server.EndPoints[0], exportName) + "\n");
            session.Out.Flush();
        }

        WritePid(arguments.Get(s_pidFile));
        var ended = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        using (end.Token.Register(() => ended.TrySetResult()))
        {
            await ended.Task.ConfigureAwait(false);
        }

        await server.StopAsync(s_timeToFinish).ConfigureAwait(false);
        return 0;
    }

    private static DiskOpenOptions WithSnapshot(DiskOpenOptions options, Arguments arguments) =>
        arguments.Get(s_loadSnapshot) is { } snapshot ? options with { Snapshot = SnapshotSelector.Parse(snapshot) } : options;

    private static void EndAfterLast(int clients, bool untilLast, CancellationTokenSource end)
    {
        if (clients == 0 && untilLast)
        {
            try
            {
                end.Cancel();
            }
            catch (ObjectDisposedException)
            {
                // It is ending already.
            }
        }
    }

    private EndPoint EndPointOf(Arguments arguments)
    {
        if (arguments.Get(s_socket) is { } path)
        {
            if (arguments.Has(s_bind) || arguments.Has(s_port))
            {
                throw new UsageException("--socket cannot be used together with --bind or --port");
            }

            // sun_path has 108 bytes, the last of them NUL.
            return System.Text.Encoding.UTF8.GetByteCount(path) is > 0 and < 108
                ? new UnixDomainSocketEndPoint(path)
                : throw new UsageException("the path of a unix socket may have 107 bytes");
        }

        var port = Number(arguments, s_port, DefaultPort, 0, 65535);
        var text = arguments.Get(s_bind);
        if (text is null)
        {
            return new IPEndPoint(asQemuNbd ? IPAddress.Any : IPAddress.Loopback, port);
        }

        if (!IPAddress.TryParse(text, out var address))
        {
            try
            {
                address = Dns.GetHostAddresses(text)[0];
            }
            catch (Exception e) when (e is SocketException or ArgumentException or IndexOutOfRangeException)
            {
                throw new BlockException(BlockErrorKind.NotFound, $"cannot listen on '{SafeText.Clean(text, 256)}': no such address");
            }
        }

        return new IPEndPoint(address, port);
    }

    private static int Number(Arguments arguments, Option option, int otherwise, int least, int most)
    {
        var text = arguments.Get(option);
        if (text is null)
        {
            return otherwise;
        }

        return int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number) && number >= least && number <= most
            ? number
            : throw new UsageException($"option '{option}' takes a number from {least} to {most}");
    }

    private static string UriOf(EndPoint endPoint, string exportName)
    {
        var name = Uri.EscapeDataString(exportName);
        if (endPoint is not IPEndPoint ip)
        {
            return $"nbd+unix:///{name}?socket={Uri.EscapeDataString(endPoint.ToString()!).Replace("%2F", "/", StringComparison.Ordinal)}";
        }

        // An address that means "all" is nothing to connect to.
        var address = ip.Address.Equals(IPAddress.Any) || ip.Address.Equals(IPAddress.IPv6Any) ? "localhost"
            : ip.AddressFamily == AddressFamily.InterNetworkV6 ? $"[{ip.Address}]" : ip.Address.ToString();
        return ip.Port == DefaultPort ? $"nbd://{address}/{name}" : $"nbd://{address}:{ip.Port}/{name}";
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
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new BlockException(BlockErrorKind.AccessDenied, $"{path}: cannot write the process id: {e.Message}", e);
        }
    }
}
