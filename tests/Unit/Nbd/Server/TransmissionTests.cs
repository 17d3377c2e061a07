using System.Buffers.Binary;
using System.Net.Sockets;
using Platter.Core.Storages;
using Platter.Host.Files;
using Platter.Nbd.Protocol;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Nbd.Server;

/// <summary>Requests and replies.</summary>
public sealed class TransmissionTests
{
    private const int Size = 1 << 20;

    [Theory]
    [InlineData(false, false)]
    [InlineData(true, false)]
    [InlineData(true, true)]
    public async Task Any_range_reads_right_from_memory_and_from_a_file(bool file, bool sendFiles)
    {
        // Not whole sectors: the file ends inside the disk's last one, which reads as zeros from there.
        var bytes = TestDisks.Pattern(Size - 100);
        var disk = new byte[Size];
        bytes.CopyTo(disk, 0);
        using var folder = new TempFolder();
        await using var node = file ? TestDisks.Raw(FileStorage.Open(folder.Write("f", bytes)), Size) : TestDisks.Raw(new MemoryStorage("m", bytes), Size);
        await using var fixture = new ServerFixture(node, new() { SendFiles = sendFiles });
        using var structured = fixture.Open();
        using var simple = fixture.Open(structured: false);
        (int At, int Length)[] ranges =
        [
            (0, 1), (0, 512), (1, 4096), (4096, 16383), (5, 16384), (4096, 16385), (777, 131072), (100, 200_000), (512, 262_143), (512, 262_144), (3, 262_145), (9, 600_000), (0, Size), (Size - 1, 1),
            (Size - 200, 200), (Size - 40_000, 40_000), (Size - 50_000, 49_900),
        ];
        foreach (var (at, length) in ranges)
        {
            var expected = disk.AsSpan(at, length);
            Assert.True(expected.SequenceEqual(structured.ReadStructured((ulong)at, (uint)length)), $"{at}+{length}");
            Assert.True(expected.SequenceEqual(structured.ReadStructured((ulong)at, (uint)length, NbdCommandFlags.DontFragment)), $"{at}+{length} DF");
            Assert.True(expected.SequenceEqual(simple.ReadSimple((ulong)at, (uint)length)), $"{at}+{length} simple");
        }
    }

    [Fact]
    public async Task Thousands_of_pipelined_requests_are_all_answered()
    {
        var bytes = TestDisks.Pattern(Size);
        using var folder = new TempFolder();
        await using var node = TestDisks.Raw(FileStorage.Open(folder.Write("f", bytes)), Size);
        await using var fixture = new ServerFixture(node);
        using var client = fixture.Open(structured: false);
        const int Count = 5000;
        var random = new Random(1);
        var offsets = new int[Count];
        var batch = new byte[Count * NbdRequest.CompactSize];
        for (var i = 0; i < Count; i++)
        {
            offsets[i] = random.Next(Size - 4096);
            RawClient.Request(NbdCommand.Read, (ulong)offsets[i], 4096, (ulong)i).CopyTo(batch, i * NbdRequest.CompactSize);
        }

        var sending = Task.Run(() => client.Socket.Send(batch));
        var seen = new HashSet<ulong>();
        for (var i = 0; i < Count; i++)
        {
            var reply = client.ReceiveSimple();
            Assert.Equal(NbdError.None, reply.Error);
            Assert.True(seen.Add(reply.Cookie));
            Assert.True(bytes.AsSpan(offsets[(int)reply.Cookie], 4096).SequenceEqual(client.Receive(4096)));
        }

        await sending;
    }

    [Fact]
    public async Task Requests_that_wait_do_not_hold_up_others()
    {
        var slow = new TestDisks.SlowStorage(TestDisks.Pattern(Size));
        await using var node = TestDisks.Raw(slow, Size);
        await using var fixture = new ServerFixture(node);
        using var client = fixture.Open(structured: false);
        for (ulong i = 1; i <= 5; i++)
        {
            client.Send(NbdCommand.Read, 0, 4096, i);
        }

        client.Send(NbdCommand.Flush, 0, 0, 77);
        Assert.Equal(77ul, client.ReceiveSimple().Cookie);
        using var other = fixture.Open();
        other.Send(NbdCommand.Flush, 0, 0, 78);
        Assert.Equal(78ul, other.ReceiveSimple().Cookie);
        slow.LetGo();
        for (var i = 0; i < 5; i++)
        {
            Assert.Equal(NbdError.None, client.ReceiveSimple().Error);
            client.Receive(4096);
        }
    }

