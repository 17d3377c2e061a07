using System.Collections.Concurrent;
using System.Net.Sockets;
using Platter.Core.Graph;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Nbd.Protocol;
using Platter.Nbd.Server;
using Xunit;

namespace Platter.Tests.Unit.Nbd.Server;

/// <summary>What clients may take: memory, places, time.</summary>
public sealed class LimitTests
{
    private const int Size = 8 << 20;
    private const int Large = 2 << 20;

    [Fact]
    public void The_defaults_are_for_clients_that_nobody_trusts()
    {
        var options = new NbdServerOptions();
        Assert.Equal(TimeSpan.FromSeconds(10), options.HandshakeTimeout);
        Assert.Equal((100, 64, 64 << 10), (options.MaxConnections, options.MaxOptions, options.MaxOptionBytes));
        Assert.Equal((32 << 20, 32L << 20, 64, 256L << 20), (options.MaxRequestBytes, options.MaxInFlightBytes, options.MaxInFlightRequests, options.MaxTotalInFlightBytes));
        Assert.Equal((TimeSpan.FromSeconds(30), TimeSpan.FromSeconds(30)), (options.SendTimeout, options.ReceiveTimeout));
    }

    [Fact]
    public async Task The_data_of_a_write_are_received_only_when_one_clients_budget_has_room()
    {
        var storage = new HeldStorage(Size);
        await using var node = TestDisks.Raw(storage, Size);
        await using var fixture = Writable(node, new() { MaxInFlightBytes = 3 * Large / 2 });
        using var client = RawClient.Open(fixture.EndPoint, NbdHeaderStyle.Structured);

        // The first write is held by the storage; the second one has no room, so that its data stay where they are.
        var sending = Task.Run(() =>
        {
            for (ulong i = 0; i < 2; i++)
            {
                client.Send(NbdCommand.Write, i * Large, Large, i, i == 0 ? NbdCommandFlags.Fua : 0);
                client.Socket.Send(new byte[Large]);
            }
        });
        await storage.HasAsync(1);
        Assert.Equal(Large, fixture.Server.Memory.Used);
        await Task.Delay(50);
        Assert.Equal(Large, fixture.Server.Memory.Used);
        Assert.False(sending.IsCompleted);
        storage.LetGo();
        Assert.Equal(NbdError.None, client.ReceiveSimple().Error);
        Assert.Equal(NbdError.None, client.ReceiveSimple().Error);
        await sending;
    }

    [Fact]
    public async Task The_writes_of_many_clients_never_take_more_memory_than_there_is_for_all()
    {
        const int Clients = 12;
        var storage = new HeldStorage((Clients + 1) * Large);
        await using var node = TestDisks.Raw(storage, storage.Length);
        await using var fixture = Writable(node, new() { MaxTotalInFlightBytes = 3 * Large });
        var clients = Enumerable.Range(0, Clients).Select(_ => RawClient.Open(fixture.EndPoint, NbdHeaderStyle.Structured)).ToList();
        using var begun = new CountdownEvent(Clients);
        var writing = clients.Select((client, i) => Task.Factory.StartNew(
            () =>
            {
                client.Send(NbdCommand.Write, (ulong)i * Large, Large);
                begun.Signal();
                client.Socket.Send(new byte[Large]);
                return client.ReceiveSimple().Error;
            },
            TestContext.Current.CancellationToken, TaskCreationOptions.LongRunning, TaskScheduler.Default)).ToList();
        begun.Wait(TestContext.Current.CancellationToken);
        await storage.HasAsync(3);
        await Task.Delay(50);

        // Small requests have memory of their own and wait for nobody.
        using var other = RawClient.Open(fixture.EndPoint, NbdHeaderStyle.Structured);
        Assert.Equal(NbdError.None, other.Do(NbdCommand.WriteZeroes, Clients * Large, 4096));
        Assert.Equal(new byte[4096], other.Read(Clients * Large, 4096));
        Assert.Equal(3 * Large, fixture.Server.Memory.Used);
        Assert.Equal(3, storage.Held);
        storage.LetGo();
        Assert.All(await Task.WhenAll(writing), error => Assert.Equal(NbdError.None, error));
        Assert.True(storage.Most <= 3, $"{storage.Most} at a time");
        Assert.Equal(0, fixture.Server.Memory.Used);
        clients.ForEach(client => client.Dispose());
    }

    [Fact]
    public async Task The_replies_of_clients_that_read_nothing_count_as_well()
    {
        await using var node = TestDisks.Memory(TestDisks.Pattern(Size));
        await using var fixture = new ServerFixture(node, new() { MaxTotalInFlightBytes = 3 * Large, SendTimeout = TimeSpan.FromMilliseconds(500) });
        var deaf = new List<RawClient>();
        for (var i = 0; i < 6; i++)
        {
            deaf.Add(fixture.Open(structured: false));
            for (ulong j = 0; j < 4; j++)
            {
                deaf[i].Send(NbdCommand.Read, 0, Large, j);
            }
        }

        while (fixture.Log.Count < deaf.Count)
        {
            Assert.InRange(fixture.Server.Memory.Used, 0, 3 * Large);
            await Task.Delay(5);
        }

        Assert.All(fixture.Log, line => Assert.EndsWith(": it took no reply for 0.5 s", line, StringComparison.Ordinal));
        Assert.All(deaf, client => Assert.True(client.IsClosed()));
        Assert.Equal(0, fixture.Server.Memory.Used);
        using var last = fixture.Open();
        Assert.Equal(TestDisks.Pattern(Size)[..Large], last.ReadStructured(0, Large));
        deaf.ForEach(client => client.Dispose());
    }

