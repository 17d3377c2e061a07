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
    public static void CreateNew(string path, ReadOnlySpan<byte> bytes)
    {
        if (Path.Exists(path))
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, $"{path}: is there already, and is not overwritten");
        }

        var isMade = false;
        try
        {
            using (var handle = File.OpenHandle(path, FileMode.CreateNew, FileAccess.Write))
            {
                isMade = true;
                RandomAccess.Write(handle, bytes, 0);
                RandomAccess.FlushToDisk(handle);
            }

            FlushDirectory(Path.GetDirectoryName(Path.GetFullPath(path)));
        }
        catch (Exception e) when (HostErrors.IsHostError(e))
        {
            if (isMade)
            {
                TryRemove(path);
            }

            throw HostErrors.From(e, path, "Could not create file");
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

    // A new name is part of the directory. File systems that cannot flush one have no other way to be asked.
    private static void FlushDirectory(string? path)
    {
        if (path is null || !HostCalls.Linux)
        {
            return;
        }

        var fd = LinuxCalls.Open(path, LinuxCalls.O_RDONLY | LinuxCalls.O_CLOEXEC, 0);
        if (fd >= 0)
        {
            using var handle = new SafeFileHandle(fd, ownsHandle: true);
            _ = LinuxCalls.FDataSync(handle);
        }
    }
}
