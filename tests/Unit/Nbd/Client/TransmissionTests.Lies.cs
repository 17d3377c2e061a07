using Platter.Core.Errors;
using Platter.Core.Units;
using Platter.Nbd.Client;
using Platter.Nbd.Protocol;
using Xunit;
using static Platter.Tests.Unit.Nbd.Client.ScriptedPeer;

namespace Platter.Tests.Unit.Nbd.Client;

// Everything that ends the connection.
public sealed partial class TransmissionTests
{
    public static TheoryData<string, string> LiesAboutReads => new()
    {
        { "bad magic", "starts with 0x" },
        { "unknown cookie", "no request in flight" },
        { "unknown slot", "no request in flight" },
        { "simple success", "simple reply" },
        { "simple error", "simple reply" },
        { "before the request", "lies outside" },
        { "across the start", "lies outside" },
        { "across the end", "lies outside" },
        { "after the request", "lies outside" },
        { "offset 2^64-1", "lies outside" },
        { "too much data", "lies outside" },
        { "hole of 2^32-1", "lies outside" },
        { "empty hole", "lies outside" },
        { "empty data", "chunk of type 1" },
        { "data twice", "overlaps" },
        { "hole over data", "overlaps" },
        { "missing start", "bytes missing" },
        { "missing middle", "bytes missing" },
        { "missing end", "bytes missing" },
        { "nothing at all", "bytes missing" },
        { "none without done", "chunk of type 0" },
        { "none with data", "chunk of type 0" },
        { "hole of 11 bytes", "chunk of type 2" },
        { "status for a read", "chunk of type 5" },
        { "unknown type", "chunk of type 99" },
        { "error of 4 GiB", "error chunk of" },
        { "error string over 4096", "contradicts" },
        { "error string longer than its chunk", "contradicts" },
        { "error without a number", "contradicts" },
        { "short error", "contradicts" },
        { "error offset outside", "lies outside" },
        { "short error offset", "contradicts" },
        { "hang up", "closed the connection" },
        { "hang up in a header", "closed the connection" },
        { "hang up in data", "closed the connection" },
        { "many gaps", "gaps" },
    };

    [Theory]
    [MemberData(nameof(LiesAboutReads))]
    public async Task A_lie_in_reply_to_a_read_ends_the_connection(string lie, string words)
    {
        const ulong at = 4096;
        await using var server = Server(async (peer, request) =>
        {
            var cookie = request.Cookie;
            await (lie switch
            {
                "bad magic" => peer.SendAsync(new byte[32]),
                "unknown cookie" => peer.DataAsync(cookie + 0x100, at, new byte[4096]),
                "unknown slot" => peer.DataAsync(cookie ^ 0xff, at, new byte[4096]),
                "simple success" => peer.SimpleAsync(cookie, NbdError.None, new byte[4096]),
                "simple error" => peer.SimpleAsync(cookie, NbdError.IO),
                "before the request" => peer.DataAsync(cookie, 0, new byte[512]),
                "across the start" => peer.DataAsync(cookie, at - 1, new byte[4096]),
                "across the end" => peer.DataAsync(cookie, at + 1, new byte[4096]),
                "after the request" => peer.DataAsync(cookie, at + 4096, new byte[1]),
                "offset 2^64-1" => peer.DataAsync(cookie, ulong.MaxValue, new byte[2]),
                "too much data" => peer.ChunkAsync(cookie, NbdChunkType.OffsetData, true, uint.MaxValue, BigEndian(at)),
                "hole of 2^32-1" => peer.HoleAsync(cookie, at, uint.MaxValue),
                "empty hole" => peer.HoleAsync(cookie, at, 0),
                "empty data" => peer.DataAsync(cookie, at, []),
                "data twice" => TwiceAsync(peer.DataAsync(cookie, at, new byte[512], done: false), () => peer.DataAsync(cookie, at + 511, new byte[512])),
                "hole over data" => TwiceAsync(peer.DataAsync(cookie, at + 1024, new byte[512], done: false), () => peer.HoleAsync(cookie, at, 4096)),
                "missing start" => peer.DataAsync(cookie, at + 1, new byte[4095]),
                "missing middle" => TwiceAsync(peer.HoleAsync(cookie, at + 2049, 2047, done: false), () => peer.DataAsync(cookie, at, new byte[2048])),
                "missing end" => peer.DataAsync(cookie, at, new byte[4095]),
                "nothing at all" => peer.ChunkAsync(cookie, NbdChunkType.None, true),
                "none without done" => peer.ChunkAsync(cookie, NbdChunkType.None, false),
                "none with data" => peer.ChunkAsync(cookie, NbdChunkType.None, true, 1),
                "hole of 11 bytes" => peer.ChunkAsync(cookie, NbdChunkType.OffsetHole, true, new byte[11]),
                "status for a read" => peer.StatusAsync(cookie, (4096, 0)),
                "unknown type" => peer.ChunkAsync(cookie, (NbdChunkType)99, true),
                "error of 4 GiB" => peer.ChunkAsync(cookie, NbdChunkType.Error, true, uint.MaxValue, []),
                "error string over 4096" => peer.ErrorAsync(cookie, NbdError.IO, new string('x', 4097)),
                "error string longer than its chunk" => peer.ChunkAsync(cookie, NbdChunkType.Error, true, [.. BigEndian(5u), 0, 9, .. "short"u8]),
                "error without a number" => peer.ErrorAsync(cookie, NbdError.None, "fine"),
                "short error" => peer.ChunkAsync(cookie, NbdChunkType.Error, true, 0, 0, 0, 5, 0),
                "error offset outside" => peer.ChunkAsync(cookie, NbdChunkType.ErrorOffset, true, [.. Error(NbdError.IO, "x"), .. BigEndian(at + 4096)]),
                "short error offset" => peer.ChunkAsync(cookie, NbdChunkType.ErrorOffset, true, Error(NbdError.IO, string.Empty)),
                "hang up" => Task.CompletedTask,
                "hang up in a header" => peer.SendAsync([.. BigEndian(NbdProtocol.StructuredReplyMagic), 0]),
                "hang up in data" => peer.ChunkAsync(cookie, NbdChunkType.OffsetData, true, 8 + 4096, [.. BigEndian(at), 1, 2, 3]),
                _ => ManyGapsAsync(peer, cookie, at),
            });
            if (lie.StartsWith("hang up", StringComparison.Ordinal))
            {
                throw new EndOfStreamException();
            }
        });
        await using var storage = await server.OpenAsync();
        var e = await Assert.ThrowsAsync<BlockException>(async () => await storage.ReadAsync(new HostOffset((long)at), new byte[4096]));
        Assert.Equal(BlockErrorKind.Protocol, e.Kind);
        Assert.Contains(words, e.Message, StringComparison.Ordinal);
        Assert.StartsWith(storage.Name + ": ", e.Message, StringComparison.Ordinal);

        // Nothing more can be had from it, at once and without a word to the server.
        e = await Assert.ThrowsAsync<BlockException>(async () => await storage.ReadAsync(HostOffset.Zero, new byte[512]));
        Assert.Equal(BlockErrorKind.Protocol, e.Kind);
    }

