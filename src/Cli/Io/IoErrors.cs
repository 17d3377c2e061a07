using System.Runtime.InteropServices;
using Platter.Core.Errors;

namespace Platter.Cli.Io;

/// <summary>Errors in the words of the operating system, as qemu-io has them.</summary>
internal static class IoErrors
{
    /// <summary>Invalid argument.</summary>
    public const int EINVAL = 22;

    private const int ENOENT = 2, EIO = 5, EACCES = 13, EBUSY = 16, EFBIG = 27, ENOSPC = 28, EROFS = 30, ENOTSUP = 95;

    /// <summary>"Input/output error" and the like.</summary>
    public static string Text(BlockException error)
    {
        for (Exception? e = error; e is not null; e = e.InnerException)
        {
            if (e is BlockException { HostErrorNumber: { } number })
            {
                return Marshal.GetPInvokeErrorMessage(number);
            }
        }

        return Marshal.GetPInvokeErrorMessage(error.Kind switch
        {
            BlockErrorKind.NotFound => ENOENT,
            BlockErrorKind.AccessDenied => EACCES,
            BlockErrorKind.Locked => EBUSY,
            BlockErrorKind.LimitExceeded => EFBIG,
            BlockErrorKind.NoSpace => ENOSPC,
            BlockErrorKind.ReadOnly => EROFS,
            BlockErrorKind.Unsupported => ENOTSUP,
            _ => EIO,
        });
    }

    /// <summary>Whether the words of the operating system leave out what matters.</summary>
    public static bool NeedsDetail(BlockException error) => error.Kind is BlockErrorKind.CorruptImage or BlockErrorKind.WrongFormat or BlockErrorKind.LimitExceeded
        or BlockErrorKind.WrongSecret or BlockErrorKind.Protocol or BlockErrorKind.Locked or BlockErrorKind.NotAllowed;
}
