using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Platter.Core.Errors;
using Platter.Core.Tls;
using Platter.Host.Tls;
using Platter.Nbd.Protocol;
using Platter.Nbd.Server;
using Platter.Nbd.Tls;
using Platter.Nbd.Wire;
using Platter.Tests.Unit.Nbd.Server;
using Xunit;

namespace Platter.Tests.Unit.Nbd.Tls;

/// <summary>A server with certificates: who gets in, and who is told what. The same whoever does TLS.</summary>
public abstract class ServerCertificatesTests
{
    private static readonly byte[] s_bytes = TestDisks.Pattern(3 << 20);

    public static TheoryData<TlsVersions> Versions => [TlsVersions.Tls12, TlsVersions.Tls13];

    /// <summary>Who does TLS.</summary>
    protected abstract TlsLibrary? Library { get; }

    private NbdServerCertificateOptions Verifying => new() { Library = Library };

    private NbdServerCertificateOptions Careless => Verifying with { VerifyPeer = false };

    [Theory]
    [MemberData(nameof(Versions))]
    public async Task A_client_with_a_good_certificate_reads(TlsVersions version)
    {
        await using var server = Serve(TlsTestFiles.Server(Verifying));
        using var talk = await TlsTalk.OpenAsync(server, TlsTestFiles.Client(Library, version));
        await talk.GoAsync();
        Assert.Equal(s_bytes[..512], await talk.ReadAsync(0, 512));
        Assert.Equal(s_bytes, await talk.ReadAsync(0, (uint)s_bytes.Length));
        Assert.Empty(server.Log);
    }

    [Fact]
    public async Task Pipelined_requests_are_all_answered()
    {
        await using var server = Serve(TlsTestFiles.Server(Careless));
        using var talk = await TlsTalk.OpenAsync(server, TlsTestFiles.Client(Library));
        await talk.GoAsync();
        const int Count = 1000;
        var requests = Enumerable.Range(0, Count).SelectMany(i => RawClient.Request(NbdCommand.Read, (ulong)i * 512, 512, (ulong)i)).ToArray();
        var sending = talk.SendAsync(requests);
        for (var i = 0; i < Count; i++)
        {
            var reply = NbdSimpleReply.Parse(await talk.ReceiveAsync(NbdSimpleReply.Size));
            Assert.Equal(s_bytes[(int)(reply.Cookie * 512)..(int)((reply.Cookie * 512) + 512)], await talk.ReceiveAsync(512));
        }

        await sending;
    }

    [Fact]
    public async Task A_server_of_another_authority_is_refused()
    {
        await using var server = Serve(NbdServerCertificates.Load(TlsTestFiles.Others, Careless));
        var e = await Assert.ThrowsAsync<BlockException>(() => TlsTalk.OpenAsync(server, TlsTestFiles.Client(Library)));
        Assert.Equal(BlockErrorKind.AccessDenied, e.Kind);
        Assert.Matches("^TLS: the server's certificate 'O=Platter test,CN=disks.example.org' is not signed by an authority of .*ca-cert.pem$", e.Message);
    }

