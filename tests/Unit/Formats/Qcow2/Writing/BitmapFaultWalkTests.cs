using System.Globalization;
using Platter.Core.Bitmaps;
using Platter.Core.Graph;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Formats.Qcow2.Writing;

/// <summary>Goal: no I/O error lets a bitmap forget a change without saying so, and every change of the list of bitmaps happens wholly or not at all.
/// Method: <see cref="FaultWalk"/>.</summary>
public sealed class BitmapFaultWalkTests
{
    private const int Size = 200 * 512;

    public static TheoryData<string> Edits() => new()
    {
        "add", "add with bits", "remove", "clear", "enable", "disable", "merge", "merge into nothing", "store",
    };

    [Theory]
    [InlineData(9, false)]
    [InlineData(10, true)]
    public async Task Bitmaps_have_every_change_or_say_that_they_do_not(int bits, bool lazy)
    {
        var walk = new FaultWalk(Build(bits, lazy));
        await walk.RunGuestAsync(
            async guest =>
            {
                await guest.WriteAsync(100, 3000);
                await guest.FlushAsync();
                await guest.ZeroAsync(20_480, 9000);
                await guest.Node.StoreBitmapsAsync();
                await guest.DiscardAsync(51_200, 4096);
                await guest.WriteAsync(60_000, 9000);
            },
            (disk, when, closed) => AssertCoveredAsync(walk, disk, when, mayBeInUse: b => !closed && b.Enabled));
    }

    [Fact]
    public async Task Bitmaps_have_every_change_or_say_so_when_the_disk_is_resized()
    {
        // A cluster has room for the bits of 2 MiB, so that the tables have to grow.
        var walk = new FaultWalk(Build(9, lazy: false));
        await walk.RunGuestAsync(
            async guest =>
            {
                await guest.WriteAsync(100, 3000);
                await guest.ResizeAsync(5 << 19);
                await guest.WriteAsync(2 << 20, 3000);
                await guest.ResizeAsync(Size - 8192);
                await guest.WriteAsync(Size - 20_000, 900);
            },
            // Those that are not enabled too, since their tables have the wrong size meanwhile.
            (disk, when, closed) => AssertCoveredAsync(walk, disk, when, mayBeInUse: _ => !closed, Size - 8192));
    }

    [Theory]
    [MemberData(nameof(Edits))]
    public async Task A_change_of_bitmaps_happens_wholly_or_not_at_all(string edit)
    {
        var walk = new FaultWalk(Build(9, lazy: false));
        var before = string.Empty;
        var after = string.Empty;
        await walk.RunAsync(
            async disk =>
            {
                before = await DescribeAsync(disk);
                await EditAsync(disk.Failing, edit);
            },
            async (disk, when, failed) =>
            {
                await FaultWalk.AssertUncorruptedAsync(disk, when);
                await walk.AssertSameAsync(disk, when);
                var found = await DescribeAsync(disk);
                if (after.Length == 0)
                {
                    // What it is to be: from a run without errors.
                    var other = new WalkDisk(walk.Files, new FaultCounter(string.Empty, default, goesOn: false));
                    await EditAsync(other.Healthy, edit);
                    after = await DescribeAsync(other);
                }

                Assert.True(found == after || (failed && found == before), $"{when}: the bitmaps are\n{found}\nbefore\n{before}\nafter\n{after}");
                if (found != after)
                {
                    await EditAsync(disk.Healthy, edit);
                    Assert.Equal(after, await DescribeAsync(disk));
                }

                await FaultWalk.AssertUncorruptedAsync(disk, $"{when}, run again");
                await FaultWalk.AssertUsableAsync(disk, when);
            },
            least: edit == "store" ? 0 : 3);
    }

