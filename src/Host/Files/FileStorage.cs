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
public sealed partial class FileStorage : Storage
{
    private readonly SafeFileHandle _handle;
    private readonly bool _isDevice;
    private readonly StorageIdentity? _identity;
    private volatile bool _noPunch;
    private volatile bool _noZeroRange;
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
        if (!HostCalls.Linux || BypassesCache)
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
        var offset = at.Value;
        var rest = buffer.Span;
        if (UsesBypass && TryWriteUncached(ref offset, ref rest))
        {
            return ValueTask.CompletedTask;
        }

        try
        {
            RandomAccess.Write(_handle, rest, offset);
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
        if (TryZeroFast(at, length, mayUnmap))
        {
            return;
        }

        var zeros = new byte[(int)Math.Min(length, 256 * Sizes.KiB)];
        for (long done = 0; done < length; done += zeros.Length)
        {
            var part = zeros.AsMemory(0, (int)Math.Min(zeros.Length, length - done));
            await WriteAsync(at + done, part, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <inheritdoc/>
    public override ValueTask<bool> TryZeroFastAsync(HostOffset at, long length, bool mayUnmap, CancellationToken cancellationToken = default)
    {
        ThrowIfReadOnly();

        // For a device that cannot, the kernel itself writes the zeros, and tells nobody; asked for a hole it refuses.
        return new((mayUnmap || !_isDevice) && TryZeroFast(at, length, mayUnmap));
    }

    /// <inheritdoc/>
    public override ValueTask DiscardAsync(HostOffset at, long length, CancellationToken cancellationToken = default)
    {
        if (HostCalls.Linux && !IsReadOnly && !_noPunch && length > 0)
        {
            _ = LinuxCalls.Fallocate(_handle, LinuxCalls.FALLOC_FL_PUNCH_HOLE | LinuxCalls.FALLOC_FL_KEEP_SIZE, at.Value, length);
        }

        return ValueTask.CompletedTask;
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

            DropWhatWasWritten();
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
        if (!HostCalls.Linux || source is not FileStorage { BypassesCache: false } file || BypassesCache || IsReadOnly)
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
        if (!HostCalls.Linux || BypassesCache)
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
    public override bool Prefetch(HostOffset at, long length)
    {
        if (HostCalls.Linux && !BypassesCache)
        {
            return LinuxCalls.Fadvise(_handle, at.Value, length, LinuxCalls.POSIX_FADV_WILLNEED) == 0;
        }

        return false;
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

    private int Read(long offset, Span<byte> buffer)
    {
        try
        {
            var done = 0;
            while (done < buffer.Length)
            {
                var count = UsesBypass ? ReadUncached(offset + done, buffer[done..]) : -1;
                if (count < 0)
                {
                    count = RandomAccess.Read(_handle, buffer[done..], offset + done);
                }

                if (count == 0)
                {
                    break;
                }

                done += count;
            }

            DropWhatWasRead(offset, done);
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

    /// <summary>Has the host make zeros; false if it cannot.</summary>
    private bool TryZeroFast(HostOffset at, long length, bool mayUnmap)
    {
        if (!HostCalls.Linux || (mayUnmap ? _noPunch : _noZeroRange))
        {
            return false;
        }

        if (length == 0)
        {
            return true;
        }

        var mode = mayUnmap ? LinuxCalls.FALLOC_FL_PUNCH_HOLE | LinuxCalls.FALLOC_FL_KEEP_SIZE : LinuxCalls.FALLOC_FL_ZERO_RANGE;
        if (LinuxCalls.Fallocate(_handle, mode, at.Value, length) == 0)
        {
            if (mayUnmap && !_isDevice && at.Value + length > Length)
            {
                SetLength(at.Value + length);
            }

            return true;
        }

        var errno = Marshal.GetLastPInvokeError();
        if (errno is not (LinuxCalls.EOPNOTSUPP or LinuxCalls.ENOSYS or LinuxCalls.EINVAL or LinuxCalls.ENODEV))
        {
            throw HostErrors.FromErrno(errno, Name, $"Could not zero {length} bytes at {at}");
        }

        // A file system may know the one and not the other (tmpfs); invalid may be this range alone.
        if (errno != LinuxCalls.EINVAL)
        {
            _noPunch |= mayUnmap;
            _noZeroRange |= !mayUnmap;
        }

        return false;
    }
}
