using System.Buffers.Binary;
using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Formats.Qcow2;
using Platter.Host.Codecs;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Formats.Qcow2.Writing;

/// <summary>Goal: no I/O error loses what was flushed, and none is kept from the caller. Method: an operation is run again and again, its first request failing, then its
/// second, until none fails; after each the guest goes on, the image is closed, and what is on the disk is checked and compared.</summary>
public sealed class FaultWalkTests
{
    private const int Size = 300 * 512;

    /// <summary>Small shapes in which much happens: cluster bits, refcount order, version, extended L2, snapshot, backing.</summary>
    public static TheoryData<string, int, int, int, bool, bool, bool> Shapes() => new()
    {
        { "tiny", 9, 6, 3, false, false, false },
        { "snapshot", 9, 4, 3, false, true, false },
        { "backing", 10, 4, 3, false, true, true },
        { "old", 10, 4, 2, false, true, false },
        { "subclusters", 14, 4, 3, true, true, false },
    };

    [Theory]
    [MemberData(nameof(Shapes))]
    public Task Errors_during_writes_lose_nothing(string shape, int bits, int order, int version, bool extended, bool snapshot, bool backing) =>
        WalkAsync(shape, bits, order, version, extended, snapshot, backing, Writes);

    [Theory]
    [MemberData(nameof(Shapes))]
    public Task Errors_during_snapshots_lose_nothing(string shape, int bits, int order, int version, bool extended, bool snapshot, bool backing) =>
        WalkAsync(shape, bits, order, version, extended, snapshot, backing, async guest =>
        {
            await guest.WriteAsync(3000, 5000);
            await guest.CreateSnapshotAsync("walk");
            await guest.WriteAsync(4096, 2048);
            await guest.ApplySnapshotAsync("walk");
            await guest.WriteAsync(512, 512);
            await guest.DeleteSnapshotAsync("walk");
            await guest.WriteAsync(70_000, 3000);
        });

    [Theory]
    [MemberData(nameof(Shapes))]
    public Task Errors_during_resizing_lose_nothing(string shape, int bits, int order, int version, bool extended, bool snapshot, bool backing)
    {
        Assert.SkipWhen(version == 2 && snapshot, "an old image with snapshots cannot change its size");
        return WalkAsync(shape, bits, order, version, extended, snapshot, backing, async guest =>
        {
            await guest.WriteAsync(Size - 1000, 1000);
            await guest.ResizeAsync(Size + (900 * 512));
            await guest.WriteAsync(Size + 5000, 2000);
            await guest.ResizeAsync(Size - 512);
            await guest.WriteAsync(Size - 5000, 2000);
        });
    }

    [Fact]
    public Task Errors_during_compressed_writes_lose_nothing() =>
        WalkAsync("compressed", 12, 4, 3, false, true, false, async guest =>
        {
            await guest.CompressAsync(8192, 4096);
            await guest.CompressAsync(16_384, 4096);
            await guest.CompressAsync(20_480, 4096);
            await guest.WriteAsync(16_900, 300);
            await guest.FlushAsync();
            await guest.CompressAsync(40_960, 4096);
            await guest.ZeroAsync(20_480, 4096);
        });

    [Fact]
    public Task Errors_while_the_refcount_table_grows_lose_nothing() =>
        // 64 refcounts of 64 bits in a block, 64 blocks in the table: full at 2 MiB.
        WalkAsync("growing", 9, 6, 3, false, false, false, async guest =>
        {
            await guest.WriteAsync(0, 40_000);
            await guest.FlushAsync();
            await guest.WriteAsync(50_000, 40_000);
        }, free: 3900, end: bytes => Assert.True(BinaryPrimitives.ReadUInt32BigEndian(bytes.AsSpan(56)) > 1, "the table did not grow"));

