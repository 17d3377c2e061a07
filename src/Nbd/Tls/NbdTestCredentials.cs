using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using Platter.Core.Errors;
using Platter.Core.Tls;

namespace Platter.Nbd.Tls;

/// <summary>Makes everything that TLS needs for a test or a closed network: an authority, a server's and a client's certificate, and pre-shared keys.</summary>
/// <remarks>Elliptic curve keys (P-256), SHA-256. All of the files are in one directory, which suits server and client on one host: otherwise each gets its own, and nobody the authority's key.</remarks>
public static class NbdTestCredentials
{
    private const string Organization = "Platter test";

    // Clocks differ.
    private static readonly TimeSpan s_slack = TimeSpan.FromDays(1);

    /// <summary>The subject of the client's certificate, as <see cref="NbdAuthorization"/> compares it.</summary>
    public const string ClientName = $"O={Organization},CN=client";

    /// <summary>Names and addresses that the server's certificate is always for.</summary>
    private static readonly string[] s_localNames = ["localhost", "127.0.0.1", "::1"];

    /// <summary>Makes the files.</summary>
    /// <param name="directory">Where; made if it is not there. None of the files may exist.</param>
    /// <param name="hosts">Names and addresses of the server, besides those of this host for itself.</param>
    /// <param name="users">Who gets a pre-shared key; nobody means no <c>keys.psk</c>.</param>
    /// <param name="validFor">How long certificates are good.</param>
    /// <returns>The files that were made, as full paths.</returns>
    /// <exception cref="BlockException">A file exists, cannot be written, or a name cannot be used.</exception>
    public static IReadOnlyList<string> Make(string directory, IReadOnlyList<string> hosts, IReadOnlyList<string> users, TimeSpan validFor)
    {
        var files = new List<(string Name, string Text, bool IsSecret)>();
        string[] names = [.. hosts, .. s_localNames];
        var alternatives = AlternativesOf(names);
        var now = DateTimeOffset.UtcNow;
        var (from, to) = (now - s_slack, now + validFor);
        using var authorityKey = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        using var authority = MakeAuthority(authorityKey, from, to);
        files.Add(("ca-cert.pem", authority.ExportCertificatePem(), false));
        files.Add(("ca-key.pem", authorityKey.ExportPkcs8PrivateKeyPem(), true));
        AddPair(files, "server", authority, names[0], alternatives, CertificateTrust.ServerPurpose, from, to);
        AddPair(files, "client", authority, "client", null, CertificateTrust.ClientPurpose, from, to);
        if (users.Count > 0)
        {
            files.Add(("keys.psk", KeysOf(users), true));
        }

        return Write(directory, files);
    }

    private static X509Certificate2 MakeAuthority(ECDsa key, DateTimeOffset from, DateTimeOffset to)
    {
        // A name of its own each time, so that two of them are never taken for one another.
        var number = Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(4));
        var request = new CertificateRequest(NameOf($"Platter test authority {number}"), key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, true, 0, true));
        request.CertificateExtensions.Add(new X509KeyUsageExtension(X509KeyUsageFlags.KeyCertSign | X509KeyUsageFlags.CrlSign, true));
        request.CertificateExtensions.Add(new X509SubjectKeyIdentifierExtension(request.PublicKey, false));
        return request.CreateSelfSigned(from, to);
    }

    private static void AddPair(
        List<(string Name, string Text, bool IsSecret)> files,
        string who,
        X509Certificate2 authority,
        string commonName,
        X509Extension? alternatives,
        string purpose,
        DateTimeOffset from,
        DateTimeOffset to)
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest(NameOf(commonName), key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(false, false, 0, true));
        request.CertificateExtensions.Add(new X509KeyUsageExtension(X509KeyUsageFlags.DigitalSignature, true));
        request.CertificateExtensions.Add(new X509EnhancedKeyUsageExtension([new Oid(purpose)], false));
        request.CertificateExtensions.Add(new X509SubjectKeyIdentifierExtension(request.PublicKey, false));
        request.CertificateExtensions.Add(X509AuthorityKeyIdentifierExtension.CreateFromCertificate(authority, true, false));
        if (alternatives is not null)
        {
            request.CertificateExtensions.Add(alternatives);
        }

        var serial = RandomNumberGenerator.GetBytes(16);
        serial[0] = (byte)((serial[0] & 0x3f) | 0x40);
        using var certificate = request.Create(authority, from, to, serial);
        files.Add(($"{who}-cert.pem", certificate.ExportCertificatePem(), false));
        files.Add(($"{who}-key.pem", key.ExportPkcs8PrivateKeyPem(), true));
    }

    private static X509Extension AlternativesOf(IEnumerable<string> hosts)
    {
        var names = new SubjectAlternativeNameBuilder();
        foreach (var host in hosts.Distinct(StringComparer.OrdinalIgnoreCase))
        {
            if (IPAddress.TryParse(host, out var address))
            {
                names.AddIpAddress(address);
            }
            else if (Uri.CheckHostName(host.StartsWith("*.", StringComparison.Ordinal) ? host[2..] : host) == UriHostNameType.Dns)
            {
                names.AddDnsName(host);
            }
            else
            {
                throw new BlockException(BlockErrorKind.InvalidRequest, $"'{SafeText.Clean(host, 256)}' is neither a host name nor an address");
            }
        }

        return names.Build();
    }

    private static X500DistinguishedName NameOf(string commonName)
    {
        var name = new X500DistinguishedNameBuilder();
        // The last one comes first in the certificate.
        name.AddCommonName(commonName);
        name.AddOrganizationName(Organization);
        return name.Build();
    }

    private static string KeysOf(IReadOnlyList<string> users)
    {
        var text = new StringBuilder();
        foreach (var user in users.Distinct())
        {
            if (Encoding.UTF8.GetByteCount(user) is 0 or > PreSharedKeys.MaxIdentityBytes || user[0] == '#' || user.AsSpan().IndexOfAny(":\n\r\0") >= 0)
            {
                throw new BlockException(BlockErrorKind.InvalidRequest, $"'{SafeText.Clean(user, 128)}' cannot be the name of a client");
            }

            text.Append(user).Append(':').Append(Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(32))).Append('\n');
        }

        return text.ToString();
    }

    private static List<string> Write(string directory, List<(string Name, string Text, bool IsSecret)> files)
    {
        List<string> paths = [.. files.Select(file => Path.GetFullPath(Path.Combine(directory, file.Name)))];
        if (paths.Find(Path.Exists) is { } existing)
        {
            throw new BlockException(BlockErrorKind.AccessDenied, $"{existing}: exists already; nothing was written");
        }

        var at = directory;
        try
        {
            if (OperatingSystem.IsWindows())
            {
                Directory.CreateDirectory(directory);
            }
            else
            {
                Directory.CreateDirectory(directory, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
            }

            for (var i = 0; i < files.Count; i++)
            {
                at = paths[i];
                WriteFile(at, files[i].Text, files[i].IsSecret);
            }

            return paths;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw new BlockException(BlockErrorKind.AccessDenied, $"{at}: cannot be written", e);
        }
    }

    private static void WriteFile(string path, string text, bool isSecret)
    {
        var options = new FileStreamOptions { Mode = FileMode.CreateNew, Access = FileAccess.Write };
        if (!OperatingSystem.IsWindows())
        {
            var mode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
            options.UnixCreateMode = isSecret ? mode : mode | UnixFileMode.GroupRead | UnixFileMode.OtherRead;
        }

        using var file = new FileStream(path, options);
        file.Write(Encoding.UTF8.GetBytes(text.EndsWith('\n') ? text : text + "\n"));
    }
}
