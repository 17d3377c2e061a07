using System.Globalization;
using Platter.Cli.Options;
using Platter.Core.Errors;
using Platter.Nbd.Tls;

namespace Platter.Cli.Serving;

/// <summary>What to serve, where, and for how long: what both ways to ask for a server come down to.</summary>
internal sealed record ServeSettings
{
    // vsock's name for the machine that a program runs on.
    private const int ThisMachine = 1;

    /// <summary>The TCP port that belongs to NBD.</summary>
    public const int DefaultPort = 10809;

    /// <summary>What is served; at least one.</summary>
    public required IReadOnlyList<ExportSettings> Exports { get; init; }

    /// <summary>Path of a unix socket; null for TCP.</summary>
    public string? SocketPath { get; init; }

    /// <summary>vsock port; null for none.</summary>
    public uint? VsockPort { get; init; }

    /// <summary>Permissions of the unix socket; null for what the process's mask leaves.</summary>
    public UnixFileMode? SocketMode { get; init; }

    /// <summary>Whether an address, a port or a socket was asked for; otherwise sockets of the service manager are taken when there are some.</summary>
    public bool HasAddress { get; init; }

    /// <summary>Address or host name to listen on (TCP).</summary>
    public string Bind { get; init; } = "localhost";

    /// <summary>TCP port; 0 lets the system choose.</summary>
    public int Port { get; init; } = DefaultPort;

    /// <summary>Clients at a time; 0 for no limit, null for the server's own.</summary>
    public int? MaxClients { get; init; }

    /// <summary>What clients may take.</summary>
    public ServeLimits Limits { get; init; } = new();

    /// <summary>Go on when the last client has gone.</summary>
    public bool Persistent { get; init; } = true;

    /// <summary>Block device that the first export is attached to; null for none.</summary>
    public string? Device { get; init; }

    /// <summary>Receives the process id; null for none.</summary>
    public string? PidFile { get; init; }

    /// <summary>Tell about clients that break the protocol or get lost.</summary>
    public bool Verbose { get; init; }

    /// <summary>How clients encrypt; null for not at all.</summary>
    public NbdServerTls? Tls { get; init; }

    /// <summary>Say where the export can be reached.</summary>
    public bool PrintsUri { get; init; }

    /// <summary>The NBD URI of an export.</summary>
    /// <param name="export">Its name.</param>
    /// <param name="port">The port in use.</param>
    public string UriOf(string export, int port)
    {
        var name = Uri.EscapeDataString(export);
        var scheme = Tls is { IsRequired: true } ? "nbds" : "nbd";
        if (VsockPort is { } vsock)
        {
            // Which number this machine has, only its host knows.
            return string.Create(CultureInfo.InvariantCulture, $"{scheme}+vsock://{ThisMachine}:{vsock}/{name}");
        }

        if (SocketPath is { } path)
        {
            // Slashes may stand in a query; escaped ones are hard to read and to copy.
            var socket = Uri.EscapeDataString(Path.GetFullPath(path)).Replace("%2F", "/", StringComparison.Ordinal);
            return $"{scheme}+unix:///{name}?socket={socket}";
        }

        var host = Bind is "0.0.0.0" or "::" or "*" or "" ? "localhost" : Bind.Contains(':', StringComparison.Ordinal) ? $"[{Bind}]" : Bind;
        return port == DefaultPort ? $"{scheme}://{host}/{name}" : string.Create(CultureInfo.InvariantCulture, $"{scheme}://{host}:{port}/{name}");
    }

    /// <summary>Parses a port.</summary>
    /// <exception cref="UsageException">Not a number from <paramref name="least"/> to 65535.</exception>
    public static int ParsePort(string text, int least) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var port) && port >= least && port <= 65535
            ? port
            : throw new UsageException($"Invalid port '{SafeText.Clean(text, 64)}': expected {least} to 65535");

    /// <summary>Parses a port of vsock.</summary>
    /// <exception cref="UsageException">Not a number below 2^32 - 1.</exception>
    public static uint ParseVsockPort(string text) =>
        uint.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var port) && port < uint.MaxValue
            ? port
            : throw new UsageException($"Invalid vsock port '{SafeText.Clean(text, 64)}'");

    /// <summary>Parses the number of clients.</summary>
    /// <exception cref="UsageException">Not a number.</exception>
    public static int ParseClients(string text) => int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var clients)
        ? clients
        : throw new UsageException($"Invalid shared device number '{SafeText.Clean(text, 64)}'");

    /// <summary>Parses the permissions of a socket: octal, as chmod takes them.</summary>
    /// <exception cref="UsageException">Not such a number.</exception>
    public static UnixFileMode ParseMode(string text)
    {
        var mode = 0;
        foreach (var digit in text)
        {
            mode = digit is >= '0' and <= '7' && mode < 0x1000 ? (mode * 8) + digit - '0' : -1;
            if (mode is < 0 or > 0x1ff)
            {
                break;
            }
        }

        return text.Length > 0 && mode is >= 0 and <= 0x1ff
            ? (UnixFileMode)mode
            : throw new UsageException($"Invalid mode '{SafeText.Clean(text, 64)}': expected an octal number such as 0600");
    }
}
