using System.Runtime.InteropServices;

namespace Platter.Host.Native;

/// <summary>Standard output and standard error as plain streams.</summary>
/// <remarks>.NET's console streams prepare for a keyboard on their first write: a thread for signals, a pipe, and on a terminal an escape sequence
/// that changes its keypad. A tool that only prints needs none of it.</remarks>
internal static partial class StandardStreams
{
    /// <summary>Standard output. A write throws <see cref="ReaderGoneException"/> when nobody reads any more, and another
    /// <see cref="IOException"/> when it fails.</summary>
    public static Stream OpenOutput() => HostCalls.Linux ? new DescriptorStream(1, throwsOnFailure: true) : Console.OpenStandardOutput();

    /// <summary>Standard error. Whatever cannot be written is lost: there is nowhere to complain to.</summary>
    public static Stream OpenError() => HostCalls.Linux ? new DescriptorStream(2, throwsOnFailure: false) : Console.OpenStandardError();

    private sealed partial class DescriptorStream(int descriptor, bool throwsOnFailure) : Stream
    {
        private const int POLLOUT = 4;

        public override bool CanRead => false;

        public override bool CanSeek => false;

        public override bool CanWrite => true;

        public override long Length => throw new NotSupportedException();

        public override long Position
        {
            get => throw new NotSupportedException();
            set => throw new NotSupportedException();
        }

        public override void Flush()
        {
        }

        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

        public override unsafe void Write(ReadOnlySpan<byte> buffer)
        {
            fixed (byte* start = buffer)
            {
                for (var done = 0; done < buffer.Length;)
                {
                    var written = WriteTo(descriptor, start + done, buffer.Length - done);
                    if (written >= 0)
                    {
                        done += (int)written;
                        continue;
                    }

                    switch (Marshal.GetLastPInvokeError())
                    {
                        case LinuxCalls.EINTR:
                            break;
                        case LinuxCalls.EAGAIN:
                            // Whoever started us made the pipe non-blocking; we have nothing else to do meanwhile.
                            var entry = new PollEntry { Fd = descriptor, Events = POLLOUT };
                            _ = Poll(&entry, 1, -1);
                            break;
                        case LinuxCalls.EPIPE when throwsOnFailure:
                            throw new ReaderGoneException();
                        case var error when throwsOnFailure:
                            throw HostErrors.FromErrno(error, "standard output", "Could not write");
                        default:
                            return;
                    }
                }
            }
        }

        [LibraryImport("libc", EntryPoint = "write", SetLastError = true)]
        private static unsafe partial nint WriteTo(int fd, byte* buffer, nint count);

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
}
