using System.Net;
using System.Net.Sockets;
using Platter.Core.Errors;
using Platter.Nbd.Protocol;
using Platter.Nbd.Server;
using Platter.TestKit;
using Xunit;
using NbdServer = Platter.Nbd.Server.NbdServer;

namespace Platter.Tests.Unit.Nbd.Server;

/// <summary>Connections: coming, misbehaving, going.</summary>
public sealed class NbdServerTests
{
    private static readonly byte[] s_bytes = TestDisks.Pattern(1 << 20);

    [Fact]
    public async Task Who_says_goodbye_and_does_not_wait_for_ours_is_nothing_to_report()
    {
        await using var fixture = new ServerFixture(TestDisks.Memory(new byte[4096]));
        for (var i = 0; i < 20; i++)
        {
            using var client = fixture.Connect();
            client.Greet();
            client.SendOption(NbdOption.Abort, []);
        }

        await fixture.Server.StopAsync(TimeSpan.FromSeconds(5));
        Assert.Empty(fixture.Log);
    }

    [Fact]
    public async Task A_client_may_close_at_any_byte_of_the_handshake()
    {
        await using var node = TestDisks.Memory(s_bytes);
        await using var fixture = new ServerFixture(node);
        byte[] talk =
        [
            0, 0, 0, 3,
            .. Option(NbdOption.StructuredReply, []),
            .. Option(NbdOption.List, []),
            .. Option(NbdOption.SetMetaContext, new NbdMetaContextQuery(string.Empty, ["base:allocation"]).ToArray()),
            .. Option(NbdOption.Go, new NbdExportQuery(string.Empty, NbdInfoRequests.Name).ToArray()),
            .. RawClient.Request(NbdCommand.Read, 0, 4096),
        ];
        for (var count = 0; count <= talk.Length; count++)
        {
            using var client = fixture.Connect();
            client.Socket.Send(talk.AsSpan(0, count));
            client.Socket.Shutdown(SocketShutdown.Send);
            Assert.True(client.IsClosed(), $"after {count} bytes");
        }

        using var last = fixture.Open();
        Assert.Equal(s_bytes[..512], last.ReadStructured(0, 512));
    }

    [Theory]
    [InlineData(65536, true)]
    [InlineData(65537, true)]
    [InlineData(1 << 20, true)]
    [InlineData((1 << 20) + 1, false)]
    [InlineData(int.MaxValue, false)]
    public async Task Long_options_are_skipped_and_endless_ones_cut_off(int length, bool survives)
    {
        await using var node = TestDisks.Memory(s_bytes);
        await using var fixture = new ServerFixture(node);
        using var client = fixture.Connect();
        client.Greet();
        var header = new byte[NbdOptionHeader.Size];
        new NbdOptionHeader((NbdOption)100, (uint)length).WriteTo(header);
        client.Socket.Send(header);
        if (!survives)
        {
            Assert.True(client.IsClosed());
            return;
        }

        client.Socket.Send(new byte[length]);
        Assert.Equal([length > 65536 ? NbdOptionReplyType.ErrTooBig : NbdOptionReplyType.ErrUnsup], client.ReceiveOptionReplies());
        client.SendOption(NbdOption.Abort, []);
        Assert.Equal([NbdOptionReplyType.Ack], client.ReceiveOptionReplies());
        Assert.True(client.IsClosed());
    }

    [Theory]
    [InlineData("4e42444d41474943")]
    [InlineData("0000000000000000")]
    public async Task A_wrong_option_magic_hangs_up(string magic)
    {
        await using var node = TestDisks.Memory(s_bytes);
        await using var fixture = new ServerFixture(node);
        using var client = fixture.Connect();
        client.Greet();
        client.Socket.Send([.. Convert.FromHexString(magic), 0, 0, 0, 3, 0, 0, 0, 0]);
        Assert.True(client.IsClosed());
    }

    [Fact]
    public async Task A_client_that_says_nothing_is_cut_off()
    {
        await using var node = TestDisks.Memory(s_bytes);
        await using var fixture = new ServerFixture(node, new() { HandshakeTimeout = TimeSpan.FromMilliseconds(100) });
        using var silent = fixture.Connect();
        using var half = fixture.Connect();
        half.Greet();
        half.Socket.Send([0x49, 0x48]);
        Assert.True(silent.IsClosed());
        Assert.True(half.IsClosed());
        Assert.Equal(["client 1: the handshake took too long", "client 2: the handshake took too long"], fixture.Log.Order());
    }

    [Fact]
    public async Task A_client_that_trickles_is_cut_off_all_the_same()
    {
        await using var node = TestDisks.Memory(s_bytes);
        await using var fixture = new ServerFixture(node, new() { HandshakeTimeout = TimeSpan.FromMilliseconds(200) });
        using var client = fixture.Connect();
        client.Greet();
        var ended = Task.Run(client.IsClosed);
        var option = Option(NbdOption.List, new byte[10_000]);
        try
        {
            for (var i = 0; !ended.IsCompleted; i++)
            {
                client.Socket.Send([option[i % option.Length]]);
                await Task.Delay(5);
            }
        }
        catch (SocketException)
        {
            // Cut off between two bytes.
        }

        Assert.True(await ended);
    }

