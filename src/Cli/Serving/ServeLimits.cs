using System.Globalization;
using Platter.Cli.Options;
using Platter.Core.Errors;

namespace Platter.Cli.Serving;

/// <summary>What clients may take of a server, as far as users can choose: <c>--limits</c>.</summary>
internal sealed record ServeLimits
{
    // A day: whoever wants more wants no limit.
    private const int MaxSeconds = 24 * 60 * 60;

    /// <summary>Time from a connection to its first request.</summary>
    public TimeSpan Handshake { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>Time without progress inside the data of a write or of a reply.</summary>
    public TimeSpan Stall { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>Time that requests have to end when the server stops.</summary>
    public TimeSpan Stop { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>Bytes for larger requests of all clients together.</summary>
    public long Memory { get; init; } = 256 << 20;

    /// <summary>Parses <c>handshake=SECONDS,stall=SECONDS,stop=SECONDS,memory=SIZE</c>, any of them.</summary>
    /// <exception cref="UsageException">A name that is none, or a value out of range.</exception>
    public static ServeLimits Parse(string text)
    {
        var limits = new ServeLimits();
        foreach (var part in text.Split(','))
        {
            var equals = part.IndexOf('=', StringComparison.Ordinal);
            var (key, value) = equals < 0 ? (part, string.Empty) : (part[..equals], part[(equals + 1)..]);
            limits = key switch
            {
                "handshake" => limits with { Handshake = Seconds(key, value, 1) },
                "stall" => limits with { Stall = Seconds(key, value, 1) },
                "stop" => limits with { Stop = Seconds(key, value, 0) },
                "memory" => limits with { Memory = SizeText.Parse(value, "memory", least: 1 << 20) },
                _ => throw new UsageException($"--limits has no '{SafeText.Clean(key, 64)}': expected handshake, stall, stop or memory"),
            };
        }

        return limits;
    }

    private static TimeSpan Seconds(string key, string value, int least) =>
        int.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out var seconds) && seconds >= least && seconds <= MaxSeconds
            ? TimeSpan.FromSeconds(seconds)
            : throw new UsageException($"--limits {key}='{SafeText.Clean(value, 64)}': expected {least} to {MaxSeconds} seconds");
}
