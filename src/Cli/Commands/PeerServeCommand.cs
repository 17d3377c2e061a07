using Platter.Cli.Options;
using Platter.Cli.Output;
using Platter.Cli.Serving;
using Platter.Core.Errors;
using Platter.Nbd.Client;
using Platter.Nbd.Server;

namespace Platter.Cli.Commands;

/// <summary>What runs under the name <c>qemu-nbd</c>: its options, its defaults, its words.</summary>
internal sealed class PeerServeCommand : Command
{
    private static readonly Option s_port = new('p', "port", "PORT", "Port to listen on (default 10809).");
    private static readonly Option s_bind = new('b', "bind", "IFACE", "Interface to bind to (default 0.0.0.0).");
    private static readonly Option s_socket = new('k', "socket", "PATH", "Path of the unix socket.");
    private static readonly Option s_shared = new('e', "shared", "NUM", "Clients at a time (default 1), 0 for no limit.");
    private static readonly Option s_persistent = new('t', "persistent", null, "Don't exit on the last connection.");
    private static readonly Option s_name = new('x', "export-name", "NAME", "Name of the export (default empty).");
    private static readonly Option s_description = new('D', "description", "TEXT", "Human-readable description of the export.");
    private static readonly Option s_offset = new('o', "offset", "OFFSET", "Offset into the image.");
    private static readonly Option s_fork = new('\0', "fork", null, "Go to the background once clients can connect.");
    private static readonly Option s_pidFile = new('\0', "pid-file", "PATH", "Store the server's process id in this file.");
    private static readonly Option s_snapshot = CommonOptions.Snapshot with { Long = "load-snapshot" };
    private static readonly Option s_readOnly = new('r', "read-only", null, "Export read-only.");
    private static readonly Option s_verbose = new('v', "verbose", null, "Tell about clients that break the protocol or get lost.");
    private static readonly Option s_noCache = new('n', "nocache", null, "Same as --cache=none.");
    private static readonly Option s_cache = new('\0', "cache", "MODE", "writethrough and directsync make every write durable, unsafe none; none and directsync leave nothing in the host's cache (default writeback).");
    private static readonly Option s_aio = new('\0', "aio", "MODE", string.Empty);
    private static readonly Option s_discard = new('\0', "discard", "MODE", "ignore (default) or unmap.");
    private static readonly Option s_detectZeroes = new('\0', "detect-zeroes", "MODE", "off (default), on or unmap.");
    private static readonly Option s_overlay = new('s', "snapshot", null, "Write to a temporary file instead of FILE.");
    private static readonly Option s_depth = new('A', "allocation-depth", null, "Expose the allocation depth.");
    private static readonly Option s_bitmap = new('B', "bitmap", "NAME", "Expose a persistent dirty bitmap.");
    private static readonly Option s_list = new('L', "list", null, "List the exports of another NBD server.");
    private static readonly Option s_connect = new('c', "connect", "DEV", "Connect FILE to the local NBD device DEV.");
    private static readonly Option s_disconnect = new('d', "disconnect", "DEV", "Disconnect the specified device.");
    private static readonly Option s_partition = new('P', "partition", "NUM", "Expose one partition only.");

    // Known, and refused with a reason.
    private static readonly (Option Option, string Reason)[] s_refused =
    [
        (new('\0', "selinux-label", "LABEL", string.Empty), "SELinux labels are not supported"),
        (new('T', "trace", "PATTERN", string.Empty), "tracing is not supported"),
    ];

    public override string Name => "qemu-nbd";

    public override string Summary => "Export a disk over NBD with the options of qemu-nbd.";

    public override string Operands => "FILE";

    public override IReadOnlyList<Option> Options { get; } = Table();

    public override ValueTask<int> RunAsync(Session session, Arguments arguments)
    {
        if (arguments.Get(s_disconnect) is { } device)
        {
            KernelDisk.Detach(device);
            return new(0);
        }

        if (arguments.Has(s_list))
        {
            return ListAsync(session, arguments);
        }

        var settings = Parse(arguments);
        return arguments.Has(s_fork) && !BackgroundServer.IsChild(session)
            ? BackgroundServer.StartAsync(session)
            : ServeRunner.RunAsync(session, settings, ImageArguments.From(arguments, session, s_snapshot));
    }

