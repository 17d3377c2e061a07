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

    private const int MaxSeconds = 24 * 60 * 60;

    /// <summary>For reading and writing; refused if the server offers the export for reading only.</summary>
    public bool Writable { get; init; }

    /// <summary>Limit for connecting and the handshake together.</summary>
    public TimeSpan OpenTimeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>Whether a connection that is refused is tried again until <see cref="OpenTimeout"/> is over.</summary>
    public bool RetriesOpening { get; init; }

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
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>: not a number of seconds.</exception>
    public static NbdClientOptions FromOptions(NodeOptions options)
    {
        var result = new NbdClientOptions();

        // With the peers 0 (the default) means to try once, and so it does here.
        return ReadSeconds(options, OpenTimeoutOption) is { } open and > 0
            ? result with { OpenTimeout = TimeSpan.FromSeconds(open), RetriesOpening = true }
            : result;
    }

    private static int ReadSeconds(NodeOptions options, string key) => options[key] switch
    {
        null => 0,
        var text when int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var seconds) && seconds <= MaxSeconds => seconds,
        var text => throw new BlockException(
            BlockErrorKind.InvalidRequest, $"option '{key}' is '{SafeText.Clean(text, 64)}': expected seconds between 0 and {MaxSeconds}"),
    };
}
