using System.Runtime.InteropServices;
using Platter.Host.Native;

namespace Platter.Host.Files;

// Without the host's cache: what a disk holds does not push out what others need.
public sealed partial class FileStorage
{
    private bool _cannotBypass;

    /// <summary>Whether reads and writes leave nothing in the host's cache, as far as the host can do that.</summary>
    /// <remarks>
    /// By Linux's RWF_DONTCACHE: the same system calls as otherwise, so that requests need no alignment. Where the kernel or the file system does not know
    /// it, what was read is dropped at once; what was written leaves at the next flush. Elsewhere it has no effect. To be set before the first request.
    /// </remarks>
    public bool BypassesCache { get; set; }

    private bool UsesBypass => BypassesCache && HostCalls.Linux;

    /// <summary>Reads at most so many bytes; -1 when that is to be done the ordinary way.</summary>
    private int ReadUncached(long offset, Span<byte> buffer)
    {
        while (!_cannotBypass)
        {
            var count = LinuxCalls.ReadUncached(_handle, buffer, offset);
            if (count >= 0)
            {
                return (int)count;
            }

            ThrowUnlessUnknown($"Could not read {buffer.Length} bytes at 0x{offset:x}");
        }

        return -1;
    }

    /// <summary>Writes everything; false when the rest is to be written the ordinary way.</summary>
    private bool TryWriteUncached(ref long offset, ref ReadOnlySpan<byte> buffer)
    {
        while (!_cannotBypass)
        {
            if (buffer.IsEmpty)
            {
                return true;
            }

            var count = LinuxCalls.WriteUncached(_handle, buffer, offset);
            if (count < 0)
            {
                ThrowUnlessUnknown($"Could not write {buffer.Length} bytes at 0x{offset:x}");
                continue;
            }

            buffer = buffer[(int)count..];
            offset += count;
        }

        return false;
    }

    private void ThrowUnlessUnknown(string attempted)
    {
        switch (Marshal.GetLastPInvokeError())
        {
            case LinuxCalls.EINTR:
                return;
            case LinuxCalls.EOPNOTSUPP or LinuxCalls.ENOSYS or LinuxCalls.EINVAL:
                _cannotBypass = true;
                return;
            case var errno:
                throw HostErrors.FromErrno(errno, Name, attempted);
        }
    }

    private void DropWhatWasRead(long offset, long length)
    {
        if (UsesBypass && _cannotBypass)
        {
            _ = LinuxCalls.Fadvise(_handle, offset, length, LinuxCalls.POSIX_FADV_DONTNEED);
        }
    }

    // Also where the kernel can bypass: some of what was written may stay when its writing ended in an interrupt.
    private void DropWhatWasWritten()
    {
        if (BypassesCache)
        {
            DropCache();
        }
    }
}
