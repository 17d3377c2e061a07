using System.Globalization;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Nbd.Protocol;
using Platter.Nbd.Tls;

namespace Platter.Nbd.Client;

/// <summary>How an export is opened and used. The defaults suit a reader who expects the server to be there.</summary>
public sealed record NbdClientOptions
{
    internal const string OpenTimeoutOption = "open-timeout";
    internal const string ReconnectDelayOption = "reconnect-delay";
    internal const string ConnectionsOption = "connections";

    private const int MaxSeconds = 24 * 60 * 60;
    private const int MaxConnections = 64;

    /// <summary>For reading and writing; refused if the server offers the export for reading only.</summary>
    public bool Writable { get; init; }

    /// <summary>Limit for connecting and the handshake together.</summary>
    public TimeSpan OpenTimeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>Whether a connection that is refused is tried again until <see cref="OpenTimeout"/> is over.</summary>
    public bool RetriesOpening { get; init; }

    /// <summary>Connections to one export, where the server says that they see one state (CAN_MULTI_CONN); a reader opens more than one when it has use for them.</summary>
    public int Connections { get; init; } = 4;

    /// <summary>How long requests wait for a new connection after the old one was lost; zero for not at all: a connection that is lost then stays lost. Requests that were under way
    /// are done again, and what was written and not yet flushed too, so that nothing is missing on a server that was started anew.</summary>
    public TimeSpan ReconnectDelay { get; init; }

    /// <summary>How to encrypt; null for not at all. With it, a server that does not want to is refused.</summary>
    public NbdClientTls? Tls { get; init; }

    /// <summary>Whom the server's certificate must be for; null for the host of the address.</summary>
    public string? TlsHostName { get; init; }

    /// <summary>Metadata contexts to ask for besides <c>base:allocation</c>; those that the server does not have are left out.</summary>
    public IReadOnlyList<string> Contexts { get; init; } = [];

    /// <summary>The style of headers that is asked for first.</summary>
    internal NbdHeaderStyle BestStyle { get; init; } = NbdHeaderStyle.Extended;

    internal IReadOnlyList<string> AllContexts => [.. Contexts.Prepend(NbdProtocol.AllocationContext).Distinct()];

    /// <summary>Reads the options of driver <c>nbd</c> that say how; <see cref="NbdAddress.FromOptions"/> reads those that say where.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>: not a number, or too large.</exception>
    public static NbdClientOptions FromOptions(NodeOptions options)
    {
        var result = new NbdClientOptions
        {
            ReconnectDelay = TimeSpan.FromSeconds(ReadNumber(options, ReconnectDelayOption, 0, MaxSeconds, "seconds") ?? 0),
            Connections = ReadNumber(options, ConnectionsOption, 1, MaxConnections, "a number") ?? 4,
        };

        // With the peers 0 (the default) means to try once, and so it does here.
        return ReadNumber(options, OpenTimeoutOption, 0, MaxSeconds, "seconds") is { } open and > 0
            ? result with { OpenTimeout = TimeSpan.FromSeconds(open), RetriesOpening = true }
            : result;
    }

    internal static bool Knows(string option) => option is OpenTimeoutOption or ReconnectDelayOption or ConnectionsOption;

    private static int? ReadNumber(NodeOptions options, string key, int least, int most, string what) => options[key] switch
    {
        null => null,
        var text when int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number) && number >= least && number <= most => number,
        var text => throw new BlockException(
            BlockErrorKind.InvalidRequest, $"option '{key}' is '{SafeText.Clean(text, 64)}': expected {what} between {least} and {most}"),
    };
}
