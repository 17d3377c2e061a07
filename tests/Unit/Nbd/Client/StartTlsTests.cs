using Platter.Core.Errors;
using Platter.Core.Units;
using Platter.Nbd.Client;
using Platter.Nbd.Protocol;
using Platter.Nbd.Tls;
using Platter.Nbd.Wire;
using Xunit;

namespace Platter.Tests.Unit.Nbd.Client;

/// <summary>Encryption is had or the connection fails: there is no way to talk a client out of it (CVE-2019-14842), nor to put words in its ear before (CVE-2021-3716).</summary>
public sealed class StartTlsTests
{
    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Everything_is_negotiated_behind_the_encryption()
    {
        var options = new List<NbdOption>();
        await using var server = new ScriptedServer(async peer =>
        {
            await peer.GreetAsync();
            var (option, data) = await peer.ReadOptionAsync();
            Assert.Empty(data);
            options.Add(option);
            await peer.ReplyAsync(option, NbdOptionReplyType.Ack);
            Assert.Equal("hello"u8.ToArray(), await peer.ReceiveAsync(5));
            (option, _) = await peer.ReadOptionAsync();
            options.Add(option);
            await peer.ReplyAsync(option, NbdOptionReplyType.ErrUnsup);
            (option, _) = await peer.ReadOptionAsync();
            await peer.ReplyAsync(option, NbdOptionReplyType.Info, ScriptedPeer.ExportInfo(1 << 20));
            await peer.ReplyAsync(option, NbdOptionReplyType.Ack);
            peer.Style = NbdHeaderStyle.Simple;
            var request = await peer.ReadRequestAsync();
            await peer.SimpleAsync(request.Cookie, NbdError.None, new byte[512]);
            await peer.WaitForEndAsync();
        });
        var tls = new FakeTls();
        await using var storage = await OpenAsync(server, tls);
        Assert.Equal(512, await storage.ReadAsync(HostOffset.Zero, new byte[512], Cancel));
        Assert.Equal([NbdOption.StartTls, NbdOption.StructuredReply], options);
        Assert.Equal("a.host", tls.HostName);
    }

    [Theory]
    [InlineData((uint)NbdOptionReplyType.ErrUnsup)]
    [InlineData((uint)NbdOptionReplyType.ErrPolicy)]
    [InlineData((uint)NbdOptionReplyType.ErrInvalid)]
    [InlineData((uint)NbdOptionReplyType.ErrPlatform)]
    [InlineData((uint)NbdOptionReplyType.ErrShutdown)]
    [InlineData(0x8000_7777)]
    [InlineData((uint)NbdOptionReplyType.Info)]
    [InlineData(0u)]
    public async Task Any_answer_but_yes_is_the_end(uint answer)
    {
        var said = 0;
        await using var server = new ScriptedServer(async peer =>
        {
            await peer.GreetAsync();
            var (option, _) = await peer.ReadOptionAsync();
            await peer.ReplyAsync(option, (NbdOptionReplyType)answer);
            while (true)
            {
                (option, _) = await peer.ReadOptionAsync();
                if (option != NbdOption.Abort)
                {
                    Interlocked.Increment(ref said);
                }
            }
        });
        var tls = new FakeTls();
        await Assert.ThrowsAnyAsync<BlockException>(async () => await OpenAsync(server, tls));
        Assert.Equal(0, said);
        Assert.False(tls.WasUsed);
    }

    [Fact]
    public async Task A_yes_with_data_or_followed_by_plain_text_is_the_end()
    {
        foreach (var isBehind in new[] { false, true })
        {
            await using var server = new ScriptedServer(async peer =>
            {
                await peer.GreetAsync();
                var (option, _) = await peer.ReadOptionAsync();
                if (isBehind)
                {
                    var ack = new byte[NbdOptionReplyHeader.Size];
                    new NbdOptionReplyHeader(option, NbdOptionReplyType.Ack, 0).WriteTo(ack);
                    await peer.SendAsync([.. ack, .. ack]);
                }
                else
                {
                    await peer.ReplyAsync(option, NbdOptionReplyType.Ack, 1, 2, 3);
                }

                await peer.WaitForEndAsync();
            });
            var tls = new FakeTls();
            var e = await Assert.ThrowsAsync<BlockException>(async () => await OpenAsync(server, tls));
            Assert.Equal(BlockErrorKind.Protocol, e.Kind);
            Assert.False(tls.WasUsed);
        }
    }

    [Fact]
    public async Task A_handshake_too_old_for_options_cannot_encrypt()
    {
        await using var server = new ScriptedServer(async peer =>
        {
            await peer.GreetAsync(NbdHandshakeFlags.NoZeroes);
            await peer.WaitForEndAsync();
        });
        var e = await Assert.ThrowsAsync<BlockException>(async () => await OpenAsync(server, new FakeTls()));
        Assert.Contains("too old for TLS", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_failed_encryption_is_told_as_it_is_and_leaves_no_connection()
    {
        var ended = new TaskCompletionSource();
        await using var server = new ScriptedServer(async peer =>
        {
            await peer.GreetAsync();
            var (option, _) = await peer.ReadOptionAsync();
            await peer.ReplyAsync(option, NbdOptionReplyType.Ack);
            try
            {
                await peer.ReceiveAsync(1);
            }
            finally
            {
                ended.SetResult();
            }
        });
        var e = await Assert.ThrowsAsync<BlockException>(async () => await OpenAsync(server, new FakeTls { Fails = true }));
        Assert.Equal(BlockErrorKind.AccessDenied, e.Kind);
        await ended.Task.WaitAsync(TimeSpan.FromSeconds(30), Cancel);
    }

    private static ValueTask<NbdStorage> OpenAsync(ScriptedServer server, NbdClientTls tls) =>
        NbdStorage.OpenAsync(server.Address, new NbdClientOptions { Tls = tls, TlsHostName = "a.host" }, Cancel);

    /// <summary>Says hello, and then encrypts nothing.</summary>
    private sealed class FakeTls : NbdClientTls
    {
        public bool Fails { get; init; }

        public bool WasUsed { get; private set; }

        public string? HostName { get; private set; }

        internal override async ValueTask<NbdWire> ConnectAsync(SocketWire wire, string? hostName, CancellationToken cancellationToken)
        {
            (WasUsed, HostName) = (true, hostName);
            if (Fails)
            {
                throw new BlockException(BlockErrorKind.AccessDenied, "not whom we want");
            }

            await wire.SendAsync("hello"u8.ToArray(), cancellationToken);
            return wire;
        }
    }
}
