using System.Diagnostics;
using System.Net.Sockets;

namespace Platter.Tests.Fuzz;

/// <summary>Says everything at once, then listens until the server hangs up.</summary>
internal static class NbdTalk
{
    /// <returns>Bytes that came back.</returns>
    public static long Talk(string path, byte[] bytes, CancellationToken cancellationToken)
    {
        using var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        socket.Connect(new UnixDomainSocketEndPoint(path));

        // Only what never ends takes so long, however busy the machine is.
        const int Limit = 60_000;
        socket.ReceiveTimeout = socket.SendTimeout = Limit;
        var start = Stopwatch.GetTimestamp();
        long received = 0;
        var buffer = new byte[1 << 16];
        try
        {
            // Both ways at once: a server that waits for us to take its answers must not wait for ever.
            for (var sent = 0; sent < bytes.Length;)
            {
                cancellationToken.ThrowIfCancellationRequested();
                sent += socket.Poll(0, SelectMode.SelectWrite) ? socket.Send(bytes.AsSpan(sent, Math.Min(bytes.Length - sent, 1 << 16))) : 0;
                while (socket.Available > 0)
                {
                    received += socket.Receive(buffer);
                }
            }

            socket.Shutdown(SocketShutdown.Send);
            for (int read; (read = socket.Receive(buffer)) > 0;)
            {
                received += read;
            }
        }
        catch (SocketException e) when (e.SocketErrorCode is SocketError.ConnectionReset or SocketError.Shutdown or SocketError.ConnectionAborted
            || (e.SocketErrorCode == SocketError.TimedOut && Stopwatch.GetElapsedTime(start).TotalMilliseconds < Limit / 2))
        {
            // Hanging up at once is a good answer to nonsense. .NET calls it a timeout when a part of what we send at that moment was out already.
        }

        return received;
    }
}
