using Platter.Core.Graph;
using Platter.Core.Storages;
using Platter.Nbd.Protocol;
using Platter.Nbd.Server;
using Platter.TestKit;
using Platter.Tests.Unit.Formats.Qcow2.Writing;
using Xunit;

namespace Platter.Tests.Unit.Nbd.Server;

/// <summary>What CAN_MULTI_CONN promises, with the power cut: after a flush on one connection all is there that any of them was told is written.</summary>
/// <remarks>The storage below forgets, keeps or tears what was not flushed; the disk found after it is compared, sector by sector, with what clients may expect.</remarks>
public sealed class MultiConnectionCrashTests
{
    private const int Size = 512 << 10;
    private const int PageBytes = 4096;
    private const int Connections = 4;

    [Theory]
    [InlineData("raw", 1)]
    [InlineData("raw", 2)]
    [InlineData("qcow2", 3)]
    [InlineData("qcow2", 4)]
    public async Task A_flush_on_one_connection_keeps_what_all_were_told_is_written(string format, int seed)
    {
        var disk = new SimulatedDisk { IsSlow = true };
        var file = disk.AddFile("disk", format == "raw" ? new byte[Size] : await EmptyQcow2Async());
        var history = new GuestHistory(disk, new byte[Size]);
        await using (var node = await OpenAsync(format, file.Open(writable: true)))
        await using (var fixture = new ServerFixture(new NbdExport(node) { IsWritable = true }))
        {
            await Task.WhenAll(Enumerable.Range(0, Connections).Select(i => Task.Factory.StartNew(
                () => Work(fixture, history, i, new Random((seed * 100) + i)), TestContext.Current.CancellationToken, TaskCreationOptions.LongRunning, TaskScheduler.Default)));
        }

        var trace = new CrashTrace(disk);
        var random = new Random(seed);
        Assert.True(history.Demands.Count > 20, "too few flushes to tell anything");
        foreach (var time in history.Demands.Append(trace.End))
        {
            var cut = trace.CutAt(time);
            for (var i = 0; i < 3; i++)
            {
                var state = cut.Build(CutPlans.Sample(cut, random));
                await using var found = await OpenAsync(format, new MemoryStorage("found", state.Bytes("disk")));
                var bytes = new byte[Size];
                await found.ReadAsync(default, bytes, TestContext.Current.CancellationToken);
                Assert.True(history.Compare(time, bytes) is null, $"seed {seed}, cut at {time}: {history.Compare(time, bytes)}");
            }
        }
    }

    // Pages of four connections in turn: they share clusters, and never a sector.
    private static void Work(ServerFixture fixture, GuestHistory history, int connection, Random random)
    {
        using var client = RawClient.Open(fixture.EndPoint, NbdHeaderStyle.Structured);
        for (var i = 0; i < 60; i++)
        {
            if (random.Next(4) == 0)
            {
                var begun = history.BeginFlush();
                Assert.Equal(NbdError.None, client.Do(NbdCommand.Flush, 0, 0));
                history.EndFlush(begun);
                continue;
            }

            var at = ((random.Next(Size / PageBytes / Connections) * Connections) + connection) * PageBytes;
            var length = 512 * random.Next(1, (PageBytes / 512) + 1);
            var isDurable = random.Next(8) == 0;
            var flags = isDurable ? NbdCommandFlags.Fua : NbdCommandFlags.None;
            if (random.Next(5) == 0)
            {
                var zeros = history.BeginWrite(at, length, null);
                Assert.Equal(NbdError.None, client.Do(NbdCommand.WriteZeroes, (ulong)at, (ulong)length, flags));
                history.EndWrite(zeros, isDurable);
            }
            else
            {
                var data = new byte[length];
                random.NextBytes(data);
                var write = history.BeginWrite(at, length, data);
                Assert.Equal(NbdError.None, client.Do(NbdCommand.Write, (ulong)at, (ulong)length, flags, data));
                history.EndWrite(write, isDurable);
            }
        }
    }

    private static async Task<BlockNode> OpenAsync(string format, Storage storage) =>
        format == "raw" ? TestDisks.Raw(storage, Size) : await WriteFixture.OpenAsync(storage);

    private static async Task<byte[]> EmptyQcow2Async()
    {
        using var folder = new TempFolder("crash");
        await Disk.CreateAsync(folder["a.qcow2"], Size, new Qcow2CreateOptions(), TestContext.Current.CancellationToken);
        return await File.ReadAllBytesAsync(folder["a.qcow2"], TestContext.Current.CancellationToken);
    }
}
