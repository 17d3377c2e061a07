using System.Globalization;
using Platter.Core.Errors;
using Platter.Core.Images;

namespace Platter.Nbd.Client;

/// <summary>How long a client waits for a server to be there and to finish the handshake.</summary>
/// <param name="Open">Limit for connecting and the handshake together.</param>
/// <param name="Retry">Whether a connection that is refused is tried again until then.</param>
internal readonly record struct NbdTimeouts(TimeSpan Open, bool Retry)
{
    /// <summary>The option that sets them: a number of seconds. With the peers 0 (the default) means to try once, and so it does here.</summary>
    public const string OpenOption = "open-timeout";

    private const int MaxSeconds = 24 * 60 * 60;

    /// <summary>One attempt, and 10 seconds for it.</summary>
    public static NbdTimeouts Default { get; } = new(TimeSpan.FromSeconds(10), Retry: false);

    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>: not a number of seconds.</exception>
    public static NbdTimeouts FromOptions(NodeOptions options) => options[OpenOption] switch
    {
        null => Default,
        var text when int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var seconds) && seconds <= MaxSeconds =>
            seconds == 0 ? Default : new(TimeSpan.FromSeconds(seconds), Retry: true),
        var text => throw new BlockException(
            BlockErrorKind.InvalidRequest, $"option '{OpenOption}' is '{SafeText.Clean(text, 64)}': expected seconds between 0 and {MaxSeconds}"),
    };
}
