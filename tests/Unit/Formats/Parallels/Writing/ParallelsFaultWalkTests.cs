using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Formats.Parallels;
using Platter.TestKit;
using Platter.Tests.Unit.Formats.Qcow2.Writing;
using Xunit;

namespace Platter.Tests.Unit.Formats.Parallels.Writing;

/// <summary>Goal: no I/O error loses what was flushed, and none is kept from the caller. Method: an operation is run again and again, its first request failing, then its
/// second, until none fails; after each the guest goes on, the image is closed, and what is on the disk is checked and compared.</summary>
public sealed class ParallelsFaultWalkTests
{
    private const int Sectors = 300, Size = Sectors * 512;

    /// <summary>magic, cluster in sectors, data_off, backing, bitmaps, flags.</summary>
    public static TheoryData<int, uint, uint?, bool, bool, uint> Shapes() => new()
    {
        { 1, 1, 0, false, false, 0 },
        { 2, 8, null, false, true, 0 },
        { 1, 3, null, true, false, 1 },
        { 2, 2, null, true, true, 0 },
    };

    [Theory]
    [MemberData(nameof(Shapes))]
    public Task Errors_during_writes_lose_nothing(int magic, uint cluster, uint? dataOffset, bool backing, bool bitmaps, uint flags) =>
        WalkAsync(magic, cluster, dataOffset, backing, bitmaps, flags, async guest =>
        {
            await guest.WriteAsync(100, 3000);
            await guest.WriteAsync(40_960, 4096);
            await guest.FlushAsync();
            await guest.ZeroAsync(40_960, 4096);
            await guest.WriteAsync(41_000, 2000);
            await guest.ZeroAsync(20_480, 9000);
            await guest.FlushAsync();
            await guest.WriteAsync(100_000, 20_000);
            await guest.FlushAsync();
            await guest.WriteAsync(80_000, 700);
        });

    [Theory]
    [MemberData(nameof(Shapes))]
    public Task Errors_during_resizing_lose_nothing(int magic, uint cluster, uint? dataOffset, bool backing, bool bitmaps, uint flags) =>
        WalkAsync(magic, cluster, dataOffset, backing, bitmaps, flags, async guest =>
        {
            await guest.WriteAsync(Size - 1000, 1000);
            await guest.ResizeAsync(Size + (900 * 512));
            await guest.WriteAsync(Size + 5000, 2000);
            await guest.ResizeAsync(Size - 512);
            await guest.WriteAsync(Size - 5000, 2000);
        });

    [Fact]
    public Task Errors_during_changes_of_bitmaps_lose_nothing() =>
        WalkAsync(1, 8, 0, false, true, 0, async guest =>
        {
            await guest.Node.AddBitmapsAsync([new(ParallelsFixture.BitmapA, 1024)]);
            await guest.WriteAsync(3000, 5000);
            await guest.Node.StoreBitmapsAsync();
            await guest.WriteAsync(30_000, 5000);
            await guest.Node.RemoveBitmapAsync(ParallelsFixture.BitmapA);
            await guest.WriteAsync(512, 512);
        });

    [Theory]
    [InlineData("", 1 << 20)]
    [InlineData("version=1,cluster_size=512", 1 << 20)]
    public async Task Errors_during_creation_reach_the_caller_and_leave_no_image(string options, long size)
    {
        foreach (var kind in new[] { BlockErrorKind.Io, BlockErrorKind.NoSpace })
        {
            for (var n = 0; ; n++)
            {
                var memory = new MemoryStorage("new.hds", [1, 2, 3]);
                var storage = new FailingStorage(memory, "wfl", kind, goesOn: false);
                storage.FailAfter(n);
                BlockException? error = null;
                try
                {
                    await new ParallelsFormat().CreateAsync(storage, size, NodeOptions.ParseKeyValues(options), new CreateContext());
                }
                catch (BlockException e)
                {
                    error = e;
                }

                if (storage.Failed is null)
                {
                    Assert.Null(error);
                    await ParallelsFixture.AssertCleanAsync(memory);
                    break;
                }

                Assert.True(error?.Kind == kind, $"request {n}, {storage.Failed}: the error was kept from the caller");
                await Assert.ThrowsAsync<ImageFormatException>(() => ParallelsFixture.OpenAsync(memory, writable: false));
            }
        }
    }

