using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Operations.Copy;
using Platter.Operations.Digest;
using Platter.Operations.Offline;
using Platter.TestKit;
using Platter.Tests.Unit.Core;
using Xunit;

namespace Platter.Tests.Unit.Operations;

public sealed class CopyEngineTests
{
    private static (ImageNode Node, byte[] Content) RandomDisk(int seed, int size = 9 * 1024 * 1024 + 512)
    {
        TestContext.Current.TestOutputHelper?.WriteLine($"seed {seed}");
        var random = new Random(seed);
        var stored = new byte[size];
        random.NextBytes(stored);
        var content = new byte[size];
        var map = new List<(long, ExtentKind, long)>();
        for (var at = 0; at < size;)
        {
            var length = Math.Min(size - at, random.Next(1, 3000) * 512);
            var kind = random.Next(3) switch { 0 => ExtentKind.Zero, 1 => ExtentKind.Unallocated, _ => ExtentKind.Data };
            if (kind == ExtentKind.Data)
            {
                if (random.Next(2) == 0)
                {
                    stored.AsSpan(at + (length / 3), length / 3).Clear();
                }

                stored.AsSpan(at, length).CopyTo(content.AsSpan(at));
            }

            map.Add((length, kind, at));
            at += length;
        }

        return (new ImageNode(new FakeDriver(size, new MemoryStorage("source", stored), [.. map]), null), content);
    }

    [Theory]
    [InlineData(1, 1, 4096, true)]
    [InlineData(2, 4, 4096, true)]
    [InlineData(3, 2, 0, true)]
    [InlineData(4, 16, 512, false)]
    [InlineData(5, 2, 65536, false)]
    public async Task A_copy_has_the_bytes_of_the_disk(int seed, int workers, int sparse, bool targetIsZero)
    {
        var (node, content) = RandomDisk(seed);
        var target = new byte[content.Length];
        if (!targetIsZero)
        {
            Array.Fill(target, (byte)0xcc);
        }

        var storage = new MemoryStorage("target", target);
        CopyProgress last = default;
        await CopyEngine.CopyAsync(
            node, CopyTarget.Of(storage), new CopyOptions { Workers = workers, SparseBytes = sparse, TargetIsZero = targetIsZero }, new Latest(p => last = p));
        Assert.True(content.AsSpan().SequenceEqual(storage.ToArray()));
        Assert.Equal(content.Length, last.Done);
        Assert.Equal(content.Length, last.Total);
    }

    [Theory]
    [InlineData(1, "qcow2", "", false)]
    [InlineData(2, "qcow2", "cluster_size=512", false)]
    [InlineData(3, "qcow2", "cluster_size=2M", false)]
    [InlineData(4, "qcow2", "", true)]
    [InlineData(5, "qcow2", "cluster_size=2M", true)]
    [InlineData(6, "qcow2", "cluster_size=4k", true)]
    [InlineData(7, "raw", "", false)]
    public async Task Every_target_gets_the_disk_and_the_digest_is_that_of_the_disk(int seed, string format, string options, bool compress)
    {
        using var folder = new TempFolder("copy");
        var (node, content) = RandomDisk(seed);
        File.WriteAllBytes(folder["expected.raw"], content);
        await using var expected = await Disk.OpenAsync(folder["expected.raw"], new DiskOpenOptions { Format = "raw" });
        var path = folder["target"];
        await Disk.CreateAsync(path, content.Length, new NamedCreateOptions(format, NodeOptions.ParseKeyValues(options)));
        var digest = new DigestTree(content.Length);
        await using (var target = await Disk.OpenAsync(path, new DiskOpenOptions { Format = format, Writable = true }))
        {
            var unit = target.Node.AllocationUnit;
            var to = compress ? CopyTarget.Compressed(target.Node, unit) : CopyTarget.Of(target.Node, unit);
            await CopyEngine.CopyAsync(node, to, new CopyOptions { Workers = 4, TargetIsZero = true, Digest = digest });
        }

        await using var written = await Disk.OpenAsync(path, new DiskOpenOptions { Format = format });
        Assert.Equal(CompareOutcome.Identical, (await CompareOperation.CompareAsync(expected.Node, written.Node, strict: false)).Outcome);
        Assert.Equal(await expected.ComputeDigestAsync(), digest.Finish());
    }

