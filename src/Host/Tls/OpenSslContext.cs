using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.Arm;
using Platter.Core.Errors;
using Platter.Core.Tls;

namespace Platter.Host.Tls;

/// <summary>What sessions of OpenSSL have in common (SSL_CTX). Sessions keep it alive on their own.</summary>
internal sealed unsafe class OpenSslContext : SafeHandle
{
    private OpenSslContext(nint handle)
        : base(0, ownsHandle: true) => SetHandle(handle);

    /// <inheritdoc/>
    public override bool IsInvalid => handle == 0;

    // ChaCha20 is the faster one where the processor does not do AES by itself.
    private static bool HasAes => System.Runtime.Intrinsics.X86.Aes.IsSupported || Aes.IsSupported;

    /// <summary>A context without resumption, renegotiation and compression.</summary>
    /// <param name="profile">Versions, and how strong suites must be.</param>
    /// <param name="ciphers">Suites of TLS 1.2.</param>
    /// <param name="ciphersOf13">Suites of TLS 1.3.</param>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.Unsupported"/>: there is no library, or it cannot.</exception>
    public static OpenSslContext Make(TlsProfile profile, string ciphers, string ciphersOf13)
    {
        OpenSsl.Prepare();
        var result = new OpenSslContext((nint)OpenSsl.NewContext(OpenSsl.Method()));
        var least = profile.Versions.HasFlag(TlsVersions.Tls12) ? OpenSsl.TLS1_2_VERSION : OpenSsl.TLS1_3_VERSION;
        var most = profile.Versions.HasFlag(TlsVersions.Tls13) ? OpenSsl.TLS1_3_VERSION : OpenSsl.TLS1_2_VERSION;
        var level = profile.IsStrong ? 3 : 2;
        if (result.IsInvalid
            || OpenSsl.ControlContext(result, OpenSsl.SSL_CTRL_SET_MIN_PROTO_VERSION, least, null) != 1
            || OpenSsl.ControlContext(result, OpenSsl.SSL_CTRL_SET_MAX_PROTO_VERSION, most, null) != 1
            || OpenSsl.SetCiphers(result, $"{Ordered(ciphers)}:@SECLEVEL={level}") != 1 || OpenSsl.SetCiphersOf13(result, Ordered(ciphersOf13)) != 1)
        {
            result.Dispose();
            throw new BlockException(BlockErrorKind.Unsupported, $"{OpenSsl.Library} cannot do TLS as it is wanted: {OpenSsl.TakeError()}");
        }

        OpenSsl.SetOptions(
            result,
            OpenSsl.SSL_OP_NO_TICKET | OpenSsl.SSL_OP_NO_COMPRESSION | OpenSsl.SSL_OP_NO_RENEGOTIATION | OpenSsl.SSL_OP_CIPHER_SERVER_PREFERENCE);
        OpenSsl.SetTickets(result, 0);
        OpenSsl.ControlContext(result, OpenSsl.SSL_CTRL_SET_SESS_CACHE_MODE, 0, null);
        OpenSsl.ControlContext(result, OpenSsl.SSL_CTRL_SET_DH_AUTO, 1, null);
        OpenSsl.ControlContext(result, OpenSsl.SSL_CTRL_MODE, OpenSsl.SSL_MODE_RELEASE_BUFFERS, null);
        return result;
    }

    /// <inheritdoc/>
    protected override bool ReleaseHandle()
    {
        OpenSsl.FreeContext(handle);
        return true;
    }

    private static string Ordered(string ciphers) =>
        HasAes ? ciphers : string.Join(':', ciphers.Split(':').OrderBy(static name => !name.Contains("CHACHA", StringComparison.Ordinal)));
}
