using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Qcow2;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Formats.Qcow2.Writing;

/// <summary>Images on storages that do not end where the image ends, and hold old bytes behind it.</summary>
public sealed class Qcow2DeviceTests
{
    private const int Size = 1 << 20;

    [Theory]
    [InlineData(12, "")]
    [InlineData(16, "")]
    [InlineData(14, "extended_l2=on")]
    [InlineData(9, "refcount_bits=1")]
    [InlineData(12, "lazy_refcounts=on")]
    [InlineData(12, "compat=0.10")]
    public async Task Whatever_is_done_the_disk_reads_as_it_should_and_the_image_is_clean(int clusterBits, string options)
    {
        var device = new DeviceStorage(6 << 20);
        await CreateAsync(device, clusterBits, options);
        var model = new byte[Size];
        var random = new Random(clusterBits);
        for (var round = 0; round < 3; round++)
        {
            await using (var node = await WriteFixture.OpenAsync(device))
            {
                for (var i = 0; i < 20; i++)
                {
                    var length = random.Next(1, 20000);
                    var at = random.Next(Size - length);
                    var bytes = TestContent.Make(random.Next(), at, length);
                    await node.WriteAsync(new(at), bytes);
                    bytes.CopyTo(model, at);
                }

                if (!options.Contains("extended", StringComparison.Ordinal))
                {
                    var cluster = TestContent.Make(3, 0, 1 << clusterBits);
                    cluster.AsSpan(cluster.Length / 4).Clear();
                    await node.WriteCompressedAsync(new(3 << 16), cluster);
                    cluster.CopyTo(model, 3 << 16);
                }

                await node.WriteZeroesAsync(new(round << 16), 70000, WriteFlags.None);
                model.AsSpan(round << 16, 70000).Clear();
                await WriteFixture.AssertReadsAsync(node, model);
            }

            await WriteFixture.AssertCleanAsync(device);
        }

        await using (var node = await WriteFixture.OpenAsync(device))
        {
            if (!options.Contains("bits=1", StringComparison.Ordinal))
            {
                await node.CreateSnapshotAsync("one", DateTimeOffset.UnixEpoch);
                await node.WriteAsync(new(100), TestContent.Make(5, 100, 70000));
                await node.ApplySnapshotAsync(SnapshotSelector.Parse("one"));
                await WriteFixture.AssertReadsAsync(node, model);
                await node.DeleteSnapshotAsync(SnapshotSelector.Parse("one"));
            }

            await node.ResizeAsync(Size * 3 / 2);
            Array.Resize(ref model, Size * 3 / 2);
            await WriteFixture.AssertReadsAsync(node, model);
        }

        await WriteFixture.AssertCleanAsync(device);
        await using (var node = await WriteFixture.OpenAsync(device))
        {
            await WriteFixture.AssertReadsAsync(node, model);
            await node.AmendAsync(NodeOptions.ParseKeyValues(options.Contains("compat", StringComparison.Ordinal) ? "compat=1.1" : "refcount_bits=8"), new AmendContext());
        }

        await WriteFixture.AssertCleanAsync(device);
        await using var again = await WriteFixture.OpenAsync(device, writable: false);
        await WriteFixture.AssertReadsAsync(again, model);
    }

    [Fact]
    public async Task At_the_end_of_the_device_there_is_no_space_and_everything_before_stays()
    {
        var device = new DeviceStorage(512 << 10);
        await CreateAsync(device, 12, string.Empty);
        var model = new byte[Size];
        await using (var node = await WriteFixture.OpenAsync(device))
        {
            var at = 0;
            var error = await Assert.ThrowsAsync<BlockException>(async () =>
            {
                for (; ; at += 4096)
                {
                    await node.WriteAsync(new(at), TestContent.Make(1, at, 4096));
                }
            });
            Assert.Equal(BlockErrorKind.NoSpace, error.Kind);
            Assert.Matches("Could not allocate the cluster at 0x[0-9a-f]+: No space left on device: all of its 128 clusters are in use$", error.Message);
            Assert.True(at > 400 << 10);
            TestContent.Make(1, 0, at).CopyTo(model, 0);
            await node.WriteAsync(new(8192), TestContent.Make(2, 0, 100));
            TestContent.Make(2, 0, 100).CopyTo(model, 8192);
        }

        await WriteFixture.AssertCleanAsync(device);
        await using var again = await WriteFixture.OpenAsync(device, writable: false);
        await WriteFixture.AssertReadsAsync(again, model);
    }

    [Fact]
    public async Task Where_refcounts_lie_nothing_is_put_on_a_device_until_they_are_repaired()
    {
        var device = new DeviceStorage(4 << 20);
        await CreateAsync(device, 12, string.Empty);
        var content = TestContent.Make(1, 0, 300000);
        await using (var node = await WriteFixture.OpenAsync(device))
        {
            await node.WriteAsync(default, content);
        }

        // The refcounts of the last clusters are gone.
        await device.WriteAsync(new(0x2000 + (2 * 40)), new byte[200]);
        await using (var node = await WriteFixture.OpenAsync(device))
        {
            var error = await Assert.ThrowsAsync<BlockException>(async () => await node.WriteAsync(new(Size - 4096), new byte[100]));
            Assert.Contains("check -r all", error.Message, StringComparison.Ordinal);
        }

        var disks = new NamedStorages((_, _) => device);
        RepairUndo? undo = null;
        var before = device.ToArray()[..0x40000];
        await using (var node = await disks.OpenAsync("device", forRepair: true))
        {
            var report = await node.RepairAsync(new(RepairMode.All) { BeforeSwitch = (made, _) => { undo = made; return default; } }, static _ => { });
            Assert.True(report.Check is { Corruptions: 0, Leaks: 0, Errors: 0 }, report.Check.ToString());
        }

        await undo!.ApplyAsync(device);
        Assert.Equal(before, device.ToArray()[..0x40000]);
        await using (var node = await disks.OpenAsync("device", forRepair: true))
        {
            await node.RepairAsync(new(RepairMode.All), static _ => { });
        }

        await using (var node = await WriteFixture.OpenAsync(device))
        {
            await node.WriteAsync(new(Size - 4096), TestContent.Make(2, 0, 100));
            var found = new byte[content.Length];
            await node.ReadAsync(default, found);
            Assert.Equal(content, found);
        }

        await WriteFixture.AssertCleanAsync(device);
    }

    private static ValueTask CreateAsync(Storage device, int clusterBits, string options)
    {
        var named = NodeOptions.ParseKeyValues(options.Length == 0 ? $"cluster_size={1 << clusterBits}" : $"cluster_size={1 << clusterBits},{options}");
        return new Qcow2Format().CreateAsync(device, Size, named, new CreateContext());
    }
}
