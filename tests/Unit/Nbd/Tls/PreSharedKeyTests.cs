using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Text;
using Platter.Core.Errors;
using Platter.Core.Tls;
using Platter.Host.Tls;
using Platter.Nbd.Tls;
using Platter.Nbd.Wire;
using Platter.Tests.Unit.Nbd.Server;
using Xunit;

namespace Platter.Tests.Unit.Nbd.Tls;

/// <summary>Pre-shared keys: who gets in, and that nobody else learns anything.</summary>
public sealed class PreSharedKeyTests
{
    private static readonly byte[] s_bytes = TestDisks.Pattern(3 << 20);

    /// <summary>Whether TLS 1.2 only.</summary>
    public static TheoryData<bool> Old => [true, false];

    [Theory]
    [MemberData(nameof(Old))]
    public async Task Each_client_gets_in_with_its_own_key(bool old)
    {
        await using var server = Serve();
        foreach (var user in new[] { "qemu", "rich" })
        {
            using var talk = await TlsTalk.OpenAsync(server, NbdClientKey.Load(OpenSslLibrary.Instance, TlsTestFiles.KeyFile, user, Profile(old)), null);
            await talk.GoAsync();
            Assert.Equal(s_bytes[..512], await talk.ReadAsync(0, 512));
            Assert.Equal(s_bytes, await talk.ReadAsync(0, (uint)s_bytes.Length));
        }

        Assert.Empty(server.Log);
    }

    [Theory]
    [MemberData(nameof(Old))]
    public async Task A_wrong_key_stays_outside(bool old)
    {
        await using var server = Serve();
        await AssertOutsideAsync(server, old, "qemu");
        Assert.Equal(["client 1: TLS: the key of 'qemu' is not ours"], server.Log);
    }

    [Theory]
    [MemberData(nameof(Old))]
    public async Task An_unknown_name_stays_outside(bool old)
    {
        await using var server = Serve();
        await AssertOutsideAsync(server, old, "nobody");
        Assert.Equal(["client 1: TLS: there is no key of 'nobody'"], server.Log);
    }

    [Fact]
    public async Task A_name_that_would_paint_the_operators_terminal_is_told_without_its_colours()
    {
        await using var server = Serve();
        const string Name = "\u001b[31mno\u009bbody\u202e";
        var key = Keys($"{Name}:000102030405060708090a0b0c0d0e0f").Get("test", Name);
        var e = await Assert.ThrowsAsync<BlockException>(() => TlsTalk.OpenAsync(server, new NbdClientKey(OpenSslLibrary.Instance, key)));
        Assert.DoesNotContain(e.Message, char.IsControl);
        while (server.Log.Count == 0)
        {
            await Task.Delay(1);
        }

        var line = Assert.Single(server.Log);
        Assert.Contains("there is no key of", line, StringComparison.Ordinal);
        Assert.DoesNotContain(line, c => char.IsControl(c) || c == '\u202e');
    }

    [Theory]
    [MemberData(nameof(Old))]
    public void Without_a_key_nobody_learns_which_names_are_known(bool old)
    {
        var keys = PreSharedKeys.Load(TlsTestFiles.KeyFile);
        Assert.Equal(AnswersTo("qemu"), AnswersTo("nobody"));

        // Kind and length of each record, and the text of alerts.
        string AnswersTo(string user)
        {
            using var server = OpenSslLibrary.Instance.Accept(keys, Profile(old));
            using var client = OpenSslLibrary.Instance.Connect(Keys($"{user}:000102030405060708090a0b0c0d0e0f").Get("test", user), Profile(old));
            var seen = new StringBuilder();
            while (true)
            {
                try
                {
                    client.Handshake();
                }
                catch (BlockException)
                {
                    return seen.ToString();
                }

                Move(client, server);
                try
                {
                    server.Handshake();
                }
                catch (BlockException e)
                {
                    Assert.Equal(BlockErrorKind.AccessDenied, e.Kind);
                }

                for (var records = Move(server, client).AsSpan(); records.Length > 0;)
                {
                    var length = (records[3] << 8) | records[4];
                    seen.Append($"{records[0]}/{length}{(records[0] == 21 ? Convert.ToHexString(records.Slice(5, length)) : string.Empty)} ");
                    records = records[(5 + length)..];
                }
            }
        }
    }

