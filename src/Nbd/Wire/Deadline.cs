using System.Diagnostics;
using System.Net.Sockets;

namespace Platter.Nbd.Wire;

/// <summary>A limit for something that waits several times; it begins when this is made.</summary>
internal readonly struct Deadline(TimeSpan timeout)
{
    private readonly long _start = Stopwatch.GetTimestamp();

    /// <summary>What is left; <see cref="Timeout.InfiniteTimeSpan"/> when there is no limit.</summary>
    /// <exception cref="SocketException"><see cref="SocketError.TimedOut"/>: nothing is.</exception>
    public TimeSpan Left()
    {
        if (timeout == Timeout.InfiniteTimeSpan)
        {
            return timeout;
        }

        var left = timeout - Stopwatch.GetElapsedTime(_start);
        return left > TimeSpan.Zero ? left : throw new SocketException((int)SocketError.TimedOut);
    }
}
