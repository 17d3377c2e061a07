using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Platter.Core.Errors;
using Platter.Host.Native;

namespace Platter.Host.Files;

/// <summary>Small files that must be on the disk before something else is done.</summary>
public static class DurableFile
{
    /// <summary>Makes a file that was not there, and waits until it and its name are on the disk.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.InvalidRequest"/>: something of that name is there already. Others when the host
    /// could not; what was made is removed again.</exception>
    /// <param name="path">Where.</param>
    /// <param name="write">Writes what it is to hold.</param>
    public static async ValueTask CreateNewAsync(string path, Func<Stream, ValueTask> write)
    {
        if (Path.Exists(path))
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, $"{path}: is there already, and is not overwritten");
        }

        var isMade = false;
        try
        {
            var stream = new FileStream(path, FileMode.CreateNew, FileAccess.Write);
            await using (stream.ConfigureAwait(false))
            {
                isMade = true;
                await write(stream).ConfigureAwait(false);
                stream.Flush(flushToDisk: true);
            }

            FlushDirectory(Path.GetDirectoryName(Path.GetFullPath(path)) ?? "/", path);
        }
        catch (Exception e) when (HostErrors.IsHostError(e))
        {
            if (isMade)
            {
                TryRemove(path);
            }

            throw HostErrors.From(e, path, "Could not create file");
        }
        catch
        {
            if (isMade)
            {
                TryRemove(path);
            }

            throw;
        }
    }

    /// <summary>Removes a file, and waits until its name is gone from the disk.</summary>
    /// <exception cref="BlockException">The host could not.</exception>
    public static void Remove(string path)
    {
        try
        {
            File.Delete(path);
            FlushDirectory(Path.GetDirectoryName(Path.GetFullPath(path)) ?? "/", path);
        }
        catch (Exception e) when (HostErrors.IsHostError(e))
        {
            throw HostErrors.From(e, path, "Could not remove file");
        }
    }

    /// <summary>Gives a file another name in the same directory, and waits until that is on the disk. A link is renamed itself.</summary>
    /// <param name="path">The file.</param>
    /// <param name="newPath">Its name from then on.</param>
    /// <param name="replaces">A file that has the name is gone then; otherwise that is an error.</param>
    /// <exception cref="BlockException">The host could not.</exception>
    public static void Rename(string path, string newPath, bool replaces)
    {
        try
        {
            File.Move(path, newPath, replaces);
            FlushDirectory(Path.GetDirectoryName(Path.GetFullPath(newPath)) ?? "/", newPath);
        }
        catch (Exception e) when (HostErrors.IsHostError(e))
        {
            throw HostErrors.From(e, path, "Could not rename");
        }
    }

    /// <summary>Removes a file; that it cannot be is no error.</summary>
    public static void TryRemove(string path)
    {
        try
        {
            File.Delete(path);
        }
        catch (Exception e) when (HostErrors.IsHostError(e))
        {
            // It stays, and is of no use to anybody.
        }
    }

    /// <summary>Makes the names in a directory durable. File systems that cannot flush one have no other way to be asked, so that is no error.</summary>
    /// <param name="path">The directory.</param>
    /// <param name="name">For messages.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.Io"/>, <see cref="BlockErrorKind.NoSpace"/>: the host tried and could not.</exception>
    internal static void FlushDirectory(string path, string name)
    {
        if (!HostCalls.Linux)
        {
            return;
        }

        var fd = LinuxCalls.Open(path, LinuxCalls.O_RDONLY | LinuxCalls.O_CLOEXEC, 0);
        if (fd < 0)
        {
            return;
        }

        using var handle = new SafeFileHandle(fd, ownsHandle: true);
        if (LinuxCalls.FDataSync(handle) != 0 && Marshal.GetLastPInvokeError() is var errno and (LinuxCalls.EIO or LinuxCalls.ENOSPC or LinuxCalls.EDQUOT))
        {
            throw HostErrors.FromErrno(errno, name, "Could not flush the directory");
        }
    }
}
