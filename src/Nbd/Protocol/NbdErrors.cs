using Platter.Core.Errors;

namespace Platter.Nbd.Protocol;

/// <summary>The one table between our errors and those of the wire, in both directions.</summary>
internal static class NbdErrors
{
    /// <summary>What a client is told about an error of the block layer. The text never goes out: it names files of this host.</summary>
    public static NbdError ToWire(BlockErrorKind kind) => kind switch
    {
        BlockErrorKind.NotAllowed or BlockErrorKind.AccessDenied or BlockErrorKind.ReadOnly or BlockErrorKind.WrongSecret => NbdError.Perm,
        BlockErrorKind.NoSpace => NbdError.NoSpc,
        BlockErrorKind.InvalidRequest => NbdError.Inval,

        // ENOTSUP and ENOMEM are reserved for special cases by the protocol; to a client all of these are a disk that cannot be read.
        _ => NbdError.IO,
    };

    /// <summary>What a server's error means to us. Unknown numbers count as EINVAL, as the protocol wants it.</summary>
    public static BlockErrorKind FromWire(NbdError error) => error switch
    {
        NbdError.Perm => BlockErrorKind.ReadOnly,
        NbdError.IO or NbdError.NoMem => BlockErrorKind.Io,
        NbdError.NoSpc => BlockErrorKind.NoSpace,
        NbdError.NotSup => BlockErrorKind.Unsupported,
        NbdError.Shutdown => BlockErrorKind.Protocol,
        _ => BlockErrorKind.InvalidRequest,
    };

    /// <summary>The error in words, for messages and for the text of an error chunk.</summary>
    public static string Describe(NbdError error) => error switch
    {
        NbdError.None => "no error",
        NbdError.Perm => "Operation not permitted",
        NbdError.IO => "Input/output error",
        NbdError.NoMem => "Cannot allocate memory",
        NbdError.Inval => "Invalid argument",
        NbdError.NoSpc => "No space left on device",
        NbdError.Overflow => "Value too large",
        NbdError.NotSup => "Operation not supported",
        NbdError.Shutdown => "Server is shutting down",
        _ => $"error {(uint)error}",
    };
}
