using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Nbd.Protocol;
using Platter.Nbd.Server;
using Xunit;

namespace Platter.Tests.Unit.Nbd.Server;

/// <summary>Requests whose length says nothing about what they cost: 2^63 bytes of zeros, trims, prefetching, block status.</summary>
public sealed class LongRequestTests
{
    // Far more pieces than any test waits for.
    private const long Size = 1L << 62;

    [Theory]
    [InlineData(NbdCommand.Trim)]
    [InlineData(NbdCommand.WriteZeroes)]
    [InlineData(NbdCommand.Cache)]
    internal async Task They_end_when_the_server_does(NbdCommand command)
    {
        var disk = new EndlessDisk();
        var fixture = new ServerFixture(new NbdExport(disk) { IsWritable = true });
        using var client = RawClient.Open(fixture.EndPoint, NbdHeaderStyle.Extended);
        Send(client, command, Size);
        await disk.HasDoneAsync(3);
        await fixture.Server.StopAsync(TimeSpan.FromMilliseconds(50));
        Assert.True(client.IsClosed());
        await disk.IsLeftAloneAsync();
        await fixture.DisposeAsync();
    }

    [Theory]
    [InlineData(NbdCommand.Trim, true)]
    [InlineData(NbdCommand.WriteZeroes, true)]
    [InlineData(NbdCommand.Cache, true)]
    [InlineData(NbdCommand.Trim, false)]
    [InlineData(NbdCommand.WriteZeroes, false)]
    [InlineData(NbdCommand.Cache, false)]
    internal async Task They_end_when_their_client_has_gone(NbdCommand command, bool alone)
    {
        var disk = new EndlessDisk();
        await using var fixture = new ServerFixture(new NbdExport(disk) { IsWritable = true }, new() { MaxConnections = 1 });
        var client = RawClient.Open(fixture.EndPoint, NbdHeaderStyle.Extended);
        Send(client, command, Size, alone ? 1 : 2);
        await disk.HasDoneAsync(3);
        client.Dispose();

        // Its place is free: the connection has ended as well.
        using var next = RawClient.Open(fixture.EndPoint, NbdHeaderStyle.Extended);
        await disk.IsLeftAloneAsync();
    }

    [Theory]
    [InlineData(NbdCommand.Trim)]
    [InlineData(NbdCommand.WriteZeroes)]
    internal async Task A_client_that_disconnects_in_order_has_all_of_them_done(NbdCommand command)
    {
        var disk = new EndlessDisk();
        await using var fixture = new ServerFixture(new NbdExport(disk) { IsWritable = true }, new() { MaxConnections = 1 });
        var client = RawClient.Open(fixture.EndPoint, NbdHeaderStyle.Extended);
        Send(client, command, 20L << 30);
        Send(client, NbdCommand.Disconnect, 0);
        client.Dispose();
        using var next = RawClient.Open(fixture.EndPoint, NbdHeaderStyle.Extended);
        Assert.Equal(20L << 30, disk.Bytes);
    }

    [Theory]
    [InlineData(0ul)]
    [InlineData(ulong.MaxValue)]
    [InlineData(1ul << 63)]
    [InlineData((ulong)Size + 1)]
    internal async Task A_length_of_nothing_or_beyond_the_disk_is_refused_whatever_it_wraps_to(ulong length)
    {
        var disk = new EndlessDisk();
        await using var fixture = new ServerFixture(new NbdExport(disk) { IsWritable = true });
        using var client = RawClient.Open(fixture.EndPoint, NbdHeaderStyle.Extended, "base:allocation");
        foreach (var at in (ulong[])[0, 1, 4096, (ulong)Size, ulong.MaxValue])
        {
            Assert.Equal(NbdError.Inval, client.Do(NbdCommand.BlockStatus, at, length));
            Assert.Equal(NbdError.Inval, client.Do(NbdCommand.Read, at, length));
            Assert.Equal(NbdError.Inval, client.Do(NbdCommand.Trim, at, length));
            Assert.Equal(NbdError.Inval, client.Do(NbdCommand.Cache, at, length));
            Assert.Equal(length == 0 && at <= (ulong)Size ? NbdError.Inval : NbdError.NoSpc, client.Do(NbdCommand.WriteZeroes, at, length));
        }

        Assert.Equal(0, disk.Done);
    }

    [Fact]
    public async Task A_block_status_of_2_to_the_62_has_a_reply_that_is_limited()
    {
        // Data and holes in turn, 64 KiB each: 2^46 extents.
        var disk = new EndlessDisk { Alternates = true };
        await using var fixture = new ServerFixture(new NbdExport(disk));
        using var client = RawClient.Open(fixture.EndPoint, NbdHeaderStyle.Extended, "base:allocation");
        Send(client, NbdCommand.BlockStatus, Size);
        var (header, body) = client.ReceiveExtendedChunk();
        Assert.Equal((NbdChunkType.BlockStatusExt, NbdChunkFlags.Done), (header.Type, header.Flags));
        Assert.InRange(body.Length, 16 * 1024, 1 << 20);
    }

