using System.Runtime.InteropServices;
using Platter.Core.Errors;

namespace Platter.Host.Native;

/// <summary>Waits for a socket whose buffer is full.</summary>
internal static partial class SocketWait
{
    private const short POLLOUT = 4;

    /// <summary>Waits until the socket takes more bytes, at most 30 s: a peer that reads nothing for so long is cut off.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.Protocol"/>: it did not.</exception>
    public static unsafe void ForSending(SafeHandle socket)
    {
        var added = false;
        try
        {
            socket.DangerousAddRef(ref added);
            var entry = new PollEntry { Fd = (int)socket.DangerousGetHandle(), Events = POLLOUT };
            int ready;
            do
            {
                ready = Poll(&entry, 1, 30_000);
            }
            while (ready < 0 && Marshal.GetLastPInvokeError() == LinuxCalls.EINTR);
            if (ready <= 0)
            {
                throw new BlockException(BlockErrorKind.Protocol, "the peer took no data for 30 seconds");
            }
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
