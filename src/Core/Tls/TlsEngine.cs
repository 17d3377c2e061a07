using Platter.Core.Errors;

namespace Platter.Core.Tls;

/// <summary>One side of one TLS session, without a connection: bytes from the peer are put in, bytes for the peer are taken out.</summary>
/// <remarks>Not thread-safe. Every member may throw <see cref="ObjectDisposedException"/> after <see cref="IDisposable.Dispose"/>.</remarks>
public abstract class TlsEngine : IDisposable
{
    /// <summary>Bytes that wait to be taken and sent, in this order and before anything else.</summary>
    public abstract int OutputBytes { get; }

    /// <summary>Whether the peer has said that it sends nothing more (close_notify).</summary>
    public abstract bool IsClosed { get; }

    /// <summary>Goes on with the handshake as far as what was put in allows.</summary>
    /// <returns>True once both sides have authenticated each other; false when more of the peer is needed, after the output was sent.</returns>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.AccessDenied"/>: the keys differ, or the peer is not known;
    /// <see cref="BlockErrorKind.Protocol"/>: anything else. The output holds what to tell the peer.</exception>
    public abstract bool Handshake();

    /// <summary>Puts in what the peer has sent, all of it.</summary>
    public abstract void Put(ReadOnlySpan<byte> received);

    /// <summary>Takes bytes for the peer.</summary>
    /// <returns>Bytes taken; 0 when there are none.</returns>
    public abstract int Take(Span<byte> into);

    /// <summary>Decrypts as much as fits of what was put in.</summary>
    /// <returns>Bytes decrypted; 0 when more of the peer is needed, or when <see cref="IsClosed"/>.</returns>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.Protocol"/>: not what the peer encrypted, or it ended the session with an alert.</exception>
    public abstract int Decrypt(Span<byte> into);

    /// <summary>Encrypts all of it into the output.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.Protocol"/>: the session is over.</exception>
    public abstract void Encrypt(ReadOnlySpan<byte> bytes);

    /// <summary>Says to the peer that nothing more comes (close_notify).</summary>
    public abstract void Close();

    /// <inheritdoc/>
    public abstract void Dispose();
}
