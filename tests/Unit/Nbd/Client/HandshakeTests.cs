using System.Text;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Units;
using Platter.Nbd.Client;
using Platter.Nbd.Protocol;
using Platter.TestKit;
using Xunit;
using static Platter.Tests.Unit.Nbd.Client.ScriptedPeer;

namespace Platter.Tests.Unit.Nbd.Client;

/// <summary>Handshakes with servers that are old, unwilling or lying.</summary>
public sealed class HandshakeTests
{
    [Fact]
    public async Task An_oldstyle_server_is_refused_with_words()
    {
        await using var server = new ScriptedServer(peer => peer.SendAsync(
            [.. BigEndian(NbdProtocol.InitMagic), .. BigEndian(NbdProtocol.OldstyleMagic), .. new byte[136]]));
        await FailsAsync(server, BlockErrorKind.Unsupported, "oldstyle");
    }

    [Fact]
    public async Task Another_kind_of_server_is_recognised()
    {
        await using var server = new ScriptedServer(peer => peer.SendAsync(Encoding.ASCII.GetBytes("220 mail.example.com ready\r\n")));
        await FailsAsync(server, BlockErrorKind.Protocol, "no NBD server");
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(17)]
    [InlineData(18)]
    [InlineData(18 + 19)]
    [InlineData(18 + 20)]
    [InlineData(18 + 20 + 20)]
    [InlineData(18 + 20 + 20 + 14 + 20)]
    [InlineData(18 + 20 + 20 + 14 + 20 + 7)]
    [InlineData(18 + 20 + 20 + 14 + 20 + 20 + 12 + 19)]
    public async Task A_server_that_hangs_up_during_the_handshake_is_a_protocol_error(int bytes)
    {
        await using var server = new ScriptedServer(async peer =>
        {
            var greeting = new byte[NbdGreeting.Size];
            new NbdGreeting(NbdHandshakeFlags.FixedNewstyle | NbdHandshakeFlags.NoZeroes).WriteTo(greeting);
            byte[] all =
            [
                .. greeting,
                .. Reply(NbdOption.StructuredReply, NbdOptionReplyType.Ack),
                .. Reply(NbdOption.SetMetaContext, NbdOptionReplyType.MetaContext, ContextReply(1, "base:allocation")[..14]),
                .. Reply(NbdOption.SetMetaContext, NbdOptionReplyType.Ack),
                .. Reply(NbdOption.Go, NbdOptionReplyType.Info, ExportInfo(1 << 20)),
                .. Reply(NbdOption.Go, NbdOptionReplyType.Ack),
            ];
            await peer.SendAsync(all[..bytes]);
        });
        var e = await Assert.ThrowsAsync<BlockException>(async () => await server.OpenAsync());
        Assert.Equal(BlockErrorKind.Protocol, e.Kind);
    }

    [Fact]
    public async Task A_newstyle_server_without_options_is_asked_by_name()
    {
        await using var server = new ScriptedServer(
            async peer =>
            {
                Assert.Equal(0u, await peer.GreetAsync(NbdHandshakeFlags.None));
                var (option, name) = await peer.ReadOptionAsync();
                Assert.Equal((NbdOption.ExportName, "disk"), (option, Encoding.UTF8.GetString(name)));
                await peer.SendAsync([.. ExportInfo(1 << 20)[2..], .. new byte[124]]);
                var request = await peer.ReadRequestAsync();
                await peer.SimpleAsync(request.Cookie, NbdError.None, Filled(0x5a, 512));
                await peer.WaitForEndAsync();
            },
            "disk");
        await using var storage = await server.OpenAsync();
        Assert.Equal((1 << 20, false, 512), (storage.Length, storage.CanMap, storage.RequestAlignment));
        var buffer = new byte[512];
        Assert.Equal(512, await storage.ReadAsync(new HostOffset(1024), buffer));
        Assert.Equal(Filled(0x5a, 512), buffer);
        Assert.True((await storage.MapAsync(HostOffset.Zero, 4096)) is { Length: 4096, IsAllocated: true, ReadsZero: false });
    }

    [Fact]
    public async Task A_server_that_does_not_know_GO_is_asked_by_name_without_zeroes()
    {
        await using var server = new ScriptedServer(async peer =>
        {
            Assert.Equal(3u, await peer.GreetAsync());
            foreach (var expected in new[] { NbdOption.StructuredReply, NbdOption.Go })
            {
                Assert.Equal(expected, (await peer.ReadOptionAsync()).Option);
                await peer.ReplyAsync(expected, NbdOptionReplyType.ErrUnsup, Encoding.UTF8.GetBytes("never heard of it"));
            }

            Assert.Equal(NbdOption.ExportName, (await peer.ReadOptionAsync()).Option);
            await peer.SendAsync(ExportInfo(777)[2..]);
            await peer.WaitForEndAsync();
        });
        await using var storage = await server.OpenAsync();
        Assert.Equal(777, storage.Length);
    }

