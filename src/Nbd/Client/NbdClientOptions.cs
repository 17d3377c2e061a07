using System.Globalization;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Tls;
using Platter.Nbd.Protocol;
using Platter.Nbd.Tls;

namespace Platter.Nbd.Client;

/// <summary>How an export is opened and used. The defaults suit a reader who expects the server to be there.</summary>
public sealed record NbdClientOptions
{
    internal const string OpenTimeoutOption = "open-timeout";
    internal const string ReconnectDelayOption = "reconnect-delay";
    /// <summary>Name of the option of driver <c>nbd</c> for <see cref="Connections"/>.</summary>
    public const string ConnectionsOption = "connections";

    /// <summary>Name of the option of driver <c>nbd</c> for <see cref="MaxRequestBytes"/>.</summary>
    public const string RequestSizeOption = "request-size";

    /// <summary>Name of the option of driver <c>nbd</c> for <see cref="Maps"/>: <c>on</c> or <c>off</c>.</summary>
    public const string MapsOption = "maps";

    internal const string MapContextOption = "x-dirty-bitmap";

    private const int MaxSeconds = 24 * 60 * 60;
    private const int MaxConnections = 64;
    private const int DefaultConnections = 4;

    /// <summary>For reading and writing; refused if the server offers the export for reading only.</summary>
    public bool Writable { get; init; }

    /// <summary>Limit for connecting and the handshake together.</summary>
    public TimeSpan OpenTimeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>Whether a connection that is refused is tried again until <see cref="OpenTimeout"/> is over.</summary>
    public bool RetriesOpening { get; init; }

    /// <summary>Connections to one export, where the server says that they see one state (CAN_MULTI_CONN); a reader opens more than one when it has use for them. 0 for as many as are of use: 4, but
    /// over a unix socket no more than this machine has processors, which client and server share.</summary>
    public int Connections { get; init; }

    /// <summary>How long requests wait for a new connection after the old one was lost; zero for not at all: a connection that is lost then stays lost. Requests that were under way
    /// are done again, and what was written and not yet flushed too, so that nothing is missing on a server that was started anew.</summary>
    public TimeSpan ReconnectDelay { get; init; }

    /// <summary>How to encrypt, whatever the address says; null for what it says. With either, a server that does not want to is refused.</summary>
    public NbdClientTls? Tls { get; init; }

    /// <summary>Whom the server's certificate must be for; null for what the address says, or its host.</summary>
    public string? TlsHostName { get; init; }

    /// <summary>Who does TLS, if an address wants that; null for .NET, which has no pre-shared keys.</summary>
    public TlsLibrary? TlsLibrary { get; init; }

    /// <summary>Connects to a context id and a port of vsock, if an address wants that; .NET cannot on its own.</summary>
    public Func<uint, uint, System.Net.Sockets.Socket>? ConnectVsock { get; init; }

    /// <summary>Longest read or write, in bytes: longer ones are split, and their parts are under way together. The server's own limit holds too.</summary>
    public int MaxRequestBytes { get; init; } = 1 << 20;

    /// <summary>Whether the server is asked what is data and what a hole; otherwise everything counts as data.</summary>
    public bool Maps { get; init; } = true;

    /// <summary>A metadata context that <see cref="NbdStorage.MapAsync"/> answers from instead of <c>base:allocation</c>: what is dirty, or stored in the top image, counts as not
    /// allocated. For those who look for changes, not for copies. The server must have it (QEMU's <c>x-dirty-bitmap</c>).</summary>
    public string? MapContext { get; init; }

    /// <summary>Metadata contexts to ask for besides; those that the server does not have are left out. For <see cref="NbdStorage.ReadContextAsync"/>.</summary>
    public IReadOnlyList<string> Contexts { get; init; } = [];

    /// <summary>The style of headers that is asked for first.</summary>
    internal NbdHeaderStyle BestStyle { get; init; } = NbdHeaderStyle.Extended;

