using Platter.Cli.Options;
using Platter.Cli.Serving;

namespace Platter.Cli.Commands;

/// <summary><c>serve</c>: NBD exports of images, snapshots, chains or bundles, until somebody stops it.</summary>
internal sealed class ServeCommand : Command
{
    private static readonly Option s_writable = new('w', "writable", null, "Let clients write; without it they can only read.");
    private static readonly Option s_overlay = new(
        '\0', "overlay", null, "Let clients write, but to a temporary file that is thrown away at the end; the image stays as it is.");

    private static readonly Option s_socket = new('k', "socket", "PATH", "Listen on a unix socket instead of TCP.");
    private static readonly Option s_socketMode = new('\0', "socket-mode", "MODE", "Permissions of the unix socket, in octal; what the umask leaves by default. Who may write to it may connect.");
    private static readonly Option s_vsock = new('\0', "vsock", "PORT", "Listen on this port for virtual machines of this host, or in one of them for the host (vsock), instead of TCP.");
    private static readonly Option s_bind = new('b', "bind", "ADDRESS", "Listen on this address; localhost by default, 0.0.0.0 for all.");
    private static readonly Option s_port = new('p', "port", "PORT", "TCP port, 10809 by default; 0 takes a free one.");
    private static readonly Option s_name = new('x', "export-name", "NAME", "Name of the export; empty by default.");
    private static readonly Option s_description = new('D', "description", "TEXT", "What clients see in a list of exports.");
    private static readonly Option s_export = new(
        '\0', "export", "name=NAME,image=FILE,...",
        "One of several exports. Further keys: format, disk, snapshot, layer=N, writable=on, overlay=on, description, offset, size, partition, bitmap, "
        + "allocation-depth=on, snapshots=on, layers=on, discard, detect-zeroes, cache; what is not given is as the other options say.");

    private static readonly Option s_snapshots = new('\0', "snapshots", null, "Also export every snapshot, read-only, as NAME@SNAPSHOT.");
    private static readonly Option s_layers = new('\0', "layers", null, "Also export every image of the backing chain, read-only, as NAME~1, NAME~2 and so on.");
    private static readonly Option s_bitmap = new('B', "bitmap", "NAME", "Tell clients what this dirty bitmap holds (qemu:dirty-bitmap:NAME), as it is now. Can be given several times.");
    private static readonly Option s_depth = new('A', "allocation-depth", null, "Tell clients which image of the chain data come from (qemu:allocation-depth).");
    private static readonly Option s_offset = new('o', "offset", "OFFSET", "Leave out so many bytes at the start of the disk.");
    private static readonly Option s_size = new('\0', "size", "SIZE", "Serve so many bytes only.");
    private static readonly Option s_partition = new('P', "partition", "NUMBER", "Serve this partition (MBR or GPT) only.");
    private static readonly Option s_discard = new('\0', "discard", "MODE", "unmap (the default) lets clients give space back by TRIM and zeros; ignore does not.");
    private static readonly Option s_detectZeroes = new('\0', "detect-zeroes", "MODE", "What is done about zeros that are written: off (the default), on or unmap.");
    private static readonly Option s_cache = new(
        '\0', "cache", "MODE", "writethrough and directsync make every write durable before it is answered; unsafe makes nothing durable; none and directsync leave nothing in the host's cache; writeback is the default.");

    private static readonly Option s_connect = new(
        'c', "connect", "/dev/nbdN", "Attach the disk to this block device of the Linux kernel, until a signal or until it is detached. Needs root and the module nbd.");

    private static readonly Option s_disconnect = new('d', "disconnect", "/dev/nbdN", "Detach a block device, whoever attached it, and end.");
    private static readonly Option s_shared = new('e', "shared", "COUNT", "Clients at a time, 100 by default; further ones wait. 0 for no limit.");
    private static readonly Option s_limits = new(
        '\0', "limits", "NAME=VALUE,...",
        "What clients may take: handshake=10 (seconds until their first request), stall=30 (seconds without progress inside the data of a write or a reply), "
        + "memory=256M (for the larger requests of all of them), stop=5 (seconds that requests have to end in when the server is stopped).");

    private static readonly Option s_persistent = new('t', "persistent", null, string.Empty);
    private static readonly Option s_once = new('\0', "once", null, "End when the last client has gone.");
    private static readonly Option s_readOnly = new('r', "read-only", null, string.Empty);
    private static readonly Option s_verbose = new('v', "verbose", null, "Tell about clients that break the protocol or get lost.");
    private static readonly Option s_fork = new('\0', "fork", null, "Go to the background once clients can connect.");
    private static readonly Option s_pidFile = new('\0', "pid-file", "PATH", "Write the process id there once clients can connect.");

    public override string Name => "serve";

    public override string Summary => "Export disks over NBD until SIGINT or SIGTERM.";

    public override string Operands => "[IMAGE]...";

    public override IReadOnlyList<Option> Options { get; } =
    [
        CommonOptions.Help, s_writable, s_overlay, CommonOptions.Format, CommonOptions.Snapshot, s_socket, s_socketMode, s_vsock, s_bind, s_port, s_name, s_description,
        s_export, s_snapshots, s_layers, s_bitmap, s_depth, s_offset, s_size, s_partition, s_discard, s_detectZeroes, s_cache, s_connect, s_disconnect, s_shared, s_limits, s_once, s_fork,
        s_pidFile, s_verbose, CommonOptions.ImageOpts, CommonOptions.ForceShare, CommonOptions.Object, CommonOptions.PasswordFile, CommonOptions.Disk,
        CommonOptions.Untrusted, s_persistent, s_readOnly, .. TlsArguments.OfServer,
    ];

