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
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public async Task A_damaged_session_ends_well_or_with_a_block_exception(int seed)
    {
        for (var round = 0; round < 60; round++)
        {
            var random = new Random((seed * 1000) + round);
            await using var server = new ScriptedServer(peer => PlayAsync(peer, random));
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

    [Fact]
    public async Task The_undamaged_session_succeeds()
    {
        await using var server = new ScriptedServer(peer => PlayAsync(peer, null));
        await using var storage = await server.OpenAsync();
        var read = storage.ReadAsync(new HostOffset(4096), new byte[4096]).AsTask();
        var map = storage.MapAsync(HostOffset.Zero, (long)Size).AsTask();
        Assert.Equal(4096, await read);
        Assert.Equal(4096, (await map).Length);
    }

    // Answers whatever the client asks with the next part of the transcript, and hangs up at its end.
    private static async Task PlayAsync(ScriptedPeer peer, Random? random)
    {
        byte[][] parts =
        [
            Bytes(NbdGreeting.Size, new NbdGreeting(NbdHandshakeFlags.FixedNewstyle | NbdHandshakeFlags.NoZeroes).WriteTo),
            Reply(NbdOption.StructuredReply, NbdOptionReplyType.Ack),
            [.. Reply(NbdOption.SetMetaContext, NbdOptionReplyType.MetaContext, ContextReply(ContextId, "base:allocation")), .. Reply(NbdOption.SetMetaContext, NbdOptionReplyType.Ack)],
            [
                .. Reply(NbdOption.Go, NbdOptionReplyType.Info, ExportInfo(Size)),
                .. Reply(NbdOption.Go, NbdOptionReplyType.Info, BlockSizeInfo(512, 4096, 1 << 20)), .. Reply(NbdOption.Go, NbdOptionReplyType.Ack),
            ],
            [
                .. Chunk(0x100, NbdChunkType.OffsetHole, false, [.. BigEndian(4096UL), .. BigEndian(1024u)]),
                .. Chunk(0x100, NbdChunkType.OffsetData, true, [.. BigEndian(5120UL), .. new byte[3072]]),
                .. Chunk(0x201, NbdChunkType.BlockStatus, false, Status(ContextId, (4096, 0), (8192, 3))),
                .. Chunk(0x201, NbdChunkType.None, true, []),
            ],
        ];
        if (random is not null)
        {
            Damage(parts[random.Next(parts.Length)], random);
        }

        await peer.SendAsync(parts[0]);
        await peer.ReceiveAsync(NbdGreeting.ClientFlagsSize);
        foreach (var bytes in parts[1..4])
        {
            var (option, data) = await peer.ReadOptionAsync();
            Assert.True(data.Length < 100, $"{option}");
            await peer.SendAsync(bytes);
        }

        await peer.ReceiveAsync(2 * NbdRequest.CompactSize);
        await peer.SendAsync(parts[4]);
    }

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

    private static byte[] Chunk(ulong cookie, NbdChunkType type, bool done, byte[] payload) =>
        [.. Bytes(NbdChunkHeader.StructuredSize, b => new NbdChunkHeader(done ? NbdChunkFlags.Done : NbdChunkFlags.None, type, cookie, 0, (uint)payload.Length).WriteTo(b, NbdHeaderStyle.Structured)), .. payload];

    private static byte[] Bytes(int size, SpanWriter write)
    {
        var bytes = new byte[size];
        write(bytes);
        return bytes;
    }

    private delegate void SpanWriter(Span<byte> bytes);
}
