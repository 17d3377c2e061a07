using System.Globalization;
using System.Net;
using System.Text;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Nbd.Protocol;
using Platter.Nbd.Tls;

namespace Platter.Nbd.Client;

/// <summary>Where an NBD server listens and which of its exports is meant.</summary>
/// <remarks>Immutable. Every way to make one checks host, port, path and export name.</remarks>
public sealed class NbdAddress
{
    // sun_path of Linux holds 108 bytes with the closing NUL; other hosts hold fewer and say so on connecting.
    private const int MaxSocketPathBytes = 107;

    // Accepted and without effect on us: how the peers are told to do what we do anyway.
    private static readonly HashSet<string> s_ignoredOptions =
        ["driver", "read-only", "auto-read-only", "node-name", "discard", "detect-zeroes", "cache.direct", "cache.no-flush"];

    private static readonly HashSet<string> s_placeOptions =
        ["uri", "path", "host", "port", "server.type", "server.path", "server.host", "server.port", "server.cid"];

    private NbdAddress(string? socketPath, string? host, int port, string exportName)
    {
        SocketPath = socketPath;
        Host = host;
        Port = port;
        ExportName = exportName;
    }

    /// <summary>Path of the server's unix socket (a leading NUL marks Linux's abstract namespace), or null for TCP.</summary>
    public string? SocketPath { get; }

    /// <summary>Name or address of the server's host, or null for a unix socket.</summary>
    public string? Host { get; }

    /// <summary>TCP port; 0 for a unix socket.</summary>
    public int Port { get; }

    /// <summary>Where a server listens on vsock: the machine's context id and the port; null for TCP and unix sockets.</summary>
    public (uint ContextId, uint Port)? Vsock { get; private init; }

    /// <summary>The export; empty for the server's default export.</summary>
    public string ExportName { get; }

    /// <summary>How to encrypt, where the address says that it must be; null for plain text.</summary>
    public NbdClientTlsParameters? Tls { get; private init; }

    /// <summary>Whom the server's certificate must be for; null for the <see cref="Host"/>.</summary>
    public string? TlsHostName { get; private init; }

    /// <summary>A server on a unix socket.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>: path or name cannot be used.</exception>
    public static NbdAddress ForSocket(string path, string exportName = "")
    {
        if (path.Length == 0)
        {
            throw Invalid("the path of the NBD server's socket is empty");
        }

        if (path.LastIndexOf('\0') > 0 || path == "\0")
        {
            throw Invalid($"NBD socket path '{SafeText.Clean(path, 256)}' holds a NUL character");
        }

        return Encoding.UTF8.GetByteCount(path) > MaxSocketPathBytes
            ? throw Invalid($"NBD socket path '{SafeText.Clean(path, 256)}' is longer than {MaxSocketPathBytes} bytes")
            : new(path, null, 0, CheckExportName(exportName));
    }

    /// <summary>A server on a port of vsock, between a virtual machine and its host.</summary>
    /// <param name="contextId">The machine: 2 is the host, 1 this machine itself.</param>
    /// <param name="port">Its port.</param>
    /// <param name="exportName">The export.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>: the name cannot be used.</exception>
    public static NbdAddress ForVsock(uint contextId, uint port = NbdProtocol.DefaultPort, string exportName = "") =>
        new(null, null, 0, CheckExportName(exportName)) { Vsock = (contextId, port) };

    /// <summary>A server on a TCP port.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>: host, port or name cannot be used.</exception>
    public static NbdAddress ForHost(string host, int port = NbdProtocol.DefaultPort, string exportName = "")
    {
        // A leading '-' is no legal host name, and turns into an option wherever a host is passed on to a program.
        if (host.Length is 0 or > 255 || host[0] == '-' || host.Any(c => char.IsControl(c) || char.IsWhiteSpace(c) || c is '/' or '@' or '?' or '#'))
        {
            throw Invalid($"'{SafeText.Clean(host, 256)}' is not the name or address of a host");
        }

        if (host.Contains(':', StringComparison.Ordinal) && !IPAddress.TryParse(host, out _))
        {
            throw Invalid($"'{SafeText.Clean(host, 256)}' is not an IPv6 address");
        }

        return port is < 1 or > 65535
            ? throw Invalid($"NBD port {port} is not between 1 and 65535")
            : new(null, host, port, CheckExportName(exportName));
    }

