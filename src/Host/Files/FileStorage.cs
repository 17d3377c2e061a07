using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Platter.Core.Errors;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Host.Locks;
using Platter.Host.Native;

namespace Platter.Host.Files;

/// <summary>A regular file or a block device of the host.</summary>
/// <remarks>Requests complete on the calling thread. Reads and writes carry their own position, so any number may run at once.</remarks>
public sealed class FileStorage : Storage
{
    // rw-r--r--, less what the umask takes away.
    private const uint NewFileMode = 0x1a4;

    private readonly SafeFileHandle _handle;
    private readonly bool _isDevice;
    private readonly StorageIdentity? _identity;
    private bool _noPunch;
    private bool _isLocked;

    private readonly string _path;

    private FileStorage(string path, string name, SafeFileHandle handle, bool isDevice, bool readOnly, StorageIdentity? identity)
    {
        _path = path;
        Name = name;
        _handle = handle;
        _isDevice = isDevice;
        _identity = identity;
        IsReadOnly = readOnly;
    }

    /// <inheritdoc/>
    public override string Name { get; }

    /// <inheritdoc/>
    public override bool IsReadOnly { get; }

    /// <inheritdoc/>
    public override StorageIdentity? Identity => _identity;

    /// <inheritdoc/>
    public override string? BaseDirectory => Path.GetDirectoryName(_path) ?? "/";

    /// <summary>Where the open file really is, links resolved; null where the host cannot tell.</summary>
    public string? ResolvedPath =>
        HostCalls.Linux ? new FileInfo($"/proc/self/fd/{_handle.DangerousGetHandle()}").LinkTarget : null;

    /// <summary>Whether it is a block device.</summary>
    public bool IsDevice => _isDevice;

    /// <inheritdoc/>
    public override long Length
    {
        get
        {
            try
            {
                return _isDevice ? LinuxCalls.Seek(_handle, 0, LinuxCalls.SEEK_END) : RandomAccess.GetLength(_handle);
            }
            catch (Exception e) when (HostErrors.IsHostError(e))
            {
                throw HostErrors.From(e, Name, "Could not get the size");
            }
        }
    }