    [Fact]
    public async Task After_the_handshake_a_client_may_be_silent()
    {
        await using var node = TestDisks.Memory(s_bytes);
        await using var fixture = new ServerFixture(node, new() { HandshakeTimeout = TimeSpan.FromMilliseconds(300) });
        using var client = fixture.Open();
        await Task.Delay(500);
        Assert.Equal(s_bytes[..512], client.ReadStructured(0, 512));
    }

    [Fact]
    public async Task A_client_that_reads_nothing_is_cut_off_and_disturbs_nobody()
    {
        var big = TestDisks.Pattern(32 << 20);
        await using var node = TestDisks.Memory(big);
        await using var fixture = new ServerFixture(node, new() { SendTimeout = TimeSpan.FromMilliseconds(300), Workers = 2 });
        using var slow = fixture.Open(structured: false);
        for (ulong i = 0; i < 20; i++)
        {
            slow.Send(NbdCommand.Read, 0, 8 << 20, i);
        }

        using var other = fixture.Open();
        for (var i = 0; i < 20; i++)
        {
            Assert.Equal(big[..65536], other.ReadStructured(0, 65536));
        }

        while (fixture.Log.Count == 0)
        {
            await Task.Delay(10);
        }

        Assert.True(slow.IsClosed());
    }

    [Fact]
    public async Task Stopping_is_not_held_up_by_silent_clients()
    {
        await using var node = TestDisks.Memory(s_bytes);
        await using var fixture = new ServerFixture(node);
        var clients = new List<RawClient>();
        for (var i = 0; i < 90; i++)
        {
            clients.Add(i % 2 == 0 ? fixture.Connect() : fixture.Open());
        }

        await fixture.Server.StopAsync(TimeSpan.FromSeconds(20));
        foreach (var client in clients)
        {
            Assert.True(client.IsClosed());
            client.Dispose();
        }

        Assert.False(File.Exists(fixture.SocketPath));
        Assert.ThrowsAny<SocketException>(() => fixture.Connect());
    }

    [Fact]
    public async Task Stopping_lets_running_requests_end()
    {
        var slow = new TestDisks.SlowStorage(s_bytes);
        await using var node = TestDisks.Raw(slow, s_bytes.Length);
        await using var fixture = new ServerFixture(node);
        using var client = fixture.Open(structured: false);
        client.Send(NbdCommand.Read, 0, 4096);
        while (slow.Waiting == 0)
        {
            await Task.Delay(1);
        }

        var stopping = fixture.Server.StopAsync(TimeSpan.FromSeconds(20)).AsTask();
        await Task.Delay(50);
        Assert.False(stopping.IsCompleted);
        slow.LetGo();
        Assert.Equal(NbdError.None, client.ReceiveSimple().Error);
        Assert.Equal(s_bytes[..4096], client.Receive(4096));
        Assert.True(client.IsClosed());
        await stopping;
    }

    [Fact]
    public async Task Stopping_ends_at_the_deadline_whatever_hangs()
    {
        var slow = new TestDisks.SlowStorage(s_bytes);
        await using var node = TestDisks.Raw(slow, s_bytes.Length);
        await using var fixture = new ServerFixture(node);
        using var client = fixture.Open(structured: false);
        client.Send(NbdCommand.Read, 0, 4096);
        while (slow.Waiting == 0)
        {
            await Task.Delay(1);
        }

        await fixture.Server.StopAsync(TimeSpan.FromMilliseconds(50));
        Assert.True(client.IsClosed());
        slow.LetGo();
    }

    [Fact]
    public async Task Further_clients_wait_for_a_place()
    {
        await using var node = TestDisks.Memory(s_bytes);
        await using var fixture = new ServerFixture(node, new() { MaxConnections = 1 });
        var first = fixture.Open();
        using var second = fixture.Connect();
        second.Socket.ReceiveTimeout = 100;
        Assert.Throws<SocketException>(() => second.Receive(1));
        first.Dispose();
        second.Socket.ReceiveTimeout = 30_000;
        second.Receive(NbdGreeting.Size);
    }

    [Fact]
    public async Task Tcp_works_and_tells_its_port()
    {
        await using var node = TestDisks.Memory(s_bytes);
        await using var server = new NbdServer(new Dictionary<string, NbdExport> { ["disk"] = new(node) });
        server.Start(new IPEndPoint(IPAddress.Loopback, 0));
        using var client = RawClient.Open(server.EndPoints[0], structured: true, name: "disk");
        Assert.Equal(s_bytes[..70_000], client.ReadStructured(0, 70_000));
    }

    [Fact]
    public async Task Clients_that_read_are_counted()
    {
        await using var node = TestDisks.Memory(s_bytes);
        var counts = new System.Collections.Concurrent.ConcurrentQueue<int>();
        await using var fixture = new ServerFixture(node, new() { ClientsChanged = counts.Enqueue });
        using (fixture.Connect())
        {
        }

        using (fixture.Open())
        {
        }

        while (counts.Count < 2)
        {
            await Task.Delay(1);
        }

        Assert.Equal([1, 0], counts);
    }

    private static byte[] Option(NbdOption option, byte[] data)
    {
        var bytes = new byte[NbdOptionHeader.Size + data.Length];
        new NbdOptionHeader(option, (uint)data.Length).WriteTo(bytes);
        data.CopyTo(bytes, NbdOptionHeader.Size);
        return bytes;
    }
}
