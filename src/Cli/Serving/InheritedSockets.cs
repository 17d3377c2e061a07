using System.Globalization;
using System.Net.Sockets;

namespace Platter.Cli.Serving;

/// <summary>Listening sockets that a service manager hands over (systemd's socket activation: <c>LISTEN_FDS</c>, <c>LISTEN_PID</c>).</summary>
internal static class InheritedSockets
{
    private const int FirstDescriptor = 3;
    private const int MaxSockets = 64;

    /// <summary>Takes them over; none when nothing was handed to this process.</summary>
    /// <exception cref="UsageException">What was handed over are no sockets.</exception>
    public static IReadOnlyList<Socket> Take(Session session)
    {
        if (!int.TryParse(session.Variable("LISTEN_FDS"), NumberStyles.None, CultureInfo.InvariantCulture, out var count) || count is < 1 or > MaxSockets
            || session.Variable("LISTEN_PID") != Environment.ProcessId.ToString(CultureInfo.InvariantCulture))
        {
            return [];
        }

        var sockets = new List<Socket>();
        for (var i = 0; i < count; i++)
        {
            try
            {
                sockets.Add(new Socket(new SafeSocketHandle(FirstDescriptor + i, ownsHandle: true)));
            }
            catch (Exception e) when (e is SocketException or ArgumentException)
            {
                throw new CommandException(1, $"LISTEN_FDS={count}: descriptor {FirstDescriptor + i} is not a socket");
            }
        }

        return sockets;
    }
}
