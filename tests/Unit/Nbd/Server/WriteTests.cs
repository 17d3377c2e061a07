using System.Buffers.Binary;
using Platter.Core.Bitmaps;
using Platter.Core.Graph;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Host.Files;
using Platter.Nbd.Protocol;
using Platter.Nbd.Server;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Nbd.Server;

/// <summary>Requests that change the disk, in every style of headers.</summary>
public sealed class WriteTests
{
    private const int Size = 1 << 20;

    [Theory]
    [InlineData(NbdHeaderStyle.Simple)]
    [InlineData(NbdHeaderStyle.Structured)]
    [InlineData(NbdHeaderStyle.Extended)]
    internal async Task Any_sequence_of_changes_leaves_what_a_model_says(NbdHeaderStyle style)
    {
        var seed = Environment.TickCount;
        var random = new Random(seed);
        var model = TestDisks.Pattern(Size);
        await using var fixture = Writable([.. model]);
        using var client = RawClient.Open(fixture.EndPoint, style);
        for (var i = 0; i < 400; i++)
        {
            var at = random.Next(Size);
            var length = random.Next(1, Math.Min(Size - at, random.Next(2) == 0 ? 300_000 : 5000) + 1);
            var flags = random.Next(4) == 0 ? NbdCommandFlags.Fua : NbdCommandFlags.None;
            switch (random.Next(4))
            {
                case 0:
                    var data = new byte[length];
                    random.NextBytes(data);
                    Assert.Equal(NbdError.None, client.Do(NbdCommand.Write, (ulong)at, (ulong)length, flags, data));
                    data.CopyTo(model, at);
                    break;
                case 1:
                    flags |= random.Next(2) == 0 ? NbdCommandFlags.NoHole : NbdCommandFlags.None;
                    Assert.Equal(NbdError.None, client.Do(NbdCommand.WriteZeroes, (ulong)at, (ulong)length, flags));
                    model.AsSpan(at, length).Clear();
                    break;
                case 2:
                    Assert.Equal(NbdError.None, client.Do(NbdCommand.Flush, 0, 0));
                    break;
                default:
                    Assert.True(model.AsSpan(at, length).SequenceEqual(client.Read((ulong)at, (uint)length)), $"seed {seed}, step {i}: {length} bytes at {at} differ");
                    break;
            }
        }

        Assert.Equal(model, client.Read(0, Size));
    }

    [Fact]
    public async Task Pipelined_writes_of_all_sizes_arrive_whole_and_in_their_places()
    {
        var model = new byte[Size];
        await using var fixture = Writable(new byte[Size]);
        using var client = RawClient.Open(fixture.EndPoint, NbdHeaderStyle.Structured);
        var bytes = new List<byte>();
        var count = 0;
        for (var (at, length) = (0, 1); at + length <= Size; (at, length) = (at + length, (length * 7 / 5) + 1), count++)
        {
            var data = TestDisks.Pattern(length, at);
            data.CopyTo(model, at);
            bytes.AddRange(RawClient.Request(NbdCommand.Write, (ulong)at, (uint)length, (ulong)count));
            bytes.AddRange(data);
        }

        var sending = Task.Run(() => client.Socket.Send(bytes.ToArray()));
        var answered = new HashSet<ulong>();
        for (var i = 0; i < count; i++)
        {
            var reply = client.ReceiveSimple();
            Assert.Equal(NbdError.None, reply.Error);
            Assert.True(answered.Add(reply.Cookie));
        }

        await sending;
        Assert.Equal(model, client.Read(0, Size));
    }

