using Platter.Core.Graph;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Nbd.Protocol;
using Platter.Nbd.Server;
using Xunit;

namespace Platter.Tests.Unit.Nbd.Server;

/// <summary>Clients that leave when the server is about to send them something: they are forgotten, and it is told why.</summary>
public sealed class HangUpTests
{
    private const int Size = 8 << 20;
    private const int Large = 2 << 20;

    // Never reached but by a server that waits for ever.
    private static readonly TimeSpan s_ever = TimeSpan.FromSeconds(30);

    [Fact]
    public async Task A_client_that_leaves_before_a_durable_write_keeps_no_place()
    {
        using var storage = new HeldStorage(Size);
        await using var node = TestDisks.Raw(storage, Size);
        var left = new Departure();
        await using var fixture = Writable(node, new() { ClientsChanged = left.Tell });

        // The reply to the first write is to go out before the second one waits for the device, and there is nobody to take it.
        await LeaveBehindAsync(
            fixture, storage, [.. RawClient.Request(NbdCommand.Write, 4096, 512, 2, NbdCommandFlags.Fua), .. new byte[512]]);
        await left.Told.WaitAsync(s_ever, TestContext.Current.CancellationToken);
    }

    [Fact]
    public async Task A_client_that_leaves_before_there_is_memory_for_its_write_keeps_no_place()
    {
        using var storage = new HeldStorage(Size);
        await using var node = TestDisks.Raw(storage, Size);
        var left = new Departure();
        await using var fixture = Writable(node, new() { ClientsChanged = left.Tell, MaxTotalInFlightBytes = Large });

        // One client has all of the memory, and sends no data.
        using var other = RawClient.Open(fixture.EndPoint, NbdHeaderStyle.Simple);
        other.Send(NbdCommand.Write, 0, Large);
        while (fixture.Server.Memory.Used == 0)
        {
            await Task.Delay(1, TestContext.Current.CancellationToken);
        }

        await LeaveBehindAsync(fixture, storage, RawClient.Request(NbdCommand.Write, 4096, Large, 2));
        await left.Told.WaitAsync(s_ever, TestContext.Current.CancellationToken);
        Assert.Equal(Large, fixture.Server.Memory.Used);
    }

    [Fact]
    public async Task A_client_that_leaves_inside_a_reply_is_not_said_to_have_taken_too_long()
    {
        await using var node = TestDisks.Memory(new byte[Size]);
        await using var fixture = new ServerFixture(node);
        var client = fixture.Open(structured: false);
        client.Send(NbdCommand.Read, 0, Size);

        // The server is in the middle of sending: the host's buffers take much less than all of it.
        client.Receive(1000);
        client.Dispose();
        while (fixture.Log.Count == 0)
        {
            await Task.Delay(1, TestContext.Current.CancellationToken);
        }

        Assert.DoesNotContain("it took no reply", Assert.Single(fixture.Log), StringComparison.Ordinal);
    }

    /// <summary>Has a write done, and leaves while it is under way; <paramref name="next"/> has arrived together with it.</summary>
    private static async Task LeaveBehindAsync(ServerFixture fixture, HeldStorage storage, byte[] next)
    {
        var client = RawClient.Open(fixture.EndPoint, NbdHeaderStyle.Simple);
        client.Socket.Send([.. RawClient.Request(NbdCommand.Write, 0, 512), .. new byte[512], .. next]);
        await storage.Entered.WaitAsync(s_ever, TestContext.Current.CancellationToken);
        client.Dispose();
        storage.LetGo();
    }

    private static ServerFixture Writable(BlockNode node, NbdServerOptions options) => new(new NbdExport(node) { IsWritable = true }, options);

    /// <summary>Tells when the number of clients goes down.</summary>
    private sealed class Departure
    {
        private readonly TaskCompletionSource _told = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private int _last;

        public Task Told => _told.Task;

        public void Tell(int clients)
        {
            if (clients < Interlocked.Exchange(ref _last, clients))
            {
                _told.TrySetResult();
            }
        }
    }

    /// <summary>Keeps a write, and the thread that does it, until it is told to let it go.</summary>
    private sealed class HeldStorage(int size) : Storage, IDisposable
    {
        private readonly TaskCompletionSource _entered = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private readonly ManualResetEventSlim _go = new();

        public Task Entered => _entered.Task;

        public override string Name => "held";

        public override long Length => size;

        public override bool IsReadOnly => false;

        public void LetGo() => _go.Set();

        public void Dispose() => _go.Dispose();

        public override ValueTask<int> ReadAsync(HostOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            buffer.Span.Clear();
            return new(buffer.Length);
        }

        public override ValueTask WriteAsync(HostOffset at, ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
        {
            _entered.TrySetResult();
            _go.Wait(cancellationToken);
            return ValueTask.CompletedTask;
        }

        public override ValueTask FlushAsync(CancellationToken cancellationToken = default) => ValueTask.CompletedTask;
    }
}
