using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Formats.Qcow2.Writing;

/// <summary>Goal: the promises of <see cref="FaultWalkTests"/> for images with lazy refcounts, which are dirty while they are written to, for such that were not closed, and for empty
/// ones, which get all their tables from the guest. Method: <see cref="FaultWalk"/>.</summary>
public sealed class GuestFaultWalkTests
{
    private const int Size = 200 * 512;

    [Theory]
    [InlineData(9, 6, false)]
    [InlineData(10, 4, true)]
    public Task Errors_lose_nothing_with_lazy_refcounts(int bits, int order, bool backing) =>
        new FaultWalk(Lazy(bits, order, backing)).RunGuestAsync(WritesAsync, NothingMore);

    [Fact]
    public Task Errors_while_the_L1_table_of_an_empty_image_grows_lose_nothing() =>
        new FaultWalk(new Qcow2Builder { ClusterBits = 9, Size = Size }).RunGuestAsync(
            async guest =>
            {
                await guest.WriteAsync(512, 512);
                await guest.FlushAsync();
                await guest.ResizeAsync(1 << 20);
                await guest.WriteAsync(1 << 19, 512);
            },
            NothingMore);

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public Task Errors_while_a_dirty_image_is_opened_and_written_to_lose_nothing(int seed)
    {
        var random = new Random(seed);
        return new FaultWalk(Lazy(10, 4, backing: true), image => ImageDamage.MakeDirty(image, random)).RunGuestAsync(WritesAsync, NothingMore);
    }

    [Fact]
    public Task Errors_while_snapshots_of_a_lazy_image_are_taken_lose_nothing() =>
        new FaultWalk(Lazy(9, 5, backing: false)).RunGuestAsync(
            async guest =>
            {
                await guest.WriteAsync(3000, 5000);
                await guest.CreateSnapshotAsync("walk");
                await guest.WriteAsync(4096, 2048);
                await guest.ApplySnapshotAsync("walk");
                await guest.DeleteSnapshotAsync("walk");
                await guest.WriteAsync(70_000, 3000);
            },
            NothingMore);

    private static Task NothingMore(WalkDisk disk, string when, bool closed) => Task.CompletedTask;

    private static Qcow2Builder Lazy(int bits, int order, bool backing)
    {
        var below = backing ? new ReferenceDisk(Size - 1024) : null;
        below?.Fill(99, 0, (int)below.Size);
        var builder = new Qcow2Builder
        {
            ClusterBits = bits, RefcountOrder = order, Size = Size, Seed = 5, FreeClusters = 3, CompatibleFeatures = 1,
            Backing = below, BackingFile = backing ? FaultWalk.Base : null, BackingFormat = backing ? "raw" : null,
        };
        return builder.FillRandom(5, 0.4, compressed: true);
    }

    private static async Task WritesAsync(WalkGuest guest)
    {
        await guest.WriteAsync(100, 3000);
        await guest.FlushAsync();
        await guest.ZeroAsync(20_480, 9000);
        await guest.DiscardAsync(40_960, 4096);
        await guest.WriteAsync(60_000, 20_000);
        await guest.FlushAsync();
        await guest.WriteAsync(41_000, 700);
    }
}
