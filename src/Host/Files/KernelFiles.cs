using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Platter.Core.Errors;
using Platter.Host.Native;

namespace Platter.Host.Files;

/// <summary>Files that the kernel makes up as they are read, and that no image may name. See <c>statfs(2)</c> for the magic numbers.</summary>
internal static class KernelFiles
{
    // By how likely they are mounted: proc, sysfs, cgroup2, cgroup, devpts, tracefs, debugfs, securityfs, bpf, configfs, pstore, efivarfs,
    // selinuxfs, smackfs, binfmt_misc, nsfs, fusectl, mqueue, rpc_pipefs, resctrl.
    private static readonly HashSet<uint> s_magics =
    [
        0x9fa0, 0x62656572, 0x63677270, 0x27e0eb, 0x1cd1, 0x74726163, 0x64626720, 0x73636673, 0xcafe4a11, 0x62656570, 0x6165676c, 0xde5e81e4,
        0xf97cff8c, 0x43415d53, 0x42494e4d, 0x6e736673, 0x65735543, 0x19800202, 0x67596969, 0x7655821,
    ];

    /// <summary>A handle that only names a file, got without going through links of the kernel's own.</summary>
    /// <returns>Null when it has to be got in the ordinary way: this kernel is old, or there is an error for that way to report.</returns>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.NotAllowed"/>: there is such a link on the way.</exception>
    public static SafeFileHandle? OpenPath(string path)
    {
        const int Flags = LinuxCalls.O_PATH | LinuxCalls.O_CLOEXEC;
        if (path.Contains('\0', StringComparison.Ordinal))
        {
            return null;
        }

        var fd = LinuxCalls.OpenWithoutMagicLinks(path, Flags);
        if (fd >= 0)
        {
            return new SafeFileHandle(fd, ownsHandle: true);
        }

        if (Marshal.GetLastPInvokeError() == LinuxCalls.ELOOP)
        {
            // Ordinary links that go round in circles have the same error.
            fd = LinuxCalls.Open(path, Flags, 0);
            if (fd >= 0)
            {
                new SafeFileHandle(fd, ownsHandle: true).Dispose();
                throw Refused(path);
            }
        }

        return null;
    }

    /// <summary>Refuses an open file of such a file system.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.NotAllowed"/>.</exception>
    public static void Refuse(SafeFileHandle handle, string name)
    {
        if (s_magics.Contains(LinuxCalls.FileSystemOf(handle)))
        {
            throw Refused(name);
        }
    }

    /// <summary>The same by name, links resolved, where nobody can be asked for the file system.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.NotAllowed"/>.</exception>
    public static void RefusePath(string path, string name)
    {
        string real;
        try
        {
            real = RealPath.Of(Path.GetFullPath(path), name);
        }
        catch (Exception e) when (HostErrors.IsHostError(e))
        {
            throw HostErrors.From(e, name, "Could not open");
        }

        if (real.StartsWith("/proc/", StringComparison.Ordinal) || real.StartsWith("/sys/", StringComparison.Ordinal))
        {
            throw Refused(name);
        }
    }

    private static BlockException Refused(string name) =>
        new(BlockErrorKind.NotAllowed, $"{name}: is a file of the kernel's own, not an image");
}