    [Theory]
    [MemberData(nameof(Old))]
    public async Task A_certificate_does_not_take_the_place_of_a_key(bool old)
    {
        await using var server = new ServerFixture(TestDisks.Memory(s_bytes), new() { Tls = TlsTestFiles.Server() });
        var e = await Assert.ThrowsAsync<BlockException>(() => TlsTalk.OpenAsync(server, NbdClientKey.Load(OpenSslLibrary.Instance, TlsTestFiles.KeyFile, profile: Profile(old))));
        Assert.Equal(old ? "TLS: the handshake failed: the peer says: handshake failure" : "TLS: the server shows a certificate and knows no pre-shared keys", e.Message);
    }

    [Theory]
    [MemberData(nameof(Old))]
    public async Task A_client_with_certificates_cannot_do_without_a_key(bool old)
    {
        await using var server = Serve();
        await Assert.ThrowsAsync<BlockException>(() => TlsTalk.OpenAsync(server, TlsTestFiles.Client(versions: Profile(old).Versions)));
        for (var i = 0; i < 1000 && server.Log.Count == 0; i++)
        {
            await Task.Delay(10, TestContext.Current.CancellationToken);
        }

        Assert.Equal(["client 1: TLS: the client has no pre-shared key"], server.Log);
    }

    [Theory]
    [MemberData(nameof(Old))]
    public void Changed_bytes_are_noticed(bool old)
    {
        using var server = OpenSslLibrary.Instance.Accept(PreSharedKeys.Load(TlsTestFiles.KeyFile), Profile(old));
        using var client = OpenSslLibrary.Instance.Connect(PreSharedKeys.Load(TlsTestFiles.KeyFile).Get("test", "qemu"), Profile(old));
        ShakeHands(client, server);
        client.Encrypt("hello"u8);
        var record = client.Output.ToArray();
        record[^1] ^= 1;
        record.CopyTo(server.Input);
        server.Put(record.Length);
        Assert.Equal(BlockErrorKind.Protocol, Assert.Throws<BlockException>(() => server.Decrypt(new byte[10])).Kind);
    }

    [Theory]
    [MemberData(nameof(Old))]
    public void What_is_put_in_comes_out_whatever_the_pieces_are(bool old)
    {
        using var server = OpenSslLibrary.Instance.Accept(PreSharedKeys.Load(TlsTestFiles.KeyFile), Profile(old));
        using var client = OpenSslLibrary.Instance.Connect(PreSharedKeys.Load(TlsTestFiles.KeyFile).Get("test", "qemu"), Profile(old));
        ShakeHands(client, server);
        client.Encrypt(s_bytes.AsSpan(0, 100_000));
        var cipher = client.Output.ToArray();
        client.Sent(cipher.Length);
        Assert.Equal(0, client.Output.Length);
        var result = new byte[100_000];
        var done = 0;
        for (var at = 0; at < cipher.Length; at += 777)
        {
            var piece = cipher.AsSpan(at, Math.Min(777, cipher.Length - at));
            piece.CopyTo(server.Input.Span);
            server.Put(piece.Length);
            while (server.Decrypt(result.AsSpan(done, Math.Min(5000, result.Length - done))) is var count and > 0)
            {
                done += count;
            }
        }

        Assert.Equal(s_bytes[..100_000], result);
        Assert.False(server.IsClosed);
        client.Close();
        Move(client, server);
        Assert.Equal(0, server.Decrypt(new byte[10]));
        Assert.True(server.IsClosed);
    }

    [Fact]
    public async Task The_end_is_said_and_not_only_done()
    {
        using var listener = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        listener.Listen();
        var tls = NbdServerKeys.Load(OpenSslLibrary.Instance, TlsTestFiles.KeyFile);
        var serving = Task.Run(() =>
        {
            using var wire = tls.Accept(new SocketWire(listener.Accept()), TimeSpan.FromSeconds(30));
            wire.Send("bye"u8);
        });
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        await socket.ConnectAsync(listener.LocalEndPoint!);
        using var engine = OpenSslLibrary.Instance.Connect(PreSharedKeys.Load(TlsTestFiles.KeyFile).Get("test", "qemu"), TlsProfile.Default);
        while (!engine.IsClosed)
        {
            if (engine.Handshake())
            {
                engine.Decrypt(new byte[100]);
            }

            engine.Sent(socket.Send(engine.Output.Span));

            if (!engine.IsClosed)
            {
                var got = socket.Receive(engine.Input.Span);
                Assert.True(got > 0, "the end was not said");
                engine.Put(got);
            }
        }

        await serving;
    }

