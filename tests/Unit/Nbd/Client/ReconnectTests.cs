using Platter.Core.Errors;
using Platter.Core.Units;
using Platter.Nbd.Client;
using Platter.Nbd.Protocol;
using Platter.TestKit;
using Xunit;
using static Platter.Nbd.Protocol.NbdTransmissionFlags;

namespace Platter.Tests.Unit.Nbd.Client;

/// <summary>Connections that are lost: what is done again, what is never promised, and when it is over.</summary>
public sealed class ReconnectTests
{
    private const NbdTransmissionFlags Writable = HasFlags | SendFlush | SendFua | SendWriteZeroes | SendTrim;

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData(41, false, false)]
    [InlineData(42, true, false)]
    [InlineData(43, true, true)]
    [InlineData(44, false, true)]
    public async Task No_acknowledged_byte_is_lost_however_often_the_server_forgets_what_was_not_flushed(int seed, bool extended, bool several)
    {
        var disk = new ArrayServer(256 << 10) { Extended = extended, Minimum = 512, Flags = Writable | (several ? CanMultiConn : None) };
        var dice = new Random(seed);
        var drops = 0;
        bool Drops(NbdRequest request)
        {
            lock (dice)
            {
                if (drops >= 8 || dice.Next(40) != 0)
                {
                    return false;
                }

                drops++;
                disk.Crash();
                return true;
            }
        }

        disk.DropsBefore = Drops;
        disk.DropsAfter = Drops;
        await using var server = disk.Serve(parallel: true);
        await using var storage = await OpenAsync(server, TimeSpan.FromSeconds(60));
        var model = new byte[256 << 10];
        var random = new Random(seed);
        for (var round = 0; round < 12; round++)
        {
            // Side by side, each to a place of its own.
            await Task.WhenAll(Enumerable.Range(0, 8).Select(i => ChangeAsync(i * (32 << 10), random.Next(32 << 10), random.Next(4), random.Next())));
            if (random.Next(5) == 0)
            {
                await storage.FlushAsync(Cancel);
                Assert.True(model.AsSpan().SequenceEqual(disk.Durable), $"seed {seed}, round {round}: a flush left something out");
            }

            var read = new byte[model.Length];
            await storage.ReadAsync(HostOffset.Zero, read, Cancel);
            Assert.True(model.AsSpan().SequenceEqual(read), $"seed {seed}, round {round}: something else was read");
        }

        await storage.FlushAsync(Cancel);
        Assert.True(model.AsSpan().SequenceEqual(disk.Durable), $"seed {seed}: the last flush left something out");
        Assert.True(drops > 1, $"seed {seed}: only {drops} connections were lost");
        Assert.Empty(disk.Illegal);

        async Task ChangeAsync(int slice, int at, int kind, int content)
        {
            var length = Math.Min(5000, (32 << 10) - at);
            if (kind == 0)
            {
                await storage.WriteZeroesAsync(new(slice + at), length, mayUnmap: true, Cancel);
                model.AsSpan(slice + at, length).Clear();
                return;
            }

            var bytes = new byte[length];
            new Random(content).NextBytes(bytes);
            await storage.WriteAsync(new(slice + at), bytes, durable: kind == 1, Cancel);
            bytes.CopyTo(model, slice + at);
        }
    }

    [Fact]
    public async Task Without_reconnecting_a_flush_never_succeeds_after_a_connection_was_lost()
    {
        var disk = new ArrayServer(1 << 20) { Flags = Writable };
        await using var server = disk.Serve();
        await using var storage = await OpenAsync(server, TimeSpan.Zero);
        await storage.WriteAsync(HostOffset.Zero, new byte[] { 1, 2, 3 }, Cancel);
        disk.DropsBefore = static request => request.Command == NbdCommand.Read;
        await FailsAsync(async () => await storage.ReadAsync(HostOffset.Zero, new byte[3], Cancel));
        await FailsAsync(async () => await storage.FlushAsync(Cancel));
        await FailsAsync(async () => await storage.FlushAsync(Cancel));
        Assert.Equal(1, disk.Connections);

        static async Task FailsAsync(Func<Task> action) => Assert.Equal(BlockErrorKind.Protocol, (await Assert.ThrowsAsync<BlockException>(action)).Kind);
    }

    [Fact]
    public async Task A_server_that_breaks_the_protocol_is_not_asked_again()
    {
        var connections = 0;
        await using var server = new ScriptedServer(async peer =>
        {
            connections++;
            await peer.EnterAsync(1 << 20);
            var request = await peer.ReadRequestAsync();
            await peer.DataAsync(request.Cookie, request.Offset + request.Length, new byte[512]);
            await peer.WaitForEndAsync();
        });
        await using var storage = await NbdStorage.OpenAsync(server.Address, new NbdClientOptions { ReconnectDelay = TimeSpan.FromSeconds(60) }, Cancel);
        var e = await Assert.ThrowsAsync<BlockException>(async () => await storage.ReadAsync(HostOffset.Zero, new byte[512], Cancel));
        Assert.Contains("protocol violation", e.Message, StringComparison.Ordinal);
        Assert.Equal(1, connections);
    }

    [Fact]
    public async Task An_export_that_has_changed_meanwhile_is_not_the_same()
    {
        var disk = new ArrayServer(1 << 20) { Flags = Writable };
        await using var server = disk.Serve();
        await using var storage = await OpenAsync(server, TimeSpan.FromSeconds(60));
        (disk.AdvertisedSize, disk.DropsBefore) = (1 << 19, static _ => true);
        var e = await Assert.ThrowsAsync<BlockException>(async () => await storage.ReadAsync(HostOffset.Zero, new byte[512], Cancel));
        Assert.Equal(BlockErrorKind.Protocol, e.Kind);
        Assert.Contains("it had 1048576 bytes and now has 524288", e.Message, StringComparison.Ordinal);
        e = await Assert.ThrowsAsync<BlockException>(async () => await storage.FlushAsync(Cancel));
        Assert.Contains("now has 524288", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Requests_wait_no_longer_than_told_and_a_server_that_comes_back_later_is_used_again()
    {
        using var folder = new TempFolder("nbd");
        var disk = new ArrayServer(1 << 20) { Flags = Writable };
        var server = new ScriptedServer(disk.ServeAsync, socketPath: folder["s"]);
        await using var storage = await OpenAsync(server, TimeSpan.FromMilliseconds(300));
        await storage.WriteAsync(new(5), new byte[] { 1, 2, 3 }, Cancel);
        await server.DisposeAsync();
        File.Delete(folder["s"]);
        disk.Crash();
        var e = await Assert.ThrowsAsync<BlockException>(async () => await storage.ReadAsync(HostOffset.Zero, new byte[512], Cancel));
        Assert.Contains("no new connection within 0.3 s", e.Message, StringComparison.Ordinal);
        await using var again = new ScriptedServer(disk.ServeAsync, socketPath: folder["s"]);
        var buffer = new byte[3];
        while (true)
        {
            try
            {
                await storage.ReadAsync(new(5), buffer, Cancel);
                break;
            }
            catch (BlockException)
            {
                await Task.Delay(20, Cancel);
            }
        }

        Assert.Equal([1, 2, 3], buffer);
    }

    [Fact]
    public async Task What_a_server_refuses_because_it_is_going_is_asked_of_the_next_one()
    {
        var isFirst = true;
        await using var server = new ScriptedServer(async peer =>
        {
            await peer.EnterAsync(1 << 20, flags: Writable);
            while (true)
            {
                var request = await peer.ReadRequestAsync();
                await peer.ReadPayloadAsync(request);
                await (isFirst ? peer.ErrorAsync(request.Cookie, NbdError.Shutdown, "bye") : peer.DoneAsync(request.Cookie));
                isFirst = false;
            }
        });
        await using var storage = await OpenAsync(server, TimeSpan.FromSeconds(60));
        await storage.WriteAsync(HostOffset.Zero, new byte[512], Cancel);
    }

    [Fact]
    public async Task A_request_that_waits_for_a_connection_can_be_given_up_and_closing_ends_it()
    {
        using var folder = new TempFolder("nbd");
        var disk = new ArrayServer(1 << 20) { Flags = Writable };
        var server = new ScriptedServer(disk.ServeAsync, socketPath: folder["s"]);
        var storage = await OpenAsync(server, TimeSpan.FromHours(1));
        await server.DisposeAsync();
        using var cancel = new CancellationTokenSource();
        var given = storage.ReadAsync(HostOffset.Zero, new byte[512], cancel.Token).AsTask();
        var kept = storage.ReadAsync(HostOffset.Zero, new byte[512], Cancel).AsTask();
        await cancel.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => given);
        Assert.False(kept.IsCompleted);
        await storage.DisposeAsync();
        await Assert.ThrowsAsync<BlockException>(() => kept);
    }

    [Fact]
    public async Task A_writer_opens_all_its_connections_before_it_writes_and_uses_them()
    {
        var disk = new ArrayServer(4 << 20) { Flags = Writable | CanMultiConn };
        await using var server = disk.Serve(parallel: true);
        await using var storage = await OpenAsync(server, TimeSpan.Zero);
        Assert.Equal(4, storage.ConnectionCount);
        Assert.Equal(4, disk.Connections);
        var bytes = new byte[4 << 20];
        new Random(45).NextBytes(bytes);
        await storage.WriteAsync(HostOffset.Zero, bytes, Cancel);
        await storage.FlushAsync(Cancel);
        Assert.True(bytes.AsSpan().SequenceEqual(disk.Durable));
    }

    [Fact]
    public async Task A_reader_opens_more_connections_only_when_it_has_use_for_them()
    {
        var disk = new ArrayServer(4 << 20) { Flags = HasFlags | ReadOnly | CanMultiConn };
        await using var server = disk.Serve(parallel: true);
        await using var storage = await NbdStorage.OpenAsync(server.Address, new NbdClientOptions { Connections = 4 }, Cancel);
        await storage.ReadAsync(HostOffset.Zero, new byte[512], Cancel);
        await storage.ReadAsync(HostOffset.Zero, new byte[512], Cancel);
        Assert.Equal(1, disk.Connections);
        while (storage.ConnectionCount < 4)
        {
            await storage.ReadAsync(HostOffset.Zero, new byte[4 << 20], Cancel);
        }

        Assert.Equal(4, disk.Connections);
    }

    [Fact]
    public async Task One_connection_is_enough_where_a_server_lets_in_no_more_or_shows_them_something_else()
    {
        var disk = new ArrayServer(1 << 20) { Flags = Writable | CanMultiConn };
        await using var oneByOne = disk.Serve();
        await using (var storage = await OpenAsync(oneByOne, TimeSpan.Zero))
        {
            Assert.Equal(1, storage.ConnectionCount);
            await storage.WriteAsync(HostOffset.Zero, new byte[512], Cancel);
        }

        var size = 1UL << 20;
        await using var growing = new ScriptedServer(
            async peer =>
            {
                await peer.EnterAsync(Interlocked.Add(ref size, 512), flags: Writable | CanMultiConn);
                await peer.WaitForEndAsync();
            },
            parallel: true);
        await using var other = await OpenAsync(growing, TimeSpan.Zero);
        Assert.Equal(1, other.ConnectionCount);
    }

    [Fact]
    public async Task The_log_of_what_is_not_flushed_stays_small()
    {
        var disk = new ArrayServer(8 << 20) { Flags = Writable };
        await using var server = disk.Serve();
        await using var storage = await OpenAsync(server, TimeSpan.FromSeconds(60));
        var bytes = new byte[8 << 20];
        for (var i = 0; i < 20; i++)
        {
            await storage.WriteAsync(HostOffset.Zero, bytes, Cancel);
        }

        Assert.InRange(disk.Requests.Count(r => r.Command == NbdCommand.Flush), 1, 3);
    }

    private static ValueTask<NbdStorage> OpenAsync(ScriptedServer server, TimeSpan reconnectDelay) =>
        NbdStorage.OpenAsync(server.Address, new NbdClientOptions { Writable = true, Connections = 4, ReconnectDelay = reconnectDelay }, Cancel);
}
