using System.Text.Json.Nodes;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Cli;

/// <summary>A machine with several disks: <c>info</c> tells of all of them, every other command of one.</summary>
public sealed class SeveralDisksTests : IDisposable
{
    private readonly TempFolder _folder = new("disks");
    private readonly string _machine;

    public SeveralDisksTests()
    {
        _machine = new MachineBuilder("vm").Add(DiskOf("system", 1)).Add(DiskOf("data", 2)).Build().SaveTo(_folder.Path);
    }

    [Fact]
    public async Task Info_tells_of_each_disk()
    {
        var run = await CliRun.PlatterAsync("info", _machine);
        Assert.Equal((0, string.Empty), (run.ExitCode, run.Error));
        Assert.StartsWith($"machine: {_machine}\ndisks: 2\n\ndisk: data.hdd\nimage: {_machine}/data.hdd\nfile format: parallels-bundle\nvirtual size: 8 MiB (8388608 bytes)\n", run.Output, StringComparison.Ordinal);
        Assert.Contains($"\n\ndisk: system.hdd\nimage: {_machine}/system.hdd\n", run.Output, StringComparison.Ordinal);
        Assert.Equal(2, run.Output.Split("States, each below the one it was made from:\n").Length - 1);
    }

    [Fact]
    public async Task Info_of_one_disk_is_what_it_was()
    {
        var one = (await CliRun.PlatterAsync("info", "--disk", "data", _machine)).Output;
        Assert.StartsWith($"image: {_machine}/data.hdd\n", one, StringComparison.Ordinal);
        Assert.Contains($"disk: data.hdd\n{one}", (await CliRun.PlatterAsync("info", _machine)).Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Info_as_Json_has_a_member_disks()
    {
        var run = await CliRun.PlatterAsync("info", "--output=json", _machine);
        Assert.Equal((0, string.Empty), (run.ExitCode, run.Error));
        var json = JsonNode.Parse(run.Output)!;
        Assert.Equal(_machine, (string?)json["filename"]);
        var disks = json["disks"]!.AsArray();
        Assert.Equal(["data.hdd", "system.hdd"], disks.Select(disk => (string?)disk!["disk"]));
        foreach (var disk in disks)
        {
            var alone = JsonNode.Parse((await CliRun.PlatterAsync("info", "--output=json", "--disk", (string)disk!["disk"]!, _machine)).Output)!;
            disk.AsObject().Remove("disk");
            Assert.True(JsonNode.DeepEquals(alone, disk), disk.ToJsonString());
        }
    }

    [Theory]
    [InlineData("human")]
    [InlineData("json")]
    public async Task A_disk_that_cannot_be_opened_does_not_hide_the_others(string output)
    {
        File.WriteAllText(Path.Combine(_machine, "data.hdd", "DiskDescriptor.xml"), "nothing");
        var run = await CliRun.PlatterAsync("info", "--output", output, _machine);
        Assert.Equal(1, run.ExitCode);
        Assert.Contains("Could not open", run.Error, StringComparison.Ordinal);
        if (output == "json")
        {
            var disks = JsonNode.Parse(run.Output)!["disks"]!.AsArray();
            Assert.Equal(("data.hdd", 8 << 20), ((string?)disks[0]!["disk"], (int)disks[1]!["virtual-size"]!));
            Assert.Contains("DiskDescriptor.xml", (string?)disks[0]!["error"], StringComparison.Ordinal);
        }
        else
        {
            Assert.Contains("disk: system.hdd\nimage: ", run.Output, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData("map")]
    [InlineData("check")]
    [InlineData("digest")]
    [InlineData("measure")]
    [InlineData("bench", "-c", "1")]
    [InlineData("io", "-r", "-c", "read 0 512")]
    [InlineData("snapshot", "-l")]
    [InlineData("resize", "", "9M")]
    [InlineData("commit")]
    [InlineData("bitmap", "--add", "", "x")]
    public async Task Commands_ask_which_disk_and_take_the_answer(string command, params string[] options)
    {
        // The machine stands where the empty option is, or at the end.
        string[] with = options.Contains(string.Empty) ? [.. options.Select(option => option.Length == 0 ? _machine : option)] : [.. options, _machine];
        var run = await CliRun.PlatterAsync([command, .. with]);
        Assert.NotEqual(0, run.ExitCode);
        Assert.Contains("has 2 disks, choose one with --disk", run.Error, StringComparison.Ordinal);
        Assert.Contains("data.hdd, system.hdd", run.Error, StringComparison.Ordinal);

        // Whether the command can do anything with a bundle that has no snapshots is another matter.
        run = await CliRun.PlatterAsync([command, "--disk=data", .. with]);
        Assert.DoesNotContain("has 2 disks", run.Error, StringComparison.Ordinal);
        Assert.DoesNotContain("unrecognized option", run.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Compare_takes_a_disk_for_each_side()
    {
        Assert.Equal(2, (await CliRun.PlatterAsync("compare", _machine, _machine)).ExitCode);
        Assert.Equal(0, (await CliRun.PlatterAsync("compare", "--disk", "data", "--second-disk", "data", _machine, _machine)).ExitCode);
        Assert.Equal(1, (await CliRun.PlatterAsync("compare", "--disk", "data", "--second-disk", "system", _machine, _machine)).ExitCode);

        var raw = _folder["data.raw"];
        Assert.Equal(0, (await CliRun.PlatterAsync("convert", "--disk", "data", "-O", "raw", _machine, raw)).ExitCode);
        Assert.Equal(0, (await CliRun.PlatterAsync("compare", "--disk", "data", _machine, raw)).ExitCode);
        Assert.Equal(0, (await CliRun.PlatterAsync("compare", "--second-disk", "data", raw, _machine)).ExitCode);
    }

    public void Dispose() => _folder.Dispose();

    private static BuiltBundle DiskOf(string name, int seed)
    {
        var builder = new BundleBuilder(name, 16384, 128);
        builder.AddTop().Fill(seed, 0, 1 << 20);
        return builder.Build();
    }
}
