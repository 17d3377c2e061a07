using System.Runtime.InteropServices;
using Platter.Core.Errors;

namespace Platter.Host.Tls;

/// <summary>The functions of OpenSSL 3 that are needed, by the names of its manual pages.</summary>
internal static unsafe partial class OpenSsl
{
    /// <summary>What must be installed: the library that .NET itself uses on Linux.</summary>
    public const string Library = "libssl.so.3";

    public const int TLS1_2_VERSION = 0x0303;
    public const int TLS1_3_VERSION = 0x0304;
    public const int SSL_ERROR_WANT_READ = 2, SSL_ERROR_ZERO_RETURN = 6;
    public const int SSL_VERIFY_PEER = 1, SSL_VERIFY_FAIL_IF_NO_PEER_CERT = 2;
    public const int SSL_CTRL_EXTRA_CHAIN_CERT = 14, SSL_CTRL_MODE = 33, SSL_CTRL_SET_SESS_CACHE_MODE = 44, SSL_CTRL_SET_TLSEXT_HOSTNAME = 55;
    public const int SSL_CTRL_SET_DH_AUTO = 118, SSL_CTRL_SET_MIN_PROTO_VERSION = 123, SSL_CTRL_SET_MAX_PROTO_VERSION = 124;
    public const int SSL_MODE_RELEASE_BUFFERS = 16;
    public const int X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY = 20, X509_V_ERR_CERT_HAS_EXPIRED = 10, X509_V_ERR_CERT_REVOKED = 23;
    public const int X509_V_ERR_INVALID_PURPOSE = 26, X509_V_ERR_CERT_REJECTED = 28;
    public const int BIO_TYPE_SOURCE_SINK = 0x400, BIO_CTRL_FLUSH = 11, BIO_FLAGS_READ = 1, BIO_FLAGS_SHOULD_RETRY = 8, BIO_FLAGS_RETRY_ALL = 15;
    public const ulong SSL_OP_NO_TICKET = 1 << 14, SSL_OP_NO_COMPRESSION = 1 << 17, SSL_OP_NO_RENEGOTIATION = 1 << 30, SSL_OP_CIPHER_SERVER_PREFERENCE = 1 << 22;
    public const ulong OPENSSL_INIT_NO_ATEXIT = 0x80000;
    public const int SSL_RECEIVED_SHUTDOWN = 2;

    private const string Crypto = "libcrypto.so.3";

    private static readonly Lazy<bool> s_isAvailable = new(static () =>
    {
        try
        {
            Prepare();
            return true;
        }
        catch (BlockException)
        {
            return false;
        }
    });

    /// <summary>Whether the library is there; looks once.</summary>
    public static bool IsAvailable => s_isAvailable.Value;

    /// <summary>Prepares the library for this process.</summary>
    /// <exception cref="BlockException"><see cref="BlockErrorKind.Unsupported"/>: there is none.</exception>
    public static void Prepare()
    {
        try
        {
            // Threads of ours may be inside the library when the process ends: it must not tidy up under them.
            if (InitSsl(OPENSSL_INIT_NO_ATEXIT, null) == 1)
            {
                return;
            }
        }
        catch (Exception e) when (e is DllNotFoundException or EntryPointNotFoundException or BadImageFormatException)
        {
            throw new BlockException(BlockErrorKind.Unsupported, $"TLS with pre-shared keys needs the library {Library} (OpenSSL 3), which was not found", e);
        }

        throw new BlockException(BlockErrorKind.Unsupported, $"{Library} cannot be used: {TakeError() ?? "it does not start"}");
    }

    /// <summary>The oldest error of this thread in the library's words ("decryption failed or bad record mac"), or null; forgets all of them.</summary>
    public static string? TakeError()
    {
        var code = GetError();
        if (code == 0)
        {
            return null;
        }

        var text = Marshal.PtrToStringUTF8((nint)ReasonString(code)) ?? $"error 0x{code:x}";
        ClearErrors();
        return text;
    }

    [LibraryImport(Library, EntryPoint = "OPENSSL_init_ssl")]
    private static partial int InitSsl(ulong options, void* settings);

    [LibraryImport(Library, EntryPoint = "TLS_method")]
    public static partial void* Method();

    [LibraryImport(Library, EntryPoint = "SSL_CTX_new")]
    public static partial void* NewContext(void* method);

