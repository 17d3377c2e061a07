using System.Collections.Concurrent;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Nbd.Protocol;
using Platter.Nbd.Server;
using Xunit;

namespace Platter.Tests.Unit.Nbd.Server;

/// <summary>Many clients at once: who gets how much is counted, not timed.</summary>
public sealed class FairnessTests
{
    private const int Size = 96 << 20;
    private const int Megabyte = 1 << 20;

    [Fact]
    public async Task Nobody_waits_for_what_another_client_has_begun()
    {
        // Every worker, and every one that could be started, has a request of the first client that never ends.
        var storage = new GatedStorage();
        await using var node = TestDisks.Raw(storage, Size);
        await using var fixture = new ServerFixture(node, new() { Workers = 2, MaxInFlightBytes = 1 << 30 });
        using var flood = fixture.Open(structured: false);
        Flood(flood, 64);
        await storage.HasAsync(2);
        for (var i = 0; i < 16; i++)
        {
            // Pipelined, so that they are not done on the connection's own thread.
            using var other = fixture.Open(structured: false);
            Flood(other, 8, Size - Megabyte, 4096);
            Drain(other, 8, 4096);
        }

        Assert.Equal(2, storage.Begun);
        storage.LetGo(64);
        Drain(flood, 64);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public async Task Clients_that_all_flood_are_served_in_turn(int workers)
    {
        const int Clients = 4, Each = 24, Part = Megabyte / 2;
        var storage = new GatedStorage();
        await using var node = TestDisks.Raw(storage, Size);
        await using var fixture = new ServerFixture(node, new() { Workers = workers, MaxInFlightBytes = 1 << 30 });
        var clients = new List<RawClient>();
        for (var i = 0; i < Clients; i++)
        {
            // The first one has all it wants queued before the others come.
            clients.Add(fixture.Open(structured: false));
            Flood(clients[i], Each, (long)i * Each * Part, Part);
            await storage.HasAsync(workers + i);
        }

        // Everything is queued: what a client does not have for itself is counted.
        while (fixture.Server.Memory.Used < (long)Clients * ((Each * Part) - RequestMemory.OwnBytes))
        {
            await Task.Delay(1, TestContext.Current.CancellationToken);
        }

        // After every so many answers, none is ahead of another by more than the threads there are.
        var draining = clients.Select(client => Task.Run(() => Drain(client, Each, Part))).ToList();
        for (var i = 0; i < Clients * Each / 2; i++)
        {
            storage.LetGo(1);
            await storage.HasEndedAsync(i + 1);
        }

        var shares = Enumerable.Range(0, Clients).Select(client => storage.Ended.Count(at => at / (Each * Part) == client)).ToList();
        Assert.True(shares.Max() - shares.Min() <= 2 * (workers + Clients), string.Join(' ', shares));
        Assert.All(shares, share => Assert.NotEqual(0, share));
        storage.LetGo(Clients * Each);
        await Task.WhenAll(draining);
        clients.ForEach(client => client.Dispose());
    }

    [Theory]
    [InlineData(1)]
    [InlineData(16)]
    [InlineData(100)]
    public async Task While_one_client_floods_every_other_one_is_answered(int others)
    {
        // Reads that are ready, and 1 MiB at a time: the one that floods never reads its answers.
        await using var node = TestDisks.Memory(new byte[Size]);
        await using var fixture = new ServerFixture(node, new() { MaxConnections = others + 1, Workers = 4, SendTimeout = TimeSpan.FromHours(1) });
        using var flood = fixture.Open(structured: false);
        Flood(flood, 64);
        var clients = Enumerable.Range(0, others).Select(_ => fixture.Open(structured: false)).ToList();
        foreach (var client in clients)
        {
            Flood(client, 4, 0, 4096);
        }

        foreach (var client in clients)
        {
            Drain(client, 4, 4096);
        }

        // Nothing but what fits the socket's own buffers has left.
        Drain(flood, 64);
        clients.ForEach(client => client.Dispose());
    }

    // Together, so that none of them is alone and done on the connection's own thread.
    private static void Flood(RawClient client, int count, long from = 0, int length = Megabyte) =>
        client.Socket.Send(Enumerable.Range(0, count).SelectMany(i => RawClient.Request(NbdCommand.Read, (ulong)(from + ((long)i * length)), (uint)length, (ulong)i)).ToArray());

    private static void Drain(RawClient client, int count, int length = Megabyte)
    {
        for (var i = 0; i < count; i++)
        {
            Assert.Equal(NbdError.None, client.ReceiveSimple().Error);
            client.Receive(length);
        }
    }

    /// <summary>Reads below the last MiB block their thread until they are let go, one at a time; what is above is at hand.</summary>
    private sealed class GatedStorage : Storage
    {
        private readonly Lock _gate = new();
        private readonly Queue<ManualResetEventSlim> _waiting = new();
        private int _free;
        private int _begun;

        public int Begun => Volatile.Read(ref _begun);

        public ConcurrentQueue<long> Ended { get; } = [];

        public override string Name => "gated";

        public override long Length => Size;

        /// <summary>Lets go who has waited longest, or who comes next.</summary>
        public void LetGo(int count)
        {
            lock (_gate)
            {
                for (; count > 0; count--)
                {
                    if (_waiting.TryDequeue(out var oldest))
                    {
                        oldest.Set();
                    }
                    else
                    {
                        _free++;
                    }
                }
            }
        }

        public async Task HasAsync(int count)
        {
            while (Begun < count)
            {
                await Task.Delay(1);
            }
        }

        public async Task HasEndedAsync(int count)
        {
            while (Ended.Count < count)
            {
                await Task.Delay(1);
            }
        }

        public override ValueTask<int> ReadAsync(HostOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            if (at.Value < Size - Megabyte)
            {
                Wait();
                Ended.Enqueue(at.Value);
            }

            buffer.Span.Clear();
            return new(buffer.Length);
        }

        private void Wait()
        {
            using var mine = new ManualResetEventSlim();
            lock (_gate)
            {
                if (_free > 0)
                {
                    _free--;
                    mine.Set();
                }
                else
                {
                    _waiting.Enqueue(mine);
                }

                Interlocked.Increment(ref _begun);
            }

            mine.Wait(TimeSpan.FromMinutes(1));
        }
    }
}