    /// <inheritdoc/>
    public override long? AllocatedSize =>
        HostCalls.Linux && LinuxCalls.TryStat(_handle, out var status) ? status.AllocatedBytes : _isDevice ? null : Length;

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
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>: something is there; others when the host could not.</exception>
    internal static FileStorage CreateNew(string path, string displayName)
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
            return FromHandle(path, displayName, handle, writable: true);
        }
        catch
        {
            handle.Dispose();
            throw;
        }
    }

    /// <summary>Empties the file and gives it a new size that reads as zeros.</summary>
    /// <param name="length">Bytes.</param>
    /// <exception cref="BlockException">The host has no room.</exception>
    public void Replace(long length)
    {
        SetLength(0);
        SetLength(length);
    }

    /// <inheritdoc/>
    public override void LockForReading(bool allowWriters)
    {
        if (!_isDevice)
        {
            ImageLock.AcquireForReading(_handle, Name, allowWriters);
            _isLocked = true;
        }
    }

    /// <inheritdoc/>
    public override void LockForWriting()
    {
        if (!_isDevice)
        {
            ImageLock.AcquireForWriting(_handle, Name);
            _isLocked = true;
        }
    }

    /// <inheritdoc/>
    public override ValueTask<int> ReadAsync(HostOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        cancellationToken.ThrowIfCancellationRequested();
        return new(Read(at.Value, buffer.Span));
    }

    /// <inheritdoc/>
    public override bool TryReadNow(HostOffset at, Span<byte> buffer, out int read)
    {
        read = 0;
        if (!HostCalls.Linux)
        {
            return false;
        }

        while (read < buffer.Length)
        {
            var count = LinuxCalls.ReadNoWait(_handle, buffer[read..], at.Value + read);
            if (count < 0)
            {
                return false;
            }

            if (count == 0)
            {
                // The kernel may answer 0 in place of EAGAIN short of the end on some file systems; only the size can tell.
                return at.Value + read >= Length;
            }

            read += (int)count;
        }

        return true;
    }

    /// <inheritdoc/>
    public override ValueTask<StorageExtent> MapAsync(HostOffset at, long length, CancellationToken cancellationToken = default)
    {
        if (_isDevice || !HostCalls.Linux)
        {
            return base.MapAsync(at, length, cancellationToken);
        }

        var data = LinuxCalls.Seek(_handle, at.Value, LinuxCalls.SEEK_DATA);
        if (data < 0)
        {
            // ENXIO: no data from here to the end. Anything else: the file system cannot tell.
            var hole = Marshal.GetLastPInvokeError() == LinuxCalls.ENXIO;
            return new(new StorageExtent(length, IsAllocated: !hole, ReadsZero: hole));
        }

        if (data > at.Value)
        {
            return new(new StorageExtent(Math.Min(length, data - at.Value), IsAllocated: false, ReadsZero: true));
        }

        var end = LinuxCalls.Seek(_handle, at.Value, LinuxCalls.SEEK_HOLE);
        return new(new StorageExtent(end > at.Value ? Math.Min(length, end - at.Value) : length, IsAllocated: true, ReadsZero: false));
    }

    /// <inheritdoc/>
    public override ValueTask WriteAsync(HostOffset at, ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        cancellationToken.ThrowIfCancellationRequested();
        ThrowIfReadOnly();
        try
        {
            RandomAccess.Write(_handle, buffer.Span, at.Value);
        }
        catch (Exception e) when (HostErrors.IsHostError(e))
        {
            throw HostErrors.From(e, Name, $"Could not write {buffer.Length} bytes at {at}");
        }

        return ValueTask.CompletedTask;
    }

    /// <inheritdoc/>
    public override async ValueTask WriteZeroesAsync(HostOffset at, long length, bool mayUnmap, CancellationToken cancellationToken = default)
    {
        ThrowIfReadOnly();
        if (HostCalls.Linux && !_noPunch)
        {
            var mode = mayUnmap
                ? LinuxCalls.FALLOC_FL_PUNCH_HOLE | LinuxCalls.FALLOC_FL_KEEP_SIZE
                : LinuxCalls.FALLOC_FL_ZERO_RANGE;
            if (LinuxCalls.Fallocate(_handle, mode, at.Value, length) == 0)
            {
                if (mayUnmap && !_isDevice && at.Value + length > Length)
                {
                    SetLength(at.Value + length);
                }

                return;
            }

            var errno = Marshal.GetLastPInvokeError();
            if (errno is not (LinuxCalls.EOPNOTSUPP or LinuxCalls.ENOSYS or LinuxCalls.EINVAL or LinuxCalls.ENODEV))
            {
                throw HostErrors.FromErrno(errno, Name, $"Could not zero {length} bytes at {at}");
            }

            _noPunch = errno != LinuxCalls.EINVAL;
        }

        var zeros = new byte[(int)Math.Min(length, 256 * Sizes.KiB)];
        for (long done = 0; done < length; done += zeros.Length)
        {
            var part = zeros.AsMemory(0, (int)Math.Min(zeros.Length, length - done));
            await WriteAsync(at + done, part, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <inheritdoc/>
    public override ValueTask FlushAsync(CancellationToken cancellationToken = default)
    {
        if (IsReadOnly)
        {
            return ValueTask.CompletedTask;
        }

        try
        {
            if (!HostCalls.Linux)
            {
                RandomAccess.FlushToDisk(_handle);
            }
            else if (LinuxCalls.FDataSync(_handle) != 0)
            {
                throw HostErrors.FromErrno(Marshal.GetLastPInvokeError(), Name, "Could not flush");
            }
        }
        catch (Exception e) when (HostErrors.IsHostError(e))
        {
            throw HostErrors.From(e, Name, "Could not flush");
        }

        return ValueTask.CompletedTask;
    }

    /// <summary>Makes later reads come from the disk, where the host has such a call: its copies in memory are given up. What was not flushed stays.</summary>
    public void DropCache()
    {
        if (HostCalls.Linux)
        {
            _ = LinuxCalls.Fadvise(_handle, 0, 0, LinuxCalls.POSIX_FADV_DONTNEED);
        }
    }

    /// <inheritdoc/>
    public override ValueTask SetLengthAsync(long length, CancellationToken cancellationToken = default)
    {
        ThrowIfReadOnly();
        SetLength(length);
        return ValueTask.CompletedTask;
    }

    /// <inheritdoc/>
    public override bool HasFixedLength => _isDevice;

    /// <inheritdoc/>
    public override bool TryReserve(HostOffset at, long length)
    {
        ThrowIfReadOnly();
        if (!HostCalls.Linux || length == 0)
        {
            return length == 0;
        }

        while (LinuxCalls.Fallocate(_handle, 0, at.Value, length) != 0)
        {
            switch (Marshal.GetLastPInvokeError())
            {
                case LinuxCalls.EINTR:
                    continue;
                case LinuxCalls.EOPNOTSUPP or LinuxCalls.ENOSYS or LinuxCalls.EINVAL or LinuxCalls.ENODEV:
                    return false;
                case var errno:
                    throw HostErrors.FromErrno(errno, Name, $"Could not reserve {length} bytes at {at}");
            }
        }

        return true;
    }

    /// <inheritdoc/>
    public override long TryCopyFrom(Storage source, HostOffset from, HostOffset to, long length)
    {
        if (!HostCalls.Linux || source is not FileStorage file || IsReadOnly)
        {
            return 0;
        }

        var (fromOffset, toOffset) = (from.Value, to.Value);
        long done = 0;
        while (done < length)
        {
            var count = LinuxCalls.CopyFileRange(file._handle, ref fromOffset, _handle, ref toOffset, (nint)Math.Min(length - done, 1L << 30), 0);
            if (count > 0)
            {
                done += count;
                continue;
            }

            var errno = count == 0 ? 0 : Marshal.GetLastPInvokeError();
            if (errno == LinuxCalls.EINTR)
            {
                continue;
            }

            if (errno is LinuxCalls.ENOSPC or LinuxCalls.EDQUOT or LinuxCalls.EFBIG)
            {
                throw HostErrors.FromErrno(errno, Name, $"Could not write at {to + done}");
            }

            // End of the source, different file systems, or an error that the caller's own reads will name.
            break;
        }

        return done;
    }

    /// <inheritdoc/>
    public override long TrySendTo(SafeHandle socket, HostOffset at, long length)
    {
        if (!HostCalls.Linux)
        {
            return -1;
        }

        var offset = at.Value;
        long sent = 0;
        while (sent < length)
        {
            var count = LinuxCalls.SendFile(socket, _handle, ref offset, (nint)Math.Min(length - sent, 1L << 30));
            if (count > 0)
            {
                sent += count;
                continue;
            }

            var errno = count == 0 ? 0 : Marshal.GetLastPInvokeError();
            switch (errno)
            {
                case LinuxCalls.EINTR:
                    continue;
                case LinuxCalls.EAGAIN:
                    SocketWait.ForSending(socket);
                    continue;
                case LinuxCalls.EINVAL or LinuxCalls.ENOSYS when sent == 0:
                    return -1;
                case 0 or LinuxCalls.EIO:
                    return sent;
                default:
                    throw new BlockException(BlockErrorKind.Protocol, $"connection lost while sending: {Marshal.GetPInvokeErrorMessage(errno)}");
            }
        }

        return sent;
    }

    /// <inheritdoc/>
    public override void Prefetch(HostOffset at, long length)
    {
        if (HostCalls.Linux)
        {
            _ = LinuxCalls.Fadvise(_handle, at.Value, length, LinuxCalls.POSIX_FADV_WILLNEED);
        }
    }

    /// <inheritdoc/>
    public override ValueTask DisposeAsync()
    {
        if (_isLocked && !_handle.IsClosed)
        {
            // A process that was just started from this one may still share the open file, and its locks, for a moment.
            ImageLock.Release(_handle);
        }

        _handle.Dispose();
        return base.DisposeAsync();
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
            var opening = Task.Run(() => File.OpenHandle(
                path, FileMode.Open, writable ? FileAccess.ReadWrite : FileAccess.Read, FileShare.ReadWrite | FileShare.Delete));
            if (Task.WhenAny(opening, Task.Delay(TimeSpan.FromSeconds(1))).GetAwaiter().GetResult() != opening)
            {
                throw new BlockException(BlockErrorKind.NotAllowed, $"{path}: is neither a regular file nor a block device");
            }

            return opening.GetAwaiter().GetResult();
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

    private int Read(long offset, Span<byte> buffer)
    {
        try
        {
            var done = 0;
            while (done < buffer.Length)
            {
                var count = RandomAccess.Read(_handle, buffer[done..], offset + done);
                if (count == 0)
                {
                    break;
                }

                done += count;
            }

            return done;
        }
        catch (Exception e) when (HostErrors.IsHostError(e))
        {
            throw HostErrors.From(e, Name, $"Could not read {buffer.Length} bytes at 0x{offset:x}");
        }
    }

    private void SetLength(long length)
    {
        try
        {
            RandomAccess.SetLength(_handle, length);
        }
        catch (Exception e) when (HostErrors.IsHostError(e))
        {
            throw HostErrors.From(e, Name, $"Could not set the size to {length} bytes");
        }
    }

    private void ThrowIfReadOnly()
    {
        if (IsReadOnly)
        {
            throw new BlockException(BlockErrorKind.ReadOnly, $"{Name}: is open for reading only");
        }
    }
}