    /// <summary>What the arguments ask for.</summary>
    /// <exception cref="UsageException">Something that is refused, or a mistake.</exception>
    internal static ServeSettings Parse(Arguments arguments)
    {
        foreach (var (option, reason) in s_refused)
        {
            if (arguments.Has(option))
            {
                throw new UsageException($"{option}: {reason}");
            }
        }

        if (arguments.Operands.Count != 1)
        {
            throw new UsageException("Invalid number of arguments", pointToHelp: true);
        }

        RequireOneOf(arguments, s_aio, "aio mode", "native", "threads", "io_uring");
        var socket = arguments.Get(s_socket);
        if (socket is not null && !Path.IsPathRooted(socket))
        {
            throw new UsageException("socket path must be absolute");
        }

        return new ServeSettings
        {
            Exports = [ExportOf(arguments)],
            SocketPath = socket,
            HasAddress = socket is not null || arguments.Has(s_bind) || arguments.Has(s_port),
            Bind = arguments.Get(s_bind) ?? "0.0.0.0",
            Port = arguments.Get(s_port) is { } port ? ServeSettings.ParsePort(port, 1) : ServeSettings.DefaultPort,
            Device = arguments.Get(s_connect),
            MaxClients = arguments.Get(s_shared) is { } shared ? ServeSettings.ParseClients(shared) : 1,
            Persistent = arguments.Has(s_persistent),
            PidFile = arguments.Get(s_pidFile),
            Tls = TlsArguments.Server(arguments),
            Verbose = arguments.Has(s_verbose),
        };
    }

    private static async ValueTask<int> ListAsync(Session session, Arguments arguments)
    {
        if (arguments.Operands.Count != 0)
        {
            throw new UsageException("List mode is incompatible with a file name");
        }

        var address = arguments.Get(s_socket) is { } socket
            ? NbdAddress.ForSocket(socket)
            : NbdAddress.ForHost(arguments.Get(s_bind) ?? "localhost", arguments.Get(s_port) is { } port ? ServeSettings.ParsePort(port, 1) : ServeSettings.DefaultPort);
        var options = new NbdClientOptions { Tls = TlsArguments.Client(arguments), TlsHostName = arguments.Get(TlsArguments.HostName), TlsLibrary = KnownFormats.TlsLibrary };
        PeerExportList.Write(session.Out, await NbdClient.InspectAllAsync(address, options).ConfigureAwait(false));
        return 0;
    }

    private static ExportSettings ExportOf(Arguments arguments)
    {
        var detect = arguments.Get(s_detectZeroes) is { } zeroes ? ExportSettings.ParseZeroes(zeroes) : default;
        var unmaps = arguments.Get(s_discard) is { } discard && ExportSettings.ParseDiscard(discard);
        if (detect == NbdZeroDetection.Unmap && !unmaps)
        {
            throw new UsageException("setting detect-zeroes to unmap is not allowed without setting discard operation to unmap");
        }

        return new ExportSettings
        {
            Image = arguments.Operands[0],
            Name = ExportSettings.RequireShort(arguments.Get(s_name) ?? string.Empty, "name"),
            Description = arguments.Get(s_description) is { } text ? ExportSettings.RequireShort(text, "description") : null,
            Writable = !arguments.Has(s_readOnly) && !arguments.Has(s_snapshot),
            Overlay = arguments.Has(s_overlay) && !arguments.Has(s_readOnly),
            Offset = arguments.Get(s_offset) is { } offset ? SizeText.Parse(offset, "offset") : 0,
            Partition = arguments.Get(s_partition) is { } partition ? ExportSettings.ParsePartition(partition) : null,
            Depth = arguments.Has(s_depth),
            Bitmaps = [.. arguments.GetAll(s_bitmap)],
            Unmaps = unmaps,
            DetectZeroes = detect,
            Cache = arguments.Get(s_cache) is { } cache ? ExportSettings.ParseCache(cache) : arguments.Has(s_noCache) ? "none" : "writeback",
        }.Checked();
    }

    private static Option[] Table()
    {
        List<Option> table =
        [
            CommonOptions.Help, CommonOptions.Version, s_port, s_bind, s_socket, s_shared, s_persistent, s_name, s_description, s_offset, CommonOptions.Format,
            s_snapshot, s_readOnly, s_fork, s_pidFile, CommonOptions.ImageOpts, CommonOptions.Object, CommonOptions.PasswordFile,
            CommonOptions.Disk, CommonOptions.Untrusted, s_verbose, s_noCache, s_cache, s_aio, s_discard, s_detectZeroes,
            s_overlay, s_depth, s_bitmap, s_partition, s_list, s_connect, s_disconnect,
            .. TlsArguments.OfPeer,
        ];
        foreach (var (option, _) in s_refused)
        {
            table.Add(option);
        }

        return [.. table];
    }

    private static void RequireOneOf(Arguments arguments, Option option, string what, params ReadOnlySpan<string> allowed)
    {
        if (arguments.Get(option) is { } given && !allowed.Contains(given))
        {
            throw new UsageException($"Invalid {what} '{SafeText.Clean(given, 64)}'");
        }
    }
}
