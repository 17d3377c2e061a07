using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Formats.Qcow2.Writing;

/// <summary>Snapshots taken, applied and deleted between random writes: every state reads as it was, and the image checks clean after each closing.</summary>
public sealed class Qcow2SnapshotEditTests
{
    [Theory]
    [InlineData(3, 16, 4, false)]
    [InlineData(3, 9, 4, false)]
    [InlineData(3, 9, 2, false)]
    [InlineData(3, 14, 5, true)]
    [InlineData(2, 12, 4, false)]
    [InlineData(3, 12, 6, false)]
    public async Task Every_state_stays_what_it_was(int version, int bits, int order, bool extended)
    {
        var size = 41L << Math.Min(bits, 14);
        var image = new Qcow2Builder { Version = version, ClusterBits = bits, RefcountOrder = order, ExtendedL2 = extended, Size = size, FreeClusters = 2 }
            .FillRandom(3, 0.5, compressed: order > 2).Build();
        var storage = new MemoryStorage("test.qcow2", image.Bytes.ToArray());
        var model = image.Model.ToArray();
        var states = new Dictionary<string, byte[]>();
        var random = new Random(bits);
        for (var round = 0; round < 14; round++)
        {
            await using (var node = await WriteFixture.OpenAsync(storage))
            {
                for (var i = 0; i < 10; i++)
                {
                    var length = random.Next(1, 4000);
                    var at = random.Next((int)size - length);
                    var bytes = TestContent.Make(random.Next(), at, length);
                    await node.WriteAsync(new(at), bytes);
                    bytes.CopyTo(model, at);
                }

                var some = states.Count == 0 ? null : states.Keys.ElementAt(random.Next(states.Count));
                switch (random.Next(states.Count > 4 ? 3 : 5))
                {
                    case 0 when some is not null:
                        await node.DeleteSnapshotAsync(SnapshotSelector.Parse(some));
                        states.Remove(some);
                        break;
                    case 1 when some is not null:
                        await node.ApplySnapshotAsync(SnapshotSelector.Parse(some));
                        model = [.. states[some]];
                        break;
                    case 2 when version == 3:
                        await node.ResizeAsync(size - (random.Next(2) * 512));
                        await node.ResizeAsync(size);
                        var was = model[^512..];
                        await node.ReadAsync(new(size - 512), model.AsMemory((int)size - 512));
                        Assert.True(model.AsSpan()[^512..].SequenceEqual(was) || !model.AsSpan()[^512..].ContainsAnyExcept((byte)0));
                        break;
                    default:
                        await node.CreateSnapshotAsync($"s{round}", DateTimeOffset.UnixEpoch);
                        states.Add($"s{round}", [.. model]);
                        break;
                }

                Assert.Equal(states.Keys.Order(), node.Snapshots.Select(s => s.Name).Order());
                await WriteFixture.AssertReadsAsync(node, model);
                await node.WriteAsync(new(512), new byte[700]);
                model.AsSpan(512, 700).Clear();
            }

            await WriteFixture.AssertCleanAsync(storage);
            await using var reopened = await WriteFixture.OpenAsync(storage, writable: false);
            await WriteFixture.AssertReadsAsync(reopened, model);
            foreach (var (name, then) in states)
            {
                await using var snapshot = new ImageNode(await reopened.Driver.OpenSnapshotAsync(SnapshotSelector.Parse(name)), null);
                await WriteFixture.AssertReadsAsync(snapshot, then);
            }
        }
    }

    [Fact]
    public async Task A_refcount_that_cannot_grow_leaves_the_image_as_it_was()
    {
        var image = new Qcow2Builder { ClusterBits = 12, RefcountOrder = 0, Size = 1 << 20 }.Fill(1, 0, 5).Build();
        var storage = new MemoryStorage("test.qcow2", image.Bytes.ToArray());
        await using (var node = await WriteFixture.OpenAsync(storage))
        {
            var error = await Assert.ThrowsAsync<BlockException>(async () => await node.CreateSnapshotAsync("one", DateTimeOffset.UnixEpoch));
            Assert.Equal(BlockErrorKind.LimitExceeded, error.Kind);
            Assert.Contains("refcount_bits", error.Message);
        }

        await WriteFixture.AssertCleanAsync(storage);
        await using var reopened = await WriteFixture.OpenAsync(storage, writable: false);
        Assert.Empty(reopened.Snapshots);
        await WriteFixture.AssertReadsAsync(reopened, image.Model.ToArray());
    }
}
