using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Builders;

/// <summary>The sample is what its README says: three layers that hold a clean ext4 each, with the known answers.</summary>
public sealed class DemoSampleTests
{
    private static readonly (Guid Id, string State, string Hello)[] States =
    [
        (DemoMachine.CleanInstall, "Clean install", "Hello from the clean install."),
        (DemoMachine.AfterFirstUpdate, "After first update", "Hello after the first update."),
        (BundleBuilder.PredefinedTop, "current", "Hello from the current state."),
    ];

    [Fact]
    public void Layers_read_by_the_peer_and_stacked_by_hand_give_the_known_answers()
    {
        ToolRunner.RequireOrSkip("qemu-img");
        using var folder = new TempFolder();
        foreach (var (disk, state, _) in Stack(folder))
        {
            Assert.Equal(DemoSample.Sha256[state], disk.Sha256());
        }
    }

    [Fact]
    public void Each_state_is_a_clean_file_system_with_its_own_greeting()
    {
        ToolRunner.RequireOrSkip("qemu-img", "e2fsck", "debugfs");
        using var folder = new TempFolder();
        foreach (var (disk, _, hello) in Stack(folder))
        {
            disk.SaveTo(folder["disk.raw"]);
            ToolRunner.RunChecked("e2fsck", "-fn", folder["disk.raw"]);
            Assert.Equal(hello, ToolRunner.RunChecked("debugfs", "-R", "cat /hello.txt", folder["disk.raw"]).Text.Trim());
        }
    }

    [Fact]
    public void Sample_is_small_and_complete()
    {
        var files = Directory.GetFiles(DemoSample.Machine, "*", SearchOption.AllDirectories);
        Assert.Equal(8, files.Length);
        Assert.InRange(files.Sum(f => new FileInfo(f).Length), 100_000, 1_500_000);
        Assert.Contains("<Name>After first update</Name>", File.ReadAllText(Path.Combine(DemoSample.Machine, "Snapshots.xml")));
    }

    [Fact]
    public void Builder_makes_the_very_files_that_lie_in_the_repository()
    {
        ToolRunner.RequireOrSkip("qemu-img");
        using var folder = new TempFolder();
        var disks = Stack(folder).Select(s => s.Disk.Clone()).ToArray();
        var machine = DemoMachine.Build(disks[0], disks[1], disks[2]);
        foreach (var (name, bytes) in machine.Files)
        {
            Assert.True(bytes.ToArray().AsSpan().SequenceEqual(File.ReadAllBytes(Path.Combine(DemoSample.Machine, name))), name);
        }
    }

    // The peer knows single images only: it says which clusters a layer holds, and we lay them over the layer below.
    private static IEnumerable<(SparseBytes Disk, string State, string Hello)> Stack(TempFolder folder)
    {
        var disk = new SparseBytes(DemoSample.SizeBytes);
        foreach (var (id, state, hello) in States)
        {
            var image = Path.Combine(DemoSample.Disk, BundleBuilder.ImageFileName("harddisk.hdd", 0, id));
            Assert.Contains("No errors were found", ToolRunner.RunChecked("qemu-img", "check", "-f", "parallels", image).Text);
            var map = System.Text.Json.JsonDocument.Parse(
                ToolRunner.RunChecked("qemu-img", "map", "--output=json", "-f", "parallels", image).Text).RootElement;
            ToolRunner.RunChecked("qemu-img", "convert", "-f", "parallels", "-O", "raw", image, folder["layer.raw"]);
            var layer = SparseBytes.Load(folder["layer.raw"]);
            foreach (var extent in map.EnumerateArray().Where(e => e.GetProperty("data").GetBoolean() || e.TryGetProperty("offset", out _)))
            {
                var start = extent.GetProperty("start").GetInt64();
                disk.Write(start, layer.Slice(start, extent.GetProperty("length").GetInt32()));
            }

            yield return (disk, state, hello);
        }
    }
}
