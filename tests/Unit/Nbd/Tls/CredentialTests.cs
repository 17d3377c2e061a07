using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Platter.Core.Errors;
using Platter.Host.Tls;
using Platter.Nbd.Tls;
using Platter.TestKit;
using Platter.Tests.Unit.Nbd.Server;
using Xunit;

namespace Platter.Tests.Unit.Nbd.Tls;

/// <summary>Files of credentials, and names.</summary>
public sealed class CredentialTests
{
    // As certtool and QEMU 7.2 print it.
    [Fact]
    public void A_name_is_written_as_the_peer_compares_it()
    {
        var name = new X500DistinguishedName(Convert.FromHexString(
            "308201ce310b30090603550406130247423115301306035504080c0c4c6f6e646f6e2c20436974793118301606035504070c0f206c65616420616e642074726169"
            + "6c311c301a060355040a0c132341636d6520227822203c793e3b7a2b773d7631153013060355040b0c0c5a776569746520c39c6e69743110300e06035504030c07"
            + "68c3b673745c313114301206092a864886f70d01090116056140622e63310b3009060355040513023132310b3009060355040c0c024472310e300c060355042a0c"
            + "05476976656e310c300a06035504040c03537572310b3009060355042b0c02585931173015060a0992268993f22c64011916076578616d706c6531143012060a09"
            + "92268993f22c6401010c0475696431310e300c06035504090c055374722031310e300c06035504110c053132333435310b300906035504410c027073310b300906"
            + "0355042e13026471310c300a060355042c0c03494949310d300b060355040d0c0464657363310b3009060355040f0c026263310f300d06035304050c0663757374"
            + "6f6d310b300906035504100c027061310c300a06035504140c03353535310b300906035504290c026e6d31133011060b2b0601040182373c02010313024445310b"
            + "300906035504610c026f69"));
        Assert.Equal(
            @"C=GB,ST=London\, City,L=\ lead and trail,O=\#Acme \""x\"" \<y\>\;z\+w=v,OU=Zweite Ünit,CN=höst\\1,EMAIL=a@b.c,serialNumber=12,title=Dr,givenName=Given,"
            + "surName=Sur,initials=XY,DC=example,UID=uid1,street=Str 1,postalCode=12345,pseudonym=ps,dnQualifier=dq,generationQualifier=III,description=desc,businessCategory=bc,"
            + "2.3.4.5=#0c06637573746f6d,2.5.4.16=#0c027061,telephoneNumber=#0c03353535,name=nm,jurisdictionOfIncorporationCountryName=DE,2.5.4.97=#0c026f69",
            DistinguishedNameText.Of(name));
    }

    [Theory]
    [InlineData("a", "a", true)]
    [InlineData("a", "A", false)]
    [InlineData("a*", "abc", false)]
    [InlineData("*a*", "bac", true, true)]
    [InlineData("a*c*e", "abcde", true, true)]
    [InlineData("a*c*e", "abcd", false, true)]
    [InlineData("a?c", "abc", true, true)]
    [InlineData("a?c", "ac", false, true)]
    [InlineData("***", "", true, true)]
    [InlineData("", "a", false, true)]
    public void Rules_match_exactly_or_by_asterisks(string match, string identity, bool expected, bool isGlob = false) =>
        Assert.Equal(expected, new NbdAuthorizationRule(match, true, isGlob).Matches(identity));

    [Fact]
    public void The_first_rule_that_matches_decides()
    {
        using var folder = new TempFolder();
        var path = folder.Write(
            "acl",
            """{"rules":[{"match":"danb","policy":"deny","format":"exact"},{"match":"dan*","policy":"allow","format":"glob"},{"match":"bob","policy":"allow"}],"policy":"deny"}""");
        var list = NbdAuthorization.Load(path);
        Assert.True(list.Allows("dana"));
        Assert.False(list.Allows("danb"));
        Assert.True(list.Allows("bob"));
        Assert.False(list.Allows("fred"));
        Assert.False(NbdAuthorization.Load(folder.Write("none", "{}")).Allows("fred"));
        Assert.True(NbdAuthorization.Load(folder.Write("all", """{"policy":"allow"}""")).Allows("fred"));
    }