    [Fact]
    public async Task A_read_error_ends_the_copy_with_that_error()
    {
        var broken = new BrokenStorage(1024 * 1024, 300_000, 1000);
        await using var node = new ImageNode(new FakeDriver2(broken), null);
        var error = await Assert.ThrowsAsync<BlockException>(() => CopyEngine.CopyAsync(
            node, CopyTarget.Of(new MemoryStorage("target", new byte[1024 * 1024])), new CopyOptions { Workers = 4 }));
        Assert.Equal("broken: bad sector", error.Message);
    }

    [Fact]
    public async Task Salvage_loses_only_the_sectors_that_cannot_be_read_and_names_them()
    {
        var broken = new BrokenStorage(1024 * 1024, 300_000, 1000);
        await using var node = new ImageNode(new FakeDriver2(broken), null);
        var target = new MemoryStorage("target", new byte[1024 * 1024]);
        var lost = new List<(long, long)>();
        await CopyEngine.CopyAsync(
            node, CopyTarget.Of(target), new CopyOptions { Salvage = true, TargetIsZero = true, OnSalvaged = (at, length, _) => lost.Add((at.Value, length)) });
        var first = 300_000 / 512 * 512;
        var end = (301_000 + 511) / 512 * 512;
        Assert.Equal([(first, (long)(end - first))], lost);
        var copy = target.ToArray();
        Assert.All(copy[..first], b => Assert.Equal(0x5a, b));
        Assert.All(copy[first..end], b => Assert.Equal(0, b));
        Assert.All(copy[end..], b => Assert.Equal(0x5a, b));
    }

    [Fact]
    public async Task Cancelling_stops_the_copy()
    {
        var (node, content) = RandomDisk(6);
        using var stop = new CancellationTokenSource();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => CopyEngine.CopyAsync(
            node, CopyTarget.Of(new MemoryStorage("target", new byte[content.Length])), new CopyOptions(), new Latest(_ => stop.Cancel()), stop.Token));
    }

    [Fact]
    public async Task Compare_names_the_first_sector_that_differs()
    {
        var (one, content) = RandomDisk(7);
        var changed = (byte[])content.Clone();
        changed[5_000_000] ^= 1;
        changed[8_000_000] ^= 1;
        await using var same = new ImageNode(new FakeDriver(content.Length, new MemoryStorage("same", content), (content.Length, ExtentKind.Data, 0)), null);
        await using var other = new ImageNode(new FakeDriver(content.Length, new MemoryStorage("other", changed), (content.Length, ExtentKind.Data, 0)), null);
        Assert.Equal(CompareOutcome.Identical, (await CompareOperation.CompareAsync(one, same, strict: false)).Outcome);
        var result = await CompareOperation.CompareAsync(one, other, strict: false);
        Assert.Equal((CompareOutcome.ContentMismatch, 5_000_000L / 512 * 512), (result.Outcome, result.At.Value));
    }

    private sealed class Latest(Action<CopyProgress> action) : IProgress<CopyProgress>
    {
        public void Report(CopyProgress value) => action(value);
    }

    private sealed class BrokenStorage(int size, int badFrom, int badLength) : Storage
    {
        public override string Name => "broken";

        public override long Length => size;

        public override ValueTask<int> ReadAsync(HostOffset at, Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            if (at.Value < badFrom + badLength && at.Value + buffer.Length > badFrom)
            {
                throw new BlockException(BlockErrorKind.Io, "broken: bad sector");
            }

            buffer.Span.Fill(0x5a);
            return new(buffer.Length);
        }
    }

    private sealed class FakeDriver2(Storage storage) : ImageDriver
    {
        public override string FormatName => "fake";

        public override Storage Storage => storage;

        public override long VirtualSize => storage.Length;

        public override ValueTask<Extent> MapAsync(GuestOffset at, long length, CancellationToken cancellationToken = default) =>
            new(new Extent { Offset = at, Length = length, Kind = ExtentKind.Data, Storage = storage, HostOffset = new(at.Value) });

        public override ValueTask<ImageInfo> GetInfoAsync(CancellationToken cancellationToken = default) =>
            new(new ImageInfo { FileName = "x", Format = "fake", VirtualSize = VirtualSize });
    }
}
