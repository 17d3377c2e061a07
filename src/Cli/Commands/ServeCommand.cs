using Platter.Cli.Options;

namespace Platter.Cli.Commands;

/// <summary><c>serve</c>: an NBD export of an image, a snapshot, a chain or a bundle, until somebody stops it.</summary>
internal sealed class ServeCommand : Command
{
    private static readonly Option s_socket = new('k', "socket", "PATH", "Listen on a unix socket instead of TCP.");
    private static readonly Option s_bind = new('b', "bind", "ADDRESS", "Listen on this address; localhost by default, 0.0.0.0 for all.");
    private static readonly Option s_port = new('p', "port", "PORT", "TCP port, 10809 by default; 0 takes a free one.");
    private static readonly Option s_name = new('x', "export-name", "NAME", "Name of the export; empty by default.");
    private static readonly Option s_description = new('D', "description", "TEXT", "What clients see in a list of exports.");
    private static readonly Option s_shared = new('e', "shared", "COUNT", "Clients at a time, 100 by default; further ones wait. 0 for no limit.");
    private static readonly Option s_persistent = new('t', "persistent", null, string.Empty);
    private static readonly Option s_once = new('\0', "once", null, "End when the last client has gone.");
    private static readonly Option s_readOnly = new('r', "read-only", null, string.Empty);
    private static readonly Option s_verbose = new('v', "verbose", null, "Tell about clients that break the protocol or get lost.");
    private static readonly Option s_offset = new('o', "offset", "OFFSET", "Leave out so many bytes at the start of the disk.");
    private static readonly Option s_pidFile = new('\0', "pid-file", "PATH", "Write the process id there once clients can connect.");

    public override string Name => "serve";

    public override string Summary => "Export a disk over NBD, read-only, until SIGINT or SIGTERM.";

    public override string Operands => "IMAGE";

    public override IReadOnlyList<Option> Options { get; } =
    [
        CommonOptions.Help, CommonOptions.Format, CommonOptions.Snapshot, s_socket, s_bind, s_port, s_name, s_description, s_shared, s_once,
        s_offset, s_pidFile, s_verbose, CommonOptions.ImageOpts, CommonOptions.ForceShare, CommonOptions.Object, CommonOptions.PasswordFile,
        CommonOptions.Disk, CommonOptions.Untrusted, s_persistent, s_readOnly,
    ];

    public override string Details => "Prints the URI for clients such as nbdinfo, nbdcopy and qemu-img, then serves. Anybody who can connect can read the disk, and there is no "
        + "encryption yet: listen on a unix socket or on a network that you trust.";

    public override ValueTask<int> RunAsync(Session session, Arguments arguments) =>
        ServeRunner.RunAsync(session, Parse(arguments), ImageArguments.From(arguments, session));

    /// <summary>What the arguments ask for.</summary>
    /// <exception cref="UsageException">They contradict each other.</exception>
    internal static ServeSettings Parse(Arguments arguments)
    {
        var image = OneImage(arguments);
        if (arguments.Has(s_socket) && (arguments.Has(s_bind) || arguments.Has(s_port)))
        {
            throw new UsageException("--socket cannot be used together with --bind or --port");
        }

        if (arguments.Has(s_once) && arguments.Has(s_persistent))
        {
            throw new UsageException("--once and --persistent exclude each other");
        }

        return new ServeSettings
        {
            Image = image,
            SocketPath = arguments.Get(s_socket),
            Bind = arguments.Get(s_bind) ?? "localhost",
            Port = arguments.Get(s_port) is { } port ? ServeSettings.ParsePort(port, 0) : ServeSettings.DefaultPort,
            ExportName = ServeSettings.RequireShort(arguments.Get(s_name) ?? string.Empty, "name"),
            Description = arguments.Get(s_description) is { } text ? ServeSettings.RequireShort(text, "description") : null,
            MaxClients = arguments.Get(s_shared) is { } shared ? ServeSettings.ParseClients(shared) : null,
            Persistent = !arguments.Has(s_once),
            Offset = arguments.Get(s_offset) is { } offset ? SizeText.Parse(offset, "offset") : 0,
            PidFile = arguments.Get(s_pidFile),
            Verbose = arguments.Has(s_verbose),
            PrintsUri = true,
        };
    }
}
