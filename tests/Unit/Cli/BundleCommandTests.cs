using System.Security.Cryptography;
using System.Text.Json.Nodes;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Cli;

/// <summary>The commands on the sample in the repository: a machine with one disk, two snapshots and the current state.</summary>
public sealed class BundleCommandTests
{
    [Theory]
    [InlineData("current")]
    [InlineData("Clean install", "-l", "Clean install")]
    [InlineData("After first update", "-l", "After first update")]
    [InlineData("Clean install", "-l", "{1c7ad7a2-54a7-4f43-9f4a-3c3fd7a1b0e1}")]
    [InlineData("Clean install", "-l", "snapshot.name=Clean install")]
    [InlineData("current", "--disk", "harddisk.hdd")]
    public async Task Convert_gives_the_bytes_of_the_state_asked_for(string state, params string[] options)
    {
        using var folder = new TempFolder();
        var run = await CliRun.PlatterAsync(["convert", "-O", "raw", .. options, DemoSample.Machine, folder["disk.raw"]]);
        Assert.Equal((0, string.Empty), (run.ExitCode, run.Error));
        await using var file = File.OpenRead(folder["disk.raw"]);
        Assert.Equal(DemoSample.Sha256[state], Convert.ToHexStringLower(await SHA256.HashDataAsync(file, TestContext.Current.CancellationToken)));
    }

