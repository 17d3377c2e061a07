using System.Runtime.InteropServices;
using Platter.Core.Errors;

namespace Platter.Host.Native;

/// <summary>Waits for a socket whose buffer is full.</summary>
internal static partial class SocketWait
{
    private const short POLLIN = 1, POLLOUT = 4;

    /// <summary>Waits until the socket takes more bytes, at most 30 s: a peer that reads nothing for so long is cut off.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.Protocol"/>: it did not.</exception>
    public static void ForSending(SafeHandle socket)
    {
        if (!Wait(socket, POLLOUT, 30_000))
        {
            throw new BlockException(BlockErrorKind.Protocol, "the peer took no data for 30 seconds");
        }
    }

    /// <summary>Waits until something has arrived, or a client for a socket that listens.</summary>
    /// <returns>False when nothing has.</returns>
    public static bool ForReading(SafeHandle socket, int timeoutMilliseconds) => Wait(socket, POLLIN, timeoutMilliseconds);

    private static unsafe bool Wait(SafeHandle socket, short events, int timeoutMilliseconds)
    {
        var added = false;
        try
        {
            socket.DangerousAddRef(ref added);
            var entry = new PollEntry { Fd = (int)socket.DangerousGetHandle(), Events = events };
            int ready;
            do
            {
                ready = Poll(&entry, 1, timeoutMilliseconds);
            }
            while (ready < 0 && Marshal.GetLastPInvokeError() == LinuxCalls.EINTR);
            return ready > 0;
        }
        finally
        {
            if (added)
            {
                socket.DangerousRelease();
            }
        }
    }

    [LibraryImport("libc", EntryPoint = "poll", SetLastError = true)]
    private static unsafe partial int Poll(PollEntry* entries, nuint count, int timeoutMilliseconds);

    [StructLayout(LayoutKind.Sequential)]
    private struct PollEntry
    {
        public int Fd;
        public short Events;
        public short Ready;
    }
}
