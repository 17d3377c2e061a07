using Platter.Core.Errors;

namespace Platter.Core.Tls;

/// <summary>Makes TLS sessions (1.2 and 1.3) with what the host has. Thread-safe.</summary>
/// <remarks>.NET's own TLS knows certificates only, and takes more processor time for them, so this belongs to the host.</remarks>
public abstract class TlsLibrary
{
    /// <summary>Whether it is there.</summary>
    public abstract bool IsAvailable { get; }

    /// <summary>A server that lets in who has one of the keys.</summary>
    /// <param name="keys">Names and keys. To somebody who has none, a name that is known and one that is not look the same.</param>
    /// <param name="profile">What may be agreed on.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.Unsupported"/>, naming the library that is missing.</exception>
    public abstract TlsEngine Accept(PreSharedKeys keys, TlsProfile profile);

    /// <summary>A client that has a key.</summary>
    /// <param name="key">Who it is, and its key.</param>
    /// <param name="profile">What may be agreed on.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.Unsupported"/>, naming the library that is missing.</exception>
    public abstract TlsEngine Connect(PreSharedKey key, TlsProfile profile);

    /// <summary>One side of sessions with certificates.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.Unsupported"/>, naming the library that is missing;
    /// <see cref="BlockErrorKind.InvalidRequest"/>: it does not accept the certificate or the key, and says why.</exception>
    public abstract TlsCertificateSide Prepare(TlsCertificateSettings settings);
}