    [Theory]
    [InlineData(NbdHeaderStyle.Structured)]
    [InlineData(NbdHeaderStyle.Extended)]
    internal async Task What_lies_outside_the_disk_or_has_wrong_flags_is_refused_and_the_stream_stays_in_step(NbdHeaderStyle style)
    {
        await using var fixture = Writable(TestDisks.Pattern(Size));
        using var client = RawClient.Open(fixture.EndPoint, style);
        Assert.Equal(NbdError.NoSpc, client.Do(NbdCommand.Write, Size - 1, 2, 0, [1, 2]));
        Assert.Equal(NbdError.NoSpc, client.Do(NbdCommand.Write, ulong.MaxValue, 2, 0, [1, 2]));
        Assert.Equal(NbdError.Inval, client.Do(NbdCommand.Write, 0, 2, NbdCommandFlags.DontFragment, [1, 2]));
        Assert.Equal(NbdError.NoSpc, client.Do(NbdCommand.WriteZeroes, Size, 1));
        Assert.Equal(NbdError.Inval, client.Do(NbdCommand.Trim, Size, 1));
        Assert.Equal(NbdError.Inval, client.Do(NbdCommand.Trim, 0, 1, NbdCommandFlags.FastZero));
        Assert.Equal(NbdError.Inval, client.Do(NbdCommand.Flush, 0, 1));
        Assert.Equal(TestDisks.Pattern(Size), client.Read(0, Size));
    }

    [Fact]
    public async Task Payloads_that_nobody_asked_for_are_skipped_and_the_stream_stays_in_step()
    {
        await using var fixture = Writable(TestDisks.Pattern(Size));
        using var client = RawClient.Open(fixture.EndPoint, NbdHeaderStyle.Extended);
        Assert.Equal(NbdError.Inval, client.Do(NbdCommand.Read, 0, 3, 0, [1, 2, 3]));
        Assert.Equal(NbdError.Inval, client.Do(NbdCommand.Trim, 0, 3, 0, [1, 2, 3]));
        Assert.Equal(TestDisks.Pattern(Size), client.Read(0, Size));
    }

    [Fact]
    public async Task An_extended_write_without_its_flag_is_taken_as_QEMU_sends_it()
    {
        await using var fixture = Writable(TestDisks.Pattern(Size));
        using var client = RawClient.Open(fixture.EndPoint, NbdHeaderStyle.Extended);
        var header = new byte[NbdRequest.ExtendedSize];
        new NbdRequest(NbdCommandFlags.None, NbdCommand.Write, 9, 4096, 3).WriteTo(header, NbdHeaderStyle.Extended);
        client.Socket.Send([.. header, 1, 2, 3]);
        Assert.Equal(NbdChunkType.None, client.ReceiveExtendedChunk().Header.Type);
        Assert.Equal([1, 2, 3], client.Read(4096, 3));
    }

    [Fact]
    public async Task A_compact_request_after_extended_headers_were_agreed_ends_the_connection()
    {
        await using var fixture = Writable(new byte[Size]);
        using var client = RawClient.Open(fixture.EndPoint, NbdHeaderStyle.Extended);
        client.Socket.Send(RawClient.Request(NbdCommand.Read, 0, 512));
        client.Socket.Send(new byte[64]);
        Assert.True(client.IsClosed());
    }

    [Fact]
    public async Task A_payload_above_the_limit_ends_the_connection_before_it_is_received()
    {
        await using var fixture = Writable(new byte[Size]);
        using var client = RawClient.Open(fixture.EndPoint, NbdHeaderStyle.Structured);
        client.Send(NbdCommand.Write, 0, 0xffff_ffff);
        Assert.True(client.IsClosed());
        Assert.Contains("payload of 4294967295 bytes", Assert.Single(fixture.Log));
    }

    [Fact]
    public async Task Fast_zeros_are_refused_where_they_would_have_to_be_written()
    {
        using var folder = new TempFolder("fast");
        var token = TestContext.Current.CancellationToken;
        await Disk.CreateAsync(folder["a.qcow2"], Size, new Qcow2CreateOptions(), token);
        await using var disk = await Disk.OpenAsync(folder["a.qcow2"], new() { Writable = true }, token);
        await disk.WriteAsync(0, TestDisks.Pattern(Size), token);
        await using var fixture = new ServerFixture(new NbdExport(disk.Node) { IsWritable = true });
        using var client = RawClient.Open(fixture.EndPoint, NbdHeaderStyle.Structured);
        Assert.Equal(NbdError.NotSup, client.Do(NbdCommand.WriteZeroes, 1, 1000, NbdCommandFlags.FastZero));
        Assert.Equal(TestDisks.Pattern(Size)[..4096], client.Read(0, 4096));
        Assert.Equal(NbdError.NotSup, client.Do(NbdCommand.WriteZeroes, 0, 65536 + 100, NbdCommandFlags.FastZero));
        Assert.Equal(TestDisks.Pattern(Size)[..4096], client.Read(0, 4096));
        Assert.Equal(NbdError.None, client.Do(NbdCommand.WriteZeroes, 65536, 65536, NbdCommandFlags.FastZero));
        Assert.Equal(new byte[65536], client.Read(65536, 65536));
        Assert.Empty(fixture.Log);
    }

