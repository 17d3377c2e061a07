using System.Text.Json.Nodes;
using Platter.TestKit;
using Platter.Tests.Unit.Cli;
using Xunit;

namespace Platter.Tests.Unit.Library.Snapshots;

/// <summary>A bundle becomes a chain of files, these are copied as people do, and become a bundle again: names and dates of the snapshots are what they were.</summary>
public sealed class ChainRoundTripTests : IDisposable
{
    private readonly TempFolder _folder = new("chain");

    [Theory]
    [InlineData("parallels-bundle", "back.hdd")]
    [InlineData("qcow2", "back.qcow2")]
    public async Task Names_and_dates_survive_a_copy_of_the_files(string format, string back)
    {
        var names = new[] { "Clean/install: 50% \"ok\"?", "Ünïcode 👍  .", new string('x', 300) + "/é" };
        var machine = Machine(names);
        await RunAsync("convert", "--snapshots=chain", "-O", "qcow2", machine, _folder["vm.qcow2"]);

        // As 'cp' without -p does: the files get new times. And the names of the files do not count either.
        var copies = _folder.CreateFolder("copies");
        foreach (var file in Directory.GetFiles(_folder.Path, "vm*.qcow2"))
        {
            File.WriteAllBytes(Path.Combine(copies, Path.GetFileName(file)), File.ReadAllBytes(file));
        }

        Assert.Equal(4, Directory.GetFiles(copies).Length);
        await RunAsync("convert", "--snapshots=internal", "-O", format, Path.Combine(copies, "vm.qcow2"), _folder[back]);
        Assert.Equal(await SnapshotsOfAsync(machine), await SnapshotsOfAsync(_folder[back]));
        Assert.Equal(names, (await SnapshotsOfAsync(_folder[back])).Select(snapshot => snapshot.Name));
    }

    [Fact]
    public async Task Where_the_header_has_no_room_names_and_times_of_the_files_have_them()
    {
        var machine = Machine("a/b", "%", "c d");
        await RunAsync("convert", "--snapshots=chain", "-O", "qcow2", "-o", "cluster_size=512", machine, _folder["vm.qcow2"]);
        foreach (var file in Directory.GetFiles(_folder.Path, "vm.*.*.qcow2"))
        {
            StripLabel(file);
        }

        await RunAsync("convert", "--snapshots=internal", "-O", "parallels-bundle", _folder["vm.qcow2"], _folder["back.hdd"]);
        Assert.Equal(await SnapshotsOfAsync(machine), await SnapshotsOfAsync(_folder["back.hdd"]));
    }

    [Fact]
    public async Task Info_tells_which_snapshot_a_file_is()
    {
        await RunAsync("convert", "--snapshots=chain", "-O", "qcow2", Machine("a/b", "x", "y"), _folder["vm.qcow2"]);
        Assert.Contains(
            "\n    snapshot:\n        name: a/b\n        date: 2024-03-01T09:00:00Z\n",
            (await CliRun.PlatterAsync("info", _folder["vm.1.a%2Fb.qcow2"])).Output, StringComparison.Ordinal);
        Assert.DoesNotContain("snapshot", (await CliRun.PlatterAsync("info", _folder["vm.qcow2"])).Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Amending_and_rebasing_keep_it()
    {
        await RunAsync("convert", "--snapshots=chain", "-O", "qcow2", Machine("a", "b", "c"), _folder["vm.qcow2"]);
        var file = _folder["vm.2.b.qcow2"];
        await RunAsync("amend", "-o", "lazy_refcounts=on", file);
        await RunAsync("bitmap", "--add", file, "dirty");
        await RunAsync("rebase", "-b", string.Empty, file);
        Assert.Contains("        name: b\n", (await CliRun.PlatterAsync("info", file)).Output, StringComparison.Ordinal);
        await RunAsync("bitmap", "--remove", file, "dirty");
        await RunAsync("amend", "-o", "compat=0.10", file);
        Assert.Contains("        name: b\n", (await CliRun.PlatterAsync("info", file)).Output, StringComparison.Ordinal);
        await RunAsync("check", file);
    }

    [Fact]
    public async Task Files_of_another_branch_are_told()
    {
        await RunAsync("convert", "--snapshots=chain", "-O", "qcow2", Machine("a", "b", "c"), _folder["vm.qcow2"]);
        File.Copy(_folder["vm.2.b.qcow2"], _folder["vm.9.side%2Fbranch.qcow2"]);
        var run = await CliRun.PlatterAsync("convert", "--snapshots=internal", "-O", "parallels-bundle", _folder["vm.qcow2"], _folder["back.hdd"]);
        Assert.Equal(0, run.ExitCode);
        Assert.Equal(
            $"platter: warning: {_folder["vm.qcow2"]}: only its backing chain is copied; left out, though named as its snapshots: 'vm.9.side%2Fbranch.qcow2'\n", run.Error);
    }

    [Fact]
    public async Task A_target_with_a_colon_in_its_name_is_no_protocol()
    {
        await RunAsync("convert", "--snapshots=chain", "--verify", "-O", "qcow2", Machine("a", "b", "c"), _folder["a:b.qcow2"]);
        await RunAsync("digest", _folder["a:b.qcow2"]);
    }

    public void Dispose() => _folder.Dispose();

    private static async Task RunAsync(params string[] args)
    {
        var run = await CliRun.PlatterAsync(args);
        Assert.Equal((0, string.Empty), (run.ExitCode, run.Error));
    }

    private static async Task<List<(string Name, long Date)>> SnapshotsOfAsync(string image)
    {
        var json = JsonNode.Parse((await CliRun.PlatterAsync("info", "--output=json", image)).Output)!;
        return [.. json["snapshots"]!.AsArray().Select(snapshot => ((string)snapshot!["name"]!, (long)snapshot["date-sec"]!))];
    }

    // The type of the extension becomes one that nobody knows.
    private static void StripLabel(string file)
    {
        var bytes = File.ReadAllBytes(file);
        var at = bytes.AsSpan(0, 512).IndexOf("PLSS"u8);
        if (at > 0)
        {
            bytes[at] = 0x7f;
            var time = File.GetLastWriteTimeUtc(file);
            File.WriteAllBytes(file, bytes);
            File.SetLastWriteTimeUtc(file, time);
        }
    }

    private string Machine(params string[] names)
    {
        var disk = new BundleBuilder("disk", 4096, 128);
        var one = disk.AddLayer().Fill(1, 0, 100_000);
        var two = disk.AddLayer(parent: one).Fill(2, 300_000, 100_000);
        var three = disk.AddLayer(parent: two).Fill(3, 600_000, 100_000);
        disk.AddTop(three).Fill(4, 50_000, 100_000);
        return new MachineBuilder("vm").Add(disk.Build())
            .AddSnapshot(one.Id, names[0], new DateTime(2024, 3, 1, 9, 0, 0))
            .AddSnapshot(two.Id, names[1], new DateTime(2024, 3, 2, 9, 0, 1), one.Id)
            .AddSnapshot(three.Id, names[2], new DateTime(2024, 3, 8, 18, 30, 5), two.Id)
            .Build().SaveTo(_folder.Path);
    }
}
