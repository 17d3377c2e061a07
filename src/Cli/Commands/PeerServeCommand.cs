using Platter.Cli.Options;
using Platter.Core.Errors;

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
    private static readonly Option s_readOnly = new('r', "read-only", null, "Export read-only. This version does so in any case.");
    private static readonly Option s_verbose = new('v', "verbose", null, "Tell about clients that break the protocol or get lost.");
    private static readonly Option s_noCache = new('n', "nocache", null, "Accepted, as are --cache, --aio, --discard and --detect-zeroes.");
    private static readonly Option s_cache = new('\0', "cache", "MODE", string.Empty);
    private static readonly Option s_aio = new('\0', "aio", "MODE", string.Empty);
    private static readonly Option s_discard = new('\0', "discard", "MODE", string.Empty);
    private static readonly Option s_detectZeroes = new('\0', "detect-zeroes", "MODE", string.Empty);

    // Known, and refused with a reason.
    private static readonly (Option Option, string Reason)[] s_refused =
    [
        (new('c', "connect", "DEV", string.Empty), "connecting a kernel device is not supported; serve a socket and use nbd-client"),
        (new('d', "disconnect", "DEV", string.Empty), "disconnecting a kernel device is not supported; use nbd-client -d"),
        (new('s', "snapshot", null, string.Empty), "temporary overlays need writing, which is not in this version yet"),
        (new('L', "list", null, string.Empty), "listing the exports of a server is not in this version yet; nbdinfo --list does it"),
        (new('A', "allocation-depth", null, string.Empty), "qemu:allocation-depth is not in this version yet"),
        (new('B', "bitmap", "NAME", string.Empty), "exporting dirty bitmaps is not in this version yet"),
        (new('\0', "tls-creds", "ID", string.Empty), "TLS is not in this version yet"),
        (new('\0', "tls-authz", "ID", string.Empty), "TLS is not in this version yet"),
        (new('\0', "tls-hostname", "NAME", string.Empty), "TLS is not in this version yet"),
        (new('\0', "selinux-label", "LABEL", string.Empty), "SELinux labels are not supported"),
        (new('P', "partition", "NUM", string.Empty), "exporting a partition is not supported; use --offset"),
        (new('T', "trace", "PATTERN", string.Empty), "tracing is not supported"),
    ];

    public override string Name => "qemu-nbd";

    public override string Summary => "Export a disk over NBD with the options of qemu-nbd. Read-only for now.";

    public override string Operands => "FILE";

    public override IReadOnlyList<Option> Options { get; } = Table();

    public override ValueTask<int> RunAsync(Session session, Arguments arguments)
    {
        var settings = Parse(arguments);
        if (!arguments.Has(s_readOnly))
        {
            session.Warn("this version serves read-only, as with --read-only");
        }

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

        RequireOneOf(arguments, s_cache, "cache mode", "none", "writeback", "writethrough", "directsync", "unsafe", "off");
        RequireOneOf(arguments, s_aio, "aio mode", "native", "threads", "io_uring");
        RequireOneOf(arguments, s_discard, "discard mode", "ignore", "off", "unmap", "on");
        RequireOneOf(arguments, s_detectZeroes, "detect-zeroes mode", "off", "on", "unmap");
        var socket = arguments.Get(s_socket);
        if (socket is not null && !Path.IsPathRooted(socket))
        {
            throw new UsageException("socket path must be absolute");
        }

        return new ServeSettings
        {
            Image = arguments.Operands[0],
            SocketPath = socket,
            Bind = arguments.Get(s_bind) ?? "0.0.0.0",
            Port = arguments.Get(s_port) is { } port ? ServeSettings.ParsePort(port, 1) : ServeSettings.DefaultPort,
            ExportName = ServeSettings.RequireShort(arguments.Get(s_name) ?? string.Empty, "name"),
            Description = arguments.Get(s_description) is { } text ? ServeSettings.RequireShort(text, "description") : null,
            MaxClients = arguments.Get(s_shared) is { } shared ? ServeSettings.ParseClients(shared) : 1,
            Persistent = arguments.Has(s_persistent),
            Offset = arguments.Get(s_offset) is { } offset ? SizeText.Parse(offset, "offset") : 0,
            PidFile = arguments.Get(s_pidFile),
            Verbose = arguments.Has(s_verbose),
        };
    }

    private static Option[] Table()
    {
        List<Option> table =
        [
            CommonOptions.Help, CommonOptions.Version, s_port, s_bind, s_socket, s_shared, s_persistent, s_name, s_description, s_offset, CommonOptions.Format,
            s_snapshot, s_readOnly, s_fork, s_pidFile, CommonOptions.ImageOpts, CommonOptions.Object, CommonOptions.PasswordFile,
            CommonOptions.Disk, CommonOptions.Untrusted, s_verbose, s_noCache, s_cache, s_aio, s_discard, s_detectZeroes,
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