    [Fact]
    public async Task Fast_zeros_on_a_raw_disk_whose_storage_cannot_make_them_are_refused_and_write_nothing()
    {
        var storage = new CountingStorage(TestDisks.Pattern(Size));
        await using var node = TestDisks.Raw(storage, Size);
        await using var fixture = new ServerFixture(new NbdExport(node) { IsWritable = true });
        using var client = RawClient.Open(fixture.EndPoint, NbdHeaderStyle.Structured);
        Assert.Equal(NbdError.NotSup, client.Do(NbdCommand.WriteZeroes, 4096, 65536, NbdCommandFlags.FastZero));
        Assert.Equal(NbdError.NotSup, client.Do(NbdCommand.WriteZeroes, 4096, 65536, NbdCommandFlags.FastZero | NbdCommandFlags.NoHole));
        Assert.Equal(NbdError.None, client.Do(NbdCommand.Trim, 0, Size));
        Assert.Equal(0, storage.Writes);
        Assert.Equal(TestDisks.Pattern(Size), client.Read(0, Size));
        Assert.Equal(NbdError.None, client.Do(NbdCommand.WriteZeroes, 4096, 65536));
        Assert.Equal(new byte[65536], client.Read(4096, 65536));
    }

    [Fact]
    public async Task Fast_zeros_on_a_file_are_what_its_file_system_can_do()
    {
        const string Memory = "/dev/shm";
        Assert.SkipUnless(Directory.Exists(Memory) && new DriveInfo(Memory).DriveFormat == "tmpfs", "no tmpfs at /dev/shm: it can make holes, and no zeros without them");
        var path = Path.Combine(Memory, Path.GetRandomFileName());
        try
        {
            File.WriteAllBytes(path, TestDisks.Pattern(Size));
            await using var node = TestDisks.Raw(FileStorage.Open(path, writable: true), Size);
            await using var fixture = new ServerFixture(new NbdExport(node) { IsWritable = true });
            using var client = RawClient.Open(fixture.EndPoint, NbdHeaderStyle.Structured);
            Assert.Equal(NbdError.NotSup, client.Do(NbdCommand.WriteZeroes, 0, 65536, NbdCommandFlags.FastZero | NbdCommandFlags.NoHole));
            Assert.Equal(TestDisks.Pattern(Size), client.Read(0, Size));
            Assert.Equal(NbdError.None, client.Do(NbdCommand.WriteZeroes, 0, 65536, NbdCommandFlags.FastZero));
            Assert.Equal(NbdError.None, client.Do(NbdCommand.WriteZeroes, 65536, 65536, NbdCommandFlags.NoHole));
            Assert.Equal(new byte[131072], client.Read(0, 131072));
            Assert.Equal(TestDisks.Pattern(Size)[131072..], client.Read(131072, Size - 131072));
        }
        finally
        {
            File.Delete(path);
        }
    }

    [Fact]
    public async Task Zeros_that_are_written_are_detected_and_trim_is_ignored_where_it_was_asked_for()
    {
        await using var node = TestDisks.Raw(new MemoryStorage("memory", TestDisks.Pattern(Size)), Size);
        await using var fixture = new ServerFixture(new NbdExport(node) { IsWritable = true, Unmaps = false, DetectZeroes = NbdZeroDetection.On });
        using var client = RawClient.Open(fixture.EndPoint, NbdHeaderStyle.Structured);
        Assert.Equal(NbdError.None, client.Do(NbdCommand.Trim, 0, Size));
        Assert.Equal(TestDisks.Pattern(Size), client.Read(0, Size));
        Assert.Equal(NbdError.None, client.Do(NbdCommand.Write, 4096, 8192, 0, new byte[8192]));
        Assert.Equal(new byte[8192], client.Read(4096, 8192));
    }