    private static Qcow2Builder Build(int bits, bool lazy) =>
        new Qcow2Builder { ClusterBits = bits, Size = Size, Seed = 5, FreeClusters = 3, CompatibleFeatures = lazy ? 1UL : 0 }
            .FillRandom(5, 0.4, compressed: true)
            .AddSnapshot("1", "one")
            .FillRandom(6, 0.2, compressed: true)
            .AddBitmap(new Qcow2Bitmap("fine") { GranularityBits = 9, StoreUniformClusters = true }.Set(1024, 3000))
            .AddBitmap(new Qcow2Bitmap("coarse") { GranularityBits = 13 })
            .AddBitmap(new Qcow2Bitmap("off") { GranularityBits = 10, Flags = 0 }.Set(0, 5000));

    private static async Task EditAsync(NamedStorages storages, string edit)
    {
        await using var node = (ImageNode)await storages.OpenAsync(FaultWalk.Top, writable: true);
        switch (edit)
        {
            case "add":
                await node.AddBitmapsAsync([new("new", 1024, true, RangesOf([]))]);
                break;
            case "add with bits":
                await node.AddBitmapsAsync([new("new", 512, true, RangesOf([(4096, 9000), (50_000, 1)]))]);
                break;
            case "remove":
                await node.RemoveBitmapAsync("fine");
                break;
            case "clear":
                await node.ClearBitmapAsync("off");
                break;
            case "enable" or "disable":
                await node.SetBitmapEnabledAsync(edit == "enable" ? "off" : "fine", edit == "enable");
                break;
            case "merge" or "merge into nothing":
                await node.MergeBitmapAsync(edit == "merge" ? "fine" : "coarse", RangesOf([(0, 2000), (70_000, 5000)]));
                break;
            default:
                await node.StoreBitmapsAsync();
                break;
        }
    }

    private static IAsyncEnumerable<DirtyRange> RangesOf((long At, long Length)[] ranges) =>
        ranges.Select(r => new DirtyRange(new(r.At), r.Length)).ToAsyncEnumerable();

    private static async Task<string> DescribeAsync(WalkDisk disk)
    {
        var lines = new List<string>();
        await using var node = await disk.Healthy.OpenAsync(FaultWalk.Top);
        foreach (var bitmap in node.Bitmaps)
        {
            var bits = new List<string>();
            await foreach (var range in node.ReadBitmapAsync(bitmap.Name))
            {
                bits.Add(string.Create(CultureInfo.InvariantCulture, $"{range.Offset.Value}+{range.Length}"));
            }

            lines.Add($"{bitmap.Name} of {bitmap.Granularity}, enabled {bitmap.Enabled}, in use {bitmap.InUse}: {string.Join(' ', bits)}");
        }

        return string.Join('\n', lines);
    }

    private static async Task AssertCoveredAsync(FaultWalk walk, WalkDisk disk, string when, Func<BitmapInfo, bool> mayBeInUse, long smallest = Size)
    {
        await using var node = await disk.Healthy.OpenAsync(FaultWalk.Top);
        var content = await WalkGuest.ReadAllAsync(node);
        Assert.Equal(["fine", "coarse", "off"], node.Bitmaps.Select(b => b.Name));
        foreach (var bitmap in node.Bitmaps)
        {
            Assert.True(!bitmap.InUse || mayBeInUse(bitmap), $"{when}: bitmap '{bitmap.Name}' is inconsistent");
            if (bitmap.InUse || !bitmap.Enabled)
            {
                continue;
            }

            var dirty = new List<DirtyRange>();
            await foreach (var range in node.ReadBitmapAsync(bitmap.Name))
            {
                dirty.Add(range);
            }

            // What a shrinking disk gives up is lost from the beginning, and no change.
            for (var at = 0; at + 512 <= smallest; at += 512)
            {
                var changed = !content.AsSpan(at, 512).SequenceEqual(walk.Content.AsSpan(at, 512));
                Assert.True(
                    !changed || dirty.Exists(d => d.Offset.Value <= at && d.Offset.Value + d.Length > at),
                    $"{when}: bitmap '{bitmap.Name}' says that it is consistent, and does not have the change at guest offset {at}");
            }
        }
    }
}
