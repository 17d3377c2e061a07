using System.Net.Security;
using System.Net.Sockets;
using Platter.Core.Errors;
using Platter.Core.Tls;
using Platter.Host.Tls;
using Platter.Nbd.Client;
using Platter.Nbd.Protocol;
using Platter.Nbd.Server;
using Platter.Nbd.Tls;
using Platter.TestKit;
using Platter.Tests.Unit.Nbd.Server;
using Xunit;

namespace Platter.Tests.Unit.Nbd.Tls;

/// <summary>STARTTLS and what is said around it, with both kinds of credentials.</summary>
public sealed class StartTlsTests
{
    private static readonly byte[] s_bytes = TestDisks.Pattern(1 << 20);

    /// <summary>Credentials, and who does TLS.</summary>
    public enum Kind
    {
        Certificates,
        CertificatesByNet,
        Keys,
    }

    public static TheoryData<Kind> Kinds => [Kind.Certificates, Kind.CertificatesByNet, Kind.Keys];

    [Theory]
    [MemberData(nameof(Kinds))]
    public async Task Before_it_a_server_that_demands_it_tells_nothing(Kind kind)
    {
        await using var server = Serve(kind);
        using var client = server.Connect();
        client.Greet();
        byte[] name = new NbdExportQuery(string.Empty, 0).ToArray();
        foreach (var (option, data) in new[]
        {
            (NbdOption.List, []), (NbdOption.Info, name), (NbdOption.Go, name), (NbdOption.StructuredReply, []), (NbdOption.ExtendedHeaders, []),
            (NbdOption.ListMetaContext, new NbdMetaContextQuery(string.Empty, []).ToArray()), (NbdOption.SetMetaContext, name), ((NbdOption)77, [1]),
        })
        {
            client.SendOption(option, data);
            Assert.Equal([NbdOptionReplyType.ErrTlsRequired], client.ReceiveOptionReplies());
        }

        client.SendOption(NbdOption.ExportName, []);
        Assert.True(client.IsClosed());
        for (var i = 0; i < 1000 && server.Log.Count == 0; i++)
        {
            await Task.Delay(10, TestContext.Current.CancellationToken);
        }

        Assert.Equal(["client 1: the client does not encrypt, which this server demands"], server.Log);
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public async Task A_server_that_offers_it_serves_without_as_well(Kind kind)
    {
        await using var server = Serve(kind, isRequired: false);
        using (var client = server.Open(structured: false))
        {
            Assert.Equal(s_bytes[..512], client.ReadSimple(0, 512));
        }

        using var talk = await OpenAsync(server, kind);
        await talk.GoAsync();
        Assert.Equal(s_bytes[..512], await talk.ReadAsync(0, 512));
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public async Task What_was_agreed_in_plain_text_is_forgotten(Kind kind)
    {
        await using var server = Serve(kind, isRequired: false);
        var client = server.Connect();
        client.Greet();
        client.SendOption(NbdOption.StructuredReply, []);
        Assert.Equal([NbdOptionReplyType.Ack], client.ReceiveOptionReplies());
        client.SendOption(NbdOption.SetMetaContext, new NbdMetaContextQuery(string.Empty, ["base:allocation"]).ToArray());
        Assert.Equal([NbdOptionReplyType.MetaContext, NbdOptionReplyType.Ack], client.ReceiveOptionReplies());
        client.SendOption(NbdOption.StartTls, []);
        Assert.Equal([NbdOptionReplyType.Ack], client.ReceiveOptionReplies());
        using var talk = TlsTalk.Over(await ClientTls(kind).ConnectAsync(new(client.Socket), "localhost", TestContext.Current.CancellationToken));
        Assert.Equal(NbdTransmissionFlags.None, await talk.GoAsync() & NbdTransmissionFlags.SendDf);
        Assert.Equal(s_bytes[..512], await talk.ReadAsync(0, 512));
        await talk.SendAsync(RawClient.Request(NbdCommand.BlockStatus, 0, 512));
        Assert.Equal(NbdError.Inval, NbdSimpleReply.Parse(await talk.ReceiveAsync(NbdSimpleReply.Size)).Error);
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public async Task Twice_is_an_error_and_no_end(Kind kind)
    {
        await using var server = Serve(kind);
        using var talk = await OpenAsync(server, kind);
        Assert.Equal(NbdOptionReplyType.ErrInvalid, Assert.Single(await talk.AskAsync(NbdOption.StartTls, [])).Type);
        await talk.GoAsync();
        Assert.Equal(s_bytes[..512], await talk.ReadAsync(0, 512));
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public async Task Plain_text_behind_it_is_not_taken_for_encrypted(Kind kind)
    {
        await using var server = Serve(kind);
        using var client = server.Connect();
        client.Greet();
        byte[] Option(NbdOption option)
        {
            var bytes = new byte[NbdOptionHeader.Size];
            new NbdOptionHeader(option, 0).WriteTo(bytes);
            return bytes;
        }

        client.Socket.Send([.. Option(NbdOption.StartTls), .. Option(NbdOption.StructuredReply), .. Option(NbdOption.List)]);
        Assert.Equal([NbdOptionReplyType.Ack], client.ReceiveOptionReplies());

        // At most an alert, and nothing that answers an option.
        var rest = ReceiveAll(client);
        Assert.True(rest.Length == 0 || (rest[0] == 0x15 && rest.Length == 7), Convert.ToHexString(rest));
        Assert.StartsWith("client 1: TLS: ", Assert.Single(server.Log), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(Kind.Certificates, 0x0301)]
    [InlineData(Kind.Certificates, 0x0302)]
    [InlineData(Kind.CertificatesByNet, 0x0301)]
    [InlineData(Kind.CertificatesByNet, 0x0302)]
    [InlineData(Kind.Keys, 0x0301)]
    [InlineData(Kind.Keys, 0x0302)]
    public async Task Old_versions_are_refused(Kind kind, int version)
    {
        await using var server = Serve(kind);
        using var client = TlsTalk.StartTls(server);
        client.Socket.Send(Hello(version));
        var rest = ReceiveAll(client);

        // Fatal: protocol_version.
        Assert.Equal([0x02, 70], rest[^2..]);
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public async Task A_client_may_close_at_any_byte_of_its_hello(Kind kind)
    {
        await using var server = Serve(kind);
        var hello = Hello(0x0303);
        for (var count = 0; count <= hello.Length; count += count < 12 ? 1 : 7)
        {
            using var client = TlsTalk.StartTls(server);
            client.Socket.Send(hello.AsSpan(0, count));
            client.Socket.Shutdown(SocketShutdown.Send);
            Assert.True(client.IsClosed(), $"after {count} bytes");
        }

        Assert.All(server.Log, line => Assert.Matches("^client [0-9]+: TLS: ", line));
        using var talk = await OpenAsync(server, kind);
        await talk.GoAsync();
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public async Task A_client_that_says_nothing_is_cut(Kind kind)
    {
        await using var server = Serve(kind, timeout: 300);
        using var client = TlsTalk.StartTls(server);
        Assert.True(client.IsClosed());
        Assert.Equal(["client 1: TLS: the handshake took too long"], server.Log);
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public async Task A_client_that_sends_drop_by_drop_is_cut(Kind kind)
    {
        await using var server = Serve(kind, timeout: 500);
        using var client = TlsTalk.StartTls(server);

        // A record of 16 KiB: at this pace it would take a quarter of an hour.
        using var stop = new CancellationTokenSource();
        var dripping = Task.Run(async () =>
        {
            byte[] drop = [0x16, 0x03, 0x01, 0x3f, 0xff, 0x01, 0x00, 0x3f, 0xfb, 0x03, 0x03];
            for (var i = 0; !stop.IsCancellationRequested; i++)
            {
                client.Socket.Send([i < drop.Length ? drop[i] : (byte)0]);
                await Task.Delay(50);
            }
        });
        Assert.True(client.IsClosed());
        stop.Cancel();
        await Assert.ThrowsAnyAsync<SocketException>(async () =>
        {
            await dripping;
            throw new SocketException();
        });
        Assert.Equal(["client 1: TLS: the handshake took too long"], server.Log);
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public async Task An_encrypted_client_that_sends_half_a_record_is_cut_as_well(Kind kind)
    {
        await using var server = Serve(kind, timeout: 500);
        var client = TlsTalk.StartTls(server);
        using var talk = TlsTalk.Over(await ClientTls(kind).ConnectAsync(new(client.Socket), "localhost", TestContext.Current.CancellationToken));
        client.Socket.Send([0x17, 0x03, 0x03, 0x10, 0x00, 1, 2, 3]);
        Assert.True(await talk.IsClosedAsync());
    }

    [Theory]
    [InlineData(Kind.Certificates, 0x0301)]
    [InlineData(Kind.Certificates, 0x0302)]
    [InlineData(Kind.CertificatesByNet, 0x0302)]
    [InlineData(Kind.Keys, 0x0301)]
    [InlineData(Kind.Keys, 0x0302)]
    public async Task A_server_that_chooses_an_old_version_is_refused_by_our_client(Kind kind, int version)
    {
        using var folder = new TempFolder("old");
        using var listening = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        listening.Bind(new UnixDomainSocketEndPoint(folder["s"]));
        listening.Listen();
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        socket.Connect(new UnixDomainSocketEndPoint(folder["s"]));
        using var peer = listening.Accept();
        byte[] hello = [(byte)(version >> 8), (byte)version, .. new byte[32], 0, 0xc0, 0x2f, 0];
        peer.Send([0x16, 0x03, 0x01, 0, (byte)(hello.Length + 4), 0x02, 0, 0, (byte)hello.Length, .. hello]);
        var e = await Assert.ThrowsAsync<BlockException>(
            async () => await ClientTls(kind).ConnectAsync(new(socket), "localhost", TestContext.Current.CancellationToken));
        Assert.Contains("TLS", e.Message, StringComparison.Ordinal);
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public async Task A_write_that_was_cut_off_fails_with_its_flush_and_is_never_taken_for_done(Kind kind)
    {
        var slow = new TestDisks.SlowStorage(s_bytes);
        await using var node = TestDisks.Raw(slow, s_bytes.Length);
        await using var server = new ServerFixture(new NbdExport(node) { IsWritable = true }, new()
        {
            Tls = kind == Kind.Keys ? NbdServerKeys.Load(OpenSslLibrary.Instance, TlsTestFiles.KeyFile, isRequired: true) : TlsTestFiles.Server(new() { VerifyPeer = false, Library = LibraryOf(kind) }),
        });
        await using var client = await NbdStorage.OpenAsync(
            NbdAddress.ForSocket(server.SocketPath), new() { Writable = true, Connections = 1, Tls = ClientTls(kind), TlsHostName = "localhost" },
            TestContext.Current.CancellationToken);
        var writing = client.WriteAsync(new(512), new byte[512], TestContext.Current.CancellationToken).AsTask();
        while (slow.Waiting == 0)
        {
            await Task.Delay(1);
        }

        // The stream ends between two records, without a goodbye: only the reply itself counts.
        await server.Server.StopAsync(TimeSpan.Zero);
        await Assert.ThrowsAsync<BlockException>(async () => await writing);
        await Assert.ThrowsAsync<BlockException>(async () => await client.FlushAsync(TestContext.Current.CancellationToken));
        slow.LetGo();
    }

    [Fact]
    public async Task A_server_ends_while_clients_stand_in_their_handshakes()
    {
        var server = Serve(Kind.Certificates);
        var clients = Enumerable.Range(0, 20).Select(_ => TlsTalk.StartTls(server)).ToList();
        await server.DisposeAsync();
        Assert.All(clients, client => Assert.True(client.IsClosed()));
        clients.ForEach(client => client.Dispose());
    }

    [Fact]
    public async Task Without_credentials_it_is_refused_for_good()
    {
        await using var server = new ServerFixture(TestDisks.Memory(s_bytes));
        using var client = server.Connect();
        client.Greet();
        client.SendOption(NbdOption.StartTls, []);
        Assert.Equal([NbdOptionReplyType.ErrPolicy], client.ReceiveOptionReplies());
    }

    private static ServerFixture Serve(Kind kind, bool isRequired = true, int timeout = 10_000) => new(TestDisks.Memory(s_bytes), new()
    {
        HandshakeTimeout = TimeSpan.FromMilliseconds(timeout),
        Tls = kind == Kind.Keys ? NbdServerKeys.Load(OpenSslLibrary.Instance, TlsTestFiles.KeyFile, isRequired)
            : TlsTestFiles.Server(new() { VerifyPeer = false, IsRequired = isRequired, Library = LibraryOf(kind) }),
    });

    private static NbdClientTls ClientTls(Kind kind) =>
        kind == Kind.Keys ? NbdClientKey.Load(OpenSslLibrary.Instance, TlsTestFiles.KeyFile) : TlsTestFiles.Client(LibraryOf(kind));

    private static TlsLibrary? LibraryOf(Kind kind) => kind == Kind.CertificatesByNet ? null : OpenSslLibrary.Instance;

    private static Task<TlsTalk> OpenAsync(ServerFixture server, Kind kind) => TlsTalk.OpenAsync(server, ClientTls(kind));

    /// <summary>A ClientHello of TLS 1.2 or before (RFC 5246, 7.4.1.2) with usual suites of all kinds.</summary>
    private static byte[] Hello(int version)
    {
        byte[] body =
        [
            (byte)(version >> 8), (byte)version, .. new byte[32], 0,
            0, 12, 0xc0, 0x2b, 0xc0, 0x2f, 0xcc, 0xac, 0x00, 0xab, 0x00, 0x2f, 0xc0, 0x09, 1, 0,
            0, 18, 0x00, 0x0a, 0x00, 0x04, 0x00, 0x02, 0x00, 0x17, 0x00, 0x0d, 0x00, 0x06, 0x00, 0x04, 0x04, 0x03, 0x04, 0x01,
        ];
        return [0x16, 0x03, 0x01, 0, (byte)(body.Length + 4), 0x01, 0, 0, (byte)body.Length, .. body];
    }

    private static byte[] ReceiveAll(RawClient client)
    {
        var all = new MemoryStream();
        var part = new byte[4096];
        try
        {
            while (client.Socket.Receive(part) is var count and > 0)
            {
                all.Write(part, 0, count);
            }
        }
        catch (SocketException)
        {
            // Reset: it did not read what we sent.
        }

        return all.ToArray();
    }
}
