using Platter.Core.Errors;

namespace Platter.Core.Tls;

/// <summary>One side of one TLS session, without a connection: bytes of the peer are received into <see cref="Input"/>, and those of <see cref="Output"/> are sent to it.</summary>
/// <remarks>Not thread-safe, but what <see cref="Input"/> and <see cref="Output"/> have returned may be filled and sent while another thread is in here: one that receives
/// and one that sends. Every member may throw <see cref="ObjectDisposedException"/> after <see cref="IDisposable.Dispose"/>.</remarks>
public abstract class TlsEngine : IDisposable
{
    /// <summary>Room for what the peer sends. Never empty after <see cref="Decrypt"/> or <see cref="Handshake"/> has asked for more.</summary>
    public abstract Memory<byte> Input { get; }

    /// <summary>What must be sent to the peer, in this order and before anything else.</summary>
    public abstract ReadOnlyMemory<byte> Output { get; }

    /// <summary>Whether the peer has said that it sends nothing more (close_notify).</summary>
    public abstract bool IsClosed { get; }

    /// <summary>Goes on with the handshake as far as what was received allows.</summary>
    /// <returns>True once both sides have authenticated each other; false when more of the peer is needed, after the output was sent.</returns>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.AccessDenied"/>: one side refuses the other;
    /// <see cref="BlockErrorKind.Protocol"/>: anything else. The output holds what to tell the peer.</exception>
    public abstract bool Handshake();

    /// <summary>So many bytes were received into <see cref="Input"/>.</summary>
    public abstract void Put(int count);

    /// <summary>So many bytes of <see cref="Output"/> were sent.</summary>
    public abstract void Sent(int count);

    /// <summary>Decrypts as much as fits of what was received.</summary>
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