    [Fact]
    public async Task A_flush_on_one_connection_covers_what_another_one_was_told_is_written()
    {
        var storage = new CountingStorage(new byte[Size]);
        await using var node = TestDisks.Raw(storage, Size);
        await using var fixture = new ServerFixture(new NbdExport(node) { IsWritable = true });
        using var writer = RawClient.Open(fixture.EndPoint, NbdHeaderStyle.Structured);
        using var other = RawClient.Open(fixture.EndPoint, NbdHeaderStyle.Structured);
        Assert.Equal(NbdError.None, writer.Do(NbdCommand.Write, 0, 4, 0, [1, 2, 3, 4]));
        Assert.Equal((1, 0), (storage.Writes, storage.Durable));
        Assert.Equal(NbdError.None, other.Do(NbdCommand.Flush, 0, 0));
        Assert.Equal(1, storage.Durable);
        Assert.Equal([1, 2, 3, 4], other.Read(0, 4));
    }

    [Fact]
    public async Task Fua_is_durable_when_it_is_answered()
    {
        var storage = new CountingStorage(new byte[Size]);
        await using var node = TestDisks.Raw(storage, Size);
        await using var fixture = new ServerFixture(new NbdExport(node) { IsWritable = true });
        using var client = RawClient.Open(fixture.EndPoint, NbdHeaderStyle.Structured);
        Assert.Equal(NbdError.None, client.Do(NbdCommand.Write, 0, 4, NbdCommandFlags.Fua, [1, 2, 3, 4]));
        Assert.Equal(1, storage.Durable);
        Assert.Equal(NbdError.None, client.Do(NbdCommand.WriteZeroes, 0, 4, NbdCommandFlags.Fua));
        Assert.Equal(storage.Writes, storage.Durable);
    }

    [Theory]
    [InlineData(NbdHeaderStyle.Structured)]
    [InlineData(NbdHeaderStyle.Extended)]
    internal async Task Every_context_that_was_selected_has_its_chunk(NbdHeaderStyle style)
    {
        await using var node = new BitmapDisk(TestDisks.Memory(TestDisks.Pattern(Size)));
        var bitmap = await NbdBitmap.ReadAsync(node, "b", TestContext.Current.CancellationToken);
        await using var fixture = new ServerFixture(new NbdExport(node) { Bitmaps = [bitmap], TellsDepth = true });
        using var client = RawClient.Open(fixture.EndPoint, style, "qemu:dirty-bitmap:b", "base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:none");
        var chunks = Status(client, 0, Size);
        Assert.Equal([0u, 1u, 2u], chunks.Select(chunk => chunk.Context));
        Assert.Equal([(Size, 0ul)], chunks[0].Extents);
        Assert.Equal([(Size, 1ul)], chunks[1].Extents);
        Assert.Equal([(65536, 0ul), (131072, 1ul), (Size - 196608, 0ul)], chunks[2].Extents);
        Assert.Equal([(1000, 1ul)], Status(client, 100_000, 1000)[2].Extents);
        Assert.Equal([(65536, 0ul)], Status(client, 0, Size, NbdCommandFlags.RequestOne)[2].Extents);
    }

