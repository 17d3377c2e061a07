using System.Globalization;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Platter.Core.Errors;
using Platter.Host.Native;

namespace Platter.Host.Locks;

/// <summary>Image locks that QEMU's tools and virtual machines respect, and we theirs.</summary>
/// <remarks>
/// Permissions are bytes of the file under open-file-description locks: a read lock on byte 100+n says "I use permission n", one on byte
/// 200+n says "nobody else may use permission n". n: 0 consistent read, 1 write, 3 resize. Taking is: lock, then see whether anybody holds
/// what contradicts. File systems without locks are used without them, as the peers do. The locks end with the file handle.
/// </remarks>
internal static class ImageLock
{
    private const int HeldBase = 100, UnsharedBase = 200;
    private const int ConsistentRead = 0, Write = 1, Resize = 3;
    private const short ReadLock = 0, WriteLock = 1, Unlock = 2;

    /// <summary>The locks of a reader; with <paramref name="allowWriters"/> (raw images) others may write meanwhile.</summary>
    public static void AcquireForReading(SafeFileHandle handle, string name, bool allowWriters)
    {
        if (HostCalls.Linux)
        {
            Acquire(handle, name, [ConsistentRead], allowWriters ? [] : [Write, Resize]);
        }
    }

    /// <summary>The locks of somebody who writes to the file, or is about to empty and rewrite it.</summary>
    public static void AcquireForWriting(SafeFileHandle handle, string name)
    {
        if (HostCalls.Linux)
        {
            Acquire(handle, name, [ConsistentRead, Write, Resize], [Write, Resize]);
        }
    }

    private static void Acquire(SafeFileHandle handle, string name, ReadOnlySpan<int> used, ReadOnlySpan<int> unshared)
    {
        foreach (var permission in used)
        {
            if (!TrySet(handle, HeldBase + permission))
            {
                return;
            }
        }

        foreach (var permission in unshared)
        {
            TrySet(handle, UnsharedBase + permission);
        }

        foreach (var permission in used)
        {
            if (IsHeldByAnother(handle, UnsharedBase + permission))
            {
                Release(handle);
                throw Conflict(handle, name, $"Failed to get \"{NameOf(permission)}\" lock", UnsharedBase + permission);
            }
        }

        foreach (var permission in unshared)
        {
            if (IsHeldByAnother(handle, HeldBase + permission))
            {
                Release(handle);
                throw Conflict(handle, name, $"Failed to get shared \"{NameOf(permission)}\" lock", HeldBase + permission);
            }
        }
    }

    private static bool TrySet(SafeFileHandle handle, int position)
    {
        var request = new LinuxCalls.FileLock { Type = ReadLock, Start = position, Length = 1 };
        return LinuxCalls.Fcntl(handle, LinuxCalls.F_OFD_SETLK, ref request) == 0;
    }

    private static bool IsHeldByAnother(SafeFileHandle handle, int position)
    {
        var request = new LinuxCalls.FileLock { Type = WriteLock, Start = position, Length = 1 };
        return LinuxCalls.Fcntl(handle, LinuxCalls.F_OFD_GETLK, ref request) == 0 && request.Type != Unlock;
    }

    /// <summary>Gives all locks of an open file back.</summary>
    public static void Release(SafeFileHandle handle)
    {
        var request = new LinuxCalls.FileLock { Type = Unlock, Start = HeldBase, Length = UnsharedBase };
        _ = LinuxCalls.Fcntl(handle, LinuxCalls.F_OFD_SETLK, ref request);
    }

    private static string NameOf(int permission) => permission switch
    {
        ConsistentRead => "consistent read",
        Write => "write",
        _ => "resize",
    };

    private static BlockException Conflict(SafeFileHandle handle, string name, string problem, int position)
    {
        var holders = HoldersOf(handle, position);
        var who = holders.Count == 0 ? "another process uses it" : $"it is open in {string.Join(", ", holders)}";
        return new BlockException(BlockErrorKind.Locked, $"{name}: {problem}: {who} (Is another process using the image [{name}]?)");
    }

    // The kernel does not tell whose an open-file-description lock is, but for an open file it does tell the locks: who has the file open holds one, or only looks at it.
    private static List<string> HoldersOf(SafeFileHandle handle, int position)
    {
        var holders = new List<string>();
        if (!LinuxCalls.TryStat(handle, out var mine))
        {
            return holders;
        }

        foreach (var process in Directory.EnumerateDirectories("/proc"))
        {
            if (!int.TryParse(Path.GetFileName(process), NumberStyles.None, CultureInfo.InvariantCulture, out var id) || id == Environment.ProcessId)
            {
                continue;
            }

            try
            {
                if (HasLocked(process, mine, position))
                {
                    var command = File.ReadAllText(Path.Combine(process, "comm")).TrimEnd();
                    holders.Add($"process {id} ({SafeText.Clean(command, 64)})");
                }
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // Gone meanwhile, or somebody else's process: the message does without it.
            }
        }

        return holders;
    }

    private static bool HasLocked(string process, LinuxCalls.FileStatus wanted, int position)
    {
        foreach (var link in Directory.EnumerateFiles(Path.Combine(process, "fd")))
        {
            var fd = LinuxCalls.Open(link, LinuxCalls.O_PATH | LinuxCalls.O_CLOEXEC, 0);
            if (fd < 0)
            {
                continue;
            }

            using var file = new SafeFileHandle(fd, ownsHandle: true);
            if (LinuxCalls.TryStat(file, out var status) && status.Device == wanted.Device && status.Inode == wanted.Inode
                && HasLock(File.ReadLines(Path.Combine(process, "fdinfo", Path.GetFileName(link))), position))
            {
                return true;
            }
        }

        return false;
    }

    // "lock:  1: OFDLCK  ADVISORY  READ -1 fe:01:1234 101 101": the last two are the first byte and the last one, or EOF.
    private static bool HasLock(IEnumerable<string> lines, int position)
    {
        foreach (var line in lines)
        {
            var words = line.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries);
            if (words.Length >= 3 && words[0] == "lock:"
                && long.TryParse(words[^2], NumberStyles.None, CultureInfo.InvariantCulture, out var first) && first <= position
                && (words[^1] == "EOF" || (long.TryParse(words[^1], NumberStyles.None, CultureInfo.InvariantCulture, out var last) && position <= last)))
            {
                return true;
            }
        }

        return false;
    }
}