    public override string Details => "Prints a URI for each export, for clients such as nbdinfo, nbdcopy and qemu-img, then serves. Several images are exported under their file names. "
        + "Without --socket, --bind and --port it takes sockets that a service manager hands over (LISTEN_FDS). Anybody who can connect can read the disk, and "
        + "nothing is encrypted, unless one of the --tls options says otherwise: listen on a unix socket or on a network that you trust, or see 'nbd certs'.";

    public override ValueTask<int> RunAsync(Session session, Arguments arguments)
    {
        if (arguments.Get(s_disconnect) is { } device)
        {
            KernelDisk.Detach(device);
            return new(0);
        }

        var settings = Parse(arguments);
        return arguments.Has(s_fork) && !BackgroundServer.IsChild(session)
            ? BackgroundServer.StartAsync(session)
            : ServeRunner.RunAsync(session, settings, ImageArguments.From(arguments, session));
    }

    /// <summary>What the arguments ask for.</summary>
    /// <exception cref="UsageException">They contradict each other.</exception>
    internal static ServeSettings Parse(Arguments arguments)
    {
        if (arguments.Has(s_socket) && (arguments.Has(s_bind) || arguments.Has(s_port)))
        {
            throw new UsageException("--socket cannot be used together with --bind or --port");
        }

        if (arguments.Has(s_vsock) && (arguments.Has(s_socket) || arguments.Has(s_bind) || arguments.Has(s_port)))
        {
            throw new UsageException("--vsock cannot be used together with --socket, --bind or --port");
        }

        if (arguments.Has(s_once) && arguments.Has(s_persistent))
        {
            throw new UsageException("--once and --persistent exclude each other");
        }

        if (arguments.Has(s_readOnly) && (arguments.Has(s_writable) || arguments.Has(s_overlay)))
        {
            throw new UsageException("--read-only excludes --writable and --overlay");
        }

        return new ServeSettings
        {
            Exports = ExportsOf(arguments),
            SocketPath = arguments.Get(s_socket),
            SocketMode = arguments.Get(s_socketMode) is not { } mode ? null
                : arguments.Has(s_socket) ? ServeSettings.ParseMode(mode) : throw new UsageException("--socket-mode needs --socket"),
            HasAddress = arguments.Has(s_socket) || arguments.Has(s_vsock) || arguments.Has(s_bind) || arguments.Has(s_port),
            VsockPort = arguments.Get(s_vsock) is { } vsock ? ServeSettings.ParseVsockPort(vsock) : null,
            Bind = arguments.Get(s_bind) ?? "localhost",
            Port = arguments.Get(s_port) is { } port ? ServeSettings.ParsePort(port, 0) : ServeSettings.DefaultPort,
            MaxClients = arguments.Get(s_shared) is { } shared ? ServeSettings.ParseClients(shared) : null,
            Limits = arguments.Get(s_limits) is { } limits ? ServeLimits.Parse(limits) : new(),
            Device = arguments.Get(s_connect),
            Persistent = !arguments.Has(s_once) && !arguments.Has(s_connect),
            PidFile = arguments.Get(s_pidFile),
            Verbose = arguments.Has(s_verbose),
            PrintsUri = !arguments.Has(s_fork),
            Tls = TlsArguments.Server(arguments),
        };
    }

    private static List<ExportSettings> ExportsOf(Arguments arguments)
    {
        var defaults = new ExportSettings
        {
            Image = string.Empty,
            Name = ExportSettings.RequireShort(arguments.Get(s_name) ?? string.Empty, "name"),
            Description = arguments.Get(s_description) is { } text ? ExportSettings.RequireShort(text, "description") : null,
            Writable = arguments.Has(s_writable),
            Overlay = arguments.Has(s_overlay),
            Snapshot = arguments.Get(CommonOptions.Snapshot),
            WithSnapshots = arguments.Has(s_snapshots),
            WithLayers = arguments.Has(s_layers),
            Bitmaps = [.. arguments.GetAll(s_bitmap)],
            Depth = arguments.Has(s_depth),
            Offset = arguments.Get(s_offset) is { } offset ? SizeText.Parse(offset, "offset") : 0,
            Size = arguments.Get(s_size) is { } size ? SizeText.Parse(size, "size") : null,
            Partition = arguments.Get(s_partition) is { } partition ? ExportSettings.ParsePartition(partition) : null,
            Unmaps = arguments.Get(s_discard) is not { } discard || ExportSettings.ParseDiscard(discard),
            DetectZeroes = arguments.Get(s_detectZeroes) is { } zeroes ? ExportSettings.ParseZeroes(zeroes) : default,
            Cache = arguments.Get(s_cache) is { } cache ? ExportSettings.ParseCache(cache) : "writeback",
        };
        var exports = new List<ExportSettings>();
        var keepsName = arguments.Operands.Count == 1 && (arguments.Has(s_name) || !arguments.Has(s_export));
        foreach (var image in arguments.Operands)
        {
            exports.Add((defaults with { Image = image, Name = keepsName ? defaults.Name : Path.GetFileName(image.TrimEnd('/')) }).Checked());
        }

        foreach (var export in arguments.GetAll(s_export))
        {
            exports.Add(ExportSettings.Parse(export, defaults));
        }

        return exports.Count == 0 ? throw new UsageException("what is to be served? Give an IMAGE, or --export name=NAME,image=FILE", pointToHelp: true)
            : arguments.Has(s_name) && arguments.Operands.Count > 1 ? throw new UsageException("--export-name names one export; several images go by their file names")
            : exports;
    }
}