    [Fact]
    public async Task A_request_larger_than_all_memory_is_served_alone()
    {
        await using var node = TestDisks.Raw(new MemoryStorage("m", new byte[Size]), Size);
        await using var fixture = Writable(node, new() { MaxTotalInFlightBytes = 1, MaxInFlightBytes = 1 });
        using var client = RawClient.Open(fixture.EndPoint, NbdHeaderStyle.Structured);
        Assert.Equal(NbdError.None, client.Do(NbdCommand.Write, 0, Large, 0, TestDisks.Pattern(Large)));
        Assert.Equal(TestDisks.Pattern(Large), client.Read(0, Large));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(5)]
    public async Task A_client_that_stops_inside_the_data_of_a_write_is_cut_and_its_memory_is_free_again(int pause)
    {
        await using var node = TestDisks.Raw(new MemoryStorage("m", TestDisks.Pattern(Size)), Size);
        await using var fixture = Writable(node, new() { ReceiveTimeout = TimeSpan.FromMilliseconds(pause == 0 ? 200 : 2000) });
        using var client = RawClient.Open(fixture.EndPoint, NbdHeaderStyle.Structured);
        const int Length = (1 << 20) + 1;
        client.Send(NbdCommand.Write, 0, Length);
        client.Socket.Send(new byte[100_000]);
        var ended = Task.Run(client.IsClosed);
        for (var i = 0; i < 10 && pause > 0; i++)
        {
            // As long as something comes it has its time.
            client.Socket.Send(new byte[1]);
            await Task.Delay(pause);
            Assert.False(ended.IsCompleted);
        }

        Assert.True(await ended);
        Assert.Equal([$"client 1: the data of a write of {Length} bytes came too slowly"], fixture.Log);
        Assert.Equal(0, fixture.Server.Memory.Used);
        using var other = RawClient.Open(fixture.EndPoint, NbdHeaderStyle.Structured);
        Assert.Equal(TestDisks.Pattern(Size)[..4096], other.Read(0, 4096));
    }

    [Fact]
    public async Task A_client_that_sends_the_data_of_a_write_drop_by_drop_is_cut()
    {
        await using var node = TestDisks.Raw(new MemoryStorage("m", new byte[Size]), Size);
        await using var fixture = Writable(node, new() { ReceiveTimeout = TimeSpan.FromMilliseconds(300) });
        using var client = RawClient.Open(fixture.EndPoint, NbdHeaderStyle.Structured);
        client.Send(NbdCommand.Write, 0, 4096);
        var ended = Task.Run(client.IsClosed);
        try
        {
            // Never silent for as long as the limit, and not done in ten times as long.
            while (!ended.IsCompleted)
            {
                client.Socket.Send(new byte[1]);
                await Task.Delay(10);
            }
        }
        catch (SocketException)
        {
            // Cut off between two bytes.
        }

        Assert.True(await ended);
        Assert.Equal(["client 1: the data of a write of 4096 bytes came too slowly"], fixture.Log);
    }

    [Fact]
    public async Task A_client_that_takes_its_replies_drop_by_drop_is_cut()
    {
        await using var node = TestDisks.Memory(new byte[Size]);
        await using var fixture = new ServerFixture(node, new() { SendTimeout = TimeSpan.FromMilliseconds(300) });
        using var client = fixture.Open(structured: false);
        client.Send(NbdCommand.Read, 0, Size);
        var drop = new byte[1];
        for (var taken = 0; fixture.Log.Count == 0; taken++)
        {
            Assert.True(taken < Size / 2, "it was served to the end");
            client.Socket.Receive(drop);
            await Task.Delay(5);
        }

        Assert.Equal(["client 1: it took no reply for 0.3 s"], fixture.Log);
    }

    [Fact]
    public async Task Between_requests_a_client_may_be_silent_as_long_as_it_likes()
    {
        await using var node = TestDisks.Raw(new MemoryStorage("m", new byte[Size]), Size);
        var limit = TimeSpan.FromMilliseconds(100);
        await using var fixture = Writable(node, new() { ReceiveTimeout = limit, SendTimeout = limit, HandshakeTimeout = TimeSpan.FromSeconds(10) });
        using var client = RawClient.Open(fixture.EndPoint, NbdHeaderStyle.Structured);
        Assert.Equal(NbdError.None, client.Do(NbdCommand.Write, 0, 100_000, 0, TestDisks.Pattern(100_000)));
        await Task.Delay(3 * limit);
        Assert.Equal(TestDisks.Pattern(100_000), client.Read(0, 100_000));
        Assert.Empty(fixture.Log);
    }