    [Fact]
    public async Task A_block_status_of_extents_that_are_all_the_same_ends_before_all_of_them_were_looked_at()
    {
        var disk = new EndlessDisk();
        await using var fixture = new ServerFixture(new NbdExport(disk));
        using var client = RawClient.Open(fixture.EndPoint, NbdHeaderStyle.Extended, "base:allocation");
        Send(client, NbdCommand.BlockStatus, Size);
        var (_, body) = client.ReceiveExtendedChunk();
        var descriptor = NbdStatusDescriptor.Parse(body.AsSpan(8), NbdHeaderStyle.Extended);
        Assert.Equal(24, body.Length);
        Assert.InRange((long)descriptor.Length, 65536, Size / 2);
    }

    [Theory]
    [InlineData(uint.MaxValue, 1ul << 32)]
    [InlineData(uint.MaxValue, (1ul << 32) - 1000)]
    [InlineData(1u, (1ul << 32) - 1)]
    public async Task A_block_status_across_4_GiB_is_told_in_descriptors_of_32_bits(uint length, ulong at)
    {
        var disk = new EndlessDisk();
        await using var fixture = new ServerFixture(new NbdExport(disk));
        using var client = RawClient.Open(fixture.EndPoint, NbdHeaderStyle.Structured, "base:allocation");
        client.Send(NbdCommand.BlockStatus, at, length);
        var (header, body) = client.ReceiveChunk();
        Assert.Equal((NbdChunkType.BlockStatus, 12), (header.Type, body.Length));

        // It may tell of less than was asked, when there are very many extents.
        Assert.InRange((uint)NbdStatusDescriptor.Parse(body.AsSpan(4), NbdHeaderStyle.Structured).Length, Math.Max(length, 100_000) - 100_000, length);
    }

    private static void Send(RawClient client, NbdCommand command, long length, int times = 1)
    {
        var bytes = new byte[NbdRequest.ExtendedSize * times];
        for (var i = 0; i < times; i++)
        {
            new NbdRequest(NbdCommandFlags.None, command, (ulong)i, 0, (ulong)length).WriteTo(bytes.AsSpan(i * NbdRequest.ExtendedSize), NbdHeaderStyle.Extended);
        }

        client.Socket.Send(bytes);
    }

    /// <summary>A disk of 4 EiB that does nothing, and counts it.</summary>
    private sealed class EndlessDisk : BlockNode
    {
        private static readonly Storage s_nothing = new MemoryStorage("nothing", [], readOnly: true);
        private long _bytes;
        private int _done;

        public bool Alternates { get; init; }

        public int Done => Volatile.Read(ref _done);

        public long Bytes => Interlocked.Read(ref _bytes);

        public override string Name => "endless";

        public override string FormatName => "raw";

        public override long VirtualSize => Size;

        public override IEnumerable<Storage> Storages => [];

        public async Task HasDoneAsync(int count)
        {
            while (Done < count)
            {
                await Task.Delay(1);
            }
        }

        /// <summary>Nothing more comes: checked a few times, since what is running may still end.</summary>
        public async Task IsLeftAloneAsync()
        {
            for (var quiet = 0; quiet < 5;)
            {
                var before = Done;
                await Task.Delay(10);
                quiet = Done == before ? quiet + 1 : 0;
            }
        }

        public override ValueTask<Extent> MapAsync(GuestOffset at, long length, MapDetail detail = MapDetail.Metadata, CancellationToken cancellationToken = default)
        {
            Step(0);
            var isData = !Alternates || (at.Value >> 16) % 2 == 0;
            return new(new Extent
            {
                Offset = at,
                Length = Math.Min(length, 65536 - (at.Value & 65535)),
                Kind = isData ? ExtentKind.Data : ExtentKind.Zero,
                Storage = s_nothing,
            });
        }

        public override async ValueTask WriteZeroesAsync(GuestOffset at, long length, WriteFlags flags = WriteFlags.None, CancellationToken cancellationToken = default)
        {
            await Task.Delay(1, cancellationToken);
            Step(length);
        }

        public override async ValueTask DiscardAsync(GuestOffset at, long length, CancellationToken cancellationToken = default)
        {
            await Task.Delay(1, cancellationToken);
            Step(length);
        }

        public override ValueTask<ImageInfo> GetInfoAsync(CancellationToken cancellationToken = default) => throw new NotSupportedException();

        public override ValueTask<CheckReport> CheckAsync(Action<CheckFinding> report, IProgress<double>? progress = null, CancellationToken cancellationToken = default) =>
            throw new NotSupportedException();

        public override ValueTask DisposeAsync() => ValueTask.CompletedTask;

        private void Step(long bytes)
        {
            Interlocked.Increment(ref _done);
            Interlocked.Add(ref _bytes, bytes);
        }
    }
}