    /// <summary>Reads the options of driver <c>nbd</c>: one of <c>uri</c>, <c>server.*</c>, <c>path</c> or <c>host</c> and <c>port</c>; and <c>export</c>.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/> or <see cref="BlockErrorKind.Unsupported"/>, naming the option.</exception>
    public static NbdAddress FromOptions(NodeOptions options)
    {
        foreach (var key in options.Keys)
        {
            if (key is "tls-creds" or "tls-hostname")
            {
                throw new BlockException(BlockErrorKind.Unsupported, $"driver 'nbd': option '{key}' is not supported: name the credentials in an nbds:// URI");
            }

            if (key != "export" && !NbdClientOptions.Knows(key) && !s_placeOptions.Contains(key) && !s_ignoredOptions.Contains(key))
            {
                throw Invalid($"driver 'nbd' has no option '{SafeText.Clean(key, 64)}'");
            }
        }

        var export = options["export"];
        if (options["uri"] is { } uri)
        {
            RefuseOthers(options, "uri");
            var address = NbdUri.Parse(uri);
            return export is null ? address
                : address.ExportName.Length == 0 || address.ExportName == export ? address.WithExport(export)
                : throw Invalid("driver 'nbd': options 'uri' and 'export' name different exports");
        }

        if (options.HasChild("server"))
        {
            RefuseOthers(options, "server.");
            return options["server.type"] switch
            {
                "unix" => ForSocket(Needed(options, "server.path", Without(options, "server.host", "server.port")), export ?? string.Empty),
                "inet" => ForHost(
                    Unbracketed(Needed(options, "server.host", Without(options, "server.path"))), ParsePort(options["server.port"]), export ?? string.Empty),
                null => throw Invalid("driver 'nbd' needs the option 'server.type'"),
                "vsock" => ForVsock(
                    ParseVsock(Needed(options, "server.cid", Without(options, "server.path", "server.host"))), ParseVsock(options["server.port"] ?? $"{NbdProtocol.DefaultPort}"),
                    export ?? string.Empty),
                var type => throw Invalid($"driver 'nbd': server.type '{SafeText.Clean(type, 64)}': expected unix, inet or vsock"),
            };
        }

        if (options["path"] is { } path)
        {
            RefuseOthers(options, "path");
            return ForSocket(path, export ?? string.Empty);
        }

        return options["host"] is { } host
            ? ForHost(Unbracketed(host), ParsePort(options["port"]), export ?? string.Empty)
            : throw Invalid("driver 'nbd' needs one of the options 'uri', 'server.type', 'path' and 'host'");
    }

    /// <summary>The same server, another export.</summary>
    public NbdAddress WithExport(string exportName) => new(SocketPath, Host, Port, CheckExportName(exportName)) { Tls = Tls, TlsHostName = TlsHostName, Vsock = Vsock };

    /// <summary>The same export, encrypted or not.</summary>
    /// <param name="tls">How, or null for plain text.</param>
    /// <param name="hostName">Whom the server's certificate must be for; null for the <see cref="Host"/>.</param>
    public NbdAddress WithTls(NbdClientTlsParameters? tls, string? hostName = null) =>
        new(SocketPath, Host, Port, ExportName) { Tls = tls, TlsHostName = tls is null ? null : hostName, Vsock = Vsock };

    /// <summary>The address as a URI.</summary>
    public override string ToString() => NbdUri.Format(this);

    internal static uint ParseVsock(string text) =>
        uint.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number
        : throw Invalid($"vsock number '{SafeText.Clean(text, 64)}' is not a number below 2^32");

    internal static int ParsePort(string? text) => text switch
    {
        null => NbdProtocol.DefaultPort,
        _ when text.Length is > 0 and <= 5 && text.All(char.IsAsciiDigit) && int.Parse(text, CultureInfo.InvariantCulture) is > 0 and <= 65535 and var port => port,
        _ => throw Invalid($"NBD port '{SafeText.Clean(text, 64)}' is not a number between 1 and 65535"),
    };

    private static string CheckExportName(string name) =>
        NbdText.IsValid(name) ? name
        : throw Invalid($"NBD export name '{SafeText.Clean(name, 64)}' holds a NUL character or is longer than {NbdProtocol.MaxStringBytes} bytes");

    private static string Needed(NodeOptions options, string key, bool consistent) =>
        consistent && options[key] is { } value ? value : throw Invalid($"driver 'nbd' with server.type={options["server.type"]} needs the option '{key}'");

    private static bool Without(NodeOptions options, params ReadOnlySpan<string> keys)
    {
        foreach (var key in keys)
        {
            if (options.Has(key))
            {
                throw Invalid($"driver 'nbd': option '{key}' does not go with server.type={options["server.type"]}");
            }
        }

        return true;
    }

    private static void RefuseOthers(NodeOptions options, string chosen)
    {
        foreach (var key in options.Keys)
        {
            if (s_placeOptions.Contains(key) && !key.StartsWith(chosen, StringComparison.Ordinal))
            {
                throw Invalid($"driver 'nbd': options '{chosen.TrimEnd('.')}' and '{key}' cannot be combined");
            }
        }
    }

    private static string Unbracketed(string host) => host.Length > 2 && host[0] == '[' && host[^1] == ']' ? host[1..^1] : host;

    private static BlockException Invalid(string message) => new(BlockErrorKind.InvalidRequest, message);
}