    [Fact]
    public async Task Who_comes_when_all_places_are_taken_waits_and_the_operator_is_told()
    {
        await using var node = TestDisks.Memory(TestDisks.Pattern(Size));
        await using var fixture = new ServerFixture(node, new() { MaxConnections = 2 });
        var first = fixture.Open();
        using var second = fixture.Open();
        using var third = fixture.Connect();
        using var fourth = fixture.Connect();
        while (fixture.Log.Count == 0)
        {
            await Task.Delay(1);
        }

        Assert.Equal(["a client waits: 2 are connected, as many as may be"], fixture.Log);
        Assert.Equal(0, third.Socket.Available);
        first.Dispose();
        third.Greet();

        // Only now is the next one looked at; without waiting for that, it might find the place that becomes free below.
        while (fixture.Log.Count < 2)
        {
            await Task.Delay(1);
        }

        Assert.Equal(0, fourth.Socket.Available);
        second.Dispose();
        fourth.Greet();
        Assert.Equal(2, fixture.Log.Count);
    }

    [Fact]
    public async Task Several_addresses_share_the_places()
    {
        await using var node = TestDisks.Memory(TestDisks.Pattern(Size));
        await using var fixture = new ServerFixture(node, new() { MaxConnections = 1 });
        fixture.Server.Start(new System.Net.IPEndPoint(System.Net.IPAddress.Loopback, 0));
        using var unix = fixture.Open();
        using var tcp = new RawClient(fixture.Server.EndPoints[1]);
        while (fixture.Log.Count == 0)
        {
            await Task.Delay(1);
        }

        Assert.Equal(0, tcp.Socket.Available);
        unix.Dispose();
        tcp.Greet();
    }

    [Fact]
    public async Task A_server_stops_at_once_with_a_thousand_clients_that_say_nothing()
    {
        const int Clients = 1000, Waiting = 100;
        await using var node = TestDisks.Memory(TestDisks.Pattern(Size));

        // Most of them have places, the others wait in front of the door.
        await using var fixture = new ServerFixture(node, new() { MaxConnections = Clients - Waiting, HandshakeTimeout = TimeSpan.FromHours(1) });
        fixture.Server.Start(new System.Net.IPEndPoint(System.Net.IPAddress.Loopback, 0));
        var clients = new ConcurrentBag<RawClient>();
        for (var i = 0; i < Clients - Waiting; i++)
        {
            clients.Add(fixture.Connect());
        }

        for (var i = 0; i < Waiting; i++)
        {
            clients.Add(new RawClient(fixture.Server.EndPoints[1]));
        }

        await fixture.Server.StopAsync(TimeSpan.FromHours(1));
        Assert.All(clients, client => Assert.True(client.IsClosed()));
        foreach (var client in clients)
        {
            client.Dispose();
        }
    }

    [Fact]
    public void Status_replies_are_limited_however_many_contexts_there_are()
    {
        const int Contexts = 500;
        foreach (var flags in (NbdCommandFlags[])[NbdCommandFlags.None, NbdCommandFlags.RequestOne])
        {
            var request = new NbdRequest(flags, NbdCommand.BlockStatus, 1, 0, ulong.MaxValue >> 1);
            Assert.InRange(StatusReply.MaxBytes(request, 1), 16, 300_000);
            Assert.InRange(StatusReply.MaxBytes(request, Contexts), 16 * Contexts, 1_200_000);
            Assert.InRange(StatusReply.MaxBytes(request, 100_000), 16 * 100_000, 10_000_000);
        }
    }

    private static ServerFixture Writable(BlockNode node, NbdServerOptions options) => new(new NbdExport(node) { IsWritable = true }, options);

    /// <summary>Keeps every larger write until it is told to let them go, and counts them.</summary>
    private sealed class HeldStorage(int size) : Storage
    {
        private readonly byte[] _bytes = new byte[size];
        private readonly TaskCompletionSource _go = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private readonly Lock _gate = new();

        public int Held { get; private set; }

        public int Most { get; private set; }

        public override string Name => "held";

        public override long Length => size;

        public override bool IsReadOnly => false;

        public void LetGo() => _go.TrySetResult();

        public async Task HasAsync(int count)
        {
            while (Held < count)
            {
                await Task.Delay(1);
            }
        }

        public override ValueTask<int> ReadAsync(HostOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            _bytes.AsMemory((int)at.Value, buffer.Length).CopyTo(buffer);
            return new(buffer.Length);
        }

        public override async ValueTask WriteAsync(HostOffset at, ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
        {
            lock (_gate)
            {
                Held++;
                Most = Math.Max(Most, Held);
            }

            await _go.Task;
            lock (_gate)
            {
                Held--;
                buffer.CopyTo(_bytes.AsMemory((int)at.Value));
            }
        }

        public override ValueTask WriteZeroesAsync(HostOffset at, long length, bool mayUnmap, CancellationToken cancellationToken = default)
        {
            _bytes.AsSpan((int)at.Value, (int)length).Clear();
            return ValueTask.CompletedTask;
        }

        public override ValueTask FlushAsync(CancellationToken cancellationToken = default) => ValueTask.CompletedTask;
    }
}