    private static async Task WalkAsync(int magic, uint cluster, uint? dataOffset, bool backing, bool bitmaps, uint flags, Func<WalkGuest, Task> operation)
    {
        var below = backing ? new ReferenceDisk(Size - 1024) : null;
        below?.Fill(99, 0, (int)below.Size);
        var builder = new ParallelsImageBuilder
        {
            Magic = magic == 1 ? ParallelsMagic.WithoutFreeSpace : ParallelsMagic.WithouFreSpacExt, ClusterSectors = cluster, SizeSectors = Sectors,
            DataOffsetSectors = dataOffset, Placement = HostPlacement.Shuffled, Backing = below, Flags = flags,
        };
        builder.FillRandom(5, 0.4);
        builder.AddHoles(1, 4);
        if (bitmaps)
        {
            builder.AddBitmap(new ParallelsBitmap { GranularitySectors = 8 }.Set(2, 7));
        }

        var image = builder.Build();
        var content = image.Model.ToArray();
        if (flags == 1)
        {
            content.AsSpan().Clear();
            below?.ToArray().CopyTo(content, 0);
        }

        foreach (var (kinds, kind, goesOn) in new[] { ("wfl", BlockErrorKind.Io, false), ("wl", BlockErrorKind.NoSpace, true), ("r", BlockErrorKind.Io, false) })
        {
            for (var n = 0; ; n++)
            {
                var memory = new MemoryStorage("test.hds", image.Bytes.ToArray());
                var storage = new FailingStorage(memory, kinds, kind, goesOn);
                if (!await RunAsync(storage, memory, below, content, operation, n, mustTell: kinds != "r"))
                {
                    Assert.True(n > 3, $"only {n} requests");
                    break;
                }
            }
        }
    }

    // Whether a request failed.
    private static async Task<bool> RunAsync(
        FailingStorage storage, MemoryStorage memory, ReferenceDisk? below, byte[] content, Func<WalkGuest, Task> operation, int n, bool mustTell)
    {
        storage.FailAfter(n);
        BlockException? error = null;
        var closed = false;
        var goesOn = true;
        WalkGuest? guest = null;
        try
        {
            guest = new WalkGuest(await ParallelsFixture.OpenAsync(storage, below), content);
            try
            {
                await operation(guest);
            }
            catch (BlockException e)
            {
                error = e;
                goesOn = await GoOnAsync(guest, $"request {n} ({storage.Failed})");
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
        await VerifyAsync(memory, below, guest, content, closed, when);
        return storage.Failed is not null;
    }

    // The guest does not give up at once. Whether it could flush.
    private static async Task<bool> GoOnAsync(WalkGuest guest, string when)
    {
        await guest.VerifyNowAsync(guest.Node, $"{when}, then");
        try
        {
            await guest.WriteAsync(60_000, 2000);
            await guest.FlushAsync();
            return true;
        }
        catch (BlockException)
        {
            return false;
        }
        finally
        {
            await guest.VerifyNowAsync(guest.Node, $"{when}, later");
        }
    }

    private static async Task VerifyAsync(MemoryStorage memory, ReferenceDisk? below, WalkGuest? guest, byte[] content, bool closed, string when)
    {
        await AssertUncorruptedAsync(memory, when);
        await using (var reopened = await ParallelsFixture.OpenAsync(memory, below, writable: false))
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

            await AssertBitmapsCoverAsync(reopened, content, when);
        }

        // It can be used again, and is clean then.
        await using (var again = await ParallelsFixture.OpenAsync(memory, below))
        {
            await again.WriteAsync(new(30_000), new byte[30_000]);
        }

        await ParallelsFixture.AssertCleanAsync(memory);
    }

    // A bitmap that is there has what differs from the beginning.
    private static async Task AssertBitmapsCoverAsync(ImageNode node, byte[] content, string when)
    {
        var found = await WalkGuest.ReadAllAsync(node);
        foreach (var bitmap in node.Bitmaps.Where(b => b.Name != ParallelsFixture.BitmapA))
        {
            var dirty = await ParallelsBitmapTests.RangesAsync(node, bitmap.Name);
            for (var sector = 0; sector < Math.Min(found.Length, content.Length) / 512 - 1; sector++)
            {
                Assert.True(
                    found.AsSpan(sector * 512, 512).SequenceEqual(content.AsSpan(sector * 512, 512)) || dirty.Exists(d => d.Item1 <= sector && d.Item1 + d.Item2 > sector),
                    $"{when}: the bitmap does not have sector {sector}");
            }
        }
    }

    // An image that was not closed is called corrupt for that alone.
    private static async Task AssertUncorruptedAsync(MemoryStorage memory, string when)
    {
        var header = await ParallelsFixture.HeaderAsync(memory);
        await using var node = await ParallelsFixture.OpenAsync(memory, writable: false);
        var findings = new List<string>();
        var report = await node.CheckAsync(f => findings.Add(f.Message));
        Assert.True(report.Errors == 0 && report.Corruptions == (header.IsDirty ? 1 : 0), $"{when}: {string.Join("\n", findings.Take(10))}");
    }
}
