using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Platter.Host.Native;

/// <summary>The Linux system calls that .NET has no API for, by the names the manual pages use. Errors are in <see cref="Marshal.GetLastPInvokeError"/>.</summary>
/// <remarks>Structure layouts are those of 64-bit Linux (x86-64 and arm64 agree on all that are used here).</remarks>
internal static partial class LinuxCalls
{
    public const int EPERM = 1, ENOENT = 2, EINTR = 4, EIO = 5, ENXIO = 6, EBADF = 9, EAGAIN = 11, EACCES = 13, EINVAL = 22, ENOSPC = 28, EFBIG = 27,
        EROFS = 30, EPIPE = 32, ENOSYS = 38, EXDEV = 18, ELOOP = 40, EOPNOTSUPP = 95, EDQUOT = 122, ENODEV = 19, EADDRINUSE = 98;

    public const int O_RDONLY = 0, O_RDWR = 2, O_CREAT = 0x40, O_EXCL = 0x80, O_NONBLOCK = 0x800, O_CLOEXEC = 0x80000, O_PATH = 0x200000;

    public const int SIGXFSZ = 25;

    public const nint SIG_IGN = 1;

    public const int SEEK_END = 2, SEEK_DATA = 3, SEEK_HOLE = 4;

    public const int F_OFD_GETLK = 36, F_OFD_SETLK = 37;

    public const int FALLOC_FL_KEEP_SIZE = 1, FALLOC_FL_PUNCH_HOLE = 2, FALLOC_FL_ZERO_RANGE = 0x10;

    public const int RWF_NOWAIT = 8, RWF_DONTCACHE = 0x80;

    public const int POSIX_FADV_SEQUENTIAL = 2, POSIX_FADV_WILLNEED = 3, POSIX_FADV_DONTNEED = 4;

    public const uint S_IFMT = 0xf000, S_IFREG = 0x8000, S_IFBLK = 0x6000, S_IFDIR = 0x4000, S_IFCHR = 0x2000, S_IFIFO = 0x1000, S_IFSOCK = 0xc000;

    private const int AT_EMPTY_PATH = 0x1000, AT_FDCWD = -100;
    private const nint SYS_openat2 = 437;
    private const ulong RESOLVE_NO_MAGICLINKS = 2;
    private const uint STATX_BASIC_STATS = 0x7ff;

