using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Platter.Nbd.Server;
using Platter.Nbd.Tls;
using Platter.TestKit;
using Xunit;
using PeerServer = Platter.TestKit.NbdServer;

namespace Platter.Tests.Interop.Nbd;

/// <summary>Our server's TLS against GnuTLS (libnbd, QEMU, gnutls-cli) and OpenSSL.</summary>
public sealed class TlsServerTests : IDisposable
{
    private readonly TempFolder _folder = new("tls");
    private readonly TlsCredentials _credentials;
    private readonly string _image;

    public TlsServerTests()
    {
        _credentials = new(_folder);
        var bytes = new byte[(5 << 20) + 512];
        new Random(1).NextBytes(bytes);
        _image = _folder.Write("disk.raw", bytes);
    }

    /// <summary>Whether certificates, and whether by TLS 1.2.</summary>
    public static TheoryData<bool, bool> Kinds => new() { { true, false }, { true, true }, { false, false }, { false, true } };

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Nbdcopy_reads_and_writes(bool certificates)
    {
        ToolRunner.RequireOrSkip("nbdcopy", "nbdinfo");
        using var server = Serve(certificates, "-w");
        var uri = UriOf(server, certificates);
        Assert.Equal($"{new FileInfo(_image).Length}", ToolRunner.RunChecked("nbdinfo", "--size", uri).Text.Trim());
        ToolRunner.RunChecked("nbdcopy", "--connections=4", uri, _folder["copy"]);
        ToolRunner.RunChecked("cmp", _image, _folder["copy"]);
        var other = new byte[new FileInfo(_image).Length];
        new Random(2).NextBytes(other);
        ToolRunner.RunChecked("nbdcopy", "--flush", "--connections=4", _folder.Write("other", other), uri);
        ToolRunner.RunChecked("cmp", _image, _folder["other"]);
        Assert.Equal(0, server.Stop());
        Assert.DoesNotContain("client", server.Log, StringComparison.Ordinal);
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void Qemu_reads_by_either_version_of_tls(bool certificates, bool old)
    {
        ToolRunner.RequireOrSkip("qemu-img");
        using var server = Serve(certificates);
        ToolRunner.RunChecked(
            "qemu-img", "convert", "-O", "raw", "--object", _credentials.Object("client", certificates, $",priority=NORMAL:-VERS-ALL:+VERS-TLS1.{(old ? 2 : 3)}"),
            "--image-opts", $"driver=nbd,path={server.Socket},tls-creds=tls0{(certificates ? ",tls-hostname=localhost" : string.Empty)}", _folder["copy"]);
        ToolRunner.RunChecked("cmp", _image, _folder["copy"]);
    }

    [Fact]
    public async Task The_name_in_the_certificate_is_what_qemu_looks_for()
    {
        ToolRunner.RequireOrSkip("qemu-img");
        await using var disk = await Disk.OpenAsync(_image, new() { Format = "raw" });
        await using var server = new NbdServerOnTcp(disk, NbdServerCertificates.Load(_credentials.Directory, new() { Library = KnownFormats.TlsLibrary }));
        string[] arguments = ["info", "--object", _credentials.Object("client", true), "--image-opts", $"driver=nbd,host=127.0.0.1,port={server.Port},tls-creds=tls0"];
        ToolRunner.RunChecked("qemu-img", arguments);
        ToolRunner.RunChecked("qemu-img", [.. arguments[..^1], $"{arguments[^1]},tls-hostname=disks.example.org"]);
        Assert.Contains("does not match the hostname", ToolRunner.Run("qemu-img", [.. arguments[..^1], $"{arguments[^1]},tls-hostname=example.org"]).Expect(1).Error, StringComparison.Ordinal);
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void A_priority_chooses_the_version_for_server_and_client(bool certificates, bool old)
    {
        ToolRunner.RequireOrSkip("nbdinfo", "qemu-img", "qemu-nbd");
        var only = $",priority=NORMAL:-VERS-ALL:+VERS-TLS1.{(old ? 2 : 3)}";
        var other = $",priority=NORMAL:-VERS-ALL:+VERS-TLS1.{(old ? 3 : 2)}";
        using var ours = PeerServer.Start(
            PlatterCli.Command("serve", "-v", "-f", "raw", "-k", "{socket}", "--object", _credentials.Object("server", certificates, only), "--tls-creds", "tls0", _image), _folder);
        using var theirs = PeerServer.Start(
            new ToolCommand("qemu-nbd", "-t", "-r", "-f", "raw", "-k", "{socket}", "--object", _credentials.Object("server", certificates, only), "--tls-creds", "tls0", _image), _folder);
        foreach (var (priority, good) in new[] { (only, true), (other, false) })
        {
            string[] Info(PeerServer server) =>
                ["info", "--object", _credentials.Object("client", certificates, priority), "--image-opts", $"driver=nbd,path={server.Socket},tls-creds=tls0{(certificates ? ",tls-hostname=localhost" : string.Empty)}"];
            Assert.Equal(good ? 0 : 1, ToolRunner.Run("qemu-img", Info(ours)).ExitCode);
            Assert.Equal(good ? 0 : 1, PlatterCli.Run(Info(theirs)).ExitCode);
        }
    }

    [Fact]
    public void Who_has_no_credentials_or_others_stays_outside()
    {
        ToolRunner.RequireOrSkip("nbdinfo");
        var others = new TlsCredentials(_folder, "others");
        using (var server = Serve(certificates: true))
        {
            ToolRunner.Run("nbdinfo", server.Uri).Expect(1);
            ToolRunner.Run("nbdinfo", others.CertificateUri(server.Socket)).Expect(1);
            ToolRunner.Run("nbdinfo", _credentials.KeyUri(server.Socket)).Expect(1);
            File.Delete(_credentials["client-cert.pem"]);
            File.Delete(_credentials["client-key.pem"]);
            ToolRunner.Run("nbdinfo", _credentials.CertificateUri(server.Socket)).Expect(1);
        }

        using (var server = Serve(certificates: false))
        {
            ToolRunner.Run("nbdinfo", server.Uri).Expect(1);
            ToolRunner.Run("nbdinfo", others.KeyUri(server.Socket)).Expect(1);
            ToolRunner.Run("nbdinfo", _credentials.CertificateUri(server.Socket)).Expect(1);
            Assert.Equal($"{new FileInfo(_image).Length}", ToolRunner.RunChecked("nbdinfo", "--size", _credentials.KeyUri(server.Socket, "rich")).Text.Trim());
        }
    }

    [Theory]
    [InlineData("gnutls-cli", "NORMAL:-VERS-ALL:+VERS-TLS1.3:-KX-ALL:+ECDHE-PSK:+DHE-PSK")]
    [InlineData("openssl", "TLS_AES_128_GCM_SHA256")]
    [InlineData("openssl", "TLS_CHACHA20_POLY1305_SHA256")]
    [InlineData("openssl", "ECDHE-PSK-CHACHA20-POLY1305")]
    [InlineData("openssl", "DHE-PSK-AES256-GCM-SHA384")]
    [InlineData("openssl", "DHE-PSK-AES128-GCM-SHA256")]
    [InlineData("openssl", "PSK-AES128-GCM-SHA256", false)]
    [InlineData("openssl", "ECDHE-PSK-AES128-CBC-SHA256", false)]
    public async Task Clients_of_tls_alone_agree_on_suites_with_forward_secrecy(string tool, string suite, bool expected = true)
    {
        // gnutls-cli 3.7 crashes with every server of pre-shared keys over TLS 1.2.
        ToolRunner.RequireOrSkip(tool);
        await using var disk = await Disk.OpenAsync(_image, new() { Format = "raw" });
        await using var server = new NbdServerOnTcp(disk, NbdServerKeys.Load(KnownFormats.TlsLibrary, _credentials.KeyFile));
        using var bridge = new StartTlsBridge(server.Port);
        var key = _credentials.KeyOf("qemu");
        string[] arguments = tool == "openssl"
            ? ["s_client", "-connect", $"127.0.0.1:{bridge.Port}", "-psk_identity", "qemu", "-psk", key, "-quiet", .. suite.StartsWith("TLS_", StringComparison.Ordinal) ? (string[])["-tls1_3", "-ciphersuites", suite] : ["-tls1_2", "-cipher", suite]]
            : ["-p", $"{bridge.Port}", "--pskusername", "qemu", "--pskkey", key, "--priority", suite, "127.0.0.1"];

        // An option LIST, and its last reply: ACK.
        var command = new ToolCommand(tool, arguments) { Input = Convert.FromHexString("49484156454f50540000000300000000" + "49484156454f50540000000200000000") };
        var output = Convert.ToHexStringLower(ToolRunner.Run(command).Output);
        Assert.Equal(expected, output.Contains("0003e889045565a9" + "00000003" + "00000001" + "00000000", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Nobody_negotiates_twice(bool certificates)
    {
        ToolRunner.RequireOrSkip("openssl");
        await using var disk = await Disk.OpenAsync(_image, new() { Format = "raw" });
        await using var server = new NbdServerOnTcp(
            disk, certificates ? NbdServerCertificates.Load(_credentials.Directory, new() { VerifyPeer = false, Library = KnownFormats.TlsLibrary }) : NbdServerKeys.Load(KnownFormats.TlsLibrary, _credentials.KeyFile));
        using var bridge = new StartTlsBridge(server.Port);
        string[] arguments = ["2", "openssl", "s_client", "-state", "-connect", $"127.0.0.1:{bridge.Port}", "-tls1_2", .. certificates ? (string[])[] : ["-psk_identity", "qemu", "-psk", _credentials.KeyOf("qemu")]];

        // A line that begins with R has it ask for another handshake. It is cut, or waits in vain.
        var result = ToolRunner.Run(new ToolCommand("timeout", arguments) { Input = "R\n"u8.ToArray() });
        var told = result.Text + result.Error;
        Assert.Contains("RENEGOTIATING", told, StringComparison.Ordinal);
        Assert.Equal(2, told.Split("read finished").Length);
    }

    [Theory]
    [InlineData("gnutls-cli", "NORMAL")]
    [InlineData("gnutls-cli", "NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+CHACHA20-POLY1305")]
    [InlineData("gnutls-cli", "NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+AES-128-CBC", false)]
    [InlineData("openssl", "TLS_AES_256_GCM_SHA384")]
    [InlineData("openssl", "ECDHE-ECDSA-AES128-GCM-SHA256")]
    [InlineData("openssl", "ECDHE-ECDSA-AES128-SHA256", false)]
    public async Task Clients_of_tls_alone_agree_with_certificates(string tool, string suite, bool expected = true)
    {
        ToolRunner.RequireOrSkip(tool);
        await using var disk = await Disk.OpenAsync(_image, new() { Format = "raw" });
        await using var server = new NbdServerOnTcp(disk, NbdServerCertificates.Load(_credentials.Directory, new() { Library = KnownFormats.TlsLibrary }));
        using var bridge = new StartTlsBridge(server.Port);
        string[] arguments = tool == "openssl"
            ?
            [
                "s_client", "-connect", $"127.0.0.1:{bridge.Port}", "-CAfile", _credentials["ca-cert.pem"], "-verify_return_error", "-cert", _credentials["client-cert.pem"], "-key", _credentials["client-key.pem"], "-quiet",
                .. suite.StartsWith("TLS_", StringComparison.Ordinal) ? (string[])["-tls1_3", "-ciphersuites", suite] : ["-tls1_2", "-cipher", suite],
            ]
            :
            [
                "-p", $"{bridge.Port}", "--x509cafile", _credentials["ca-cert.pem"], "--x509certfile", _credentials["client-cert.pem"], "--x509keyfile", _credentials["client-key.pem"], "--priority", suite, "--verify-hostname=localhost",
                "127.0.0.1",
            ];
        var command = new ToolCommand(tool, arguments) { Input = Convert.FromHexString("49484156454f50540000000300000000" + "49484156454f50540000000200000000") };
        var output = Convert.ToHexStringLower(ToolRunner.Run(command).Output);
        Assert.Equal(expected, output.Contains("0003e889045565a9" + "00000003" + "00000001" + "00000000", StringComparison.Ordinal));
    }

    [Fact]
    public void Under_the_name_qemu_nbd_it_takes_the_same_objects()
    {
        ToolRunner.RequireOrSkip("nbdinfo");
        var tool = PlatterCli.LinkAs(_folder, "qemu-nbd");
        var identity = NbdTestCredentials.ClientName.Replace(",", ",,", StringComparison.Ordinal);
        var acl = _folder.Write("acl", $$"""{"rules":[{"match":"O=Platter*,CN=client","policy":"allow","format":"glob"}],"policy":"deny"}""");
        foreach (var (authorization, good) in new[]
        {
            ($"authz-simple,id=a,identity={identity}", true),
            ("authz-simple,id=a,identity=somebody", false),
            ($"authz-list,id=a,policy=deny,rules.0.match={identity},rules.0.policy=allow", true),
            ("""{"qom-type":"authz-list","id":"a","rules":[{"match":"*","policy":"deny","format":"glob"}],"policy":"allow"}""", false),
            ($"authz-listfile,id=a,filename={acl}", true),
        })
        {
            // Debian's qemu-nbd is built without lists in files.
            foreach (var program in authorization.StartsWith("authz-listfile", StringComparison.Ordinal) ? [tool] : new[] { tool, "qemu-nbd" })
            {
                using var server = PeerServer.Start(
                    new ToolCommand(
                        program, "-t", "-v", "-r", "-f", "raw", "-k", "{socket}", "--object", _credentials.Object("server", true), "--object", authorization, "--tls-creds", "tls0",
                        "--tls-authz", "a", _image),
                    _folder);
                Assert.True(ToolRunner.Run("nbdinfo", _credentials.CertificateUri(server.Socket)).ExitCode == 0 == good, $"{program} {authorization}\n{server.Log}");
            }
        }
    }

    [Fact]
    public void A_strange_name_is_written_as_qemu_writes_it()
    {
        ToolRunner.RequireOrSkip("nbdinfo", "qemu-nbd");
        MakeStrangeClient();
        using var client = X509CertificateLoader.LoadCertificateFromFile(_credentials["client-cert.pem"]);
        using var server = _credentials.QemuNbd(_image, "raw", _folder, true, "--object", "authz-simple,id=a,identity=somebody", "--tls-authz", "a");
        ToolRunner.Run("nbdinfo", _credentials.CertificateUri(server.Socket)).Expect(1);
        server.Stop();
        Assert.Contains($"authz check for {DistinguishedNameText.Of(client.SubjectName)} is denied", server.Log, StringComparison.Ordinal);
    }

    [Fact]
    public void Certtools_files_are_good_for_us()
    {
        ToolRunner.RequireOrSkip("certtool", "nbdinfo");
        Directory.CreateDirectory(_folder["made"]);
        string Make(string name, string template, params string[] how)
        {
            File.WriteAllText(_folder["template"], template);
            ToolRunner.RunChecked("certtool", "--generate-privkey", "--key-type=rsa", "--bits=2048", "--outfile", _folder[$"made/{name}-key.pem"]);
            ToolRunner.RunChecked(
                "certtool", [.. how, "--load-privkey", _folder[$"made/{name}-key.pem"], "--template", _folder["template"], "--outfile", _folder[$"made/{name}-cert.pem"]]);
            return _folder["made"];
        }

        string[] signed = ["--generate-certificate", "--load-ca-certificate", _folder["made/ca-cert.pem"], "--load-ca-privkey", _folder["made/ca-key.pem"]];
        Make("ca", "cn = An authority\nca\ncert_signing_key\n", "--generate-self-signed");
        Make("server", "organization = Example\ncn = localhost\ndns_name = localhost\ntls_www_server\nsigning_key\n", signed);
        var files = Make("client", "country = GB\norganization = Example\ncn = laptop\ntls_www_client\nsigning_key\n", signed);
        using var server = PeerServer.Start(
            PlatterCli.Command("serve", "-v", "-f", "raw", "-k", "{socket}", $"--tls-certificates={files}", "--tls-authz-dn=C=GB,O=Example,CN=laptop", _image), _folder);
        ToolRunner.RunChecked("nbdinfo", $"nbds+unix:///?socket={server.Socket}&tls-certificates={files}");
    }

    [Fact]
    public void Our_files_are_good_for_the_peers()
    {
        ToolRunner.RequireOrSkip("nbdinfo", "qemu-nbd", "nbdkit");
        foreach (var certificates in new[] { true, false })
        {
            using (var server = _credentials.QemuNbd(_image, "raw", _folder, certificates))
            {
                ToolRunner.RunChecked("nbdinfo", UriOf(server, certificates));
            }

            using (var server = _credentials.Nbdkit(_folder, certificates, "memory", "1M"))
            {
                ToolRunner.RunChecked("nbdinfo", UriOf(server, certificates));
            }
        }
    }

    [Fact]
    public void The_commands_that_nbd_certs_prints_work()
    {
        ToolRunner.RequireOrSkip("nbdinfo");
        var port = FreePort();
        var lines = PlatterCli.RunChecked("nbd", "certs", _folder["new"]).Text.Split('\n');
        var servers = lines.Where(line => line.StartsWith("  platter serve ", StringComparison.Ordinal)).ToList();
        var clients = lines.Where(line => line.StartsWith("  nbdinfo ", StringComparison.Ordinal)).ToList();
        Assert.Equal((2, 2), (servers.Count, clients.Count));
        for (var i = 0; i < servers.Count; i++)
        {
            string[] words = [.. servers[i].Trim().Split(' ')[1..^1], "-f", "raw", "-p", $"{port}", "--fork", "--pid-file", _folder[$"pid{i}"], _image];
            PlatterCli.RunChecked(words);
            try
            {
                ToolRunner.RunChecked("nbdinfo", "--size", clients[i].Trim().Split(' ')[1].Trim('\'').Replace("localhost/", $"localhost:{port}/", StringComparison.Ordinal));
            }
            finally
            {
                ToolRunner.RunChecked("sh", "-c", $"kill {File.ReadAllText(_folder[$"pid{i}"]).Trim()}; while kill -0 {File.ReadAllText(_folder[$"pid{i}"]).Trim()} 2>/dev/null; do sleep 0.05; done");
            }
        }
    }

    [Theory]
    [InlineData("TLS needs --tls-certificates=DIRECTORY or --tls-psk=FILE", "--tls=require")]
    [InlineData("TLS needs --tls-certificates=DIRECTORY or --tls-psk=FILE", "--tls-verify-peer")]
    [InlineData("--tls-certificates, --tls-psk and --tls-creds exclude each other", "--tls-certificates=x", "--tls-psk=y")]
    [InlineData("no/server-cert.pem: there is no such file: the server's certificate is missing", "--tls-certificates=no")]
    [InlineData("no/keys.psk: no such file of pre-shared keys", "--tls-psk=no/keys.psk")]
    [InlineData("--object: tls-creds-x509 'a' is for endpoint=client; endpoint=server is needed", "--object", "tls-creds-x509,id=a,dir=x", "--tls-creds=a")]
    [InlineData("--object: priority 'LEGACY' is not supported: TLS 1.2 and 1.3 with forward secrecy and authenticated encryption are used", "--object", "tls-creds-x509,id=a,dir=x,endpoint=server,priority=LEGACY", "--tls-creds=a")]
    public void What_cannot_be_is_said_in_one_line(string message, params string[] options) =>
        Assert.Equal($"platter: {message}\n", PlatterCli.Run(["serve", .. options, "-f", "raw", _image]).Expect(1).Error);

    private PeerServer Serve(bool certificates, params string[] more)
    {
        string[] tls = certificates ? [$"--tls-certificates={_credentials.Directory}", "--tls-verify-peer"] : [$"--tls-psk={_credentials.KeyFile}"];
        return PeerServer.Start(PlatterCli.Command(["serve", "-v", "-f", "raw", "-k", "{socket}", .. tls, .. more, _image]), _folder);
    }

    private string UriOf(PeerServer server, bool certificates) => certificates ? _credentials.CertificateUri(server.Socket) : _credentials.KeyUri(server.Socket);

    private void MakeStrangeClient()
    {
        var name = new X500DistinguishedNameBuilder();
        name.AddCommonName(" höst,1=2 ");
        name.AddOrganizationalUnitName("#a+b;c<d>e\"f\\g");
        name.AddEmailAddress("a@b.c");
        name.AddDomainComponent("example");
        name.Add("1.2.3.4.5", "custom");
        name.Add("2.5.4.42", "Given");
        name.AddCountryOrRegion("GB");
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        using var authority = X509Certificate2.CreateFromPemFile(_credentials["ca-cert.pem"], _credentials["ca-key.pem"]);
        var request = new CertificateRequest(name.Build(), key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509EnhancedKeyUsageExtension([new Oid("1.3.6.1.5.5.7.3.2")], false));
        using var certificate = request.Create(authority, authority.NotBefore, authority.NotAfter, [1, 2, 3]);
        File.WriteAllText(_credentials["client-cert.pem"], certificate.ExportCertificatePem());
        File.WriteAllText(_credentials["client-key.pem"], key.ExportPkcs8PrivateKeyPem());
    }

    private static int FreePort()
    {
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        socket.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        return ((IPEndPoint)socket.LocalEndPoint!).Port;
    }

    /// <summary>Our server in this process, on a TCP port.</summary>
    private sealed class NbdServerOnTcp : IAsyncDisposable
    {
        private readonly Platter.Nbd.Server.NbdServer _server;

        public NbdServerOnTcp(Disk disk, NbdServerTls tls)
        {
            _server = new(new Dictionary<string, NbdExport> { [string.Empty] = new(disk.Node) }, new NbdServerOptions { Tls = tls });
            _server.Start(new IPEndPoint(IPAddress.Loopback, 0));
        }

        public int Port => ((IPEndPoint)_server.EndPoints[0]).Port;

        public async ValueTask DisposeAsync() => await _server.StopAsync(TimeSpan.FromSeconds(5));
    }
}
