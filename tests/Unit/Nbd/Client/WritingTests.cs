using System.Collections.Concurrent;
using Platter.Core.Errors;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Nbd.Client;
using Platter.Nbd.Protocol;
using Xunit;
using static Platter.Nbd.Protocol.NbdTransmissionFlags;
using static Platter.Tests.Unit.Nbd.Client.ScriptedPeer;

namespace Platter.Tests.Unit.Nbd.Client;

/// <summary>Writes, zeros, discards and flushes: what goes over the wire, and what a server may make of it.</summary>
public sealed class WritingTests
{
    private const NbdTransmissionFlags Everything =
        HasFlags | SendFlush | SendFua | SendTrim | SendWriteZeroes | SendCache | SendFastZero;

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData(false, 1u, 65536u)]
    [InlineData(true, 1u, 0xffff_ffffu)]
    [InlineData(false, 512u, 4096u)]
    [InlineData(true, 4096u, 65536u)]
    [InlineData(true, 65536u, 65536u)]
    public async Task Random_writes_zeros_and_reads_of_any_alignment_are_those_of_an_array(bool extended, uint minimum, uint maximum)
    {
        var disk = new ArrayServer(300_000) { Extended = extended, Minimum = minimum, Maximum = maximum, Flags = Everything };
        await using var server = disk.Serve();
        await using var storage = await OpenAsync(server);
        Assert.False(storage.IsReadOnly);
        Assert.True(storage.HasFixedLength);
        var model = (byte[])disk.Bytes.Clone();
        const int seed = 30;
        var random = new Random(seed);
        for (var i = 0; i < 300; i++)
        {
            var at = random.Next(model.Length);
            var length = random.Next(2) == 0 ? random.Next(1, 3000) : random.Next(1, model.Length + 1);
            length = Math.Min(length, model.Length - at);
            switch (random.Next(4))
            {
                case 0:
                    await storage.WriteZeroesAsync(new(at), length, random.Next(2) == 0, Cancel);
                    model.AsSpan(at, length).Clear();
                    break;
                case 1:
                    var read = new byte[length];
                    Assert.Equal(length, await storage.ReadAsync(new(at), read, Cancel));
                    Assert.True(read.AsSpan().SequenceEqual(model.AsSpan(at, length)), $"seed {seed}, step {i}: {length} bytes at {at} differ");
                    break;
                default:
                    var bytes = new byte[length];
                    random.NextBytes(bytes);
                    await storage.WriteAsync(new(at), bytes, Cancel);
                    bytes.CopyTo(model, at);
                    break;
            }
        }

        Assert.Equal(model, disk.Bytes);
        Assert.Empty(disk.Illegal);
    }

    [Fact]
    public async Task Writes_to_parts_of_one_block_at_a_time_do_not_undo_each_other()
    {
        var disk = new ArrayServer(64 << 10) { Minimum = 4096, Maximum = 65536, Flags = Everything };
        await using var server = disk.Serve();
        await using var storage = await OpenAsync(server);
        var model = new byte[64 << 10];
        new Random(31).NextBytes(model);

        // Small pieces and whole blocks side by side; none overlap.
        var writes = new List<(int At, int Length)>();
        for (var at = 0; at < model.Length;)
        {
            var length = Math.Min(at % 8192 == 0 ? 4096 : 700, model.Length - at);
            writes.Add((at, length));
            at += length;
        }

        await Task.WhenAll(writes.Select(w => storage.WriteAsync(new(w.At), model.AsMemory(w.At, w.Length), Cancel).AsTask()));
        Assert.Equal(model, disk.Bytes);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_write_larger_than_the_payload_limit_is_split(bool extended)
    {
        var disk = new ArrayServer(10 << 20) { Extended = extended, Minimum = 1, Maximum = 1 << 20, Flags = HasFlags };
        await using var server = disk.Serve();
        await using var storage = await OpenAsync(server);
        var bytes = new byte[(9 << 20) + 123];
        new Random(32).NextBytes(bytes);
        await storage.WriteAsync(new(1000), bytes, Cancel);
        Assert.True(bytes.AsSpan().SequenceEqual(disk.Bytes.AsSpan(1000, bytes.Length)));
        Assert.Empty(disk.Illegal);
    }

    [Fact]
    public async Task Zeros_are_written_where_the_server_has_no_other_way()
    {
        var disk = new ArrayServer(6 << 20) { Minimum = 1, Maximum = 1 << 20, Flags = HasFlags };
        Array.Fill(disk.Bytes, (byte)9);
        await using var server = disk.Serve();
        await using var storage = await OpenAsync(server);
        await storage.WriteZeroesAsync(new(5), (5 << 20) + 1, mayUnmap: true, Cancel);
        Assert.Equal(9, disk.Bytes[4]);
        Assert.False(disk.Bytes.AsSpan(5, (5 << 20) + 1).ContainsAnyExcept((byte)0));
        Assert.Equal(9, disk.Bytes[(5 << 20) + 6]);
        Assert.All(disk.Requests, r => Assert.Equal(NbdCommand.Write, r.Command));
    }

    [Theory]
    [InlineData(true, 0)]
    [InlineData(false, 2)]
    public async Task Zeros_that_must_keep_their_space_say_so(bool mayUnmap, ushort flags)
    {
        var disk = new ArrayServer(1 << 20) { Minimum = 1, Maximum = 1 << 20, Flags = Everything };
        await using var server = disk.Serve();
        await using var storage = await OpenAsync(server);
        await storage.WriteZeroesAsync(new(100), 1000, mayUnmap, Cancel);
        Assert.Equal([(NbdCommand.WriteZeroes, (NbdCommandFlags)flags, 100UL, 1000UL)], disk.Requests.Select(r => (r.Command, r.Flags, r.Offset, r.Length)));
    }

    [Fact]
    public async Task Zeros_go_out_in_pieces_that_fit_the_header()
    {
        const long size = 10L << 30;
        var requests = new ConcurrentQueue<NbdRequest>();
        foreach (var extended in new[] { false, true })
        {
            requests.Clear();
            await using var server = new ScriptedServer(async peer =>
            {
                await peer.EnterAsync((ulong)size, extended: extended, flags: Everything, blockSizes: BlockSizeInfo(4096, 4096, 1 << 20));
                while (true)
                {
                    var request = await peer.ReadRequestAsync();
                    requests.Enqueue(request);
                    await peer.DoneAsync(request.Cookie);
                }
            });
            await using var storage = await OpenAsync(server);
            await storage.WriteZeroesAsync(HostOffset.Zero, size, mayUnmap: true, Cancel);
            Assert.Equal((ulong)size, requests.Aggregate(0UL, (sum, r) => sum + r.Length));
            Assert.Equal(extended ? 1 : 3, requests.Count);
            Assert.All(requests, r => Assert.Equal((0UL, 0UL), (r.Offset % 4096, r.Length % 4096)));
        }
    }

    [Fact]
    public async Task A_server_that_finds_zeros_too_long_gets_them_shorter()
    {
        var disk = new ArrayServer(5 << 20) { Minimum = 1, Maximum = 1 << 20, Flags = Everything, MaxEffect = 1 << 20 };
        Array.Fill(disk.Bytes, (byte)9);
        await using var server = disk.Serve();
        await using var storage = await OpenAsync(server);
        await storage.WriteZeroesAsync(HostOffset.Zero, 5 << 20, mayUnmap: true, Cancel);
        Assert.False(disk.Bytes.AsSpan().ContainsAnyExcept((byte)0));
        Assert.Equal(6, disk.Requests.Count);
    }

    [Fact]
    public async Task Fast_zeros_are_done_or_refused_and_never_emulated()
    {
        var disk = new ArrayServer(1 << 20) { Minimum = 512, Maximum = 1 << 20, Flags = Everything };
        await using var server = disk.Serve();
        await using var storage = await OpenAsync(server);
        Assert.True(await storage.TryZeroFastAsync(HostOffset.Zero, 1 << 20, mayUnmap: true, Cancel));
        Assert.Equal(NbdCommandFlags.FastZero, Assert.Single(disk.Requests).Flags);
        disk.RefusesFastZero = true;
        Assert.False(await storage.TryZeroFastAsync(HostOffset.Zero, 1 << 20, mayUnmap: false, Cancel));
        Assert.False(await storage.TryZeroFastAsync(new(1), 512, mayUnmap: false, Cancel));
        Assert.Equal(2, disk.Requests.Count);
    }

    [Fact]
    public async Task A_discard_covers_whole_blocks_only_and_its_failure_is_none()
    {
        var disk = new ArrayServer(1 << 20) { Minimum = 4096, Maximum = 1 << 20, Flags = Everything, Fails = NbdCommand.Trim };
        await using var server = disk.Serve();
        await using var storage = await OpenAsync(server);
        await storage.DiscardAsync(new(1), 4096, Cancel);
        await storage.DiscardAsync(new(1), 3 * 4096, Cancel);
        await storage.DiscardAsync(new((1 << 20) - 5000), long.MaxValue, Cancel);
        Assert.Equal([(4096UL, 8192UL), ((1UL << 20) - 4096, 4096UL)], disk.Requests.Select(r => (r.Offset, r.Length)));
    }

    [Fact]
    public async Task Durable_writes_carry_FUA_or_are_followed_by_a_flush()
    {
        foreach (var flags in new[] { Everything, HasFlags | SendFlush })
        {
            var disk = new ArrayServer(1 << 20) { Minimum = 1, Maximum = 1 << 20, Flags = flags };
            await using var server = disk.Serve();
            await using var storage = await OpenAsync(server);
            await storage.WriteAsync(HostOffset.Zero, new byte[512], durable: true, Cancel);
            var requests = disk.Requests.Select(r => (r.Command, r.Flags)).ToArray();
            Assert.Equal(
                flags == Everything ? [(NbdCommand.Write, NbdCommandFlags.Fua)] : [(NbdCommand.Write, NbdCommandFlags.None), (NbdCommand.Flush, NbdCommandFlags.None)], requests);
        }
    }

    [Fact]
    public async Task A_server_without_flush_discard_and_prefetch_is_not_asked_for_them()
    {
        var disk = new ArrayServer(1 << 20) { Minimum = 1, Maximum = 1 << 20, Flags = HasFlags };
        await using var server = disk.Serve();
        await using var storage = await OpenAsync(server);
        await storage.FlushAsync(Cancel);
        await storage.DiscardAsync(HostOffset.Zero, 4096, Cancel);
        storage.Prefetch(HostOffset.Zero, 4096);
        Assert.False(await storage.TryZeroFastAsync(HostOffset.Zero, 4096, mayUnmap: true, Cancel));
        await storage.WriteAsync(HostOffset.Zero, new byte[1], Cancel);
        Assert.Equal(NbdCommand.Write, Assert.Single(disk.Requests).Command);
    }

    [Theory]
    [InlineData(NbdError.NoSpc, BlockErrorKind.NoSpace)]
    [InlineData(NbdError.Perm, BlockErrorKind.ReadOnly)]
    [InlineData(NbdError.IO, BlockErrorKind.Io)]
    public async Task A_failed_write_says_what_the_server_says(NbdError error, BlockErrorKind kind)
    {
        foreach (var extended in new[] { false, true })
        {
            var disk = new ArrayServer(1 << 20) { Extended = extended, Minimum = 1, Maximum = 1 << 20, Flags = Everything, Fails = NbdCommand.Write, Error = error };
            await using var server = disk.Serve();
            await using var storage = await OpenAsync(server);
            var e = await Assert.ThrowsAsync<BlockException>(async () => await storage.WriteAsync(new(4096), new byte[512], Cancel));
            Assert.Equal(kind, e.Kind);
            Assert.Contains("could not write 512 bytes at 4096", e.Message, StringComparison.Ordinal);
            Assert.Equal(512, await storage.ReadAsync(HostOffset.Zero, new byte[512], Cancel));
        }
    }

    [Fact]
    public async Task A_failed_flush_fails()
    {
        var disk = new ArrayServer(1 << 20) { Minimum = 1, Maximum = 1 << 20, Flags = Everything, Fails = NbdCommand.Flush };
        await using var server = disk.Serve();
        await using var storage = await OpenAsync(server);
        var e = await Assert.ThrowsAsync<BlockException>(async () => await storage.FlushAsync(Cancel));
        Assert.Equal(BlockErrorKind.Io, e.Kind);
        Assert.Contains("could not flush", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Nothing_is_written_behind_the_end()
    {
        var disk = new ArrayServer(1000) { Minimum = 1, Maximum = 1 << 20, Flags = Everything };
        await using var server = disk.Serve();
        await using var storage = await OpenAsync(server);
        foreach (var (at, length) in new[] { (999L, 2), (1000, 1), (long.MaxValue, 1) })
        {
            Assert.Equal(BlockErrorKind.NoSpace, (await Assert.ThrowsAsync<BlockException>(async () => await storage.WriteAsync(new(at), new byte[length], Cancel))).Kind);
            Assert.Equal(BlockErrorKind.NoSpace, (await Assert.ThrowsAsync<BlockException>(async () => await storage.WriteZeroesAsync(new(at), length, true, Cancel))).Kind);
        }

        await storage.SetLengthAsync(1000, Cancel);
        Assert.Equal(BlockErrorKind.Unsupported, (await Assert.ThrowsAsync<BlockException>(async () => await storage.SetLengthAsync(1001, Cancel))).Kind);
        Assert.Empty(disk.Requests);
    }

    [Fact]
    public async Task An_export_for_reading_only_is_not_opened_for_writing_and_not_written()
    {
        var disk = new ArrayServer(1000) { Minimum = 1, Maximum = 1 << 20, Flags = HasFlags | ReadOnly };
        await using var server = disk.Serve();
        var e = await Assert.ThrowsAsync<BlockException>(async () => await OpenAsync(server));
        Assert.Equal(BlockErrorKind.ReadOnly, e.Kind);
        await using var storage = await server.OpenAsync();
        Assert.True(storage.IsReadOnly);
        e = await Assert.ThrowsAsync<BlockException>(async () => await storage.WriteAsync(HostOffset.Zero, new byte[1], Cancel));
        Assert.Equal(BlockErrorKind.ReadOnly, e.Kind);
    }

    [Fact]
    public async Task What_was_known_of_holes_is_forgotten_after_a_write()
    {
        var disk = new ArrayServer(1 << 20) { Minimum = 1, Maximum = 1 << 20, Flags = Everything };
        await using var server = disk.Serve();
        await using var storage = await OpenAsync(server);
        Assert.True((await storage.MapAsync(HostOffset.Zero, 1 << 20, Cancel)).ReadsZero);
        await storage.WriteAsync(new(4096), new byte[] { 1 }, Cancel);
        Assert.Equal(new StorageExtent(4096, false, true), await storage.MapAsync(HostOffset.Zero, 1 << 20, Cancel));
        Assert.False((await storage.MapAsync(new(4096), 1, Cancel)).ReadsZero);
    }

    [Theory]
    [InlineData("data")]
    [InlineData("hole")]
    [InlineData("status")]
    [InlineData("none without done")]
    public async Task A_reply_with_data_to_a_write_ends_the_connection(string lie)
    {
        await using var server = new ScriptedServer(async peer =>
        {
            await peer.EnterAsync(1 << 20, flags: Everything);
            var request = await peer.ReadRequestAsync();
            await peer.ReadPayloadAsync(request);
            await (lie switch
            {
                "data" => peer.DataAsync(request.Cookie, request.Offset, new byte[512]),
                "hole" => peer.HoleAsync(request.Cookie, request.Offset, 512),
                "status" => peer.StatusAsync(request.Cookie, (512, 0)),
                _ => peer.ChunkAsync(request.Cookie, NbdChunkType.None, false),
            });
            await peer.WaitForEndAsync();
        });
        await using var storage = await OpenAsync(server);
        var e = await Assert.ThrowsAsync<BlockException>(async () => await storage.WriteAsync(HostOffset.Zero, new byte[512], Cancel));
        Assert.Equal(BlockErrorKind.Protocol, e.Kind);
        Assert.Contains("came in reply to Write", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_write_may_be_refused_before_its_data_were_taken()
    {
        const int length = 1 << 20;
        await using var server = new ScriptedServer(async peer =>
        {
            await peer.EnterAsync(length, flags: Everything);
            var request = await peer.ReadRequestAsync();
            await peer.ErrorAsync(request.Cookie, NbdError.NoSpc, "full");
            await peer.ReadPayloadAsync(request);
            request = await peer.ReadRequestAsync();
            await peer.ReadPayloadAsync(request);
            await peer.DoneAsync(request.Cookie);
            await peer.WaitForEndAsync();
        });
        await using var storage = await OpenAsync(server);
        var e = await Assert.ThrowsAsync<BlockException>(async () => await storage.WriteAsync(HostOffset.Zero, new byte[length], Cancel));
        Assert.Equal(BlockErrorKind.NoSpace, e.Kind);
        await storage.WriteAsync(HostOffset.Zero, new byte[512], Cancel);
    }

    [Fact]
    public async Task A_write_that_a_stuck_server_does_not_take_can_be_given_up()
    {
        await using var server = new ScriptedServer(async peer =>
        {
            await peer.EnterAsync(64 << 20, flags: Everything);
            await peer.WaitForeverAsync();
        });
        await using var storage = await OpenAsync(server);
        using var cancel = new CancellationTokenSource();
        var write = storage.WriteAsync(HostOffset.Zero, new byte[16 << 20], cancel.Token).AsTask();
        await cancel.CancelAsync();
        await Assert.ThrowsAnyAsync<Exception>(() => write);
    }

    private static ValueTask<NbdStorage> OpenAsync(ScriptedServer server) =>
        NbdStorage.OpenAsync(server.Address, new NbdClientOptions { Writable = true }, Cancel);
}
