using Platter.Core.Errors;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Nbd.Client;
using Platter.Nbd.Protocol;
using Platter.TestKit;
using Xunit;
using static Platter.Tests.Unit.Nbd.Client.ScriptedPeer;

namespace Platter.Tests.Unit.Nbd.Client;

/// <summary>Extended headers: the same requests, and what only they make possible to get wrong.</summary>
public sealed class ExtendedHeaderTests
{
    private const ulong Size = 1 << 20;

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Reads_and_maps_go_through()
    {
        await using var server = Server(async (peer, request) =>
        {
            if (request.Command == NbdCommand.BlockStatus)
            {
                await peer.StatusAsync(request.Cookie, (4096, 3), (request.Length - 4096, 0));
                return;
            }

            await peer.HoleAsync(request.Cookie, request.Offset, 512, done: false);
            await peer.DataAsync(request.Cookie, request.Offset + 512, TestContent.Make(1, (long)request.Offset + 512, (int)request.Length - 512));
        });
        await using var storage = await server.OpenAsync();
        var buffer = new byte[4096];
        Array.Fill(buffer, (byte)1);
        Assert.Equal(4096, await storage.ReadAsync(new(8192), buffer, Cancel));
        Assert.False(buffer.AsSpan(0, 512).ContainsAnyExcept((byte)0));
        Assert.Equal(TestContent.Make(1, 8192 + 512, 4096 - 512), buffer[512..]);
        Assert.Equal(new StorageExtent(4096, false, true), await storage.MapAsync(HostOffset.Zero, (long)Size, Cancel));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_server_that_can_leave_contexts_out_is_asked_for_the_one_that_is_wanted(bool can)
    {
        const string second = "qemu:dirty-bitmap:b";
        var flags = NbdTransmissionFlags.HasFlags | NbdTransmissionFlags.ReadOnly | (can ? NbdTransmissionFlags.BlockStatusPayload : NbdTransmissionFlags.None);
        var asked = new List<uint[]>();
        await using var server = new ScriptedServer(async peer =>
        {
            await peer.EnterAsync(Size, extended: true, flags: flags, secondContext: second);
            while (true)
            {
                var request = await peer.ReadRequestAsync();
                uint[] ids = [ContextId, ContextId + 1];
                if (request.HasPayload(NbdHeaderStyle.Extended))
                {
                    Assert.True(NbdStatusQuery.TryParse(await peer.ReceiveAsync((int)request.Length), out var query));
                    Assert.Equal(Size, query.EffectLength);
                    ids = [.. query.ContextIds];
                }

                asked.Add(ids);
                foreach (var id in ids)
                {
                    await peer.ChunkAsync(request.Cookie, NbdChunkType.BlockStatusExt, id == ids[^1], ExtendedStatus(id, 1, (Size, id == ContextId ? 0UL : 1)));
                }
            }
        });
        await using var storage = await NbdStorage.OpenAsync(server.Address, new NbdClientOptions { Contexts = [second] }, Cancel);
        Assert.Equal(new StorageExtent((long)Size, true, false), await storage.MapAsync(HostOffset.Zero, (long)Size, Cancel));
        Assert.Equal([new NbdContextExtent(0, (long)Size, 1)], await storage.ReadContextAsync(second, 0, (long)Size, Cancel));
        Assert.Equal(can ? [[ContextId], [ContextId + 1]] : [[ContextId, ContextId + 1], [ContextId, ContextId + 1]], asked);
    }

    [Fact]
    public async Task An_answer_about_a_context_that_was_left_out_ends_the_connection()
    {
        await using var server = new ScriptedServer(async peer =>
        {
            await peer.EnterAsync(Size, extended: true, flags: NbdTransmissionFlags.HasFlags | NbdTransmissionFlags.BlockStatusPayload, secondContext: "x:y");
            var request = await peer.ReadRequestAsync();
            await peer.ReceiveAsync((int)request.Length);
            await peer.ChunkAsync(request.Cookie, NbdChunkType.BlockStatusExt, true, ExtendedStatus(ContextId + 1, 1, (Size, 0)));
            await peer.WaitForEndAsync();
        });
        await using var storage = await NbdStorage.OpenAsync(server.Address, new NbdClientOptions { Contexts = ["x:y"] }, Cancel);
        var e = await Assert.ThrowsAnyAsync<BlockException>(() => storage.MapAsync(HostOffset.Zero, (long)Size, Cancel).AsTask());
        Assert.Contains("which was not asked for", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task One_status_request_covers_an_export_of_many_times_4_GiB()
    {
        const ulong size = (1UL << 50) + 4096;
        var asked = 0;
        await using var server = Server(
            (peer, request) =>
            {
                asked++;
                Assert.Equal((0UL, size), (request.Offset, request.Length));
                return peer.StatusAsync(request.Cookie, ((1UL << 32) - 4096, 0), (8192, 3), (1UL << 49, 0), (ulong.MaxValue, 3));
            },
            size);
        await using var storage = await server.OpenAsync();
        Assert.Equal(new StorageExtent((1L << 32) - 4096, true, false), await storage.MapAsync(HostOffset.Zero, (long)size, Cancel));
        Assert.Equal(new StorageExtent(8192, false, true), await storage.MapAsync(new((1L << 32) - 4096), (long)size, Cancel));
        Assert.Equal(new StorageExtent(1L << 49, true, false), await storage.MapAsync(new((1L << 32) + 4096), (long)size, Cancel));
        Assert.Equal(
            new StorageExtent((long)size - (1L << 49) - (1L << 32) - 4096, false, true), await storage.MapAsync(new((1L << 49) + (1L << 32) + 4096), (long)size, Cancel));
        Assert.Equal(1, asked);
    }

    public static TheoryData<string, string> Lies => new()
    {
        { "compact header", "which was not agreed on" },
        { "simple success", "simple reply" },
        { "simple error", "simple reply" },
        { "wrong offset", "names the offset" },
        { "wrong offset in an error", "names the offset" },
        { "unknown cookie", "no request in flight" },
        { "length of 2^63", "lies outside" },
        { "length of 2^64-1", "lies outside" },
        { "none of 2^32", "chunk of type 0" },
        { "error of 2^40", "error chunk of" },
        { "compact status", "chunk of type 5" },
        { "extended status for a read", "chunk of type 6" },
        { "missing end", "bytes missing" },
    };

    [Theory]
    [MemberData(nameof(Lies))]
    public async Task A_lie_in_reply_to_a_read_ends_the_connection(string lie, string words)
    {
        await using var server = Server((peer, request) =>
        {
            var cookie = request.Cookie;
            var at = request.Offset;
            var compact = new byte[NbdChunkHeader.StructuredSize + 8];
            new NbdChunkHeader(NbdChunkFlags.Done, NbdChunkType.OffsetData, cookie, 0, 8).WriteTo(compact, NbdHeaderStyle.Structured);
            return lie switch
            {
                "compact header" => peer.SendAsync(compact),
                "simple success" => peer.SimpleAsync(cookie, NbdError.None, new byte[512]),
                "simple error" => peer.SimpleAsync(cookie, NbdError.IO),
                "wrong offset" => RawAsync(peer, NbdChunkType.OffsetData, cookie, at + 512, 8 + 512, [.. BigEndian(at), .. new byte[512]]),
                "wrong offset in an error" => RawAsync(peer, NbdChunkType.Error, cookie, 0, 6, Error(NbdError.IO, string.Empty)),
                "unknown cookie" => peer.DataAsync(cookie + 0x100, at, new byte[512]),
                "length of 2^63" => RawAsync(peer, NbdChunkType.OffsetData, cookie, at, 1UL << 63, BigEndian(at)),
                "length of 2^64-1" => RawAsync(peer, NbdChunkType.OffsetData, cookie, at, ulong.MaxValue, BigEndian(at)),
                "none of 2^32" => RawAsync(peer, NbdChunkType.None, cookie, at, 1UL << 32, []),
                "error of 2^40" => RawAsync(peer, NbdChunkType.Error, cookie, at, 1UL << 40, []),
                "compact status" => peer.ChunkAsync(cookie, NbdChunkType.BlockStatus, true, Status(ContextId, (512, 0))),
                "extended status for a read" => peer.StatusAsync(cookie, (512, 0)),
                _ => peer.DataAsync(cookie, at, new byte[511]),
            };
        });
        await using var storage = await server.OpenAsync();
        var e = await Assert.ThrowsAsync<BlockException>(async () => await storage.ReadAsync(new(4096), new byte[512], Cancel));
        Assert.Equal(BlockErrorKind.Protocol, e.Kind);
        Assert.Contains(words, e.Message, StringComparison.Ordinal);
        e = await Assert.ThrowsAsync<BlockException>(async () => await storage.ReadAsync(HostOffset.Zero, new byte[512], Cancel));
        Assert.Equal(BlockErrorKind.Protocol, e.Kind);
    }

    public static TheoryData<string, string> LiesAboutStatus => new()
    {
        { "compact status", "chunk of type 5" },
        { "count too high", "claims 2 extents" },
        { "count too low", "claims 0 extents" },
        { "no extents", "block status of 8 bytes" },
        { "half an extent", "block status of 16 bytes" },
        { "empty extent", "empty extent" },
        { "more behind 2^64", "more than the" },
        { "2^40 extents", "a block status of" },
        { "a status of 33 bits", "32 bits have a meaning" },
        { "wrong context", "not selected" },
        { "nothing", "without a status" },
    };

    [Theory]
    [MemberData(nameof(LiesAboutStatus))]
    public async Task A_lie_in_reply_to_a_block_status_ends_the_connection(string lie, string words)
    {
        await using var server = Server((peer, request) => lie switch
        {
            "compact status" => peer.ChunkAsync(request.Cookie, NbdChunkType.BlockStatus, true, Status(ContextId, (512, 0))),
            "count too high" => ExtendedAsync(peer, request, ExtendedStatus(ContextId, 2, (512, 0))),
            "count too low" => ExtendedAsync(peer, request, ExtendedStatus(ContextId, 0, (512, 0))),
            "no extents" => peer.StatusAsync(request.Cookie),
            "half an extent" => ExtendedAsync(peer, request, ExtendedStatus(ContextId, 1, (512, 0))[..16]),
            "empty extent" => peer.StatusAsync(request.Cookie, (512, 0), (0, 3)),
            "more behind 2^64" => peer.StatusAsync(request.Cookie, (512, 0), (ulong.MaxValue, 0), (512, 0)),
            "2^40 extents" => RawAsync(peer, NbdChunkType.BlockStatusExt, request.Cookie, request.Offset, 8 + (16UL << 40), ExtendedStatus(ContextId, 0)),
            "a status of 33 bits" => peer.StatusAsync(request.Cookie, (512, 1UL << 32)),
            "wrong context" => ExtendedAsync(peer, request, ExtendedStatus(ContextId + 1, 1, (512, 0))),
            _ => peer.ChunkAsync(request.Cookie, NbdChunkType.None, true),
        });
        await using var storage = await server.OpenAsync();
        var e = await Assert.ThrowsAsync<BlockException>(async () => await storage.MapAsync(HostOffset.Zero, (long)Size, Cancel));
        Assert.Equal(BlockErrorKind.Protocol, e.Kind);
        Assert.Contains(words, e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_server_with_extended_headers_must_know_GO()
    {
        await using var server = new ScriptedServer(async peer =>
        {
            peer.KnowsExtendedHeaders = true;
            await peer.GreetAsync();
            var (option, _) = await peer.ReadOptionAsync();
            await peer.ReplyAsync(option, NbdOptionReplyType.Ack);
            (option, _) = await peer.ReadOptionAsync();
            await peer.ReplyAsync(option, NbdOptionReplyType.ErrUnsup);
            (option, _) = await peer.ReadOptionAsync();
            Assert.Equal(NbdOption.Go, option);
            await peer.ReplyAsync(option, NbdOptionReplyType.ErrUnsup);
            await peer.WaitForEndAsync();
        });
        var e = await Assert.ThrowsAsync<BlockException>(async () => await server.OpenAsync());
        Assert.Contains("not the option GO", e.Message, StringComparison.Ordinal);
    }

    private static Task ExtendedAsync(ScriptedPeer peer, NbdRequest request, byte[] status) =>
        peer.ChunkAsync(request.Cookie, NbdChunkType.BlockStatusExt, true, status);

    private static Task RawAsync(ScriptedPeer peer, NbdChunkType type, ulong cookie, ulong requestOffset, ulong claimed, byte[] payload)
    {
        var bytes = new byte[NbdChunkHeader.ExtendedSize];
        new NbdChunkHeader(NbdChunkFlags.Done, type, cookie, requestOffset, claimed).WriteTo(bytes, NbdHeaderStyle.Extended);
        return peer.SendAsync([.. bytes, .. payload]);
    }

    private static ScriptedServer Server(Func<ScriptedPeer, NbdRequest, Task> onRequest, ulong size = Size) => new(async peer =>
    {
        await peer.EnterAsync(size, extended: true);
        while (true)
        {
            await onRequest(peer, await peer.ReadRequestAsync());
        }
    });
}