    [LibraryImport(Library, EntryPoint = "SSL_CTX_free")]
    public static partial void FreeContext(nint context);

    [LibraryImport(Library, EntryPoint = "SSL_CTX_ctrl")]
    public static partial nint ControlContext(OpenSslContext context, int command, nint number, void* pointer);

    [LibraryImport(Library, EntryPoint = "SSL_CTX_set_options")]
    public static partial ulong SetOptions(OpenSslContext context, ulong options);

    [LibraryImport(Library, EntryPoint = "SSL_CTX_set_num_tickets")]
    public static partial int SetTickets(OpenSslContext context, nuint count);

    [LibraryImport(Library, EntryPoint = "SSL_CTX_set_cipher_list", StringMarshalling = StringMarshalling.Utf8)]
    public static partial int SetCiphers(OpenSslContext context, string names);

    [LibraryImport(Library, EntryPoint = "SSL_CTX_set_ciphersuites", StringMarshalling = StringMarshalling.Utf8)]
    public static partial int SetCiphersOf13(OpenSslContext context, string names);

    [LibraryImport(Library, EntryPoint = "SSL_CTX_set_verify")]
    public static partial void SetVerify(OpenSslContext context, int mode, void* callback);

    [LibraryImport(Library, EntryPoint = "SSL_CTX_set_psk_server_callback")]
    public static partial void SetServerCallback(OpenSslContext context, delegate* unmanaged<void*, byte*, byte*, uint, uint> callback);

    [LibraryImport(Library, EntryPoint = "SSL_CTX_set_psk_client_callback")]
    public static partial void SetClientCallback(OpenSslContext context, delegate* unmanaged<void*, byte*, byte*, uint, byte*, uint, uint> callback);

    [LibraryImport(Library, EntryPoint = "SSL_new")]
    public static partial void* New(OpenSslContext context);

    [LibraryImport(Library, EntryPoint = "SSL_CTX_set_cert_verify_callback")]
    public static partial void SetVerifyCallback(OpenSslContext context, delegate* unmanaged<void*, void*, int> callback, void* argument);

    [LibraryImport(Library, EntryPoint = "SSL_CTX_use_certificate")]
    public static partial int UseCertificate(OpenSslContext context, void* certificate);

    [LibraryImport(Library, EntryPoint = "SSL_CTX_use_PrivateKey")]
    public static partial int UsePrivateKey(OpenSslContext context, void* key);

    [LibraryImport(Library, EntryPoint = "SSL_CTX_check_private_key")]
    public static partial int CheckPrivateKey(OpenSslContext context);

    [LibraryImport(Library, EntryPoint = "SSL_get_ex_data_X509_STORE_CTX_idx")]
    public static partial int IndexOfSession();

    [LibraryImport(Library, EntryPoint = "SSL_ctrl", StringMarshalling = StringMarshalling.Utf8)]
    public static partial nint ControlText(void* session, int command, nint number, string text);

    [LibraryImport(Library, EntryPoint = "SSL_free")]
    public static partial void Free(void* session);

    [LibraryImport(Library, EntryPoint = "SSL_set_ex_data")]
    public static partial int SetData(void* session, int index, void* data);

    [LibraryImport(Library, EntryPoint = "SSL_get_ex_data")]
    public static partial void* GetData(void* session, int index);

    [LibraryImport(Library, EntryPoint = "SSL_set_bio")]
    public static partial void SetBio(void* session, void* read, void* write);

    [LibraryImport(Library, EntryPoint = "SSL_set_accept_state")]
    public static partial void SetAccept(void* session);

    [LibraryImport(Library, EntryPoint = "SSL_set_connect_state")]
    public static partial void SetConnect(void* session);

    [LibraryImport(Library, EntryPoint = "SSL_do_handshake")]
    public static partial int DoHandshake(void* session);

    [LibraryImport(Library, EntryPoint = "SSL_session_reused")]
    public static partial int SessionReused(void* session);

    [LibraryImport(Library, EntryPoint = "SSL_version")]
    public static partial int Version(void* session);

    [LibraryImport(Library, EntryPoint = "SSL_get_error")]
    public static partial int ErrorOf(void* session, int result);

    [LibraryImport(Library, EntryPoint = "SSL_read")]
    public static partial int Read(void* session, byte* into, int count);