    [Fact]
    public async Task Hanging_up_on_EXPORT_NAME_means_there_is_no_such_export()
    {
        await using var server = new ScriptedServer(
            async peer =>
            {
                await peer.GreetAsync(NbdHandshakeFlags.None);
                await peer.ReadOptionAsync();
            },
            "disk\u001b[2J");
        var e = await FailsAsync(server, BlockErrorKind.NotFound, "disk\\x1b");
        Assert.DoesNotContain('\u001b', e.Message);
    }

    [Theory]
    [InlineData((uint)NbdOptionReplyType.ErrUnknown, BlockErrorKind.NotFound, "no export")]
    [InlineData((uint)NbdOptionReplyType.ErrPolicy, BlockErrorKind.AccessDenied, "policy")]
    [InlineData((uint)NbdOptionReplyType.ErrTlsRequired, BlockErrorKind.Unsupported, "TLS")]
    [InlineData((uint)NbdOptionReplyType.ErrShutdown, BlockErrorKind.Protocol, "shutting down")]
    [InlineData((uint)NbdOptionReplyType.ErrBlockSizeRequired, BlockErrorKind.Protocol, "Go")]
    [InlineData(0x8000_7777, BlockErrorKind.Protocol, "0x80007777")]
    public async Task A_refusal_says_why_and_what_the_server_says(uint type, BlockErrorKind kind, string word)
    {
        await using var server = GoServer(peer => peer.ReplyAsync(
            NbdOption.Go, (NbdOptionReplyType)type, Encoding.UTF8.GetBytes("ask \u0007 Bob")));
        var e = await FailsAsync(server, kind, word);
        Assert.Contains("it says: ask \\x07 Bob", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_server_that_demands_TLS_at_once_is_understood()
    {
        await using var server = new ScriptedServer(async peer =>
        {
            await peer.GreetAsync();
            await peer.ReplyAsync((await peer.ReadOptionAsync()).Option, NbdOptionReplyType.ErrTlsRequired);
            await peer.WaitForEndAsync();
        });
        await FailsAsync(server, BlockErrorKind.Unsupported, "TLS");
    }

    public static TheoryData<string, string> LiesAboutGo => new()
    {
        { "ack without info", "without describing" },
        { "size above 2^63-1", "2^63-1" },
        { "no HAS_FLAGS", "HAS_FLAGS" },
        { "short export info", "description of the export" },
        { "short info", "shorter than its type" },
        { "short block sizes", "block sizes" },
        { "minimum not a power of two", "minimum block size" },
        { "minimum 2^31", "minimum block size" },
        { "minimum zero", "minimum block size" },
        { "preferred not a power of two", "preferred block size" },
        { "maximum below minimum", "maximum payload size" },
        { "ack with data", "reply of type 1" },
        { "server reply", "Go" },
        { "wrong option", "reply to option" },
        { "bad magic", "starts with" },
        { "oversize", "claims" },
        { "error string over 4096", "claims" },
        { "endless infos", "more than 64 replies" },
    };

    [Theory]
    [MemberData(nameof(LiesAboutGo))]
    public async Task A_lie_in_reply_to_GO_ends_the_handshake(string lie, string words)
    {
        await using var server = GoServer(peer => lie switch
        {
            "ack without info" => peer.ReplyAsync(NbdOption.Go, NbdOptionReplyType.Ack),
            "size above 2^63-1" => InfoAsync(peer, ExportInfo(1UL << 63)),
            "no HAS_FLAGS" => InfoAsync(peer, ExportInfo(4096, NbdTransmissionFlags.None)),
            "short export info" => InfoAsync(peer, ExportInfo(4096)[..11]),
            "short info" => InfoAsync(peer, [0]),
            "short block sizes" => InfoAsync(peer, ExportInfo(4096), BlockSizeInfo(1, 512, 4096)[..13]),
            "minimum not a power of two" => InfoAsync(peer, ExportInfo(4096), BlockSizeInfo(3, 512, 4096)),
            "minimum 2^31" => InfoAsync(peer, ExportInfo(4096), BlockSizeInfo(1u << 31, 1u << 31, 1u << 31)),
            "minimum zero" => InfoAsync(peer, ExportInfo(4096), BlockSizeInfo(0, 512, 4096)),
            "preferred not a power of two" => InfoAsync(peer, ExportInfo(4096), BlockSizeInfo(1, 513, 4096)),
            "maximum below minimum" => InfoAsync(peer, ExportInfo(4096), BlockSizeInfo(4096, 4096, 512)),
            "ack with data" => peer.ReplyAsync(NbdOption.Go, NbdOptionReplyType.Ack, 1),
            "server reply" => peer.ReplyAsync(NbdOption.Go, NbdOptionReplyType.Server, 0, 0, 0, 0),
            "wrong option" => peer.ReplyAsync(NbdOption.List, NbdOptionReplyType.Ack),
            "bad magic" => peer.SendAsync(new byte[20]),
            "oversize" => peer.ReplyAsync(NbdOption.Go, NbdOptionReplyType.Info, uint.MaxValue, []),
            "error string over 4096" => peer.ReplyAsync(NbdOption.Go, NbdOptionReplyType.ErrUnknown, new byte[4097]),
            _ => InfoAsync(peer, [.. Enumerable.Repeat(ExportInfo(4096), 70)]),
        });
        await FailsAsync(server, BlockErrorKind.Protocol, words);
    }

    [Theory]
    [InlineData("x-other:thing", 1)]
    [InlineData("base:allocation", 2)]
    [InlineData("", 1)]
    public async Task A_context_that_was_not_asked_for_is_a_protocol_error(string name, int times)
    {
        await using var server = new ScriptedServer(async peer =>
        {
            await peer.GreetAsync();
            await peer.ReplyAsync((await peer.ReadOptionAsync()).Option, NbdOptionReplyType.Ack);
            await peer.ReadOptionAsync();
            for (var i = 0; i < times; i++)
            {
                await peer.ReplyAsync(NbdOption.SetMetaContext, NbdOptionReplyType.MetaContext, ContextReply((uint)i, name));
            }

            await peer.ReplyAsync(NbdOption.SetMetaContext, NbdOptionReplyType.Ack);
            await peer.WaitForEndAsync();
        });
        await FailsAsync(server, BlockErrorKind.Protocol, "metadata context");
    }

    [Fact]
    public async Task Unknown_information_is_ignored_and_no_context_means_no_map()
    {
        await using var server = new ScriptedServer(async peer =>
        {
            await peer.GreetAsync();
            await peer.ReplyAsync((await peer.ReadOptionAsync()).Option, NbdOptionReplyType.Ack);
            await peer.ReplyAsync((await peer.ReadOptionAsync()).Option, NbdOptionReplyType.Ack);
            await peer.ReadOptionAsync();
            await InfoAsync(peer, [0xff, 0xff, 1, 2, 3], ExportInfo(long.MaxValue));
            await peer.WaitForEndAsync();
        });
        await using var storage = await server.OpenAsync();
        Assert.Equal((long.MaxValue, false), (storage.Length, storage.CanMap));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    public async Task A_server_that_falls_silent_is_given_up_after_the_open_timeout(int repliesBeforeSilence)
    {
        await using var server = new ScriptedServer(async peer =>
        {
            if (repliesBeforeSilence > 0)
            {
                await peer.GreetAsync();
            }

            if (repliesBeforeSilence > 1)
            {
                await peer.ReplyAsync((await peer.ReadOptionAsync()).Option, NbdOptionReplyType.Ack);
            }

            await peer.WaitForeverAsync();
        });
        var options = new NodeOptions { ["driver"] = "nbd", ["path"] = server.Socket, ["open-timeout"] = "1" };
        var e = await Assert.ThrowsAsync<BlockException>(async () => await NbdStorage.OpenAsync(NbdAddress.FromOptions(options), NbdClientOptions.FromOptions(options)));
        Assert.Equal(BlockErrorKind.Protocol, e.Kind);
        Assert.Contains("open-timeout", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Opening_can_be_cancelled()
    {
        await using var server = new ScriptedServer(peer => peer.WaitForeverAsync());
        using var cancel = new CancellationTokenSource(TimeSpan.FromMilliseconds(50));
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () => await NbdStorage.OpenAsync(server.Address, cancel.Token));
    }

    [Fact]
    public async Task A_refused_client_says_goodbye()
    {
        var goodbye = new TaskCompletionSource<NbdOption>();
        await using var server = GoServer(async peer =>
        {
            await peer.ReplyAsync(NbdOption.Go, NbdOptionReplyType.ErrUnknown);
            goodbye.SetResult((await peer.ReadOptionAsync()).Option);
        });
        await FailsAsync(server, BlockErrorKind.NotFound, "no export");
        Assert.Equal(NbdOption.Abort, await goodbye.Task);
    }

    [Fact]
    public async Task With_an_open_timeout_a_server_may_start_later_than_its_client()
    {
        using var folder = new TempFolder("nbd");
        var options = new NodeOptions { ["driver"] = "nbd", ["path"] = folder["s"], ["open-timeout"] = "60" };
        var opening = NbdStorage.OpenAsync(NbdAddress.FromOptions(options), NbdClientOptions.FromOptions(options)).AsTask();
        Assert.False(opening.IsCompleted);
        await using var server = new ScriptedServer(
            async peer =>
            {
                await peer.EnterAsync(4096);
                await peer.WaitForEndAsync();
            },
            socketPath: folder["s"]);
        await using var storage = await opening;
        Assert.Equal(4096, storage.Length);
    }

    [Fact]
    public async Task A_missing_socket_is_not_found()
    {
        var e = await Assert.ThrowsAsync<BlockException>(async () => await NbdStorage.OpenAsync(NbdAddress.ForSocket("/nonexistent/socket")));
        Assert.Equal(BlockErrorKind.NotFound, e.Kind);
        Assert.StartsWith("nbd+unix://?socket=/nonexistent/socket: ", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Exports_are_listed_with_their_descriptions()
    {
        await using var server = new ScriptedServer(async peer =>
        {
            await peer.GreetAsync();
            Assert.Equal(NbdOption.List, (await peer.ReadOptionAsync()).Option);
            await peer.ReplyAsync(NbdOption.List, NbdOptionReplyType.Server, [.. BigEndian(1u), .. "aone"u8]);
            await peer.ReplyAsync(NbdOption.List, NbdOptionReplyType.Server, [.. BigEndian(0u)]);
            await peer.ReplyAsync(NbdOption.List, NbdOptionReplyType.Ack);
            Assert.Equal(NbdOption.Abort, (await peer.ReadOptionAsync()).Option);
        });
        Assert.Equal([new("a", "one"), new("", "")], await NbdClient.ListExportsAsync(server.Address));
    }

    [Theory]
    [InlineData("000000ff61")]
    [InlineData("0000")]
    [InlineData("00000001ff")]
    [InlineData("000000026100")]
    public async Task A_malformed_listed_export_is_a_protocol_error(string hex)
    {
        await using var server = new ScriptedServer(async peer =>
        {
            await peer.GreetAsync();
            await peer.ReadOptionAsync();
            await peer.ReplyAsync(NbdOption.List, NbdOptionReplyType.Server, Convert.FromHexString(hex));
            await peer.WaitForEndAsync();
        });
        var e = await Assert.ThrowsAsync<BlockException>(async () => await NbdClient.ListExportsAsync(server.Address));
        Assert.Equal(BlockErrorKind.Protocol, e.Kind);
    }

    [Fact]
    public async Task An_endless_list_is_cut()
    {
        await using var server = new ScriptedServer(async peer =>
        {
            await peer.GreetAsync();
            await peer.ReadOptionAsync();
            var name = new byte[4096];
            Array.Fill(name, (byte)'x');
            while (true)
            {
                await peer.ReplyAsync(NbdOption.List, NbdOptionReplyType.Server, [.. BigEndian(4096u), .. name]);
            }
        });
        var e = await Assert.ThrowsAsync<BlockException>(async () => await NbdClient.ListExportsAsync(server.Address));
        Assert.Equal(BlockErrorKind.LimitExceeded, e.Kind);
    }

    private static ScriptedServer GoServer(Func<ScriptedPeer, Task> onGo) => new(async peer =>
    {
        await peer.GreetAsync();
        await peer.ReplyAsync((await peer.ReadOptionAsync()).Option, NbdOptionReplyType.ErrUnsup);
        Assert.Equal(NbdOption.Go, (await peer.ReadOptionAsync()).Option);
        await onGo(peer);
        await peer.WaitForEndAsync();
    });

    private static async Task InfoAsync(ScriptedPeer peer, params byte[][] infos)
    {
        foreach (var info in infos)
        {
            await peer.ReplyAsync(NbdOption.Go, NbdOptionReplyType.Info, info);
        }

        await peer.ReplyAsync(NbdOption.Go, NbdOptionReplyType.Ack);
    }

    private static byte[] Reply(NbdOption option, NbdOptionReplyType type, params byte[] data)
    {
        var bytes = new byte[NbdOptionReplyHeader.Size + data.Length];
        new NbdOptionReplyHeader(option, type, (uint)data.Length).WriteTo(bytes);
        data.CopyTo(bytes, NbdOptionReplyHeader.Size);
        return bytes;
    }

    private static byte[] Filled(byte value, int length)
    {
        var bytes = new byte[length];
        Array.Fill(bytes, value);
        return bytes;
    }

    private static async Task<BlockException> FailsAsync(ScriptedServer server, BlockErrorKind kind, string words)
    {
        var e = await Assert.ThrowsAsync<BlockException>(async () => await server.OpenAsync());
        Assert.Equal(kind, e.Kind);
        Assert.Contains(words, e.Message, StringComparison.Ordinal);
        Assert.StartsWith(server.Address + ": ", e.Message, StringComparison.Ordinal);
        return e;
    }
}
