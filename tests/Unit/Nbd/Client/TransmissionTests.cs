using Platter.Core.Errors;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Nbd.Client;
using Platter.Nbd.Protocol;
using Platter.TestKit;
using Xunit;
using static Platter.Tests.Unit.Nbd.Client.ScriptedPeer;

namespace Platter.Tests.Unit.Nbd.Client;

/// <summary>Reads and block status with servers that lie, fail, reorder and stop.</summary>
public sealed partial class TransmissionTests
{
    private const ulong Size = 1 << 20;

    [Theory]
    [InlineData((uint)NbdError.IO, BlockErrorKind.Io)]
    [InlineData((uint)NbdError.NoMem, BlockErrorKind.Io)]
    [InlineData((uint)NbdError.Inval, BlockErrorKind.InvalidRequest)]
    [InlineData((uint)NbdError.Overflow, BlockErrorKind.InvalidRequest)]
    [InlineData((uint)NbdError.NotSup, BlockErrorKind.Unsupported)]
    [InlineData((uint)NbdError.Shutdown, BlockErrorKind.Protocol)]
    [InlineData(123456, BlockErrorKind.InvalidRequest)]
    public async Task An_error_of_the_server_fails_one_request_and_no_other(uint error, BlockErrorKind kind)
    {
        await using var server = Server((peer, request) => request.Offset == 0
            ? peer.ErrorAsync(request.Cookie, (NbdError)error, "no \u001b[1mluck")
            : peer.DataAsync(request.Cookie, request.Offset, TestContent.Make(1, (long)request.Offset, (int)request.Length)));
        await using var storage = await server.OpenAsync();
        var e = await Assert.ThrowsAsync<BlockException>(async () => await storage.ReadAsync(HostOffset.Zero, new byte[512]));
        Assert.Equal(kind, e.Kind);
        Assert.Contains("no \\x1b[1mluck", e.Message, StringComparison.Ordinal);
        await AssertContentAsync(storage, 512, 512);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(4096)]
    public async Task Error_strings_up_to_4096_bytes_are_fine(int length)
    {
        await using var server = Server((peer, request) => peer.ErrorAsync(request.Cookie, NbdError.IO, new string('x', length)));
        await using var storage = await server.OpenAsync();
        var e = await Assert.ThrowsAsync<BlockException>(async () => await storage.ReadAsync(HostOffset.Zero, new byte[512]));
        Assert.Equal(BlockErrorKind.Io, e.Kind);
        e = await Assert.ThrowsAsync<BlockException>(async () => await storage.ReadAsync(HostOffset.Zero, new byte[512]));
        Assert.Equal(BlockErrorKind.Io, e.Kind);
    }

