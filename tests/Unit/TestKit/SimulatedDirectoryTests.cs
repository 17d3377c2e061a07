using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.TestKit;

public sealed class SimulatedDirectoryTests
{
    [Fact]
    public async Task A_new_name_is_certain_after_a_synchronisation_only_and_its_content_after_a_flush()
    {
        var disk = new SimulatedDisk();
        var directory = disk.AddDirectory("d", new Dictionary<string, byte[]> { ["old"] = [1] });
        await using (var file = await directory.CreateFileAsync("new"))
        {
            await file.WriteAsync(default, new byte[] { 7 });
            Assert.Equal(["d/new 7", "d/new ", "-"], StatesOf(disk, "d/new"));
            await directory.SynchroniseAsync();
            Assert.Equal(["d/new 7", "d/new "], StatesOf(disk, "d/new"));
            await file.FlushAsync();
        }

        Assert.Equal(["d/new 7"], StatesOf(disk, "d/new"));
        await directory.RenameFileAsync("new", "old");
        Assert.Equal(["d/old 7", "d/old 1"], StatesOf(disk, "d/old"));
        await directory.SynchroniseAsync();
        Assert.Equal(["d/old 7"], StatesOf(disk, "d/old"));
        Assert.Equal(["-"], StatesOf(disk, "d/new"));
        await directory.RemoveFileAsync("old");
        Assert.Equal(["d/old 7", "-"], StatesOf(disk, "d/old"));
    }

    private static IEnumerable<string> StatesOf(SimulatedDisk disk, string name)
    {
        var trace = new CrashTrace(disk);
        var cut = trace.CutAt(trace.End);
        return CutPlans.Enumerate(cut, 1000)
            .Select(fates => cut.Build(fates))
            .Select(state => state.Names.Contains(name) ? $"{name} {string.Join(' ', state.Bytes(name))}" : "-")
            .Distinct().OrderDescending(StringComparer.Ordinal);
    }
}