    [Fact]
    public async Task Random_extended_requests_never_break_a_server_that_writes()
    {
        var seed = Environment.TickCount;
        TestContext.Current.TestOutputHelper?.WriteLine($"seed {seed}");
        var random = new Random(seed);
        await using var fixture = Writable(new byte[Size]);
        for (var round = 0; round < 40; round++)
        {
            using var client = RawClient.Open(fixture.EndPoint, NbdHeaderStyle.Extended, "base:allocation");
            var draining = Task.Run(client.IsClosed);
            var bytes = new byte[NbdRequest.ExtendedSize];
            for (var i = 0; i < 50; i++)
            {
                var command = (NbdCommand)random.Next(10);
                if (command == NbdCommand.Disconnect)
                {
                    continue;
                }

                var flags = (NbdCommandFlags)random.Next(64);
                var hasPayload = command == NbdCommand.Write || (flags & NbdCommandFlags.PayloadLength) != 0;
                var length = hasPayload ? random.Next(10_000) : random.Next(3) == 0 ? random.NextInt64() : random.Next(100_000);
                var offset = random.Next(4) == 0 ? (ulong)random.NextInt64() * 2 : (ulong)random.Next(Size);
                new NbdRequest(flags, command, (ulong)i, offset, (ulong)length).WriteTo(bytes, NbdHeaderStyle.Extended);
                client.Socket.Send([.. bytes, .. hasPayload ? new byte[length] : []]);
            }

            new NbdRequest(NbdCommandFlags.None, NbdCommand.Disconnect, 0, 0, 0).WriteTo(bytes, NbdHeaderStyle.Extended);
            client.Socket.Send(bytes);
            Assert.True(await draining);
        }

        Assert.Empty(fixture.Log);
    }

    [Fact]
    public async Task A_client_that_stops_inside_its_data_keeps_nobody_else_and_changes_nothing()
    {
        await using var fixture = Writable(TestDisks.Pattern(Size));
        using var stuck = RawClient.Open(fixture.EndPoint, NbdHeaderStyle.Structured);
        stuck.Send(NbdCommand.Write, 0, 65536);
        stuck.Socket.Send(new byte[65535]);
        using var other = RawClient.Open(fixture.EndPoint, NbdHeaderStyle.Structured);
        Assert.Equal(NbdError.None, other.Do(NbdCommand.Flush, 0, 0));
        stuck.Dispose();
        Assert.Equal(TestDisks.Pattern(Size)[..65536], other.Read(0, 65536));
    }

    [Fact]
    public async Task A_status_payload_chooses_contexts()
    {
        await using var node = new BitmapDisk(TestDisks.Memory(TestDisks.Pattern(Size)));
        var bitmap = await NbdBitmap.ReadAsync(node, "b", TestContext.Current.CancellationToken);
        await using var fixture = new ServerFixture(new NbdExport(node) { Bitmaps = [bitmap] });
        using var client = RawClient.Open(fixture.EndPoint, NbdHeaderStyle.Extended, "qemu:dirty-bitmap:b", "base:allocation");
        Assert.Equal(2u, Assert.Single(Status(client, 0, 0, payload: new NbdStatusQuery(Size, [2]).ToArray())).Context);
        Assert.Equal([0u, 2u], Status(client, 0, 0, payload: new NbdStatusQuery(4096, [0, 2]).ToArray()).Select(chunk => chunk.Context).Order());
        foreach (var wrong in (byte[][])
            [
                new NbdStatusQuery(Size, [1]).ToArray(), new NbdStatusQuery(Size, [2, 2]).ToArray(), new NbdStatusQuery(Size, []).ToArray(),
                new NbdStatusQuery(0, [2]).ToArray(), new NbdStatusQuery(Size + 1, [2]).ToArray(), new NbdStatusQuery(Size, [0, 2, 1]).ToArray(), [1, 2, 3],
                new byte[100_000], new byte[8 + (4 << 20)],
            ])
        {
            Assert.Equal(NbdError.Inval, client.Do(NbdCommand.BlockStatus, 0, (ulong)wrong.Length, 0, wrong));
        }

        Assert.Equal(TestDisks.Pattern(Size)[..4096], client.Read(0, 4096));
    }

    private static ServerFixture Writable(byte[] content) =>
        new(new NbdExport(TestDisks.Raw(new MemoryStorage("memory", content), content.Length)) { IsWritable = true });