    public static TheoryData<string, string> LiesAboutStatus => new()
    {
        { "wrong context", "not selected" },
        { "two statuses", "two block statuses" },
        { "no status", "without a status" },
        { "no extents", "block status of 4 bytes" },
        { "half an extent", "block status of 8 bytes" },
        { "4 GiB of extents", "block status of 4294967292 bytes" },
        { "empty extent", "empty extent" },
        { "more extents than asked for", "more than the" },
        { "data", "chunk of type 1" },
        { "simple success", "simple reply" },
    };

    [Theory]
    [MemberData(nameof(LiesAboutStatus))]
    public async Task A_lie_in_reply_to_a_block_status_ends_the_connection(string lie, string words)
    {
        await using var server = Server((peer, request) => lie switch
        {
            "wrong context" => peer.ChunkAsync(request.Cookie, NbdChunkType.BlockStatus, true, Status(ContextId + 1, (512, 0))),
            "two statuses" => TwiceAsync(
                peer.ChunkAsync(request.Cookie, NbdChunkType.BlockStatus, false, Status(ContextId, (512, 0))), () => peer.StatusAsync(request.Cookie, (512, 0))),
            "no status" => peer.ChunkAsync(request.Cookie, NbdChunkType.None, true),
            "no extents" => peer.StatusAsync(request.Cookie),
            "half an extent" => peer.ChunkAsync(request.Cookie, NbdChunkType.BlockStatus, true, Status(ContextId, (512, 0))[..8]),
            "4 GiB of extents" => peer.ChunkAsync(request.Cookie, NbdChunkType.BlockStatus, true, 0xffff_fffc, BigEndian(ContextId)),
            "empty extent" => peer.StatusAsync(request.Cookie, (512, 0), (0, 3)),
            "more extents than asked for" => peer.StatusAsync(request.Cookie, ((uint)request.Length, 0), (512, 0)),
            "data" => peer.DataAsync(request.Cookie, request.Offset, new byte[512]),
            _ => peer.SimpleAsync(request.Cookie, NbdError.None),
        });
        await using var storage = await server.OpenAsync();
        var e = await Assert.ThrowsAsync<BlockException>(async () => await storage.MapAsync(HostOffset.Zero, (long)Size));
        Assert.Equal(BlockErrorKind.Protocol, e.Kind);
        Assert.Contains(words, e.Message, StringComparison.Ordinal);
    }

    private static async Task TwiceAsync(Task first, Func<Task> second)
    {
        await first;
        await second();
    }

    private static async Task ManyGapsAsync(ScriptedPeer peer, ulong cookie, ulong at)
    {
        for (var i = 0u; i <= NbdReadCoverage.MaxRuns; i++)
        {
            await peer.HoleAsync(cookie, at + (2 * i), 1, done: false);
        }
    }
}