    [Theory]
    [InlineData("localhost", true)]
    [InlineData("127.0.0.1", true)]
    [InlineData("::1", true)]
    [InlineData("disks.example.org", true)]
    [InlineData("DISKS.example.org", true)]
    [InlineData(null, true)]
    [InlineData("example.org", false)]
    [InlineData("127.0.0.2", false)]
    [InlineData("-disks.example.org", false)]
    [InlineData("disks.example.org.example.com", false)]
    public async Task The_name_of_the_server_counts(string? host, bool good)
    {
        await using var server = Serve(TlsTestFiles.Server(Careless));
        if (good)
        {
            using var talk = await TlsTalk.OpenAsync(server, TlsTestFiles.Client(Library), host);
            await talk.GoAsync();
            return;
        }

        var e = await Assert.ThrowsAsync<BlockException>(() => TlsTalk.OpenAsync(server, TlsTestFiles.Client(Library), host));
        Assert.Equal(BlockErrorKind.AccessDenied, e.Kind);
        Assert.EndsWith($"is for disks.example.org, localhost, 127.0.0.1, ::1 and not for '{host}'", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_client_that_does_not_want_to_know_takes_any_server()
    {
        await using var server = Serve(NbdServerCertificates.Load(TlsTestFiles.Others, Careless));
        using var talk = await TlsTalk.OpenAsync(server, NbdClientCertificates.Load(TlsTestFiles.Ours, new() { VerifyPeer = false, Library = Library }), "example.org");
        await talk.GoAsync();
    }

    [Theory]
    [MemberData(nameof(Versions))]
    public async Task A_client_without_a_certificate_stays_outside(TlsVersions version)
    {
        await using var server = Serve(TlsTestFiles.Server(Verifying));
        var client = NbdClientCertificates.Load(TlsTestFiles.Copy(TlsTestFiles.Ours, "ca-cert.pem"), new() { Library = Library, Profile = new(version) });
        await AssertOutsideAsync(server, client);
        Assert.Equal(["client 1: TLS: the client has sent no certificate"], server.Log);
    }

    [Theory]
    [MemberData(nameof(Versions))]
    public async Task A_client_of_another_authority_stays_outside(TlsVersions version)
    {
        await using var server = Serve(TlsTestFiles.Server(Verifying));
        var files = TlsTestFiles.Copy(TlsTestFiles.Others, "client-cert.pem", "client-key.pem");
        File.Copy(Path.Combine(TlsTestFiles.Ours, "ca-cert.pem"), Path.Combine(files, "ca-cert.pem"));
        await AssertOutsideAsync(server, NbdClientCertificates.Load(files, new() { Library = Library, Profile = new(version), CheckOwn = false }));
        Assert.StartsWith("client 1: TLS: the client's certificate 'O=Platter test,CN=client' is not signed by an authority of ", Assert.Single(server.Log), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_servers_certificate_is_no_clients()
    {
        await using var server = Serve(TlsTestFiles.Server(Verifying));
        var files = TlsTestFiles.Copy(TlsTestFiles.Ours, "ca-cert.pem", "server-cert.pem", "server-key.pem");
        File.Move(Path.Combine(files, "server-cert.pem"), Path.Combine(files, "client-cert.pem"));
        File.Move(Path.Combine(files, "server-key.pem"), Path.Combine(files, "client-key.pem"));
        await AssertOutsideAsync(server, NbdClientCertificates.Load(files, new() { CheckOwn = false, Library = Library }));
        Assert.EndsWith("is not meant for this purpose", Assert.Single(server.Log), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Only_the_client_that_was_named_gets_in()
    {
        await using (var server = Serve(TlsTestFiles.Server(Verifying with { Authorization = static () => NbdAuthorization.Only(NbdTestCredentials.ClientName) })))
        {
            using var talk = await TlsTalk.OpenAsync(server, TlsTestFiles.Client(Library));
            await talk.GoAsync();
        }

        await using (var server = Serve(TlsTestFiles.Server(Verifying with { Authorization = static () => NbdAuthorization.Only("O=Platter test,CN=another") })))
        {
            await AssertOutsideAsync(server, TlsTestFiles.Client(Library));
            Assert.Equal(["client 1: TLS: the client 'O=Platter test,CN=client' is not authorised"], server.Log);
        }
    }

    [Fact]
    public async Task Who_was_told_no_before_may_be_told_yes_now()
    {
        var allowed = false;
        await using var server = Serve(TlsTestFiles.Server(Verifying with { Authorization = () => new NbdAuthorization([], allowed) }));
        await AssertOutsideAsync(server, TlsTestFiles.Client(Library));
        allowed = true;
        using var talk = await TlsTalk.OpenAsync(server, TlsTestFiles.Client(Library));
        await talk.GoAsync();
    }

    [Theory]
    [InlineData(TlsVersions.Tls12, TlsVersions.Tls12, true)]
    [InlineData(TlsVersions.Tls13, TlsVersions.Tls13, true)]
    [InlineData(TlsVersions.All, TlsVersions.Tls12, true)]
    [InlineData(TlsVersions.Tls13, TlsVersions.Tls12, false)]
    [InlineData(TlsVersions.Tls12, TlsVersions.Tls13, false)]
    public async Task Both_kinds_of_peers_agree_on_a_version_or_say_why_not(TlsVersions ours, TlsVersions theirs, bool expected)
    {
        // The other one of the two, whichever this is.
        TlsLibrary? other = Library is null ? OpenSslLibrary.Instance : null;
        await using var server = Serve(TlsTestFiles.Server(Verifying with { Profile = new(ours) }));
        if (expected)
        {
            using var talk = await TlsTalk.OpenAsync(server, TlsTestFiles.Client(other, theirs));
            await talk.GoAsync();
            Assert.Equal(s_bytes, await talk.ReadAsync(0, (uint)s_bytes.Length));
            return;
        }

        var e = await Assert.ThrowsAsync<BlockException>(() => TlsTalk.OpenAsync(server, TlsTestFiles.Client(other, theirs)));
        Assert.Equal("TLS: the peer ends the handshake: protocol version", e.Message);
        await WaitForLogAsync(server);
        Assert.Equal("client 1: TLS: the handshake failed: unsupported protocol", Assert.Single(server.Log));
    }

    [Fact]
    public async Task A_client_that_was_refused_hears_why()
    {
        // Of TLS 1.3: it is through before the server looks at its certificate.
        await using var server = Serve(TlsTestFiles.Server(Verifying));
        var client = NbdClientCertificates.Load(TlsTestFiles.Copy(TlsTestFiles.Ours, "ca-cert.pem"), new() { Library = OpenSslLibrary.Instance, Profile = new(TlsVersions.Tls13) });
        using var talk = await TlsTalk.OpenAsync(server, client);
        await WaitForLogAsync(server);
        var e = await Assert.ThrowsAnyAsync<Exception>(() => talk.GoAsync());

        // SslStream has no words for it.
        Assert.Equal(Library is null ? "closed after 0 of 20 bytes" : "TLS: the peer says: certificate required", e.Message);
    }

    [Fact]
    public async Task Certificates_in_between_are_sent_by_whoever_has_them()
    {
        var files = TlsTestFiles.Copy(TlsTestFiles.Ours);
        using var rootKey = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var rootRequest = new CertificateRequest("CN=Root", rootKey, HashAlgorithmName.SHA256);
        rootRequest.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        using var root = rootRequest.CreateSelfSigned(DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddDays(1));
        File.WriteAllText(Path.Combine(files, "ca-cert.pem"), root.ExportCertificatePem());
        using var issuerKey = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest("CN=Between", issuerKey, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        using var issuer = request.Create(root, root.NotBefore, root.NotAfter, [1, 2, 3, 4]).CopyWithPrivateKey(issuerKey);
        foreach (var (name, purpose) in new[] { ("server", "1.3.6.1.5.5.7.3.1"), ("client", "1.3.6.1.5.5.7.3.2") })
        {
            using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
            var leaf = new CertificateRequest($"CN={name}", key, HashAlgorithmName.SHA256);
            leaf.CertificateExtensions.Add(new X509EnhancedKeyUsageExtension([new Oid(purpose)], false));
            var names = new SubjectAlternativeNameBuilder();
            names.AddDnsName("localhost");
            leaf.CertificateExtensions.Add(names.Build());
            using var certificate = leaf.Create(issuer, root.NotBefore, root.NotAfter, [5, 6, 7, (byte)name[0]]);
            File.WriteAllText(Path.Combine(files, $"{name}-cert.pem"), $"{certificate.ExportCertificatePem()}\n{issuer.ExportCertificatePem()}\n");
            File.WriteAllText(Path.Combine(files, $"{name}-key.pem"), key.ExportPkcs8PrivateKeyPem());
        }

        await using var server = Serve(NbdServerCertificates.Load(files, Verifying));
        using var talk = await TlsTalk.OpenAsync(server, NbdClientCertificates.Load(files, new() { Library = Library }));
        await talk.GoAsync();
        Assert.Empty(server.Log);

        // Without the one in between nobody is known.
        var path = Path.Combine(files, "client-cert.pem");
        var text = File.ReadAllText(path);
        File.WriteAllText(path, text[..text.IndexOf("-----BEGIN", 10, StringComparison.Ordinal)]);
        await AssertOutsideAsync(server, NbdClientCertificates.Load(files, new() { Library = Library, CheckOwn = false }));
        Assert.Contains("'CN=client' is not signed by an authority of ", Assert.Single(server.Log), StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_end_is_said_and_not_only_done()
    {
        await using var server = Serve(TlsTestFiles.Server(Careless));
        using var client = TlsTalk.StartTls(server);
        await using var seen = new RecordingStream(new NetworkStream(client.Socket));
        await using var ssl = new SslStream(seen);
        await ssl.AuthenticateAsClientAsync(TlsTestFiles.Careless(SslProtocols.Tls12));
        using var talk = TlsTalk.Over(ssl);
        await talk.GoAsync();
        seen.Received.SetLength(0);
        await talk.SendAsync(RawClient.Request(NbdCommand.Disconnect, 0, 0));
        Assert.True(await talk.IsClosedAsync());

        // An alert, encrypted; in 1.2 one can see that it is one.
        Assert.Equal(0x15, seen.Received.ToArray()[0]);
        Assert.Empty(server.Log);
    }

    [Fact]
    public async Task Bytes_that_were_changed_on_their_way_end_the_connection()
    {
        await using var server = Serve(TlsTestFiles.Server(Careless));
        using var client = TlsTalk.StartTls(server);
        await using var seen = new RecordingStream(new NetworkStream(client.Socket));
        await using var ssl = new SslStream(seen);
        await ssl.AuthenticateAsClientAsync(TlsTestFiles.Careless());
        using var talk = TlsTalk.Over(ssl);
        await talk.GoAsync();
        seen.Spoil = true;
        await talk.SendAsync(RawClient.Request(NbdCommand.Read, 0, 512));
        Assert.True(await talk.IsClosedAsync());
        Assert.StartsWith("client 1: TLS: ", Assert.Single(server.Log), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_client_that_is_gone_without_a_word_is_an_ordinary_end()
    {
        await using var server = Serve(TlsTestFiles.Server(Careless));
        using (var client = TlsTalk.StartTls(server))
        {
            await using var ssl = new SslStream(new NetworkStream(client.Socket), leaveInnerStreamOpen: true);
            await ssl.AuthenticateAsClientAsync(TlsTestFiles.Careless());
            await TlsTalk.Over(ssl).GoAsync();
            client.Socket.Shutdown(SocketShutdown.Send);
            Assert.Equal(0, await ssl.ReadAsync(new byte[1], TestContext.Current.CancellationToken));
        }

        Assert.Empty(server.Log);
    }

    private static ServerFixture Serve(NbdServerTls tls) => new(TestDisks.Memory(s_bytes), new() { Tls = tls });

    // Of TLS 1.3 a client hears only after its own side is done, and not always with an alert.
    private static async Task AssertOutsideAsync(ServerFixture server, NbdClientCertificates client)
    {
        try
        {
            using var talk = await TlsTalk.OpenAsync(server, client);
            await talk.GoAsync();
            Assert.Fail("it got in");
        }
        catch (Exception e) when (e is BlockException or SocketException or EndOfStreamException)
        {
        }

        await WaitForLogAsync(server);
    }

    private static async Task WaitForLogAsync(ServerFixture server)
    {
        for (var i = 0; i < 1000 && server.Log.Count == 0; i++)
        {
            await Task.Delay(10);
        }
    }

    /// <summary>Keeps what is received, and may spoil what is sent.</summary>
    private sealed class RecordingStream(Stream inner) : Stream
    {
        public MemoryStream Received { get; } = new();

        public bool Spoil { get; set; }

        public override bool CanRead => true;

        public override bool CanWrite => true;

        public override bool CanSeek => false;

        public override long Length => throw new NotSupportedException();

        public override long Position
        {
            get => throw new NotSupportedException();
            set => throw new NotSupportedException();
        }

        public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            var count = await inner.ReadAsync(buffer, cancellationToken);
            Received.Write(buffer.Span[..count]);
            return count;
        }

        public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
        {
            var bytes = buffer.ToArray();
            if (Spoil)
            {
                bytes[^1] ^= 1;
            }

            return inner.WriteAsync(bytes, cancellationToken);
        }

        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => WriteAsync(buffer.AsMemory(offset, count)).AsTask().GetAwaiter().GetResult();

        public override void Flush()
        {
        }

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();
    }
}