    [Theory]
    [InlineData("", 1 << 20)]
    [InlineData("preallocation=metadata,cluster_size=512", 1 << 20)]
    [InlineData("preallocation=full,cluster_size=4k", 100_000)]
    public async Task Errors_during_creation_reach_the_caller_and_leave_no_image(string options, long size)
    {
        foreach (var kind in new[] { BlockErrorKind.Io, BlockErrorKind.NoSpace })
        {
            for (var n = 0; ; n++)
            {
                var memory = new MemoryStorage("new.qcow2", [1, 2, 3]);
                var storage = new FailingStorage(memory, "wfl", kind, goesOn: false);
                storage.FailAfter(n);
                BlockException? error = null;
                try
                {
                    await new Qcow2Format().CreateAsync(storage, size, NodeOptions.ParseKeyValues(options), new CreateContext());
                }
                catch (BlockException e)
                {
                    error = e;
                }

                if (storage.Failed is null)
                {
                    Assert.Null(error);
                    await WriteFixture.AssertCleanAsync(memory);
                    break;
                }

                Assert.True(error?.Kind == kind, $"request {n}, {storage.Failed}: the error was kept from the caller");
                Assert.False(await OpensAsync(memory), $"request {n}, {storage.Failed}: half an image was left");
            }
        }
    }

    private static async Task<bool> OpensAsync(MemoryStorage storage)
    {
        try
        {
            await using var node = await WriteFixture.OpenAsync(storage, writable: false);
            return true;
        }
        catch (BlockException)
        {
            return false;
        }
    }

    private static async Task Writes(WalkGuest guest)
    {
        await guest.WriteAsync(100, 3000);
        await guest.WriteAsync(40_960, 4096);
        await guest.FlushAsync();
        await guest.WriteAsync(41_000, 2000);
        await guest.ZeroAsync(20_480, 9000);
        await guest.WriteAsync(100_000, 20_000);
        await guest.FlushAsync();
        await guest.ZeroAsync(100_352, 4096);
        await guest.WriteAsync(80_000, 700);
    }

    private static async Task WalkAsync(
        string shape, int bits, int order, int version, bool extended, bool snapshot, bool backing, Func<WalkGuest, Task> operation, int free = 3,
        Action<byte[]>? end = null)
    {
        var below = backing ? new ReferenceDisk(Size - 1024) : null;
        below?.Fill(99, 0, (int)below.Size);
        var builder = new Qcow2Builder
        {
            Version = version, ClusterBits = bits, RefcountOrder = order, ExtendedL2 = extended, Size = Size, Seed = 5, FreeClusters = free,
            Backing = below, BackingFile = backing ? "base" : null,
        };
        builder.FillRandom(5, 0.4, compressed: order > 2 && free < 100);
        if (snapshot)
        {
            builder.AddSnapshot("1", "one");
            builder.FillRandom(6, 0.3, compressed: false);
        }

        var image = builder.Build();
        var content = new byte[Size];
        image.Model.Read(0, content);
        var once = snapshot ? new byte[Size] : null;
        if (once is not null)
        {
            image.Snapshots[0].Model.Read(0, once);
        }

        foreach (var (kinds, kind, goesOn) in new[] { ("wfl", BlockErrorKind.Io, false), ("wl", BlockErrorKind.NoSpace, true), ("r", BlockErrorKind.Io, false) })
        {
            for (var n = 0; ; n++)
            {
                var memory = new MemoryStorage("test.qcow2", image.Bytes.ToArray());
                var storage = new FailingStorage(memory, kinds, kind, goesOn);
                var failed = await RunAsync(storage, memory, below, content, once, operation, n, mustTell: kinds != "r");
                if (!failed)
                {
                    Assert.True(n > 5, $"{shape}: only {n} requests");
                    end?.Invoke(memory.ToArray());
                    break;
                }
            }
        }
    }

