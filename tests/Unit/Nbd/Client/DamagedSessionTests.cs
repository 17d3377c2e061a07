using Platter.Core.Errors;
using Platter.Core.Units;
using Platter.Nbd.Client;
using Platter.Nbd.Protocol;
using Xunit;
using static Platter.Tests.Unit.Nbd.Client.ScriptedPeer;

namespace Platter.Tests.Unit.Nbd.Client;

/// <summary>A good session with bytes changed at random: the client may succeed or fail, but only with its own kind of error, and it never hangs.</summary>
public sealed class DamagedSessionTests
{
    private const ulong Size = 1 << 20;

    [Theory]
    [InlineData(1, false)]
    [InlineData(2, false)]
    [InlineData(3, true)]
    [InlineData(4, true)]
    public async Task A_damaged_session_ends_well_or_with_a_block_exception(int seed, bool extended)
    {
        for (var round = 0; round < 60; round++)
        {
            var random = new Random((seed * 1000) + round);
            await using var server = new ScriptedServer(peer => PlayAsync(peer, random, extended));
            try
            {
                // Where damage makes each side wait for the other, the client's limit decides; when it does is not what is tested.
                var timeouts = new NbdClientOptions { OpenTimeout = TimeSpan.FromMilliseconds(200) };
                await using var storage = await NbdStorage.OpenAsync(server.Address, timeouts, TestContext.Current.CancellationToken);
                var read = storage.ReadAsync(new HostOffset(4096), new byte[4096]).AsTask();
                var map = storage.MapAsync(HostOffset.Zero, (long)Size).AsTask();
                await Task.WhenAll(read, map).WaitAsync(TimeSpan.FromSeconds(30), TestContext.Current.CancellationToken);
            }
            catch (BlockException e)
            {
                Assert.DoesNotContain('\n', e.Message);
            }
            catch (Exception e)
            {
                Assert.Fail($"seed {seed}, round {round}: {e}");
            }
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task The_undamaged_session_succeeds(bool extended)
    {
        await using var server = new ScriptedServer(peer => PlayAsync(peer, null, extended));
        await using var storage = await server.OpenAsync();
        var read = storage.ReadAsync(new HostOffset(4096), new byte[4096]).AsTask();
        var map = storage.MapAsync(HostOffset.Zero, (long)Size).AsTask();
        Assert.Equal(4096, await read);
        Assert.Equal(4096, (await map).Length);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_server_that_hangs_up_at_any_byte_of_the_handshake_is_told_in_one_line(bool extended)
    {
        var whole = Parts(extended)[..^1].Sum(part => part.Length);
        for (var end = 0; end < whole; end++)
        {
            var left = end;
            await using var server = new ScriptedServer(peer => PlayAsync(peer, null, extended, left));
            var e = await Assert.ThrowsAsync<BlockException>(async () => await server.OpenAsync());
            Assert.True(e.Kind == BlockErrorKind.Protocol && !e.Message.Contains('\n', StringComparison.Ordinal), $"at byte {end}: {e}");
        }
    }

    // Answers whatever the client asks with the next part of the transcript, and hangs up at its end or after some bytes.
    private static async Task PlayAsync(ScriptedPeer peer, Random? random, bool extended, int most = int.MaxValue)
    {
        var parts = Parts(extended);
        if (random is not null)
        {
            Damage(parts[random.Next(parts.Length)], random);
        }

        peer.KnowsExtendedHeaders = extended;
        await SendAsync(parts[0]);
        await peer.ReceiveAsync(NbdGreeting.ClientFlagsSize);
        foreach (var bytes in parts[1..^1])
        {
            var (option, data) = await peer.ReadOptionAsync();
            Assert.True(data.Length < 100, $"{option}");
            await SendAsync(bytes);
        }

        await peer.ReceiveAsync(2 * NbdRequest.SizeOf(extended ? NbdHeaderStyle.Extended : NbdHeaderStyle.Structured));
        await SendAsync(parts[^1]);

        async Task SendAsync(byte[] bytes)
        {
            await peer.SendAsync(bytes[..Math.Min(bytes.Length, most)]);
            most -= bytes.Length;
            if (most < 0)
            {
                throw new EndOfStreamException();
            }
        }
    }

    private static byte[][] Parts(bool extended) =>
    [
        Bytes(NbdGreeting.Size, new NbdGreeting(NbdHandshakeFlags.FixedNewstyle | NbdHandshakeFlags.NoZeroes).WriteTo),
        Reply(extended ? NbdOption.ExtendedHeaders : NbdOption.StructuredReply, NbdOptionReplyType.Ack),
        [.. Reply(NbdOption.SetMetaContext, NbdOptionReplyType.MetaContext, ContextReply(ContextId, "base:allocation")), .. Reply(NbdOption.SetMetaContext, NbdOptionReplyType.Ack)],
        [
            .. Reply(NbdOption.Go, NbdOptionReplyType.Info, ExportInfo(Size)),
            .. Reply(NbdOption.Go, NbdOptionReplyType.Info, BlockSizeInfo(512, 4096, 1 << 20)), .. Reply(NbdOption.Go, NbdOptionReplyType.Ack),
        ],
        [
            .. Chunk(extended, 0x100, NbdChunkType.OffsetHole, false, [.. BigEndian(4096UL), .. BigEndian(1024u)]),
            .. Chunk(extended, 0x100, NbdChunkType.OffsetData, true, [.. BigEndian(5120UL), .. new byte[3072]]),
            .. extended
                ? Chunk(extended, 0x201, NbdChunkType.BlockStatusExt, false, ExtendedStatus(ContextId, 2, (4096, 0), (8192, 3)))
                : Chunk(extended, 0x201, NbdChunkType.BlockStatus, false, Status(ContextId, (4096, 0), (8192, 3))),
            .. Chunk(extended, 0x201, NbdChunkType.None, true, []),
        ],
    ];

    private static void Damage(byte[] bytes, Random random)
    {
        for (var changes = random.Next(1, 4); changes > 0; changes--)
        {
            var at = random.Next(Math.Min(bytes.Length, 200));
            bytes[at] = random.Next(3) switch { 0 => (byte)(bytes[at] ^ (1 << random.Next(8))), 1 => 0xff, _ => (byte)random.Next(256) };
        }
    }

    private static byte[] Reply(NbdOption option, NbdOptionReplyType type, params byte[] data) =>
        [.. Bytes(NbdOptionReplyHeader.Size, new NbdOptionReplyHeader(option, type, (uint)data.Length).WriteTo), .. data];

    private static byte[] Chunk(bool extended, ulong cookie, NbdChunkType type, bool done, byte[] payload)
    {
        var style = extended ? NbdHeaderStyle.Extended : NbdHeaderStyle.Structured;
        var flags = done ? NbdChunkFlags.Done : NbdChunkFlags.None;
        var offset = cookie == 0x100 ? 4096UL : 0;
        return [.. Bytes(NbdChunkHeader.SizeOf(style), b => new NbdChunkHeader(flags, type, cookie, offset, (uint)payload.Length).WriteTo(b, style)), .. payload];
    }

    private static byte[] Bytes(int size, SpanWriter write)
    {
        var bytes = new byte[size];
        write(bytes);
        return bytes;
    }

    private delegate void SpanWriter(Span<byte> bytes);
}
