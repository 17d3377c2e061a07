namespace Platter;

/// <summary>How a new qcow2 image is encrypted with LUKS; the password comes with the other options. What is null is left to the defaults:
/// AES-256 in XTS mode with plain64 vectors, SHA-256.</summary>
public sealed record Qcow2Encryption
{
    /// <summary>Cipher and key size: <c>aes-128</c>, <c>aes-256</c>, <c>serpent-256</c>, <c>twofish-256</c>, …</summary>
    public string? Cipher { get; init; }

    /// <summary><c>xts</c>, <c>cbc</c>, <c>ctr</c> or <c>ecb</c>.</summary>
    public string? CipherMode { get; init; }

    /// <summary><c>plain64</c>, <c>plain</c> or <c>essiv</c>.</summary>
    public string? IvGenerator { get; init; }

    /// <summary>The hash of <c>essiv</c>.</summary>
    public string? IvGeneratorHash { get; init; }

    /// <summary>The hash of the key slots: <c>sha256</c>, <c>sha512</c>, …</summary>
    public string? Hash { get; init; }

    /// <summary>How long one try of a password shall take on a machine like this one; whole milliseconds. Two seconds unless set.</summary>
    public TimeSpan IterationTime { get; init; } = TimeSpan.FromSeconds(2);
}