    // Whether a request failed.
    private static async Task<bool> RunAsync(
        FailingStorage storage, MemoryStorage memory, ReferenceDisk? below, byte[] content, byte[]? snapshot, Func<WalkGuest, Task> operation, int n, bool mustTell)
    {
        storage.FailAfter(n);
        BlockException? error = null;
        var closed = false;
        var goesOn = true;
        WalkGuest? guest = null;
        try
        {
            guest = new WalkGuest(await OpenAsync(storage, below), content);
            try
            {
                await operation(guest);
            }
            catch (BlockException e)
            {
                error = e;
                goesOn = await guest.GoOnAsync($"request {n} ({storage.Failed})");
            }

            await guest.Node.DisposeAsync();

            // After an error that leaves nothing to go on from, closing only lets go.
            closed = goesOn;
        }
        catch (BlockException e)
        {
            error ??= e;
        }

        if (guest is null)
        {
            await storage.DisposeAsync();
        }

        var when = $"request {n} ({storage.Failed ?? "none"} failed)";
        Assert.True(storage.Failed is not null || error is null, $"{when}: {error}");
        Assert.True(storage.Failed is null || error is not null || !mustTell, $"{when}: the error was kept from the caller");
        Assert.True(storage.Closed == 1, $"{when}: the storage was closed {storage.Closed} times");
        await VerifyAsync(memory, below, guest, content, snapshot, closed, when);
        return storage.Failed is not null;
    }

    private static async Task VerifyAsync(
        MemoryStorage memory, ReferenceDisk? below, WalkGuest? guest, byte[] content, byte[]? snapshot, bool closed, string when)
    {
        await AssertUncorruptedAsync(memory, below, when);
        await using (var reopened = await WriteFixture.OpenAsync(memory, below: below, writable: false))
        {
            if (guest is null)
            {
                await WriteFixture.AssertReadsAsync(reopened, content);
            }
            else if (closed)
            {
                await guest.VerifyNowAsync(reopened, $"{when}, closed");
            }
            else
            {
                await guest.VerifyDurableAsync(reopened, $"{when}, not closed");
            }

            if (snapshot is not null)
            {
                await using var old = new ImageNode(await reopened.Driver.OpenSnapshotAsync(SnapshotSelector.Parse("one")), WriteFixture.Backing(below));
                Assert.True((await WalkGuest.ReadAllAsync(old)).AsSpan().SequenceEqual(snapshot), $"{when}: the old snapshot has changed");
            }

            foreach (var (name, then) in guest?.Snapshots ?? [])
            {
                if (reopened.Snapshots.Any(s => s.Name == name))
                {
                    await using var taken = new ImageNode(await reopened.Driver.OpenSnapshotAsync(SnapshotSelector.Parse(name)), WriteFixture.Backing(below));
                    Assert.True((await WalkGuest.ReadAllAsync(taken)).AsSpan().SequenceEqual(then), $"{when}: the new snapshot is not what was taken");
                }
            }
        }

        // It can be used again.
        var size = 0L;
        await using (var again = await WriteFixture.OpenAsync(memory, below: below))
        {
            size = again.VirtualSize;
            await again.WriteAsync(new(30_000), new byte[30_000]);
        }

        await AssertUncorruptedAsync(memory, below, $"{when}, used again");
        Assert.True(size > 60_000);
    }

    private static async Task AssertUncorruptedAsync(MemoryStorage memory, ReferenceDisk? below, string when)
    {
        await using var node = await WriteFixture.OpenAsync(memory, below: below, writable: false);
        var findings = new List<string>();
        var report = await node.CheckAsync(f => findings.Add(f.Message));
        Assert.True(report is { Corruptions: 0, Errors: 0 }, $"{when}: {string.Join("\n", findings.Take(10))}");
    }

    private static async Task<ImageNode> OpenAsync(FailingStorage storage, ReferenceDisk? below)
    {
        var context = new OpenContext
        {
            Formats = new FormatRegistry([new Qcow2Format()], []),
            Storages = new NoStorages(),
            Gate = new ClosedGate("nothing is opened here"),
            Codecs = HostCodecs.Instance,
        };
        return new ImageNode(await new Qcow2Format().OpenAsync(storage, new NodeOptions(), context), WriteFixture.Backing(below));
    }

    private sealed class NoStorages : StorageOpener
    {
        public override ValueTask<Storage> OpenAsync(NodeOptions options, StorageOpenMode mode, CancellationToken cancellationToken = default) =>
            throw new NotSupportedException();

        public override bool IsDirectory(NodeOptions options) => false;

        public override ValueTask<StorageDirectory> OpenDirectoryAsync(string path, CancellationToken cancellationToken = default) =>
            throw new NotSupportedException();

        public override bool IsStorageDriver(string driver) => driver == "file";
    }
}
