using System.ComponentModel;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography;
using Platter.Core.Errors;

namespace Platter.Nbd.Wire;

/// <summary>What goes wrong with TLS, in our words: one line, and the one kind of exception that each place promises.</summary>
internal static class TlsFailure
{
    /// <summary>Whether an exception comes from TLS or from what it stands on, and not from a mistake of ours.</summary>
    public static bool Is(Exception e) =>
        e is IOException or AuthenticationException or SocketException or Win32Exception or CryptographicException or InvalidOperationException or NotSupportedException;

    /// <summary>A handshake that the peer left. Some servers say no in no other way.</summary>
    public static BlockException ClosedInHandshake(bool byServer) => new(
        BlockErrorKind.Protocol,
        byServer ? "TLS: the server closed the connection during the handshake; it may not accept our credentials" : "TLS: the client closed the connection during the handshake");

    /// <summary>A handshake that the connection ended.</summary>
    public static BlockException InHandshake(SocketException e) => new(
        BlockErrorKind.Protocol,
        e.SocketErrorCode is SocketError.TimedOut or SocketError.WouldBlock or SocketError.TryAgain ? "TLS: the handshake took too long" : $"TLS: the connection broke during the handshake: {e.Message}",
        e);

    /// <summary>A handshake that failed in .NET's TLS.</summary>
    /// <param name="e">What it threw.</param>
    /// <param name="closed">Whether the peer had closed the connection.</param>
    /// <param name="byServer">Whether the peer is the server.</param>
    public static BlockException InHandshake(Exception e, bool closed, bool byServer) =>
        e is BlockException own ? own
        : Find<SocketException>(e) is { } broken ? InHandshake(broken)
        : NativeReason(e) is { } reason ? Of(reason, e)
        : closed ? ClosedInHandshake(byServer)
        : new BlockException(BlockErrorKind.Protocol, "TLS: the handshake failed", e);

    /// <summary>A session that failed after its handshake.</summary>
    public static SocketException OnWire(Exception e) =>
        Find<SocketException>(e) ?? OnWire(NativeReason(e) is { } reason ? $"TLS: {reason}" : "TLS: the session was broken off, or its bytes were changed on their way");

    /// <summary>A session that failed after its handshake.</summary>
    public static SocketException OnWire(string message) => new((int)SocketError.ConnectionAborted, message);

    private static BlockException Of(string reason, Exception e) => reason.StartsWith("the peer says: ", StringComparison.Ordinal)
        ? new(BlockErrorKind.AccessDenied, $"TLS: the peer ends the handshake: {reason["the peer says: ".Length..]}", e)
        : new(BlockErrorKind.Protocol, $"TLS: the handshake failed: {reason}", e);

    // "error:0A000412:SSL routines::sslv3 alert bad certificate": what OpenSSL says is at the end, and the only text that says anything.
    private static string? NativeReason(Exception e)
    {
        for (Exception? inner = e; inner is not null; inner = inner.InnerException)
        {
            if (inner.Message.StartsWith("error:", StringComparison.Ordinal))
            {
                var reason = inner.Message[(inner.Message.LastIndexOf(':') + 1)..];
                var alert = reason.IndexOf(" alert ", StringComparison.Ordinal);
                return alert > 0 ? $"the peer says: {reason[(alert + " alert ".Length)..]}" : SafeText.Clean(reason, 256);
            }
        }

        return null;
    }

    private static T? Find<T>(Exception e) where T : Exception
    {
        for (Exception? inner = e; inner is not null; inner = inner.InnerException)
        {
            if (inner is T found)
            {
                return found;
            }
        }

        return null;
    }
}
