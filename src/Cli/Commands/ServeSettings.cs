using System.Globalization;
using Platter.Cli.Options;
using Platter.Core.Errors;

namespace Platter.Cli.Commands;

/// <summary>What to serve, where, and for how long: what both ways to ask for a server come down to.</summary>
internal sealed record ServeSettings
{
    /// <summary>The TCP port that belongs to NBD.</summary>
    public const int DefaultPort = 10809;

    /// <summary>The longest name or description the protocol lets a server send, in bytes.</summary>
    public const int MaxTextBytes = 4096;

    /// <summary>The image as typed.</summary>
    public required string Image { get; init; }

    /// <summary>Path of a unix socket; null for TCP.</summary>
    public string? SocketPath { get; init; }

    /// <summary>Address or host name to listen on (TCP).</summary>
    public string Bind { get; init; } = "localhost";

    /// <summary>TCP port; 0 lets the system choose.</summary>
    public int Port { get; init; } = DefaultPort;

    /// <summary>Name of the export.</summary>
    public string ExportName { get; init; } = string.Empty;

    /// <summary>Description of the export.</summary>
    public string? Description { get; init; }

    /// <summary>Clients at a time; 0 for no limit, null for the server's own.</summary>
    public int? MaxClients { get; init; }

    /// <summary>Go on when the last client has gone.</summary>
    public bool Persistent { get; init; } = true;

    /// <summary>Bytes of the disk to leave out at its start.</summary>
    public long Offset { get; init; }

    /// <summary>Receives the process id; null for none.</summary>
    public string? PidFile { get; init; }

    /// <summary>Tell about clients that break the protocol or get lost.</summary>
    public bool Verbose { get; init; }

    /// <summary>Say where the export can be reached.</summary>
    public bool PrintsUri { get; init; }

    /// <summary>The NBD URI of the export.</summary>
    /// <param name="port">The port in use.</param>
    public string UriOf(int port)
    {
        var name = Uri.EscapeDataString(ExportName);
        if (SocketPath is { } path)
        {
            // Slashes may stand in a query; escaped ones are hard to read and to copy.
            var socket = Uri.EscapeDataString(Path.GetFullPath(path)).Replace("%2F", "/", StringComparison.Ordinal);
            return $"nbd+unix:///{name}?socket={socket}";
        }

        var host = Bind is "0.0.0.0" or "::" or "*" or "" ? "localhost" : Bind.Contains(':', StringComparison.Ordinal) ? $"[{Bind}]" : Bind;
        return port == DefaultPort ? $"nbd://{host}/{name}" : string.Create(CultureInfo.InvariantCulture, $"nbd://{host}:{port}/{name}");
    }

    /// <summary>Parses a port.</summary>
    /// <exception cref="UsageException">Not a number from <paramref name="least"/> to 65535.</exception>
    public static int ParsePort(string text, int least) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var port) && port >= least && port <= 65535
            ? port
            : throw new UsageException($"Invalid port '{SafeText.Clean(text, 64)}': expected {least} to 65535");

    /// <summary>Parses the number of clients.</summary>
    /// <exception cref="UsageException">Not a number.</exception>
    public static int ParseClients(string text) => int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var clients)
        ? clients
        : throw new UsageException($"Invalid shared device number '{SafeText.Clean(text, 64)}'");

    /// <summary>Accepts a name or description of a length that the protocol can carry.</summary>
    /// <exception cref="UsageException">It is too long.</exception>
    public static string RequireShort(string text, string what) => System.Text.Encoding.UTF8.GetByteCount(text) <= MaxTextBytes
        ? text
        : throw new UsageException($"export {what} of {text.Length} characters is too long: {MaxTextBytes} bytes fit the protocol");
}