    [Fact]
    public async Task What_one_client_may_have_in_flight_is_bounded()
    {
        var slow = new TestDisks.SlowStorage(TestDisks.Pattern(Size));
        await using var node = TestDisks.Raw(slow, Size);
        await using var fixture = new ServerFixture(node, new() { MaxInFlightRequests = 8 });
        using var client = fixture.Open(structured: false);
        for (ulong i = 0; i < 50; i++)
        {
            client.Send(NbdCommand.Read, 0, 4096, i);
        }

        while (slow.Waiting < 8)
        {
            await Task.Delay(1);
        }

        using var other = fixture.Open();
        other.Send(NbdCommand.Flush, 0, 0, 78);
        Assert.Equal(78ul, other.ReceiveSimple().Cookie);
        Assert.Equal(8, slow.Waiting);
        slow.LetGo();
        for (var i = 0; i < 50; i++)
        {
            client.ReceiveSimple();
            client.Receive(4096);
        }
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Wrong_requests_get_an_error_and_the_next_one_an_answer(bool structured)
    {
        await using var node = TestDisks.Memory(TestDisks.Pattern(Size));
        await using var fixture = new ServerFixture(node);
        using var client = fixture.Open(structured);
        (NbdCommand Command, ulong Offset, uint Length, NbdCommandFlags Flags, NbdError Error)[] requests =
        [
            (NbdCommand.Read, Size, 1, 0, NbdError.Inval),
            (NbdCommand.Read, Size - 1, 2, 0, NbdError.Inval),
            (NbdCommand.Read, ulong.MaxValue, 1, 0, NbdError.Inval),
            (NbdCommand.Read, ulong.MaxValue - 4095, 4096, 0, NbdError.Inval),
            (NbdCommand.Read, 0, uint.MaxValue, 0, NbdError.Inval),
            (NbdCommand.Read, 0, 0, 0, NbdError.Inval),
            (NbdCommand.Read, 0, 1, (NbdCommandFlags)0x8000, NbdError.Inval),
            (NbdCommand.BlockStatus, 0, 1, 0, NbdError.Inval),
            (NbdCommand.Trim, 0, 4096, 0, NbdError.Perm),
            (NbdCommand.WriteZeroes, 0, 4096, 0, NbdError.Perm),
            (NbdCommand.Cache, Size, 4096, 0, NbdError.Inval),
            ((NbdCommand)8, 0, 0, 0, NbdError.Inval),
            ((NbdCommand)0xffff, ulong.MaxValue, uint.MaxValue, (NbdCommandFlags)0xffff, NbdError.Inval),
        ];
        foreach (var (command, offset, length, flags, error) in requests)
        {
            client.Send(command, offset, length, 5, flags);
            if (structured && command is (NbdCommand.Read or NbdCommand.BlockStatus))
            {
                var (header, payload) = client.ReceiveChunk();
                Assert.Equal((NbdChunkType.Error, NbdChunkFlags.Done, 5ul), (header.Type, header.Flags, header.Cookie));
                Assert.Equal((uint)error, BinaryPrimitives.ReadUInt32BigEndian(payload));
            }
            else
            {
                Assert.Equal(new NbdSimpleReply(error, 5), client.ReceiveSimple());
            }
        }

        client.Send(NbdCommand.Flush, 0, 0, 6);
        Assert.Equal(new NbdSimpleReply(NbdError.None, 6), client.ReceiveSimple());
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(100_000)]
    [InlineData(3 << 20)]
    public async Task A_write_is_refused_and_its_data_are_skipped(int length)
    {
        await using var node = TestDisks.Memory(TestDisks.Pattern(Size));
        await using var fixture = new ServerFixture(node);
        using var client = fixture.Open();
        client.Send(NbdCommand.Write, 0, (uint)length);
        client.Socket.Send(new byte[length]);
        Assert.Equal(new NbdSimpleReply(NbdError.Perm, 1), client.ReceiveSimple());
        Assert.Equal(TestDisks.Pattern(Size)[..4096], client.ReadStructured(0, 4096));
    }

    [Fact]
    public async Task A_read_beyond_the_limit_is_too_much_and_nothing_more()
    {
        await using var node = TestDisks.Memory(new byte[Size]);
        await using var fixture = new ServerFixture(node, new() { MaxRequestBytes = 65536 });
        using var client = fixture.Open(structured: false);
        client.Send(NbdCommand.Read, 0, 65537);
        Assert.Equal(NbdError.Inval, client.ReceiveSimple().Error);
        Assert.Equal(new byte[65536], client.ReadSimple(0, 65536));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_host_error_is_one_requests_error_and_names_no_file(bool structured)
    {
        var bytes = TestDisks.Pattern(Size);
        await using var node = TestDisks.Raw(new TestDisks.BadStorage(bytes), Size);
        await using var fixture = new ServerFixture(node);
        using var client = fixture.Open(structured);
        client.Send(NbdCommand.Read, 4096, 4096);
        if (structured)
        {
            var (header, payload) = client.ReceiveChunk();
            Assert.Equal((NbdChunkType.Error, NbdChunkFlags.Done), (header.Type, header.Flags));
            Assert.Equal((uint)NbdError.IO, BinaryPrimitives.ReadUInt32BigEndian(payload));
            Assert.DoesNotContain("secret", System.Text.Encoding.UTF8.GetString(payload));
            Assert.Equal(bytes[..4096], client.ReadStructured(0, 4096));
        }
        else
        {
            Assert.Equal(NbdError.IO, client.ReceiveSimple().Error);
            Assert.Equal(bytes[..4096], client.ReadSimple(0, 4096));
        }

        Assert.Contains(fixture.Log, line => line.Contains("/secret/path/bad", StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_file_that_shrinks_under_a_reader_ends_its_connection_or_reads_zeros_but_never_hangs()
    {
        using var folder = new TempFolder();
        var path = folder.Write("f", TestDisks.Pattern(Size));
        await using var node = TestDisks.Raw(FileStorage.Open(path), Size);
        await using var fixture = new ServerFixture(node);
        using var client = fixture.Open();
        client.ReadStructured(0, 65536);
        File.WriteAllBytes(path, []);
        Assert.Equal(new byte[65536], client.ReadStructured(0, 65536));
    }

    [Fact]
    public async Task Block_status_tells_data_and_holes()
    {
        using var folder = new TempFolder();
        var path = folder["f"];
        using (var file = File.Create(path))
        {
            file.SetLength(Size);
            file.Position = 256 << 10;
            file.Write(TestDisks.Pattern(128 << 10));
        }

        await using var node = TestDisks.Raw(FileStorage.Open(path), Size);
        await using var fixture = new ServerFixture(node);
        using var client = fixture.Open(contexts: true);
        Assert.Equal([(256u << 10, 3u), (128u << 10, 0u), (640u << 10, 3u)], Status(client, 0, Size));
        Assert.Equal([(256u << 10, 3u)], Status(client, 0, Size, NbdCommandFlags.RequestOne));
        Assert.Equal([(1u, 0u)], Status(client, (256 << 10) + 7, 1));
        Assert.Equal([((128u << 10) - 7, 0u), (7u, 3u)], Status(client, (256 << 10) + 7, 128 << 10));
        client.Send(NbdCommand.BlockStatus, 0, uint.MaxValue);
        Assert.Equal(NbdChunkType.Error, client.ReceiveChunk().Header.Type);
        client.Send(NbdCommand.Cache, 0, Size, 3);
        Assert.Equal(new NbdSimpleReply(NbdError.None, 3), client.ReceiveSimple());
    }

    [Fact]
    public async Task A_bad_magic_number_ends_the_connection_and_no_other()
    {
        await using var node = TestDisks.Memory(TestDisks.Pattern(Size));
        await using var fixture = new ServerFixture(node);
        using var client = fixture.Open();
        using var other = fixture.Open();
        client.Socket.Send(new byte[NbdRequest.CompactSize]);
        Assert.True(client.IsClosed());
        Assert.Equal(TestDisks.Pattern(Size)[..512], other.ReadStructured(0, 512));
    }

    [Fact]
    public async Task Disconnecting_answers_what_was_asked_before()
    {
        var slow = new TestDisks.SlowStorage(TestDisks.Pattern(Size));
        await using var node = TestDisks.Raw(slow, Size);
        await using var fixture = new ServerFixture(node);
        using var client = fixture.Open(structured: false);
        client.Send(NbdCommand.Read, 0, 4096);
        client.Send(NbdCommand.Disconnect, 0, 0);
        while (slow.Waiting == 0)
        {
            await Task.Delay(1);
        }

        slow.LetGo();
        Assert.Equal(NbdError.None, client.ReceiveSimple().Error);
        client.Receive(4096);
        Assert.True(client.IsClosed());
    }

    [Fact]
    public async Task Random_requests_never_break_the_server()
    {
        var seed = Environment.TickCount;
        TestContext.Current.TestOutputHelper?.WriteLine($"seed {seed}");
        var random = new Random(seed);
        await using var node = TestDisks.Memory(TestDisks.Pattern(Size));
        await using var fixture = new ServerFixture(node);
        for (var round = 0; round < 50; round++)
        {
            using var client = fixture.Open(random.Next(2) == 0);
            var draining = Task.Run(client.IsClosed);
            for (var i = 0; i < 50; i++)
            {
                var command = (NbdCommand)random.Next(10);
                if (command is NbdCommand.Write or NbdCommand.Disconnect)
                {
                    continue;
                }

                client.Send(
                    command, random.Next(4) == 0 ? (ulong)random.NextInt64() : (ulong)random.Next(Size), (uint)random.Next(100_000), (ulong)i,
                    (NbdCommandFlags)random.Next(32));
            }

            client.Send(NbdCommand.Disconnect, 0, 0);
            Assert.True(await draining);
        }

        using var last = fixture.Open();
        Assert.Equal(TestDisks.Pattern(Size)[..512], last.ReadStructured(0, 512));
    }

    private static List<(uint Length, uint State)> Status(RawClient client, int at, int length, NbdCommandFlags flags = 0)
    {
        client.Send(NbdCommand.BlockStatus, (ulong)at, (uint)length, 4, flags);
        var (header, payload) = client.ReceiveChunk();
        Assert.Equal((NbdChunkType.BlockStatus, NbdChunkFlags.Done), (header.Type, header.Flags));
        var result = new List<(uint, uint)>();
        for (var i = NbdProtocol.ContextIdSize; i < payload.Length; i += NbdStatusDescriptor.SizeOf(NbdHeaderStyle.Structured))
        {
            var descriptor = NbdStatusDescriptor.Parse(payload.AsSpan(i), NbdHeaderStyle.Structured);
            result.Add(((uint)descriptor.Length, (uint)descriptor.Status));
        }

        return result;
    }
}