    [Fact]
    public async Task A_wire_that_was_closed_says_so()
    {
        await using var server = Serve();
        var wire = await NbdClientKey.Load(OpenSslLibrary.Instance, TlsTestFiles.KeyFile).ConnectAsync(new(TlsTalk.StartTls(server).Socket), null, default);
        wire.Dispose();
        wire.Dispose();
        await Assert.ThrowsAsync<ObjectDisposedException>(async () => await wire.SendAsync(new byte[1], default));
        await Assert.ThrowsAsync<ObjectDisposedException>(async () => await wire.ReceiveAsync(new byte[1], default));
    }

    [Theory]
    [InlineData("", "holds no keys")]
    [InlineData("\n\n", "holds no keys")]
    [InlineData("qemu", "line 1: expected NAME:KEY")]
    [InlineData(":00112233445566778899aabbccddeeff", "line 1: expected NAME:KEY")]
    [InlineData("qemu:", "line 1: expected NAME:KEY")]
    [InlineData("qemu:001122334455667788", "line 1: expected NAME:KEY")]
    [InlineData("qemu:00112233445566778899aabbccddeef", "line 1: expected NAME:KEY")]
    [InlineData("qemu:00112233445566778899aabbccddeefg", "line 1: expected NAME:KEY")]
    [InlineData("a:00112233445566778899aabbccddeeff\n\nqemu:secret", "line 3: expected NAME:KEY")]
    [InlineData("a:00112233445566778899aabbccddeeff\na:10112233445566778899aabbccddeeff", "line 2: this name has a key already")]
    [InlineData("a:00112233445566778899aabbccddeeff\n#61:10112233445566778899aabbccddeeff", "line 2: this name has a key already")]
    public void What_is_wrong_with_a_file_of_keys_is_told_without_telling_a_key(string text, string expected)
    {
        var e = Assert.Throws<BlockException>(() => Keys(text));
        Assert.StartsWith($"keys: {expected}", e.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("secret", e.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("0011", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Names_are_found_letter_by_letter()
    {
        var keys = Keys("ü:00112233445566778899aabbccddeeff\r\nRich:10112233445566778899AABBCCDDEEFF\n#7a7a:20112233445566778899aabbccddeeff");
        Assert.Equal(0x10, keys.Get("keys", "Rich").Key[0]);
        Assert.Equal(0x00, keys.Get("keys", "ü").Key[0]);
        Assert.Equal(0x20, keys.Get("keys", "zz").Key[0]);
        var e = Assert.Throws<BlockException>(() => keys.Get("keys", "rich"));
        Assert.Equal("keys: there is no key of 'rich'", e.Message);
        Assert.Equal(BlockErrorKind.NotFound, e.Kind);
    }

    private static ServerFixture Serve() => new(TestDisks.Memory(s_bytes), new() { Tls = NbdServerKeys.Load(OpenSslLibrary.Instance, TlsTestFiles.KeyFile) });

    private static TlsProfile Profile(bool old) => new(old ? TlsVersions.Tls12 : TlsVersions.All);

    private static PreSharedKeys Keys(string text) => PreSharedKeys.Parse("keys", Encoding.UTF8.GetBytes(text));

    private static async Task AssertOutsideAsync(ServerFixture server, bool old, string user)
    {
        var key = Keys($"{user}:000102030405060708090a0b0c0d0e0f").Get("test", user);
        var e = await Assert.ThrowsAsync<BlockException>(() => TlsTalk.OpenAsync(server, new NbdClientKey(OpenSslLibrary.Instance, key) { Profile = Profile(old) }));
        Assert.Equal($"TLS: the server does not accept the key of '{user}'", e.Message);
        Assert.Equal(BlockErrorKind.AccessDenied, e.Kind);
        for (var i = 0; i < 1000 && server.Log.Count == 0; i++)
        {
            await Task.Delay(10);
        }
    }

    private static void ShakeHands(TlsEngine client, TlsEngine server)
    {
        for (var (ready, served) = (false, false); !ready || !served;)
        {
            ready = client.Handshake();
            Move(client, server);
            served = server.Handshake();
            Move(server, client);
        }
    }

    private static byte[] Move(TlsEngine from, TlsEngine to)
    {
        var bytes = from.Output.ToArray();
        bytes.CopyTo(to.Input);
        to.Put(bytes.Length);
        from.Sent(bytes.Length);
        return bytes;
    }
}