    internal IReadOnlyList<string> AllContexts => !Maps ? [.. Contexts] : [.. Contexts.Prepend(MapContext ?? NbdProtocol.AllocationContext).Distinct()];

    /// <summary>Reads the options of driver <c>nbd</c> that say how; <see cref="NbdAddress.FromOptions"/> reads those that say where.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>: not a number, or too large.</exception>
    public static NbdClientOptions FromOptions(NodeOptions options)
    {
        if (options[MapContextOption] is { } context && (!NbdText.IsValid(context) || !context.Contains(':', StringComparison.Ordinal)))
        {
            throw new BlockException(
                BlockErrorKind.InvalidRequest, $"option '{MapContextOption}' is '{SafeText.Clean(context, 64)}': expected a metadata context such as qemu:dirty-bitmap:NAME");
        }

        var result = new NbdClientOptions
        {
            MapContext = options[MapContextOption],
            MaxRequestBytes = ReadNumber(options, RequestSizeOption, 4096, NbdProtocol.MaxPayloadBytes, "bytes") ?? 1 << 20,
            Maps = options[MapsOption] switch
            {
                null or "on" => true,
                "off" => false,
                var text => throw new BlockException(BlockErrorKind.InvalidRequest, $"option '{MapsOption}' is '{SafeText.Clean(text, 64)}': expected on or off"),
            },
            ReconnectDelay = TimeSpan.FromSeconds(ReadNumber(options, ReconnectDelayOption, 0, MaxSeconds, "seconds") ?? 0),
            Connections = ReadNumber(options, ConnectionsOption, 1, MaxConnections, "a number") ?? 0,
        };

        // With the peers 0 (the default) means to try once, and so it does here.
        return ReadNumber(options, OpenTimeoutOption, 0, MaxSeconds, "seconds") is { } open and > 0
            ? result with { OpenTimeout = TimeSpan.FromSeconds(open), RetriesOpening = true }
            : result;
    }

    /// <summary>How many connections to open in all.</summary>
    internal int ConnectionsTo(NbdAddress address) => Connections > 0 ? Connections : address.SocketPath is null ? DefaultConnections : Math.Min(DefaultConnections, Environment.ProcessorCount);

    /// <summary>The same, with the credentials that an address names.</summary>
    internal NbdClientOptions ResolveTls(NbdAddress address)
    {
        if (address.Tls is not { } parameters || Tls is not null)
        {
            return this with { TlsHostName = TlsHostName ?? address.TlsHostName ?? address.Host };
        }

        try
        {
            return this with { Tls = parameters.Load(TlsLibrary ?? NoLibrary.Instance), TlsHostName = TlsHostName ?? address.TlsHostName ?? address.Host };
        }
        catch (BlockException e)
        {
            throw new BlockException(e.Kind, $"{address}: {e.Message}", e);
        }
    }

    internal static bool Knows(string option) => option is OpenTimeoutOption or ReconnectDelayOption or ConnectionsOption or MapContextOption
        or RequestSizeOption or MapsOption;

    private static int? ReadNumber(NodeOptions options, string key, int least, int most, string what) => options[key] switch
    {
        null => null,
        var text when int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number) && number >= least && number <= most => number,
        var text => throw new BlockException(
            BlockErrorKind.InvalidRequest, $"option '{key}' is '{SafeText.Clean(text, 64)}': expected {what} between {least} and {most}"),
    };

    private sealed class NoLibrary : TlsLibrary
    {
        public static NoLibrary Instance { get; } = new();

        public override bool IsAvailable => false;

        public override TlsEngine Accept(PreSharedKeys keys, TlsProfile profile) => throw Missing();

        public override TlsEngine Connect(PreSharedKey key, TlsProfile profile) => throw Missing();

        public override TlsCertificateSide Prepare(TlsCertificateSettings settings) => throw Missing();

        private static BlockException Missing() => new(BlockErrorKind.Unsupported, "TLS with pre-shared keys needs the host's OpenSSL, which the caller did not pass on");
    }
}