    [Fact]
    public async Task An_error_among_data_fails_the_read_even_if_all_bytes_came()
    {
        await using var server = Server(async (peer, request) =>
        {
            await peer.DataAsync(request.Cookie, request.Offset, new byte[(int)request.Length], done: false);
            await peer.ChunkAsync(request.Cookie, NbdChunkType.ErrorOffset, false, [.. Error(NbdError.IO, "bad sector"), .. BigEndian(request.Offset)]);
            await peer.ChunkAsync(request.Cookie, (NbdChunkType)0x8077, false, Error(NbdError.NoMem, "later"));
            await peer.ChunkAsync(request.Cookie, NbdChunkType.None, true);
        });
        await using var storage = await server.OpenAsync();
        var e = await Assert.ThrowsAsync<BlockException>(async () => await storage.ReadAsync(HostOffset.Zero, new byte[4096]));
        Assert.Equal(BlockErrorKind.Io, e.Kind);
        Assert.Contains("bad sector", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Chunks_may_come_in_any_order_and_mixed_with_holes()
    {
        await using var server = Server(async (peer, request) =>
        {
            var data = TestContent.Make(1, (long)request.Offset, (int)request.Length);
            await peer.DataAsync(request.Cookie, request.Offset + 3000, data[3000..], done: false);
            await peer.HoleAsync(request.Cookie, request.Offset + 1000, 1000, done: false);
            await peer.DataAsync(request.Cookie, request.Offset, data[..1000], done: false);
            await peer.DataAsync(request.Cookie, request.Offset + 2000, data[2000..3000], done: false);
            await peer.ChunkAsync(request.Cookie, NbdChunkType.None, true);
        });
        await using var storage = await server.OpenAsync();
        var buffer = new byte[4096];
        Array.Fill(buffer, (byte)0xee);
        Assert.Equal(4096, await storage.ReadAsync(new HostOffset(8192), buffer));
        var expected = TestContent.Make(1, 8192, 4096);
        expected.AsSpan(1000, 1000).Clear();
        Assert.Equal(expected, buffer);
    }

    [Fact]
    public async Task Requests_are_in_flight_together_and_answered_in_any_order()
    {
        await using var server = new ScriptedServer(async peer =>
        {
            await peer.EnterAsync(Size);
            var requests = new List<NbdRequest>();
            for (var i = 0; i < NbdConnection.MaxInFlight; i++)
            {
                requests.Add(await peer.ReadRequestAsync());
            }

            Assert.Equal(NbdConnection.MaxInFlight, requests.DistinctBy(r => r.Cookie).Count());
            requests.Reverse();
            foreach (var request in requests)
            {
                await peer.DataAsync(request.Cookie, request.Offset, TestContent.Make(1, (long)request.Offset, 512), done: false);
            }

            foreach (var request in requests)
            {
                await peer.ChunkAsync(request.Cookie, NbdChunkType.None, true);
            }

            await AnswerAsync(peer);
        });
        await using var storage = await server.OpenAsync();

        // More than there are slots: the rest waits its turn.
        await Task.WhenAll(Enumerable.Range(0, 40).Select(i => AssertContentAsync(storage, i * 512, 512)));
    }

    [Fact]
    public async Task A_second_reply_to_a_finished_request_ends_the_connection()
    {
        await using var server = Server(async (peer, request) =>
        {
            await peer.DataAsync(request.Cookie, request.Offset, new byte[(int)request.Length]);
            await peer.DataAsync(request.Cookie, request.Offset, new byte[(int)request.Length]);
        });
        await using var storage = await server.OpenAsync();
        Assert.Equal(512, await storage.ReadAsync(HostOffset.Zero, new byte[512]));
        var e = await Assert.ThrowsAsync<BlockException>(async () =>
        {
            while (true)
            {
                await storage.ReadAsync(HostOffset.Zero, new byte[512]);
            }
        });
        Assert.Equal(BlockErrorKind.Protocol, e.Kind);
        Assert.Contains("no request in flight", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_structured_reply_that_was_not_agreed_on_ends_the_connection()
    {
        await using var server = Server((peer, request) => peer.DataAsync(request.Cookie, request.Offset, new byte[512]), structured: false);
        await using var storage = await server.OpenAsync();
        var e = await Assert.ThrowsAsync<BlockException>(async () => await storage.ReadAsync(HostOffset.Zero, new byte[512]));
        Assert.Equal(BlockErrorKind.Protocol, e.Kind);
    }

    [Fact]
    public async Task All_requests_in_flight_fail_when_the_connection_does()
    {
        await using var server = new ScriptedServer(async peer =>
        {
            await peer.EnterAsync(Size);
            for (var i = 0; i < 5; i++)
            {
                await peer.ReadRequestAsync();
            }
        });
        await using var storage = await server.OpenAsync();
        var reads = Enumerable.Range(0, 20).Select(i => storage.ReadAsync(new HostOffset(i * 512), new byte[512]).AsTask()).ToArray();
        foreach (var read in reads)
        {
            Assert.Equal(BlockErrorKind.Protocol, (await Assert.ThrowsAsync<BlockException>(() => read)).Kind);
        }
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_simple_error_fails_one_request_and_simple_data_arrive(bool fails)
    {
        await using var server = Server(
            (peer, request) => fails && request.Offset == 0
                ? peer.SimpleAsync(request.Cookie, NbdError.IO)
                : peer.SimpleAsync(request.Cookie, NbdError.None, TestContent.Make(1, (long)request.Offset, (int)request.Length)),
            structured: false);
        await using var storage = await server.OpenAsync();
        Assert.False(storage.CanMap);
        if (fails)
        {
            var e = await Assert.ThrowsAsync<BlockException>(async () => await storage.ReadAsync(HostOffset.Zero, new byte[512]));
            Assert.Equal(BlockErrorKind.Io, e.Kind);
        }

        await AssertContentAsync(storage, 512, 300_000);
    }

    [Theory]
    [InlineData(1u, 4096u, 0xffff_ffffu)]
    [InlineData(512u, 4096u, 4096u)]
    [InlineData(4096u, 4096u, 65536u)]
    [InlineData(65536u, 65536u, 65536u)]
    [InlineData(512u, 512u, 5000u)]
    public async Task Requests_obey_the_block_sizes_whatever_is_asked_for(uint minimum, uint preferred, uint maximum)
    {
        const ulong size = 300_000;
        await using var server = new ScriptedServer(async peer =>
        {
            await peer.EnterAsync(size, blockSizes: BlockSizeInfo(minimum, preferred, maximum));
            while (true)
            {
                var request = await peer.ReadRequestAsync();
                var end = request.Offset + request.Length;
                var legal = request.Length > 0 && request.Length <= maximum && request.Offset % minimum == 0
                    && (end == size || (end < size && request.Length % minimum == 0));
                await (legal
                    ? peer.DataAsync(request.Cookie, request.Offset, TestContent.Make(1, (long)request.Offset, (int)request.Length))
                    : peer.ErrorAsync(request.Cookie, NbdError.Inval, $"{request.Offset}+{request.Length}"));
            }
        });
        await using var storage = await server.OpenAsync();
        Assert.Equal((int)minimum, storage.RequestAlignment);
        const int seed = 20;
        var random = new Random(seed);
        for (var i = 0; i < 100; i++)
        {
            var at = random.Next((int)size);
            await AssertContentAsync(storage, at, random.Next(1, (int)size - at + 1));
        }

        await AssertContentAsync(storage, 0, (int)size);

        // At the end and beyond.
        var buffer = new byte[1000];
        Assert.Equal(10, await storage.ReadAsync(new HostOffset((long)size - 10), buffer));
        Assert.Equal(TestContent.Make(1, (long)size - 10, 10), buffer[..10]);
        Assert.Equal(0, await storage.ReadAsync(new HostOffset((long)size), buffer));
        Assert.Equal(0, await storage.ReadAsync(new HostOffset(long.MaxValue), buffer));
    }

    [Fact]
    public async Task One_block_status_answers_many_questions()
    {
        var asked = 0;
        await using var server = Server((peer, request) =>
        {
            asked++;
            Assert.Equal((NbdCommand.BlockStatus, 0UL, (uint)Size), (request.Command, request.Offset, request.Length));
            return peer.StatusAsync(request.Cookie, (4096, 0), (4096, 3), (8192, 0xfffffff3), (1000, 2), ((uint)Size, 1));
        });
        await using var storage = await server.OpenAsync();
        Assert.Equal(new StorageExtent(4096, true, false), await storage.MapAsync(HostOffset.Zero, (long)Size));
        Assert.Equal(new StorageExtent(1000, true, false), await storage.MapAsync(new HostOffset(100), 1000));
        Assert.Equal(new StorageExtent(12288, false, true), await storage.MapAsync(new HostOffset(4096), (long)Size - 4096));
        Assert.Equal(new StorageExtent(1, false, true), await storage.MapAsync(new HostOffset(16383), 5000));
        Assert.Equal(new StorageExtent(1000, true, true), await storage.MapAsync(new HostOffset(16384), 5000));
        Assert.Equal(new StorageExtent((long)Size - 17384, false, false), await storage.MapAsync(new HostOffset(17384), (long)Size - 17384));
        Assert.Equal(new StorageExtent(1, false, false), await storage.MapAsync(new HostOffset((long)Size - 1), 1));
        Assert.Equal(1, asked);
    }

    [Fact]
    public async Task Block_status_asks_for_whole_blocks_and_never_past_the_end()
    {
        await using var server = new ScriptedServer(async peer =>
        {
            await peer.EnterAsync(0x12_3456_7890, blockSizes: BlockSizeInfo(65536, 65536, 65536));
            while (true)
            {
                var request = await peer.ReadRequestAsync();
                var end = request.Offset + request.Length;
                var legal = request.Length > 0 && request.Offset % 65536 == 0 && (end == 0x12_3456_7890 || (end < 0x12_3456_7890 && request.Length % 65536 == 0));
                await (legal ? peer.StatusAsync(request.Cookie, (65536, 0)) : peer.ErrorAsync(request.Cookie, NbdError.Inval, "unaligned"));
            }
        });
        await using var storage = await server.OpenAsync();
        foreach (var (at, length) in new[] { (0L, 0x12_3456_7890L), (1, 5), (65535, 2), (0x12_3456_788F, 1), (0x12_3400_0001, 0x56_788F), (0x12_3456_0000, 0x7890) })
        {
            var extent = await storage.MapAsync(new HostOffset(at), length);
            Assert.True(extent.IsAllocated);
            Assert.InRange(extent.Length, 1, length);
        }
    }

    [Fact]
    public async Task A_block_status_error_fails_the_map_and_a_simple_one_too()
    {
        var first = true;
        await using var server = Server((peer, request) =>
        {
            (var simple, first) = (!first, false);
            return simple ? peer.SimpleAsync(request.Cookie, NbdError.IO) : peer.ErrorAsync(request.Cookie, NbdError.IO, "no map");
        });
        await using var storage = await server.OpenAsync();
        for (var i = 0; i < 2; i++)
        {
            Assert.Equal(BlockErrorKind.Io, (await Assert.ThrowsAsync<BlockException>(async () => await storage.MapAsync(HostOffset.Zero, 512))).Kind);
        }
    }

    [Fact]
    public async Task A_cancelled_read_gives_the_buffer_back_and_spares_the_connection()
    {
        var mayAnswer = new TaskCompletionSource();
        await using var server = Server(async (peer, request) =>
        {
            if (request.Offset == 0)
            {
                await mayAnswer.Task;
            }

            await peer.DataAsync(request.Cookie, request.Offset, TestContent.Make(1, (long)request.Offset, (int)request.Length));
        });
        await using var storage = await server.OpenAsync();
        using var cancel = new CancellationTokenSource();
        var buffer = new byte[512];
        var read = storage.ReadAsync(HostOffset.Zero, buffer, cancel.Token).AsTask();
        Assert.False(read.IsCompleted);
        await cancel.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => read);
        mayAnswer.SetResult();
        await AssertContentAsync(storage, 512, 4096);
        Assert.False(buffer.AsSpan().ContainsAnyExcept((byte)0));
    }

    [Fact]
    public async Task A_read_cancelled_in_the_middle_of_its_data_does_not_hang_on_a_stuck_server()
    {
        var halfWay = new TaskCompletionSource();
        await using var server = Server(async (peer, request) =>
        {
            await peer.ChunkAsync(request.Cookie, NbdChunkType.OffsetData, true, 8 + (uint)request.Length, [.. BigEndian(request.Offset), 1, 2, 3]);
            halfWay.SetResult();
            await peer.WaitForeverAsync();
        });
        await using var storage = await server.OpenAsync();
        using var cancel = new CancellationTokenSource();
        var read = storage.ReadAsync(HostOffset.Zero, new byte[512], cancel.Token).AsTask();
        await halfWay.Task;
        await cancel.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => read);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public async Task Cancelled_reads_never_touch_their_buffers_again_and_disturb_no_other(int seed)
    {
        await using var server = new ScriptedServer(async peer =>
        {
            await peer.EnterAsync(Size);
            await AnswerAsync(peer);
        });
        await using var storage = await server.OpenAsync();
        var random = new Random(seed);
        var reads = Enumerable.Range(0, 600).Select(i => ReadAsync(random.Next((int)Size - 70_000), random.Next(1, 70_000), i % 2 == 0 ? random.Next(400) : -1));
        await Task.WhenAll(reads.ToArray());

        async Task ReadAsync(int at, int length, int cancelAfterMicroseconds)
        {
            var buffer = new byte[length];
            using var cancel = new CancellationTokenSource();
            if (cancelAfterMicroseconds >= 0)
            {
                cancel.CancelAfter(TimeSpan.FromMicroseconds(cancelAfterMicroseconds));
            }

            try
            {
                await storage.ReadAsync(new HostOffset(at), buffer, cancel.Token);
                Assert.True(buffer.AsSpan().SequenceEqual(TestContent.Make(1, at, length)), $"seed {seed}: {length} bytes at {at} differ");
            }
            catch (OperationCanceledException) when (cancelAfterMicroseconds >= 0)
            {
                Array.Fill(buffer, (byte)0xee);
                await storage.ReadAsync(HostOffset.Zero, new byte[512]);
                Assert.False(buffer.AsSpan().ContainsAnyExcept((byte)0xee), $"seed {seed}: {length} bytes at {at} changed afterwards");
            }
        }
    }

    [Fact]
    public async Task Closing_says_goodbye_and_fails_what_is_in_flight()
    {
        var goodbye = new TaskCompletionSource<NbdRequest>();
        var asked = new TaskCompletionSource();
        await using var server = new ScriptedServer(async peer =>
        {
            await peer.EnterAsync(Size);
            await peer.ReadRequestAsync();
            asked.SetResult();
            NbdRequest.TryParse(await peer.ReceiveAsync(NbdRequest.CompactSize), NbdHeaderStyle.Structured, out var request);
            goodbye.SetResult(request);
        });
        var storage = await server.OpenAsync();
        var read = storage.ReadAsync(HostOffset.Zero, new byte[512]).AsTask();
        await asked.Task;
        await storage.DisposeAsync();
        await storage.DisposeAsync();
        Assert.Equal(NbdCommand.Disconnect, (await goodbye.Task).Command);
        Assert.Equal(BlockErrorKind.Protocol, (await Assert.ThrowsAsync<BlockException>(() => read)).Kind);
        await Assert.ThrowsAsync<BlockException>(async () => await storage.ReadAsync(HostOffset.Zero, new byte[512]));
    }

    [Fact]
    public async Task A_slow_server_is_waited_for()
    {
        await using var server = Server(async (peer, request) =>
        {
            byte[] chunk = [.. BigEndian(request.Offset), .. TestContent.Make(1, (long)request.Offset, (int)request.Length)];
            var bytes = new byte[NbdChunkHeader.StructuredSize];
            new NbdChunkHeader(NbdChunkFlags.Done, NbdChunkType.OffsetData, request.Cookie, 0, (uint)chunk.Length).WriteTo(bytes, NbdHeaderStyle.Structured);
            foreach (var b in (byte[])[.. bytes, .. chunk])
            {
                await peer.SendAsync(b);
                await Task.Yield();
            }
        });
        await using var storage = await server.OpenAsync();
        await AssertContentAsync(storage, 512, 2048);
    }

    private static ScriptedServer Server(Func<ScriptedPeer, NbdRequest, Task> onRequest, bool structured = true) => new(async peer =>
    {
        await peer.EnterAsync(Size, structured);
        while (true)
        {
            await onRequest(peer, await peer.ReadRequestAsync());
        }
    });

    private static async Task AnswerAsync(ScriptedPeer peer)
    {
        while (true)
        {
            var request = await peer.ReadRequestAsync();
            await peer.DataAsync(request.Cookie, request.Offset, TestContent.Make(1, (long)request.Offset, (int)request.Length));
        }
    }

    private static async Task AssertContentAsync(Storage storage, long at, int length)
    {
        var buffer = new byte[length];
        Assert.Equal(length, await storage.ReadAsync(new HostOffset(at), buffer));
        Assert.True(buffer.AsSpan().SequenceEqual(TestContent.Make(1, at, length)), $"{length} bytes at {at} differ");
    }
}
