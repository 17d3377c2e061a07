using Platter.Core.Errors;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Nbd.Client;
using Platter.Nbd.Protocol;
using Platter.Nbd.Server;
using Platter.Tests.Unit.Nbd.Server;
using Xunit;

namespace Platter.Tests.Unit.Nbd.Client;

/// <summary>Our client and our server, the only peers here that both speak extended headers.</summary>
public sealed class OwnServerTests
{
    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData((int)NbdHeaderStyle.Extended, 51)]
    [InlineData((int)NbdHeaderStyle.Structured, 52)]
    [InlineData((int)NbdHeaderStyle.Simple, 53)]
    public async Task Random_requests_over_several_connections_are_those_of_an_array(int style, int seed)
    {
        var random = new Random(seed);
        var model = new byte[1 << 20];
        random.NextBytes(model);
        var content = (byte[])model.Clone();
        await using var server = new ServerFixture(new NbdExport(TestDisks.Raw(new MemoryStorage("memory", content), content.Length)) { IsWritable = true });
        var options = new NbdClientOptions { Writable = true, Connections = 4, BestStyle = (NbdHeaderStyle)style, ReconnectDelay = TimeSpan.FromSeconds(seed == 52 ? 60 : 0) };
        await using var storage = await NbdStorage.OpenAsync(NbdAddress.ForSocket(server.SocketPath), options, Cancel);
        Assert.Equal((NbdHeaderStyle)style, storage.Export.Style);
        Assert.Equal(4, storage.ConnectionCount);
        Assert.Equal((NbdHeaderStyle)style != NbdHeaderStyle.Simple, storage.CanMap);
        for (var round = 0; round < 30; round++)
        {
            // Eight at once, each in a stripe of its own.
            await Task.WhenAll(Enumerable.Range(0, 8).Select(i => DoAsync(i << 17, random.Next(1 << 17), random.Next(1, 100_000), random.Next(5), random.Next())));
        }

        await storage.FlushAsync(Cancel);
        var read = new byte[model.Length];
        await storage.ReadAsync(HostOffset.Zero, read, Cancel);
        Assert.True(read.AsSpan().SequenceEqual(model), $"seed {seed}: the export differs");
        await AssertMapAsync();

        async Task DoAsync(int stripe, int at, int length, int what, int content)
        {
            length = Math.Min(length, (1 << 17) - at);
            at += stripe;
            var bytes = new byte[length];
            switch (what)
            {
                case 0:
                    await storage.WriteZeroesAsync(new(at), length, mayUnmap: content % 2 == 0, Cancel);
                    model.AsSpan(at, length).Clear();
                    break;
                case 1:
                    await storage.ReadAsync(new(at), bytes, Cancel);
                    Assert.True(bytes.AsSpan().SequenceEqual(model.AsSpan(at, length)), $"seed {seed}: {length} bytes at {at} differ");
                    break;
                default:
                    new Random(content).NextBytes(bytes);
                    await storage.WriteAsync(new(at), bytes, durable: what == 2, Cancel);
                    bytes.CopyTo(model, at);
                    break;
            }
        }

        async Task AssertMapAsync()
        {
            for (long at = 0; at < storage.Length;)
            {
                var extent = await storage.MapAsync(new(at), storage.Length - at, Cancel);
                Assert.True(!extent.ReadsZero || !model.AsSpan((int)at, (int)extent.Length).ContainsAnyExcept((byte)0), $"seed {seed}: zeros at {at}");
                at += extent.Length;
            }
        }
    }

    [Theory]
    [InlineData(1, 61)]
    [InlineData(4, 62)]
    public async Task Flows_that_promised_to_be_short_do_as_an_array_does(int connections, int seed)
    {
        const int Flows = 32, Stripe = 1 << 17;
        var model = new byte[Flows * Stripe];
        await using var server = new ServerFixture(new NbdExport(TestDisks.Raw(new MemoryStorage("memory", new byte[model.Length]), model.Length)) { IsWritable = true });
        var options = new NbdClientOptions { Writable = true, Connections = connections };
        await using var storage = await NbdStorage.OpenAsync(NbdAddress.ForSocket(server.SocketPath), options, Cancel);
        await Task.WhenAll(Enumerable.Range(0, Flows).Select(i => Task.Run(() => FlowAsync(i * Stripe, new Random((seed * Flows) + i)), Cancel)));
        var read = new byte[model.Length];
        await storage.ReadAsync(HostOffset.Zero, read, Cancel);
        Assert.True(read.AsSpan().SequenceEqual(model), $"seed {seed}: the export differs");

        // One request after the other, most of them small: they go out together, and long ones between them.
        async Task FlowAsync(int stripe, Random random)
        {
            InlineCompletions.Allow();
            var good = true;
            for (var round = 0; round < 60 && good; round++)
            {
                var at = random.Next(Stripe - 4096);
                var bytes = new byte[random.Next(10) == 0 ? random.Next(1, Stripe - at) : random.Next(1, 4096)];
                if (random.Next(2) == 0)
                {
                    random.NextBytes(bytes);
                    await storage.WriteAsync(new(stripe + at), bytes, Cancel).ConfigureAwait(false);
                    bytes.CopyTo(model, stripe + at);
                }
                else
                {
                    await storage.ReadAsync(new(stripe + at), bytes, Cancel).ConfigureAwait(false);
                    good = bytes.AsSpan().SequenceEqual(model.AsSpan(stripe + at, bytes.Length));
                }
            }

            await Task.Yield();
            Assert.True(good, $"seed {seed}: what was read differs");
        }
    }

    [Fact]
    public async Task A_server_is_inspected_and_its_exports_listed()
    {
        await using var server = new ServerFixture(
            new NbdExport(TestDisks.Memory(new byte[1 << 20]), "what it is") { TellsDepth = true }, name: "a disk");
        var address = NbdAddress.ForSocket(server.SocketPath, "a disk");
        foreach (var info in new[] { await NbdClient.InspectAsync(address, new NbdClientOptions(), Cancel), await NbdClient.InspectAllAsync(address, new NbdClientOptions(), Cancel) })
        {
            Assert.Equal((true, true, true, false), (info.HasFixedHandshake, info.HasStructuredReplies, info.HasExtendedHeaders, info.IsEncrypted));
            var export = Assert.Single(info.Exports);
            Assert.Equal(("a disk", "what it is", 1L << 20), (export.Name, export.Description, export.Size));
            Assert.Equal(["base:allocation", "qemu:allocation-depth"], export.Contexts.Order());
            Assert.NotNull(export.BlockSizes);
        }
    }

    [Fact]
    public async Task A_context_is_read_by_its_name()
    {
        await using var server = new ServerFixture(new NbdExport(TestDisks.Memory(new byte[1 << 20])) { TellsDepth = true });
        var options = new NbdClientOptions { Contexts = ["qemu:allocation-depth", "qemu:dirty-bitmap:none"] };
        await using var storage = await NbdStorage.OpenAsync(NbdAddress.ForSocket(server.SocketPath), options, Cancel);
        Assert.Equal(["base:allocation", "qemu:allocation-depth"], storage.Contexts);
        var extent = Assert.Single(await storage.ReadContextAsync("qemu:allocation-depth", 512, 4096, Cancel));
        Assert.Equal((512L, 4096L), (extent.Start, extent.Length));
        Assert.Equal(BlockErrorKind.NotFound, (await Assert.ThrowsAsync<BlockException>(async () =>
            await NbdStorage.OpenAsync(storage.Address, new NbdClientOptions { MapContext = "qemu:dirty-bitmap:none" }, Cancel))).Kind);
    }
}
