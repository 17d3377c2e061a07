using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Qcow2;
using Platter.Formats.Qcow2.Layout;
using Platter.Formats.Qcow2.Metadata;
using Xunit;

namespace Platter.Tests.Unit.Formats.Qcow2.Metadata;

public sealed class TableStoreTests
{
    private const int Tables = 64, Cluster = 512, Changes = 40_000;

    /// <summary>Goal: no change of an L2 entry is lost, however few tables fit into memory. Method: look-ups of two threads push tables out while a third one changes entries, and each
    /// change is asked for at once.</summary>
    [Fact]
    public async Task A_change_is_kept_while_others_push_tables_out_of_memory()
    {
        var geometry = new Qcow2Geometry(9, 4, false, 3);
        var storage = new MemoryStorage("test.qcow2", new byte[(Tables + 1) * Cluster]);
        var l1 = Enumerable.Range(1, Tables).Select(i => ((ulong)i * Cluster) | L1Entry.CopiedFlag).ToArray();
        var store = new TableStore(new TableReader(storage, geometry), geometry, hasDataFile: false, default, l1, cacheBytes: 0);
        var perTable = 1L << geometry.GuestBytesPerL2Bits;
        using var done = new CancellationTokenSource();
        var readers = Enumerable.Range(0, 2).Select(seed => Task.Run(async () =>
        {
            var random = new Random(seed);
            while (!done.IsCancellationRequested)
            {
                await store.FindAsync(new(random.Next(Tables) * perTable), Cluster, default);
            }
        })).ToArray();

        var writer = new Random(7);
        var lost = 0;
        for (var i = 0; i < Changes; i++)
        {
            var table = writer.Next(Tables);
            await store.SetEntryAsync(new((table * perTable) + (i % 64 * Cluster)), new((ulong)i << 9), default, default);
            var changes = store.Take();
            lost += changes.Slices.Any(s => s.At.Value / Cluster == table + 1) ? 0 : 1;
            store.Done(changes);
        }

        await done.CancelAsync();
        await Task.WhenAll(readers);
        Assert.Equal(0, lost);
    }
}
