using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Platter.Core.Errors;
using Platter.Core.Storages;
using Platter.Host.Locks;
using Platter.Host.Native;

namespace Platter.Host.Files;

// The ways to open and to make a file.
public sealed partial class FileStorage
{
    // rw-r--r--, less what the umask takes away.
    private const uint NewFileMode = 0x1a4;

    /// <summary>Opens an existing file or block device.</summary>
    /// <param name="path">As the caller wrote it; messages repeat it.</param>
    /// <param name="writable">For reading and writing instead of reading only.</param>
    /// <param name="displayName">What messages repeat instead, if not null.</param>
    /// <exception cref="BlockException">Not found, no access, or neither a regular file nor a block device.</exception>
    public static FileStorage Open(string path, bool writable = false, string? displayName = null)
    {
        // O_NONBLOCK: opening a FIFO must not hang; for files and devices it has no effect.
        var handle = HostCalls.Linux
            ? OpenNative(path, (writable ? LinuxCalls.O_RDWR : LinuxCalls.O_RDONLY) | LinuxCalls.O_NONBLOCK)
            : OpenPortable(path, writable);
        try
        {
            return FromHandle(path, displayName ?? path, handle, writable);
        }
        catch
        {
            handle.Dispose();
            throw;
        }
    }

    /// <summary>Opens a file that an image names: a stranger's choice.</summary>
    /// <remarks>
    /// What it is is found out before it is really opened, because with some devices the opening itself does something. Beside FIFOs and the like,
    /// files that the kernel makes up (<c>/proc</c>, <c>/sys</c>) are refused, as are files that this process has open (<c>/proc/self/fd/N</c>): they pass
    /// for regular files, and what they say is the host's own.
    /// </remarks>
    /// <param name="path">Where.</param>
    /// <param name="writable">For reading and writing instead of reading only.</param>
    /// <param name="displayName">What messages repeat instead, if not null.</param>
    /// <exception cref="BlockException">Not found, no access, or neither a regular file nor a block device.</exception>
    public static FileStorage OpenReferenced(string path, bool writable = false, string? displayName = null)
    {
        var name = displayName ?? path;
        if (!HostCalls.Linux)
        {
            KernelFiles.RefusePath(path, name);
            return Open(path, writable, displayName);
        }

        using var reference = KernelFiles.OpenPath(path) ?? OpenNative(path, LinuxCalls.O_PATH);
        _ = LinuxCalls.TryStat(reference, out var status);
        RefuseSpecial(status.Type, name);
        KernelFiles.Refuse(reference, name);

        // The same file again, whatever the name leads to by now.
        var link = $"/proc/self/fd/{reference.DangerousGetHandle()}";
        var access = (writable ? LinuxCalls.O_RDWR : LinuxCalls.O_RDONLY) | LinuxCalls.O_NONBLOCK;
        var fd = LinuxCalls.Open(link, access | LinuxCalls.O_CLOEXEC, 0);
        var handle = fd < 0 && Marshal.GetLastPInvokeError() == LinuxCalls.ENOENT
            ? OpenNative(path, access) // /proc is not mounted here.
            : Owned(fd, name, "Could not open");
        try
        {
            KernelFiles.Refuse(handle, name);
            return FromHandle(path, name, handle, writable);
        }
        catch
        {
            handle.Dispose();
            throw;
        }
    }

    /// <summary>Opens a file that is to be rewritten, or creates it; nothing of its content is touched before <see cref="Replace"/>.</summary>
    /// <param name="path">Where; a block device is opened as it is.</param>
    /// <exception cref="BlockException">It cannot be opened or created, or another process holds it.</exception>
    public static FileStorage OpenForReplacing(string path)
    {
        const string Attempted = "Could not create file";
        SafeFileHandle handle;
        try
        {
            handle = HostCalls.Linux
                ? Owned(LinuxCalls.Open(path, LinuxCalls.O_RDWR | LinuxCalls.O_CREAT | LinuxCalls.O_NONBLOCK | LinuxCalls.O_CLOEXEC, NewFileMode), path, Attempted)
                : File.OpenHandle(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.ReadWrite);
        }
        catch (Exception e) when (HostErrors.IsHostError(e))
        {
            throw HostErrors.From(e, path, Attempted);
        }

        try
        {
            var storage = FromHandle(path, path, handle, writable: true);
            if (!storage._isDevice)
            {
                ImageLock.AcquireForWriting(storage._handle, path);
                storage._isLocked = true;
            }

            return storage;
        }
        catch
        {
            handle.Dispose();
            throw;
        }
    }

