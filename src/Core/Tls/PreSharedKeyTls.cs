using Platter.Core.Errors;

namespace Platter.Core.Tls;

/// <summary>Makes TLS sessions (1.2 and 1.3) that are authenticated by a key that both sides have, and by nothing else. Thread-safe.</summary>
/// <remarks>.NET's own TLS knows certificates only, so this belongs to the host.</remarks>
public abstract class PreSharedKeyTls
{
    /// <summary>The server's side: lets in who has one of the keys.</summary>
    /// <param name="keys">Names and keys. To somebody who has none, a name that is known and one that is not look the same.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.Unsupported"/>, naming the library that is missing.</exception>
    public abstract TlsEngine Accept(PreSharedKeys keys);

    /// <summary>The client's side.</summary>
    /// <param name="key">Who it is, and its key.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.Unsupported"/>, naming the library that is missing.</exception>
    public abstract TlsEngine Connect(PreSharedKey key);
}
