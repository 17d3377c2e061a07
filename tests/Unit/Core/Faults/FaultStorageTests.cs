using Platter.Core.Errors;
using Platter.Core.Faults;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Xunit;

namespace Platter.Tests.Unit.Core.Faults;

/// <summary>The filter that makes requests fail: its rules, its limits, its breakpoints.</summary>
public sealed class FaultStorageTests
{
    [Fact]
    public async Task An_armed_rule_stays_armed_until_an_event_arms_another()
    {
        await using var storage = Open("""{"inject-error":[{"event":"write_aio","errno":28},{"event":"l2_update","iotype":"flush"}]}""");
        await storage.WriteAsync(default, new byte[512]);
        storage.Announce(StorageEvent.WriteAio);
        await FailsAsync(BlockErrorKind.NoSpace, () => storage.WriteAsync(default, new byte[512]));
        await FailsAsync(BlockErrorKind.NoSpace, () => storage.FlushAsync());
        storage.Announce(StorageEvent.ReadAio);
        await FailsAsync(BlockErrorKind.NoSpace, async () => _ = await storage.ReadAsync(default, new byte[512]));
        storage.Announce(StorageEvent.L2Update);
        await storage.WriteAsync(default, new byte[512]);
        await FailsAsync(BlockErrorKind.Io, () => storage.FlushAsync());
    }

    [Fact]
    public async Task States_tell_the_second_request_from_the_first()
    {
        await using var storage = Open("""{"inject-error":[{"event":"read_aio","state":2,"once":true}],"set-state":[{"event":"read_aio","state":1,"new_state":2}]}""");
        for (var i = 0; i < 4; i++)
        {
            storage.Announce(StorageEvent.ReadAio);
            if (i == 1)
            {
                await FailsAsync(BlockErrorKind.Io, async () => _ = await storage.ReadAsync(default, new byte[512]));
            }
            else
            {
                _ = await storage.ReadAsync(default, new byte[512]);
            }
        }
    }

    [Fact]
    public async Task A_sector_is_hit_by_requests_that_touch_it()
    {
        await using var storage = Open("""{"inject-error":[{"event":"none","sector":3}]}""");
        await storage.WriteAsync(new(1024), new byte[512]);
        await storage.WriteAsync(new(2048), new byte[512]);
        await storage.FlushAsync();
        await FailsAsync(BlockErrorKind.Io, () => storage.WriteAsync(new(1535), new byte[2]));
        await FailsAsync(BlockErrorKind.Io, () => storage.WriteZeroesAsync(default, 4096, mayUnmap: false));
    }

    [Fact]
    public async Task An_immediate_error_is_there_when_the_call_returns()
    {
        await using var storage = Open("""{"inject-error":[{"event":"none","immediately":true}]}""");
        Assert.True(storage.WriteAsync(default, new byte[512]).AsTask().IsFaulted);
    }

    [Theory]
    [InlineData("""{"align":4096}""")]
    [InlineData("""{"align":512,"max-transfer":1024,"opt-write-zero":2048,"max-write-zero":4096}""")]
    [InlineData("""{"max-transfer":700}""")]
    public async Task Limits_change_requests_and_not_what_they_do(string options)
    {
        const int Size = 64 << 10;
        var random = new Random(7);
        await using var storage = Open(options);
        await storage.SetLengthAsync(Size);
        var model = new byte[Size];
        for (var i = 0; i < 500; i++)
        {
            var at = random.Next(Size);
            var length = random.Next(Size - at);
            if (random.Next(3) == 0)
            {
                await storage.WriteZeroesAsync(new(at), length, mayUnmap: false);
                model.AsSpan(at, length).Clear();
            }
            else
            {
                random.NextBytes(model.AsSpan(at, length));
                await storage.WriteAsync(new(at), model.AsMemory(at, length));
            }

            var start = random.Next(Size);
            var read = new byte[random.Next(Size)];
            Assert.Equal(Math.Min(read.Length, Size - start), await storage.ReadAsync(new(start), read));
            Assert.True(read.AsSpan(0, Math.Min(read.Length, Size - start)).SequenceEqual(model.AsSpan(start, Math.Min(read.Length, Size - start))), $"request {i}");
        }

        Assert.Equal(Size, storage.Length);
    }

    [Fact]
    public async Task A_request_waits_at_a_breakpoint()
    {
        await using var storage = Open("{}");
        storage.Breakpoints.Set(StorageEvent.WriteAio, "A");
        Assert.False(storage.Breakpoints.Resume("A"));
        storage.Announce(StorageEvent.WriteAio);
        var write = storage.WriteAsync(default, new byte[512]).AsTask();
        await storage.Breakpoints.WaitAsync("A", TestContext.Current.CancellationToken);
        Assert.False(write.IsCompleted);
        await storage.FlushAsync();
        Assert.True(storage.Breakpoints.Resume("A"));
        await write;
    }

    [Fact]
    public void Every_event_has_its_name()
    {
        string[] names = ["none", "l1_update", "l1_grow_alloc_table", "l2_load", "l2_alloc_cow_read", "refblock_alloc_switch_table", "pwritev_rmw_after_head", "cluster_alloc_space"];
        Assert.Equal(
            [StorageEvent.None, StorageEvent.L1Update, StorageEvent.L1GrowAllocTable, StorageEvent.L2Load, StorageEvent.L2AllocCowRead, StorageEvent.RefblockAllocSwitchTable, StorageEvent.PwritevRmwAfterHead, StorageEvent.ClusterAllocSpace],
            names.Select(FaultOptions.Event));
    }

    [Theory]
    [InlineData("[inject-error]\nevent = \"read_aio\"\nonce = \"maybe\"\n", "option 'once' is 'maybe': expected on or off")]
    [InlineData("[what]\nevent = \"read_aio\"\n", "There is no option group 'what'")]
    [InlineData("event = \"read_aio\"\n", "blkdebug config file, line 1: 'event = \"read_aio\"' is neither a section nor name = \"value\"")]
    [InlineData("[set-state]\nevent = \"read_aio\"\nstate = \"-1\"\n", "Parameter 'state' expects a number from 0 to 2147483647")]
    public void What_the_file_says_wrong_is_named(string text, string message) =>
        Assert.Equal(message, Assert.Throws<BlockException>(() => FaultOptions.Parse(new NodeOptions(), text)).Message);

    private static FaultStorage Open(string json) => new(new MemoryStorage("file", []), FaultOptions.Parse(NodeOptions.ParseJson(json), null));

    private static async Task FailsAsync(BlockErrorKind kind, Func<ValueTask> request)
    {
        var error = await Assert.ThrowsAsync<BlockException>(async () => await request());
        Assert.Equal(kind, error.Kind);
        Assert.NotNull(error.HostErrorNumber);
    }
}
