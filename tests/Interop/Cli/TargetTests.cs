using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Cli;

/// <summary>No command writes over what it reads from, and nothing half done is left to be taken for a copy.</summary>
public sealed class TargetTests
{
    [Theory]
    [InlineData("convert", false)]
    [InlineData("convert", true)]
    [InlineData("dd", false)]
    public void The_data_file_of_a_source_is_no_target(string command, bool raw)
    {
        ToolRunner.RequireOrSkip("qemu-img", "qemu-io");
        using var folder = new TempFolder("target");
        ToolRunner.RunChecked(
            "qemu-img", "create", "-q", "-f", "qcow2", "-o", $"data_file={folder["data"]}{(raw ? ",data_file_raw=on" : string.Empty)}", folder["base.qcow2"], "4M");
        ToolRunner.RunChecked("qemu-io", "-c", "write -P 7 1M 64k", folder["base.qcow2"]);
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", "-b", folder["base.qcow2"], "-F", "qcow2", folder["top.qcow2"]);
        var before = File.ReadAllBytes(folder["data"]);
        foreach (var source in new[] { folder["base.qcow2"], folder["top.qcow2"] })
        {
            foreach (var more in new string[][] { [], ["-U"] })
            {
                var result = command == "dd"
                    ? PlatterCli.Run(["dd", .. more, $"if={source}", $"of={folder["data"]}"])
                    : PlatterCli.Run(["convert", .. more, source, folder["data"]]);
                Assert.Equal(1, result.ExitCode);
                Assert.Contains("is part of the source", result.Error);
            }
        }

        Assert.Equal(before, File.ReadAllBytes(folder["data"]));
    }

    [Theory]
    [InlineData("DiskDescriptor.xml", null)]
    [InlineData("DiskDescriptor.xml", "-U")]
    [InlineData(".hds", "-U")]
    public void No_file_of_a_bundle_is_a_target_read_or_not(string name, string? option)
    {
        using var folder = new TempFolder("target");
        var bundle = folder["demo.pvm"];
        Copy(DemoSample.Machine, bundle);
        var files = Directory.GetFiles(Path.Combine(bundle, "harddisk.hdd"));
        foreach (var file in files.Where(f => Path.GetFileName(f).EndsWith(name, StringComparison.Ordinal)))
        {
            var before = File.ReadAllBytes(file);
            string[] options = option is null ? [] : [option];
            var result = PlatterCli.Run(["convert", .. options, "-l", "Clean install", bundle, file]);
            Assert.Equal(1, result.ExitCode);
            Assert.Contains("is part of the source", result.Error);
            Assert.Equal(before, File.ReadAllBytes(file));
        }

        Assert.Contains(files, f => f.EndsWith(name, StringComparison.Ordinal));
    }

    [Fact]
    public void The_source_itself_is_called_what_it_is()
    {
        using var folder = new TempFolder("target");
        File.WriteAllBytes(folder["a.raw"], new byte[4096]);
        var result = PlatterCli.Run("convert", "-f", "raw", folder["a.raw"], folder["a.raw"]);
        Assert.Contains("is part of the source", result.Error);
    }

    [Fact]
    public async Task A_file_whose_copy_was_not_finished_is_empty()
    {
        using var folder = new TempFolder("target");
        File.WriteAllBytes(folder["source.raw"], TestContent.Make(1, 0, 8 << 20));
        File.WriteAllBytes(folder["target.raw"], TestContent.Make(2, 0, 1000));
        await using var disk = await Disk.OpenAsync(folder["source.raw"], new DiskOpenOptions { Format = "raw" });
        using var stop = new CancellationTokenSource();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => Disk.ConvertAsync(
            disk, folder["target.raw"], progress: new StopAtOnce(stop), cancellationToken: stop.Token));
        Assert.Equal(0, new FileInfo(folder["target.raw"]).Length);
    }

    private static void Copy(string from, string to)
    {
        Directory.CreateDirectory(to);
        foreach (var file in Directory.GetFiles(from))
        {
            File.Copy(file, Path.Combine(to, Path.GetFileName(file)));
        }

        foreach (var directory in Directory.GetDirectories(from))
        {
            Copy(directory, Path.Combine(to, Path.GetFileName(directory)));
        }
    }

    private sealed class StopAtOnce(CancellationTokenSource stop) : IProgress<Operations.Copy.CopyProgress>
    {
        public void Report(Operations.Copy.CopyProgress value) => stop.Cancel();
    }
}