    /// <summary>Makes a file that was not there.</summary>
    /// <param name="path">Where; nothing of that name may be there, not even a link.</param>
    /// <param name="displayName">What messages repeat.</param>
    /// <param name="like">Path of a file whose permissions it takes over, if it is there; or null.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>: something is there; others when the host could not.</exception>
    internal static FileStorage CreateNew(string path, string displayName, string? like = null)
    {
        SafeFileHandle handle;
        try
        {
            handle = File.OpenHandle(path, FileMode.CreateNew, FileAccess.ReadWrite, FileShare.ReadWrite | FileShare.Delete);
        }
        catch (IOException) when (Path.Exists(path) || new FileInfo(path).LinkTarget is not null)
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, $"{displayName}: is there already, and is not overwritten");
        }
        catch (Exception e) when (HostErrors.IsHostError(e))
        {
            throw HostErrors.From(e, displayName, "Could not create file");
        }

        try
        {
            TakeOverMode(handle, like);
            return FromHandle(path, displayName, handle, writable: true);
        }
        catch
        {
            handle.Dispose();
            throw;
        }
    }

    private static void TakeOverMode(SafeFileHandle handle, string? like)
    {
        if (like is null || OperatingSystem.IsWindows())
        {
            return;
        }

        try
        {
            File.SetUnixFileMode(handle, File.GetUnixFileMode(like));
        }
        catch (Exception e) when (HostErrors.IsHostError(e))
        {
            // It is not there, or the file system has no permissions: as the host likes, then.
        }
    }

    private static SafeFileHandle OpenNative(string path, int flags)
    {
        if (path.Contains('\0', StringComparison.Ordinal))
        {
            throw new BlockException(BlockErrorKind.NotFound, $"{SafeText.Clean(path, 256)}: Could not open: the name holds a NUL character");
        }

        return Owned(LinuxCalls.Open(path, flags | LinuxCalls.O_CLOEXEC, 0), path, "Could not open");
    }

    private static SafeFileHandle OpenPortable(string path, bool writable)
    {
        try
        {
            // Without the native call nobody can look at the type first, and opening a FIFO blocks: so do it where that hurts nobody.
            SafeFileHandle? opened = null;
            ExceptionDispatchInfo? failure = null;
            var opening = new Thread(() =>
            {
                try
                {
                    opened = File.OpenHandle(path, FileMode.Open, writable ? FileAccess.ReadWrite : FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
                }
                catch (Exception e)
                {
                    failure = ExceptionDispatchInfo.Capture(e);
                }
            }) { IsBackground = true };
            opening.Start();
            if (!opening.Join(TimeSpan.FromSeconds(3)))
            {
                throw new BlockException(BlockErrorKind.NotAllowed, $"{path}: is neither a regular file nor a block device");
            }

            failure?.Throw();
            return opened!;
        }
        catch (Exception e) when (HostErrors.IsHostError(e))
        {
            throw HostErrors.From(e, path, "Could not open");
        }
    }

    private static SafeFileHandle Owned(int fd, string path, string attempted) =>
        fd >= 0 ? new SafeFileHandle(fd, ownsHandle: true) : throw HostErrors.FromErrno(Marshal.GetLastPInvokeError(), path, attempted);

    private static FileStorage FromHandle(string path, string name, SafeFileHandle handle, bool writable)
    {
        if (!HostCalls.Linux || !LinuxCalls.TryStat(handle, out var status))
        {
            return new FileStorage(path, name, handle, isDevice: false, !writable, identity: null);
        }

        RefuseSpecial(status.Type, name);
        return status.Type == LinuxCalls.S_IFBLK
            ? new(path, name, handle, true, !writable, new StorageIdentity(ulong.MaxValue, status.RawDevice))
            : new(path, name, handle, false, !writable, new StorageIdentity(status.Device, status.Inode));
    }

    private static void RefuseSpecial(uint type, string name)
    {
        switch (type)
        {
            case LinuxCalls.S_IFREG or LinuxCalls.S_IFBLK:
                return;
            case LinuxCalls.S_IFDIR:
                throw new BlockException(BlockErrorKind.WrongFormat, $"{name}: is a directory");
            default:
                var what = type == LinuxCalls.S_IFIFO ? "a FIFO" : type == LinuxCalls.S_IFCHR ? "a character device" : "a special file";
                throw new BlockException(BlockErrorKind.NotAllowed, $"{name}: is {what}, neither a regular file nor a block device");
        }
    }
}
