using System.Runtime.InteropServices;
using Platter.Core.Errors;

namespace Platter.Host.Native;

/// <summary>The one place where errors of the operating system become ours.</summary>
internal static class HostErrors
{
    /// <summary>From an errno, with what was attempted ("Could not open").</summary>
    public static BlockException FromErrno(int errno, string name, string attempted) => new(
        errno switch
        {
            LinuxCalls.ENOENT or LinuxCalls.ENXIO or LinuxCalls.ENODEV => BlockErrorKind.NotFound,
            LinuxCalls.EPERM or LinuxCalls.EACCES => BlockErrorKind.AccessDenied,
            LinuxCalls.EROFS => BlockErrorKind.ReadOnly,
            LinuxCalls.ENOSPC or LinuxCalls.EDQUOT or LinuxCalls.EFBIG => BlockErrorKind.NoSpace,
            _ => BlockErrorKind.Io,
        },
        $"{name}: {attempted}: {Marshal.GetPInvokeErrorMessage(errno)}") { HostErrorNumber = errno };

    /// <summary>From an exception of .NET's file API.</summary>
    public static BlockException From(Exception e, string name, string attempted) => e switch
    {
        FileNotFoundException or DirectoryNotFoundException => new(BlockErrorKind.NotFound, $"{name}: {attempted}: No such file or directory", e),
        UnauthorizedAccessException => new(BlockErrorKind.AccessDenied, $"{name}: {attempted}: Permission denied", e),
        PathTooLongException => new(BlockErrorKind.NotFound, $"{name}: {attempted}: File name too long", e),
        ArgumentOutOfRangeException { ParamName: "value" or "length" } => new(BlockErrorKind.NoSpace, $"{name}: {attempted}: File too large", e),
        IOException io when IsDiskFull(io) => new(BlockErrorKind.NoSpace, $"{name}: {attempted}: No space left on device", e),
        _ => new(BlockErrorKind.Io, $"{name}: {attempted}: {SafeText.Clean(e.Message, 256)}", e),
    };

    /// <summary>Whether .NET's file API throws this for a host's error.</summary>
    public static bool IsHostError(Exception e) =>
        e is (IOException or UnauthorizedAccessException or NotSupportedException or ArgumentException) and not BlockException;

    // HResult is the errno on Unix and the Win32 code with facility 7 on Windows.
    private static bool IsDiskFull(IOException e) =>
        e.HResult is LinuxCalls.ENOSPC or LinuxCalls.EDQUOT or LinuxCalls.EFBIG || (e.HResult & 0xffff) is 0x70 or 0x27;
}
