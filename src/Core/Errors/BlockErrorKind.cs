namespace Platter.Core.Errors;

/// <summary>What went wrong, for callers that must act on it. Texts are for people; switch on this.</summary>
public enum BlockErrorKind
{
    /// <summary>The host failed to read or write (EIO and the like).</summary>
    Io,

    /// <summary>A structure of an image breaks its format's rules.</summary>
    CorruptImage,

    /// <summary>The image is legal but needs something Platter does not do (a feature bit, a cipher, a codec).</summary>
    Unsupported,

    /// <summary>The format of the image was not recognised, or is not the one that was declared.</summary>
    WrongFormat,

    /// <summary>A file, a snapshot, a bitmap, an export or an option value does not exist.</summary>
    NotFound,

    /// <summary>The open gate does not allow to open what an image names.</summary>
    NotAllowed,

    /// <summary>The host denies access.</summary>
    AccessDenied,

    /// <summary>Another process holds the image.</summary>
    Locked,

    /// <summary>The disk, the quota or the image's own address space is full.</summary>
    NoSpace,

    /// <summary>A write to something that can only be read.</summary>
    ReadOnly,

    /// <summary>A limit on untrusted input (memory, depth, iterations, time) was reached.</summary>
    LimitExceeded,

    /// <summary>A password or key is missing or wrong.</summary>
    WrongSecret,

    /// <summary>A peer broke the NBD protocol, or the connection was lost.</summary>
    Protocol,

    /// <summary>A request lies outside the disk, or an option contradicts another one.</summary>
    InvalidRequest,
}
