using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using Platter.Core.Errors;

namespace Platter.Nbd.Tls;

/// <summary>Reads the small files that credentials are made of; every message names the file.</summary>
internal static class CredentialFile
{
    private const int MaxPemBytes = 1 << 20;

    /// <summary>Reads a file, whole.</summary>
    /// <param name="path">Where it is.</param>
    /// <param name="maxBytes">Larger ones are refused.</param>
    /// <param name="what">What messages call its contents.</param>
    /// <exception cref="BlockException">It is missing, too large or cannot be read.</exception>
    public static byte[] Read(string path, int maxBytes, string what)
    {
        try
        {
            using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite, bufferSize: 1);
            var bytes = new MemoryStream();
            var part = new byte[16 << 10];
            while (file.Read(part) is var count and > 0)
            {
                bytes.Write(part, 0, count);
                if (bytes.Length > maxBytes)
                {
                    throw new BlockException(BlockErrorKind.LimitExceeded, $"{path}: is larger than {maxBytes} bytes");
                }
            }

            return bytes.ToArray();
        }
        catch (Exception e) when (e is (IOException and not BlockException) or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw e is FileNotFoundException or DirectoryNotFoundException
                ? new BlockException(BlockErrorKind.NotFound, $"{path}: there is no such file: the {what} is missing", e)
                : new BlockException(BlockErrorKind.AccessDenied, $"{path}: the {what} cannot be read", e);
        }
    }

    /// <summary>The certificates of a PEM file, in their order; at least one.</summary>
    /// <exception cref="BlockException">It cannot be read or parsed.</exception>
    public static X509Certificate2Collection ReadCertificates(string path, string what)
    {
        var certificates = new X509Certificate2Collection();
        try
        {
            certificates.ImportFromPem(Text(path, what));
        }
        catch (CryptographicException e)
        {
            throw new BlockException(BlockErrorKind.InvalidRequest, $"{path}: a certificate cannot be parsed", e);
        }

        return certificates.Count > 0 ? certificates : throw new BlockException(BlockErrorKind.InvalidRequest, $"{path}: holds no certificate in PEM form");
    }

    /// <summary>A certificate with its key, and what comes behind the certificate in its file: those that it was signed with.</summary>
    /// <param name="path">The certificate's file.</param>
    /// <param name="keyPath">The key's file.</param>
    /// <param name="what">Whose they are: "server's".</param>
    /// <param name="password">The key's, if it is encrypted.</param>
    /// <exception cref="BlockException">A file cannot be read or parsed, or the two do not belong together.</exception>
    public static (X509Certificate2 Certificate, X509Certificate2Collection Others) ReadPair(string path, string keyPath, string what, string? password)
    {
        var others = ReadCertificates(path, $"{what} certificate");
        var first = others[0];
        others.RemoveAt(0);
        using (first)
        {
            var key = Text(keyPath, $"{what} key");
            try
            {
                var isEncrypted = key.Contains("-----BEGIN ENCRYPTED PRIVATE KEY-----", StringComparison.Ordinal);
                if (isEncrypted && password is null)
                {
                    throw new BlockException(BlockErrorKind.WrongSecret, $"{keyPath}: the key is encrypted and needs a password (option passwordid)");
                }

                var pem = first.ExportCertificatePem();
                var pair = isEncrypted ? X509Certificate2.CreateFromEncryptedPem(pem, key, password) : X509Certificate2.CreateFromPem(pem, key);

                // Windows cannot use a key that is in memory only.
                return (OperatingSystem.IsWindows() ? X509CertificateLoader.LoadPkcs12(pair.Export(X509ContentType.Pfx), null) : pair, others);
            }
            catch (Exception e) when (e is CryptographicException or ArgumentException)
            {
                throw new BlockException(
                    BlockErrorKind.InvalidRequest,
                    password is null
                        ? $"{keyPath}: is not the private key (RSA or elliptic curve, in PEM form) of {path}"
                        : $"{keyPath}: is not the private key of {path}, or the password is wrong",
                    e);
            }
        }
    }

    private static string Text(string path, string what) => Encoding.Latin1.GetString(Read(path, MaxPemBytes, what));
}