    [Theory]
    [InlineData("")]
    [InlineData("[]")]
    [InlineData("CN=laptop")]
    [InlineData("""{"rules":[{"policy":"allow"}]}""")]
    [InlineData("""{"rules":[{"match":"a","policy":"maybe"}]}""")]
    [InlineData("""{"rules":[{"match":"a","policy":"allow","format":"regex"}]}""")]
    [InlineData("""{"rules":[{"match":1,"policy":"allow"}]}""")]
    [InlineData("""{"rules":{},"policy":"allow"}""")]
    [InlineData("""{"policy":"allow","else":1}""")]
    public void A_list_that_cannot_be_understood_is_refused(string text)
    {
        using var folder = new TempFolder();
        var path = folder.Write("acl", text);
        var e = Assert.Throws<BlockException>(() => NbdAuthorization.Load(path));
        Assert.Equal(BlockErrorKind.InvalidRequest, e.Kind);
        Assert.StartsWith($"{path}: ", e.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("server-cert.pem", "there is no such file: the server's certificate is missing")]
    [InlineData("server-key.pem", "there is no such file: the server's key is missing")]
    [InlineData("ca-cert.pem", "there is no such file: the certificate of the authority is missing")]
    public void A_missing_file_is_named(string missing, string expected)
    {
        var files = TlsTestFiles.Copy(TlsTestFiles.Ours, [.. new[] { "ca-cert.pem", "server-cert.pem", "server-key.pem" }.Where(name => name != missing)]);
        Assert.Equal($"{Path.Combine(files, missing)}: {expected}", Assert.Throws<BlockException>(() => NbdServerCertificates.Load(files)).Message);
    }

    [Theory]
    [InlineData("server-cert.pem", "holds no certificate in PEM form")]
    [InlineData("server-key.pem", "is not the private key (RSA or elliptic curve, in PEM form) of ")]
    [InlineData("ca-cert.pem", "holds no certificate in PEM form")]
    public void A_broken_file_is_named(string broken, string expected)
    {
        var files = TlsTestFiles.Copy(TlsTestFiles.Ours, "ca-cert.pem", "server-cert.pem", "server-key.pem");
        foreach (var text in new[] { string.Empty, "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n" })
        {
            File.WriteAllText(Path.Combine(files, broken), text);
            var e = Assert.Throws<BlockException>(() => NbdServerCertificates.Load(files));
            Assert.StartsWith($"{Path.Combine(files, broken)}: ", e.Message, StringComparison.Ordinal);
            Assert.Contains(text.Contains("CERT", StringComparison.Ordinal) && broken != "server-key.pem" ? "a certificate cannot be parsed" : expected, e.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Somebody_elses_key_is_no_key()
    {
        var files = TlsTestFiles.Copy(TlsTestFiles.Ours, "ca-cert.pem", "server-cert.pem");
        File.Copy(Path.Combine(TlsTestFiles.Others, "server-key.pem"), Path.Combine(files, "server-key.pem"));
        Assert.Contains("server-key.pem: is not the private key", Assert.Throws<BlockException>(() => NbdServerCertificates.Load(files)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_certificate_that_no_client_would_take_is_noticed_at_once()
    {
        var files = TlsTestFiles.Copy(TlsTestFiles.Ours, "server-cert.pem", "server-key.pem", "client-cert.pem", "client-key.pem");
        File.Copy(Path.Combine(TlsTestFiles.Others, "ca-cert.pem"), Path.Combine(files, "ca-cert.pem"));
        foreach (var load in new Action[] { () => NbdServerCertificates.Load(files), () => NbdClientCertificates.Load(files) })
        {
            var e = Assert.Throws<BlockException>(load);
            Assert.Contains("-cert.pem: the certificate is not signed by an authority of ", e.Message, StringComparison.Ordinal);
        }

        Assert.NotNull(NbdServerCertificates.Load(files, new() { CheckOwn = false }));

        var expired = Path.Combine(TlsTestFiles.Copy(TlsTestFiles.Ours), "expired");
        NbdTestCredentials.Make(expired, [], [], TimeSpan.FromHours(-1));
        Assert.EndsWith(
            "server-cert.pem: the certificate has expired or is not valid yet", Assert.Throws<BlockException>(() => NbdServerCertificates.Load(expired)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void An_encrypted_key_needs_its_password()
    {
        var files = TlsTestFiles.Copy(TlsTestFiles.Ours, "ca-cert.pem", "server-cert.pem", "server-key.pem");
        var path = Path.Combine(files, "server-key.pem");
        using var key = ECDsa.Create();
        key.ImportFromPem(File.ReadAllText(path));
        File.WriteAllText(path, key.ExportEncryptedPkcs8PrivateKeyPem("secret", new PbeParameters(PbeEncryptionAlgorithm.Aes256Cbc, HashAlgorithmName.SHA256, 1000)));
        Assert.NotNull(NbdServerCertificates.Load(files, new() { KeyPassword = "secret" }));
        Assert.Equal(BlockErrorKind.WrongSecret, Assert.Throws<BlockException>(() => NbdServerCertificates.Load(files)).Kind);
        Assert.EndsWith(
            "or the password is wrong", Assert.Throws<BlockException>(() => NbdServerCertificates.Load(files, new() { KeyPassword = "wrong" })).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(true, 30, "is revoked by ")]
    [InlineData(false, 30, null)]
    [InlineData(false, -1, "is out of date since ")]
    public async Task A_client_that_was_taken_back_stays_outside(bool revoked, int days, string? expected)
    {
        var files = TlsTestFiles.Copy(TlsTestFiles.Ours, "ca-cert.pem", "server-cert.pem", "server-key.pem");
        using var client = X509CertificateLoader.LoadCertificateFromFile(Path.Combine(TlsTestFiles.Ours, "client-cert.pem"));
        WriteRevocations(files, revoked ? client : null, days);
        await using var server = new ServerFixture(
            TestDisks.Memory(new byte[4096]), new() { Tls = NbdServerCertificates.Load(files, new() { CheckOwn = false }) });
        try
        {
            using var talk = await TlsTalk.OpenAsync(server, TlsTestFiles.Client());
            await talk.GoAsync();
            Assert.Null(expected);
        }
        catch (Exception e) when (e is BlockException or System.Net.Sockets.SocketException or EndOfStreamException)
        {
            Assert.NotNull(expected);
        }

        for (var i = 0; i < 1000 && expected is not null && server.Log.Count == 0; i++)
        {
            await Task.Delay(10);
        }

        Assert.Equal(expected is not null, server.Log.Any(line => line.Contains(expected ?? "?", StringComparison.Ordinal)));
    }

    [Fact]
    public void A_broken_revocation_list_is_named()
    {
        foreach (var text in new[] { string.Empty, "-----BEGIN X509 CRL-----\nMIIB\n-----END X509 CRL-----\n", "-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n" })
        {
            var files = TlsTestFiles.Copy(TlsTestFiles.Ours, "ca-cert.pem", "server-cert.pem", "server-key.pem");
            File.WriteAllText(Path.Combine(files, "ca-crl.pem"), text);
            var e = Assert.Throws<BlockException>(() => NbdServerCertificates.Load(files));
            Assert.StartsWith(Path.Combine(files, "ca-crl.pem"), e.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Test_credentials_overwrite_nothing_and_keep_secrets()
    {
        using var folder = new TempFolder();
        var path = folder["new"];
        var files = NbdTestCredentials.Make(path, ["10.0.1.87", "*.example.org"], ["a"], TimeSpan.FromDays(1));
        Assert.Equal(
            ["ca-cert.pem", "ca-key.pem", "client-cert.pem", "client-key.pem", "keys.psk", "server-cert.pem", "server-key.pem"],
            files.Select(Path.GetFileName).Order(StringComparer.Ordinal));
        foreach (var file in files.Where(file => file.EndsWith("-key.pem", StringComparison.Ordinal) || file.EndsWith(".psk", StringComparison.Ordinal)))
        {
            Assert.True(OperatingSystem.IsWindows() || File.GetUnixFileMode(file) == (UnixFileMode.UserRead | UnixFileMode.UserWrite), file);
        }

        using var client = X509CertificateLoader.LoadCertificateFromFile(Path.Combine(path, "client-cert.pem"));
        Assert.Equal(NbdTestCredentials.ClientName, DistinguishedNameText.Of(client.SubjectName));
        foreach (var file in files)
        {
            var rest = folder[Path.GetFileName(file) + ".d"];
            Directory.CreateDirectory(rest);
            File.WriteAllText(Path.Combine(rest, Path.GetFileName(file)), "mine");
            var e = Assert.Throws<BlockException>(() => NbdTestCredentials.Make(rest, [], ["a"], TimeSpan.FromDays(1)));
            Assert.EndsWith($"{Path.GetFileName(file)}: exists already; nothing was written", e.Message, StringComparison.Ordinal);
            Assert.Single(Directory.GetFiles(rest));
        }
    }

    [Theory]
    [InlineData("not a host")]
    [InlineData("")]
    [InlineData("a,b")]
    public void Hosts_that_are_none_are_refused(string host)
    {
        using var folder = new TempFolder();
        Assert.Throws<BlockException>(() => NbdTestCredentials.Make(folder["x"], [host], [], TimeSpan.FromDays(1)));
        Assert.False(Directory.Exists(folder["x"]));
    }

    [Theory]
    [InlineData("TLS with a pre-shared key needs a file of keys (tls-psk-file)", "psk", null, null)]
    [InlineData("TLS with certificates and TLS with pre-shared keys exclude each other", null, "x", "y")]
    [InlineData("TLS with certificates and TLS with pre-shared keys exclude each other", "x509", null, "y")]
    [InlineData("TLS with certificates and TLS with pre-shared keys exclude each other", "psk", "x", "y")]
    [InlineData("anonymous TLS proves nothing to anybody and is not supported: use certificates or pre-shared keys", "anon", null, null)]
    [InlineData("tls-type 'ssl' is neither x509 nor psk", "ssl", null, null)]
    [InlineData("no/ca-cert.pem: there is no such file: the certificate of the authority is missing", null, "no", null)]
    [InlineData("no/keys: no such file of pre-shared keys", null, null, "no/keys")]
    public void Parameters_that_cannot_be_are_told(string message, string? type, string? directory, string? keys) => Assert.Equal(
        message,
        Assert.Throws<BlockException>(() => new NbdClientTlsParameters { Type = type, CertificateDirectory = directory, PskFile = keys }.Load(OpenSslLibrary.Instance)).Message);

    [Fact]
    public void Parameters_choose_the_kind_of_credentials()
    {
        Assert.IsType<NbdClientKey>(new NbdClientTlsParameters { PskFile = TlsTestFiles.KeyFile }.Load(OpenSslLibrary.Instance));
        Assert.IsType<NbdClientKey>(new NbdClientTlsParameters { PskFile = TlsTestFiles.KeyFile, User = "rich" }.Load(OpenSslLibrary.Instance));
        Assert.Throws<BlockException>(() => new NbdClientTlsParameters { PskFile = TlsTestFiles.KeyFile, User = "poor" }.Load(OpenSslLibrary.Instance));
        Assert.IsType<NbdClientCertificates>(new NbdClientTlsParameters { CertificateDirectory = TlsTestFiles.Ours }.Load(OpenSslLibrary.Instance));
        Assert.IsType<NbdClientCertificates>(new NbdClientTlsParameters().Load(OpenSslLibrary.Instance));
    }

    [Fact]
    public async Task The_hosts_authorities_do_not_know_ours()
    {
        await using var server = new ServerFixture(TestDisks.Memory(new byte[4096]), new() { Tls = TlsTestFiles.Server() });
        var e = await Assert.ThrowsAsync<BlockException>(() => TlsTalk.OpenAsync(server, NbdClientCertificates.FromHost()));
        Assert.EndsWith("is not signed by an authority of this host", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_revocation_list_of_somebody_else_is_refused()
    {
        // Signed with another key in the authority's name.
        var files = TlsTestFiles.Copy(TlsTestFiles.Ours, "ca-cert.pem", "server-cert.pem", "server-key.pem");
        using var authority = X509CertificateLoader.LoadCertificateFromFile(Path.Combine(files, "ca-cert.pem"));
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest(authority.SubjectName, key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        request.CertificateExtensions.Add(new X509SubjectKeyIdentifierExtension(request.PublicKey, false));
        using var impostor = request.CreateSelfSigned(DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddDays(1));
        WriteList(files, impostor);
        AssertRefused(files, $"ca-crl.pem: the list of '{DistinguishedNameText.Of(authority.SubjectName)}' is not signed by an authority of {Path.Combine(files, "ca-cert.pem")}");

        // Of an authority that is none here.
        using var other = X509Certificate2.CreateFromPemFile(Path.Combine(TlsTestFiles.Others, "ca-cert.pem"), Path.Combine(TlsTestFiles.Others, "ca-key.pem"));
        WriteList(files, other);
        AssertRefused(files, $"ca-crl.pem: the list of '{DistinguishedNameText.Of(other.SubjectName)}' is not signed by an authority of {Path.Combine(files, "ca-cert.pem")}");
    }

    [Fact]
    public void A_revocation_list_that_was_changed_is_refused()
    {
        var files = TlsTestFiles.Copy(TlsTestFiles.Ours, "ca-cert.pem", "server-cert.pem", "server-key.pem");
        WriteRevocations(files, null, 30);
        Assert.NotNull(NbdServerCertificates.Load(files));
        var path = Path.Combine(files, "ca-crl.pem");
        var text = File.ReadAllText(path);
        var fields = PemEncoding.Find(text);
        var der = Convert.FromBase64String(text[fields.Base64Data]);

        // The serial number of its one entry.
        var at = der.AsSpan().IndexOf((ReadOnlySpan<byte>)[0x02, 0x03, 1, 2, 3]);
        der[at + 4] ^= 1;
        File.WriteAllText(path, PemEncoding.WriteString("X509 CRL", der));
        AssertRefused(files, " is not signed by an authority of ");
    }

    [Theory]
    [InlineData("PKCS1", "SHA256")]
    [InlineData("PKCS1", "SHA512")]
    [InlineData("PSS", "SHA256")]
    [InlineData("PSS", "SHA384")]
    public void Lists_are_signed_by_the_usual_algorithms(string padding, string hash)
    {
        var files = TlsTestFiles.Copy(TlsTestFiles.Ours, "server-cert.pem", "server-key.pem");
        using var key = RSA.Create(2048);
        var rsaPadding = padding == "PSS" ? RSASignaturePadding.Pss : RSASignaturePadding.Pkcs1;
        var request = new CertificateRequest("CN=An authority", key, HashAlgorithmName.SHA256, rsaPadding);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        request.CertificateExtensions.Add(new X509SubjectKeyIdentifierExtension(request.PublicKey, false));
        using var authority = request.CreateSelfSigned(DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddDays(1));
        File.WriteAllText(Path.Combine(files, "ca-cert.pem"), authority.ExportCertificatePem());
        WriteList(files, authority, new HashAlgorithmName(hash), rsaPadding);
        Assert.NotNull(NbdServerCertificates.Load(files, new() { CheckOwn = false }));

        // The same with SHA-1, which .NET does not write any more.
        if (padding == "PKCS1")
        {
            var path = Path.Combine(files, "ca-crl.pem");
            var text = File.ReadAllText(path);
            var der = Convert.FromBase64String(text[PemEncoding.Find(text).Base64Data]);
            for (int at; (at = der.AsSpan().IndexOf((ReadOnlySpan<byte>)[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, (byte)(hash == "SHA256" ? 11 : 13)])) >= 0;)
            {
                der[at + 8] = 5;
            }

            File.WriteAllText(path, PemEncoding.WriteString("X509 CRL", der));
            AssertRefused(files, "the revocation list is signed by the algorithm 1.2.840.113549.1.1.5, which is not supported");
        }
    }

    [Fact]
    public void An_authority_that_must_not_sign_lists_has_not_signed_any()
    {
        var files = TlsTestFiles.Copy(TlsTestFiles.Ours, "server-cert.pem", "server-key.pem");
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        X509Certificate2 Authority(X509KeyUsageFlags usage)
        {
            var request = new CertificateRequest("CN=An authority", key, HashAlgorithmName.SHA256);
            request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
            request.CertificateExtensions.Add(new X509KeyUsageExtension(usage, true));
            request.CertificateExtensions.Add(new X509SubjectKeyIdentifierExtension(request.PublicKey, false));
            return request.CreateSelfSigned(DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddDays(1));
        }

        using var may = Authority(X509KeyUsageFlags.KeyCertSign | X509KeyUsageFlags.CrlSign);
        using var mayNot = Authority(X509KeyUsageFlags.KeyCertSign);
        WriteList(files, may);
        File.WriteAllText(Path.Combine(files, "ca-cert.pem"), mayNot.ExportCertificatePem());
        AssertRefused(files, " is not signed by an authority of ");
        File.WriteAllText(Path.Combine(files, "ca-cert.pem"), may.ExportCertificatePem());
        Assert.NotNull(NbdServerCertificates.Load(files, new() { CheckOwn = false }));
    }

    private static void AssertRefused(string files, string expected)
    {
        var e = Assert.Throws<BlockException>(() => NbdServerCertificates.Load(files, new() { CheckOwn = false }));
        Assert.StartsWith(Path.Combine(files, "ca-crl.pem"), e.Message, StringComparison.Ordinal);
        Assert.Contains(expected, e.Message, StringComparison.Ordinal);
    }

    private static void WriteList(string directory, X509Certificate2 authority, HashAlgorithmName? hash = null, RSASignaturePadding? padding = null)
    {
        var list = new CertificateRevocationListBuilder();
        list.AddEntry([1, 2, 3]);
        var crl = list.Build(authority, 1, DateTimeOffset.UtcNow.AddDays(1), hash ?? HashAlgorithmName.SHA256, padding, DateTimeOffset.UtcNow.AddHours(-1));
        File.WriteAllText(Path.Combine(directory, "ca-crl.pem"), PemEncoding.WriteString("X509 CRL", crl));
    }

    private static void WriteRevocations(string directory, X509Certificate2? revoked, int days)
    {
        using var authority = X509Certificate2.CreateFromPemFile(Path.Combine(TlsTestFiles.Ours, "ca-cert.pem"), Path.Combine(TlsTestFiles.Ours, "ca-key.pem"));
        var list = new CertificateRevocationListBuilder();
        list.AddEntry([1, 2, 3]);
        if (revoked is not null)
        {
            list.AddEntry(revoked);
        }

        var now = DateTimeOffset.UtcNow;
        var crl = list.Build(authority, 1, now.AddDays(days), HashAlgorithmName.SHA256, null, now.AddDays(Math.Min(days, 0) - 1));
        File.WriteAllText(Path.Combine(directory, "ca-crl.pem"), PemEncoding.WriteString("X509 CRL", crl));
    }
}
