using System.Runtime.InteropServices;
using Platter.Core.Errors;

namespace Platter.Host.Tls;

/// <summary>The functions of OpenSSL 3 that pre-shared keys need, by the names of its manual pages.</summary>
internal static unsafe partial class OpenSsl
{
    /// <summary>What must be installed: the library that .NET itself uses on Linux.</summary>
    public const string Library = "libssl.so.3";

    public const int TLS1_2_VERSION = 0x0303;
    public const int SSL_ERROR_WANT_READ = 2, SSL_ERROR_ZERO_RETURN = 6;
    public const int SSL_VERIFY_PEER = 1;
    public const int SSL_CTRL_MODE = 33, SSL_CTRL_SET_DH_AUTO = 118, SSL_CTRL_SET_MIN_PROTO_VERSION = 123, SSL_CTRL_SET_MAX_PROTO_VERSION = 124;
    public const int SSL_MODE_RELEASE_BUFFERS = 16;
    public const ulong SSL_OP_NO_TICKET = 1 << 14, SSL_OP_NO_COMPRESSION = 1 << 17, SSL_OP_NO_RENEGOTIATION = 1 << 30, SSL_OP_CIPHER_SERVER_PREFERENCE = 1 << 22;
    public const ulong OPENSSL_INIT_NO_ATEXIT = 0x80000;
    public const int SSL_RECEIVED_SHUTDOWN = 2;

    private const string Crypto = "libcrypto.so.3";

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

    [LibraryImport(Library, EntryPoint = "SSL_CTX_ctrl")]
    public static partial nint ControlContext(void* context, int command, nint number, void* pointer);

    [LibraryImport(Library, EntryPoint = "SSL_CTX_set_options")]
    public static partial ulong SetOptions(void* context, ulong options);

    [LibraryImport(Library, EntryPoint = "SSL_CTX_set_num_tickets")]
    public static partial int SetTickets(void* context, nuint count);

    [LibraryImport(Library, EntryPoint = "SSL_CTX_set_cipher_list", StringMarshalling = StringMarshalling.Utf8)]
    public static partial int SetCiphers(void* context, string names);

    [LibraryImport(Library, EntryPoint = "SSL_CTX_set_ciphersuites", StringMarshalling = StringMarshalling.Utf8)]
    public static partial int SetCiphersOf13(void* context, string names);

    [LibraryImport(Library, EntryPoint = "SSL_CTX_set_verify")]
    public static partial void SetVerify(void* context, int mode, void* callback);

    [LibraryImport(Library, EntryPoint = "SSL_CTX_set_psk_server_callback")]
    public static partial void SetServerCallback(void* context, delegate* unmanaged<void*, byte*, byte*, uint, uint> callback);

    [LibraryImport(Library, EntryPoint = "SSL_CTX_set_psk_client_callback")]
    public static partial void SetClientCallback(void* context, delegate* unmanaged<void*, byte*, byte*, uint, byte*, uint, uint> callback);

    [LibraryImport(Library, EntryPoint = "SSL_new")]
    public static partial void* New(void* context);

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

    [LibraryImport(Crypto, EntryPoint = "BIO_s_mem")]
    public static partial void* MemoryBio();

    [LibraryImport(Crypto, EntryPoint = "BIO_new")]
    public static partial void* NewBio(void* method);

    [LibraryImport(Crypto, EntryPoint = "BIO_free")]
    public static partial int FreeBio(void* bio);

    [LibraryImport(Crypto, EntryPoint = "BIO_read")]
    public static partial int ReadBio(void* bio, byte* into, int count);

    [LibraryImport(Crypto, EntryPoint = "BIO_write")]
    public static partial int WriteBio(void* bio, byte* from, int count);

    [LibraryImport(Crypto, EntryPoint = "BIO_ctrl_pending")]
    public static partial nuint PendingOf(void* bio);

    [LibraryImport(Crypto, EntryPoint = "ERR_clear_error")]
    public static partial void ClearErrors();

    [LibraryImport(Crypto, EntryPoint = "ERR_get_error")]
    private static partial nuint GetError();

    [LibraryImport(Crypto, EntryPoint = "ERR_reason_error_string")]
    private static partial byte* ReasonString(nuint code);
}