    private static List<(uint Context, List<(int Length, ulong Status)> Extents)> Status(
        RawClient client, int at, int length, NbdCommandFlags flags = 0, byte[]? payload = null)
    {
        var header = new byte[NbdRequest.SizeOf(client.Style)];
        flags |= payload is null ? 0 : NbdCommandFlags.PayloadLength;
        new NbdRequest(flags, NbdCommand.BlockStatus, 3, (ulong)at, (ulong)(payload?.Length ?? length)).WriteTo(header, client.Style);
        client.Socket.Send([.. header, .. payload ?? []]);
        var result = new List<(uint, List<(int, ulong)>)>();
        while (true)
        {
            var extended = client.Style == NbdHeaderStyle.Extended;
            var (chunk, body) = extended ? client.ReceiveExtendedChunk() : client.ReceiveChunk();
            Assert.Equal(extended ? NbdChunkType.BlockStatusExt : NbdChunkType.BlockStatus, chunk.Type);
            var extents = new List<(int, ulong)>();
            var size = NbdStatusDescriptor.SizeOf(client.Style);
            for (var i = NbdStatusDescriptor.PrefixSizeOf(client.Style); i < body.Length; i += size)
            {
                var descriptor = NbdStatusDescriptor.Parse(body.AsSpan(i), client.Style);
                extents.Add(((int)descriptor.Length, descriptor.Status));
            }

            if (extended)
            {
                Assert.Equal((uint)extents.Count, BinaryPrimitives.ReadUInt32BigEndian(body.AsSpan(4)));
            }

            result.Add((BinaryPrimitives.ReadUInt32BigEndian(body), extents));
            if ((chunk.Flags & NbdChunkFlags.Done) != 0)
            {
                return result;
            }
        }
    }

    /// <summary>Counts writes, and how many of them a flush has covered.</summary>
    private sealed class CountingStorage(byte[] bytes) : Storage
    {
        public int Writes { get; private set; }

        public int Durable { get; private set; }

        public override string Name => "counting";

        public override long Length => bytes.Length;

        public override bool IsReadOnly => false;

        public override ValueTask<int> ReadAsync(HostOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            bytes.AsMemory((int)at.Value, buffer.Length).CopyTo(buffer);
            return new(buffer.Length);
        }

        public override ValueTask WriteAsync(HostOffset at, ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
        {
            buffer.CopyTo(bytes.AsMemory((int)at.Value));
            Writes++;
            return ValueTask.CompletedTask;
        }

        public override ValueTask WriteZeroesAsync(HostOffset at, long length, bool mayUnmap, CancellationToken cancellationToken = default)
        {
            bytes.AsSpan((int)at.Value, (int)length).Clear();
            Writes++;
            return ValueTask.CompletedTask;
        }

        public override ValueTask FlushAsync(CancellationToken cancellationToken = default)
        {
            Durable = Writes;
            return ValueTask.CompletedTask;
        }
    }

    /// <summary>A disk with a dirty bitmap: 128 KiB from 64 KiB on.</summary>
    private sealed class BitmapDisk(BlockNode inner) : BlockNode
    {
        public override string Name => inner.Name;

        public override string FormatName => inner.FormatName;

        public override long VirtualSize => inner.VirtualSize;

        public override IEnumerable<Storage> Storages => inner.Storages;

        public override IReadOnlyList<BitmapInfo> Bitmaps => [new("b", 65536, InUse: false, Enabled: true)];

        public override async IAsyncEnumerable<DirtyRange> ReadBitmapAsync(
            string name, [System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken cancellationToken = default)
        {
            await Task.CompletedTask;
            yield return new(new GuestOffset(65536), 131072);
        }

        public override ValueTask<Platter.Core.Images.Extent> MapAsync(
            GuestOffset at, long length, MapDetail detail = MapDetail.Metadata, CancellationToken cancellationToken = default) =>
            inner.MapAsync(at, length, detail, cancellationToken);

        public override ValueTask<Platter.Core.Images.ImageInfo> GetInfoAsync(CancellationToken cancellationToken = default) => inner.GetInfoAsync(cancellationToken);

        public override ValueTask<Platter.Core.Images.CheckReport> CheckAsync(
            Action<Platter.Core.Images.CheckFinding> report, IProgress<double>? progress = null, CancellationToken cancellationToken = default) =>
            inner.CheckAsync(report, progress, cancellationToken);

        public override ValueTask DisposeAsync() => inner.DisposeAsync();
    }
}