    [LibraryImport("libc", EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int Open(string path, int flags, uint mode);

    [LibraryImport("libc", EntryPoint = "kill", SetLastError = true)]
    public static partial int Kill(int process, int signal);

    /// <summary>Starts a program that has a descriptor of ours as its descriptor 3.</summary>
    /// <returns>0, or an error number.</returns>
    public static unsafe int Spawn(string[] command, string[] variables, int descriptor, out int process)
    {
        // The type is the C library's own; glibc's and musl's have 80 bytes.
        var space = stackalloc byte[256];
        var error = InitFileActions(space);
        process = 0;
        if (error == 0)
        {
            error = AddDuplicate(space, descriptor, 3);
            error = error == 0 ? Spawn(out process, command[0], space, 0, [.. command, null], [.. variables, null]) : error;
            _ = DestroyFileActions(space);
        }

        return error;
    }

    /// <summary>Whether a child has ended; then it is none any more.</summary>
    public static bool HasEnded(int process)
    {
        const int WNOHANG = 1;
        return WaitFor(process, out _, WNOHANG) != 0;
    }

    [LibraryImport("libc", EntryPoint = "posix_spawn_file_actions_init")]
    private static unsafe partial int InitFileActions(byte* actions);

    [LibraryImport("libc", EntryPoint = "posix_spawn_file_actions_adddup2")]
    private static unsafe partial int AddDuplicate(byte* actions, int descriptor, int newDescriptor);

    [LibraryImport("libc", EntryPoint = "posix_spawn_file_actions_destroy")]
    private static unsafe partial int DestroyFileActions(byte* actions);

    [LibraryImport("libc", EntryPoint = "posix_spawn", StringMarshalling = StringMarshalling.Utf8)]
    private static unsafe partial int Spawn(out int process, string path, byte* actions, nint attributes, string?[] arguments, string?[] variables);

    [LibraryImport("libc", EntryPoint = "waitpid", SetLastError = true)]
    private static partial int WaitFor(int process, out int status, int options);

    [LibraryImport("libc", EntryPoint = "signal")]
    public static partial nint Signal(int signal, nint handler);

    [LibraryImport("libc", EntryPoint = "lseek", SetLastError = true)]
    public static partial long Seek(SafeFileHandle fd, long offset, int whence);

    [LibraryImport("libc", EntryPoint = "fallocate", SetLastError = true)]
    public static partial int Fallocate(SafeFileHandle fd, int mode, long offset, long length);

    [LibraryImport("libc", EntryPoint = "posix_fadvise")]
    public static partial int Fadvise(SafeFileHandle fd, long offset, long length, int advice);

    [LibraryImport("libc", EntryPoint = "copy_file_range", SetLastError = true)]
    public static partial nint CopyFileRange(SafeFileHandle from, ref long fromOffset, SafeFileHandle to, ref long toOffset, nint length, uint flags);

    [LibraryImport("libc", EntryPoint = "sendfile", SetLastError = true)]
    public static partial nint SendFile(SafeHandle socket, SafeFileHandle file, ref long offset, nint count);

    [LibraryImport("libc", EntryPoint = "fdatasync", SetLastError = true)]
    public static partial int FDataSync(SafeFileHandle fd);

    [LibraryImport("libc", EntryPoint = "fcntl", SetLastError = true)]
    public static partial int Fcntl(SafeFileHandle fd, int command, ref FileLock fileLock);

    /// <summary>Reads without waiting for a device.</summary>
    public static unsafe nint ReadNoWait(SafeFileHandle fd, Span<byte> buffer, long offset)
    {
        fixed (byte* start = buffer)
        {
            var vector = new IoVector { Base = (nint)start, Length = buffer.Length };
            return PReadV2(fd, &vector, 1, offset, RWF_NOWAIT);
        }
    }

    /// <summary>Reads without leaving pages in the cache; EOPNOTSUPP where the kernel (before 6.14) or the file system cannot.</summary>
    public static unsafe nint ReadUncached(SafeFileHandle fd, Span<byte> buffer, long offset)
    {
        fixed (byte* start = buffer)
        {
            var vector = new IoVector { Base = (nint)start, Length = buffer.Length };
            return PReadV2(fd, &vector, 1, offset, RWF_DONTCACHE);
        }
    }

    /// <summary>Writes; the pages leave the cache as soon as the device has them. Errors as <see cref="ReadUncached"/>.</summary>
    public static unsafe nint WriteUncached(SafeFileHandle fd, ReadOnlySpan<byte> buffer, long offset)
    {
        fixed (byte* start = buffer)
        {
            var vector = new IoVector { Base = (nint)start, Length = buffer.Length };
            return PWriteV2(fd, &vector, 1, offset, RWF_DONTCACHE);
        }
    }

    /// <summary>Asks for type, identity and sizes of an open file.</summary>
    public static unsafe bool TryStat(SafeFileHandle fd, out FileStatus status)
    {
        var buffer = stackalloc byte[256];
        byte empty = 0;
        if (Statx(fd, &empty, AT_EMPTY_PATH, STATX_BASIC_STATS, buffer) != 0)
        {
            status = default;
            return false;
        }

        status = new FileStatus(
            Type: *(ushort*)(buffer + 28) & S_IFMT,
            Device: ((ulong)*(uint*)(buffer + 136) << 32) | *(uint*)(buffer + 140),
            Inode: *(ulong*)(buffer + 32),
            RawDevice: ((ulong)*(uint*)(buffer + 128) << 32) | *(uint*)(buffer + 132),
            Size: *(long*)(buffer + 40),
            AllocatedBytes: *(long*)(buffer + 48) * 512);
        return true;
    }

    /// <summary>Opens without following <c>/proc/PID/fd/N</c> and its like, which fail with ELOOP; ENOSYS before Linux 5.6.</summary>
    public static unsafe int OpenWithoutMagicLinks(string path, int flags)
    {
        var how = new OpenHow { Flags = (uint)flags, Resolve = RESOLVE_NO_MAGICLINKS };
        return (int)OpenAt2(SYS_openat2, AT_FDCWD, path, &how, sizeof(OpenHow));
    }

    // The C library of most systems has no function for it yet.
    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static unsafe partial nint OpenAt2(nint number, nint directory, string path, OpenHow* how, nint size);

    /// <summary>Asks for the magic number of the file system that an open file is on; 0 where it does not tell.</summary>
    public static unsafe uint FileSystemOf(SafeFileHandle fd)
    {
        // struct statfs: the type comes first, in a word of 64 bits of which no file system uses more than 32.
        var buffer = stackalloc byte[256];
        return FStatFs(fd, buffer) == 0 ? *(uint*)buffer : 0;
    }

    [LibraryImport("libc", EntryPoint = "fstatfs", SetLastError = true)]
    private static unsafe partial int FStatFs(SafeFileHandle fd, byte* buffer);

    [LibraryImport("libc", EntryPoint = "preadv2", SetLastError = true)]
    private static unsafe partial nint PReadV2(SafeFileHandle fd, IoVector* vectors, int count, long offset, int flags);

    [LibraryImport("libc", EntryPoint = "pwritev2", SetLastError = true)]
    private static unsafe partial nint PWriteV2(SafeFileHandle fd, IoVector* vectors, int count, long offset, int flags);

    [LibraryImport("libc", EntryPoint = "statx", SetLastError = true)]
    private static unsafe partial int Statx(SafeFileHandle fd, byte* path, int flags, uint mask, byte* buffer);

    /// <summary>What <see cref="TryStat"/> tells.</summary>
    public readonly record struct FileStatus(uint Type, ulong Device, ulong Inode, ulong RawDevice, long Size, long AllocatedBytes);

    /// <summary><c>struct flock</c>.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct FileLock
    {
        public short Type;
        public short Whence;
        public long Start;
        public long Length;
        public int Pid;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct OpenHow
    {
        public ulong Flags;
        public ulong Mode;
        public ulong Resolve;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct IoVector
    {
        public nint Base;
        public nint Length;
    }
}