    [Fact]
    public async Task A_disk_opened_inside_its_machine_has_the_names_of_its_snapshots()
    {
        using var folder = new TempFolder();
        var disk = Path.Combine(DemoSample.Machine, "harddisk.hdd");
        var run = await CliRun.PlatterAsync("convert", "-O", "raw", "-l", "Clean install", disk, folder["disk.raw"]);
        Assert.Equal((0, string.Empty), (run.ExitCode, run.Error));
        await using var file = File.OpenRead(folder["disk.raw"]);
        Assert.Equal(DemoSample.Sha256["Clean install"], Convert.ToHexStringLower(await SHA256.HashDataAsync(file, TestContext.Current.CancellationToken)));
        Assert.Contains("After first update", (await CliRun.PlatterAsync("info", Path.Combine(disk, "DiskDescriptor.xml"))).Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Names_outside_of_a_machine_are_not_looked_at()
    {
        using var folder = new TempFolder();
        var disk = folder.CreateFolder("vms/disk.hdd");
        foreach (var file in Directory.EnumerateFiles(Path.Combine(DemoSample.Machine, "harddisk.hdd")))
        {
            File.Copy(file, Path.Combine(disk, Path.GetFileName(file)));
        }

        File.Copy(Path.Combine(DemoSample.Machine, "Snapshots.xml"), folder["vms/Snapshots.xml"]);
        Assert.DoesNotContain("After first update", (await CliRun.PlatterAsync("info", disk)).Output, StringComparison.Ordinal);
        var moved = folder["vms.pvm"];
        Directory.Move(folder["vms"], moved);
        Assert.Contains("After first update", (await CliRun.PlatterAsync("info", Path.Combine(moved, "disk.hdd"))).Output, StringComparison.Ordinal);
        File.Delete(Path.Combine(moved, "Snapshots.xml"));
        var secret = folder["Snapshots.xml"];
        File.Copy(Path.Combine(DemoSample.Machine, "Snapshots.xml"), secret);
        File.CreateSymbolicLink(Path.Combine(moved, "Snapshots.xml"), secret);
        var linked = await CliRun.PlatterAsync("info", Path.Combine(moved, "disk.hdd"));
        Assert.DoesNotContain("After first update", linked.Output, StringComparison.Ordinal);
        Assert.Contains("Snapshots.xml: leads out of its directory", linked.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Info_shows_every_state_below_the_one_it_was_made_from()
    {
        var run = await CliRun.PlatterAsync("info", DemoSample.Machine);
        Assert.Equal(0, run.ExitCode);
        Assert.Contains("\n    Clean install {1c7ad7a2-", run.Output, StringComparison.Ordinal);
        Assert.Contains("\n        After first update {7e04f0d9-", run.Output, StringComparison.Ordinal);
        Assert.Matches(@"\n            current state \{5fbaabe3-[-0-9a-f]*\}, [0-9.]+ KiB  <- this one\nFiles:\n", run.Output);
        var json = JsonNode.Parse((await CliRun.PlatterAsync("info", "--output=json", DemoSample.Machine)).Output)!;
        Assert.Equal(3, json["format-specific"]!["data"]!["layers"]!.AsArray().Count);
        Assert.Equal(2, json["snapshots"]!.AsArray().Count);
    }

    [Fact]
    public async Task Map_names_the_file_of_every_range()
    {
        var run = await CliRun.PlatterAsync("map", DemoSample.Disk);
        Assert.Equal(0, run.ExitCode);
        foreach (var guid in new[] { "1c7ad7a2", "7e04f0d9", "5fbaabe3" })
        {
            Assert.Contains($"harddisk.hdd.0.{{{guid}", run.Output, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task Map_as_Json_names_the_file_of_every_offset_in_a_bundle()
    {
        var entries = JsonNode.Parse((await CliRun.PlatterAsync("map", "--output=json", DemoSample.Disk)).Output)!.AsArray();
        Assert.All(entries, entry => Assert.Equal(entry!["offset"] is null, entry["filename"] is null));
        Assert.Equal(3, entries.Select(entry => (string?)entry!["filename"]).Where(file => file is not null).Distinct().Count());
        Assert.All(entries, entry => Assert.True(entry!["filename"] is not { } file || File.Exists((string)file!)));
    }

    [Fact]
    public async Task Check_examines_the_whole_bundle()
    {
        var run = await CliRun.PlatterAsync("check", DemoSample.Machine);
        Assert.StartsWith("No errors were found on the image.\n", run.Output, StringComparison.Ordinal);
        Assert.Equal((0, string.Empty), (run.ExitCode, run.Error));
    }

    [Theory]
    [InlineData("out.qcow2", "internal", "qcow2")]
    [InlineData("out.qcow2", "chain", "qcow2")]
    [InlineData("out.qcow2", "none", "qcow2")]
    [InlineData("out", "internal", "qcow2")]
    [InlineData("out.hdd", "internal", "parallels-bundle")]
    [InlineData("out.hdd/", "chain", "parallels-bundle")]
    [InlineData("out.img", "none", "raw")]
    public async Task Who_asks_for_snapshots_need_not_say_which_format_has_them(string target, string form, string format)
    {
        using var folder = new TempFolder();
        var run = await CliRun.PlatterAsync("convert", $"--snapshots={form}", DemoSample.Machine, folder[target]);
        Assert.Equal((0, string.Empty), (run.ExitCode, run.Error));
        Assert.Contains($"\nfile format: {format}\n", (await CliRun.PlatterAsync("info", folder[target])).Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Without_it_a_new_image_is_raw_and_holds_no_snapshots()
    {
        using var folder = new TempFolder();
        Assert.Equal(0, (await CliRun.PlatterAsync("convert", DemoSample.Machine, folder["out.qcow2"])).ExitCode);
        Assert.Contains("\nfile format: raw\n", (await CliRun.PlatterAsync("info", folder["out.qcow2"])).Output, StringComparison.Ordinal);
        var refused = await CliRun.PlatterAsync("convert", "--snapshots=internal", "-O", "raw", DemoSample.Machine, folder["out.raw"]);
        Assert.Equal((1, "platter: An image of format 'raw' cannot hold snapshots; -O qcow2 and -O parallels-bundle can\n"), (refused.ExitCode, refused.Error));
    }

    [Theory]
    [InlineData("internal")]
    [InlineData("chain")]
    public async Task Snapshots_that_nobody_named_have_their_ids_and_no_date(string form)
    {
        using var folder = new TempFolder();
        var disk = folder.CreateFolder("disk.hdd");
        foreach (var file in Directory.EnumerateFiles(Path.Combine(DemoSample.Machine, "harddisk.hdd")))
        {
            File.Copy(file, Path.Combine(disk, Path.GetFileName(file)));
        }

        Assert.DoesNotContain("1970", (await CliRun.PlatterAsync("snapshot", "-l", disk)).Output, StringComparison.Ordinal);
        Assert.Equal(0, (int)JsonNode.Parse((await CliRun.PlatterAsync("info", "--output=json", disk)).Output)!["snapshots"]![0]!["date-sec"]!);
        Assert.Equal(0, (await CliRun.PlatterAsync("convert", $"--snapshots={form}", disk, folder["x.qcow2"])).ExitCode);
        foreach (var file in Directory.GetFiles(folder.Path, "x*.qcow2"))
        {
            Assert.NotEqual(1970, File.GetLastWriteTimeUtc(file).Year);
            Assert.DoesNotContain("date: 1970", (await CliRun.PlatterAsync("info", file)).Output, StringComparison.Ordinal);
        }

        Assert.Equal(0, (await CliRun.PlatterAsync("convert", "--snapshots=internal", folder["x.qcow2"], folder["back.hdd"])).ExitCode);
        var back = (await CliRun.PlatterAsync("info", folder["back.hdd"])).Output;
        Assert.Contains("\n    {1c7ad7a2-54a7-4f43-9f4a-3c3fd7a1b0e1} {", back, StringComparison.Ordinal);
        Assert.DoesNotContain("1970-", back, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_disk_or_snapshot_that_is_not_there_is_told()
    {
        Assert.Contains("no disk 'other'", (await CliRun.PlatterAsync("info", "--disk", "other", DemoSample.Machine)).Error, StringComparison.Ordinal);
        using var folder = new TempFolder();
        var run = await CliRun.PlatterAsync("convert", "-l", "no such", DemoSample.Machine, folder["x"]);
        Assert.Equal(1, run.ExitCode);
        Assert.Contains("no such", run.Error, StringComparison.Ordinal);
        Assert.False(File.Exists(folder["x"]));
    }

    [Fact]
    public async Task One_file_under_two_names_is_found_and_not_taken_for_somebody_elses()
    {
        using var folder = new TempFolder();
        var name = folder["vm.hdd"];
        Assert.Equal(0, (await CliRun.PlatterAsync("create", "-f", "parallels-bundle", name, "1M")).ExitCode);
        Assert.Equal(0, (await CliRun.PlatterAsync("snapshot", "-c", "x", name)).ExitCode);
        var images = Directory.GetFiles(name, "*.hds");
        File.Delete(images[1]);
        ToolRunner.RunChecked("ln", images[0], images[1]);
        var check = await CliRun.PlatterAsync("check", name);
        Assert.Equal(2, check.ExitCode);
        Assert.Contains("is the same file as ", check.Error, StringComparison.Ordinal);
        var io = await CliRun.PlatterAsync("io", "-c", "write 0 512", name);
        Assert.Equal(1, io.ExitCode);
        Assert.Contains("the same file is another image of this disk already", io.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Info_without_the_current_states_file_shows_the_tree_and_fails()
    {
        using var folder = new TempFolder();
        var name = folder["vm.hdd"];
        Assert.Equal(0, (await CliRun.PlatterAsync("create", "-f", "parallels-bundle", name, "1M")).ExitCode);
        Assert.Equal(0, (await CliRun.PlatterAsync("bitmap", "--add", name, "01020304-0506-0708-090a-0b0c0d0e0f10")).ExitCode);
        var before = Directory.GetFiles(name, "*.hds");
        Assert.Equal(0, (await CliRun.PlatterAsync("snapshot", "-c", "x", name)).ExitCode);
        Assert.Contains("Dirty bitmaps:\n    01020304-0506-0708-090a-0b0c0d0e0f10, granularity 64 KiB: x\n", (await CliRun.PlatterAsync("info", name)).Output, StringComparison.Ordinal);
        File.Delete(Assert.Single(Directory.GetFiles(name, "*.hds"), file => !before.Contains(file)));
        var info = await CliRun.PlatterAsync("info", name);
        Assert.Equal(1, info.ExitCode);
        Assert.StartsWith("platter: Could not open ", Assert.Single(info.Error.Trim().Split('\n')), StringComparison.Ordinal);
        Assert.Contains("! ", info.Output, StringComparison.Ordinal);
        Assert.Equal(1, (await CliRun.PlatterAsync("info", "--output", "json", name)).ExitCode);
    }

    [Fact]
    public async Task A_disk_that_is_in_use_is_told_with_its_file_named_once()
    {
        using var folder = new TempFolder();
        var name = folder["vm.hdd"];
        Assert.Equal(0, (await CliRun.PlatterAsync("create", "-f", "parallels-bundle", name, "1M")).ExitCode);
        await using var disk = await Disk.OpenAsync(name, new DiskOpenOptions { Writable = true }, TestContext.Current.CancellationToken);
        string[][] commands = [["snapshot", "-c", "x", name], ["resize", name, "2M"], ["check", "-r", "all", name], ["commit", name]];
        foreach (var command in commands)
        {
            var run = await CliRun.PlatterAsync(command);
            Assert.Equal(1, run.ExitCode);
            Assert.Single(run.Error.Trim().Split('\n'));
            Assert.Equal(2, run.Error.Split(".hds").Length);
            Assert.Contains($"[{name}]", run.Error, StringComparison.Ordinal);
        }
    }
}