    [LibraryImport(Library, EntryPoint = "SSL_write")]
    public static partial int Write(void* session, byte* from, int count);

    [LibraryImport(Library, EntryPoint = "SSL_shutdown")]
    public static partial int Shutdown(void* session);

    [LibraryImport(Library, EntryPoint = "SSL_get_shutdown")]
    public static partial int GetShutdown(void* session);

    [LibraryImport(Crypto, EntryPoint = "BIO_get_new_index")]
    public static partial int NewBioIndex();

    [LibraryImport(Crypto, EntryPoint = "BIO_meth_new", StringMarshalling = StringMarshalling.Utf8)]
    public static partial void* NewBioMethod(int type, string name);

    [LibraryImport(Crypto, EntryPoint = "BIO_meth_set_read")]
    public static partial int SetBioRead(void* method, delegate* unmanaged<void*, byte*, int, int> callback);

    [LibraryImport(Crypto, EntryPoint = "BIO_meth_set_write")]
    public static partial int SetBioWrite(void* method, delegate* unmanaged<void*, byte*, int, int> callback);

    [LibraryImport(Crypto, EntryPoint = "BIO_meth_set_ctrl")]
    public static partial int SetBioControl(void* method, delegate* unmanaged<void*, int, nint, void*, nint> callback);

    [LibraryImport(Crypto, EntryPoint = "BIO_new")]
    public static partial void* NewBio(void* method);

    [LibraryImport(Crypto, EntryPoint = "BIO_free")]
    public static partial int FreeBio(void* bio);

    [LibraryImport(Crypto, EntryPoint = "BIO_set_init")]
    public static partial void SetBioInit(void* bio, int isReady);

    [LibraryImport(Crypto, EntryPoint = "BIO_set_data")]
    public static partial void SetBioData(void* bio, void* data);

    [LibraryImport(Crypto, EntryPoint = "BIO_get_data"), SuppressGCTransition]
    public static partial void* GetBioData(void* bio);

    [LibraryImport(Crypto, EntryPoint = "BIO_set_flags"), SuppressGCTransition]
    public static partial void SetBioFlags(void* bio, int flags);

    [LibraryImport(Crypto, EntryPoint = "BIO_clear_flags"), SuppressGCTransition]
    public static partial void ClearBioFlags(void* bio, int flags);

    [LibraryImport(Crypto, EntryPoint = "d2i_X509")]
    public static partial void* ParseCertificate(void** into, byte** der, nint length);

    [LibraryImport(Crypto, EntryPoint = "i2d_X509")]
    public static partial int WriteCertificate(void* certificate, byte** der);

    [LibraryImport(Crypto, EntryPoint = "X509_free")]
    public static partial void FreeCertificate(void* certificate);

    [LibraryImport(Crypto, EntryPoint = "d2i_AutoPrivateKey")]
    public static partial void* ParsePrivateKey(void** into, byte** der, nint length);

    [LibraryImport(Crypto, EntryPoint = "EVP_PKEY_free")]
    public static partial void FreeKey(void* key);

    [LibraryImport(Crypto, EntryPoint = "X509_STORE_CTX_get_ex_data")]
    public static partial void* DataOfVerification(void* verification, int index);

    [LibraryImport(Crypto, EntryPoint = "X509_STORE_CTX_get0_cert")]
    public static partial void* CertificateOf(void* verification);

    [LibraryImport(Crypto, EntryPoint = "X509_STORE_CTX_get0_untrusted")]
    public static partial void* SentWith(void* verification);

    [LibraryImport(Crypto, EntryPoint = "X509_STORE_CTX_set_error")]
    public static partial void SetVerificationError(void* verification, int error);

    [LibraryImport(Crypto, EntryPoint = "OPENSSL_sk_num")]
    public static partial int CountOf(void* stack);

    [LibraryImport(Crypto, EntryPoint = "OPENSSL_sk_value")]
    public static partial void* ValueOf(void* stack, int index);

    [LibraryImport(Crypto, EntryPoint = "ERR_clear_error")]
    public static partial void ClearErrors();

    [LibraryImport(Crypto, EntryPoint = "ERR_get_error")]
    private static partial nuint GetError();

    [LibraryImport(Crypto, EntryPoint = "ERR_reason_error_string")]
    private static partial byte* ReasonString(nuint code);
}
