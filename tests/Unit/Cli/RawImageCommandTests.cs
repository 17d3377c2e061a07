using System.Text.Json.Nodes;
using Platter.Host.Native;
using Platter.Operations.Copy;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Cli;

/// <summary>The commands on raw images, which need no peer: what comes out, and with which exit code.</summary>
public sealed class RawImageCommandTests : IDisposable
{
    private readonly TempFolder _folder = new("cli");

    [Fact]
    public async Task Info_prints_the_sizes()
    {
        var name = _folder.Write("a.raw", new byte[65536]);
        var run = await CliRun.PlatterAsync("info", "-f", "raw", name);
        Assert.StartsWith($"image: {name}\nfile format: raw\nvirtual size: 64 KiB (65536 bytes)\ndisk size: ", run.Output, StringComparison.Ordinal);
        var json = JsonNode.Parse((await CliRun.PlatterAsync("info", "-fraw", "--output=json", name)).Output)!;
        Assert.Equal(65536, (long)json["virtual-size"]!);
        Assert.Equal(name, (string)json["filename"]!);
    }

    [Fact]
    public async Task Convert_copies_concatenates_and_compare_agrees()
    {
        var first = _folder.Write("a.raw", Pattern(1024 * 1024, 1));
        var second = _folder.Write("b.raw", Pattern(512 * 1024, 2));
        var target = _folder["t.raw"];
        var run = await CliRun.PlatterAsync("convert", "-f", "raw", "-O", "raw", first, second, target);
        Assert.Equal((0, string.Empty, string.Empty), (run.ExitCode, run.Output, run.Error));
        Assert.Equal([.. File.ReadAllBytes(first), .. File.ReadAllBytes(second)], File.ReadAllBytes(target));

        var compared = await CliRun.PlatterAsync("compare", "-f", "raw", "-F", "raw", first, target);
        Assert.Equal((1, "Warning: Image size mismatch!\nContent mismatch at offset 1048576!\n"), (compared.ExitCode, compared.Output));
        compared = await CliRun.PlatterAsync("compare", "-s", "-fraw", "-Fraw", first, target);
        Assert.Equal((1, "Strict mode: Image size mismatch!\n"), (compared.ExitCode, compared.Output));
        compared = await CliRun.PlatterAsync("compare", "-q", "-fraw", "-Fraw", first, target);
        Assert.Equal((1, string.Empty), (compared.ExitCode, compared.Output));
        compared = await CliRun.PlatterAsync("compare", "-fraw", "-Fraw", first, first);
        Assert.Equal((0, "Images are identical.\n"), (compared.ExitCode, compared.Output));
    }

    [Theory]
    [InlineData("falloc")]
    [InlineData("full")]
    public async Task Preallocation_spends_the_whole_size_and_changes_no_byte(string mode)
    {
        var source = _folder.Write("a.raw", [.. new byte[1 << 20], .. Pattern(65536, 1), .. new byte[1 << 20]]);
        var target = _folder["t.raw"];
        var run = await CliRun.PlatterAsync("convert", "-f", "raw", "-o", $"preallocation={mode}", source, target);
        Assert.Equal((0, string.Empty), (run.ExitCode, run.Error));
        Assert.Equal(File.ReadAllBytes(source), File.ReadAllBytes(target));
        var json = JsonNode.Parse((await CliRun.PlatterAsync("info", "-fraw", "--output=json", target)).Output)!;
        Assert.True((long)json["actual-size"]! >= (2 << 20) + 65536, $"only {json["actual-size"]} bytes");
    }

    [Fact]
    public async Task Preallocation_sets_space_aside_instead_of_writing_it()
    {
        Assert.SkipWhen(HostCalls.ForcePortable || !OperatingSystem.IsLinux(), "there is no fallocate here");
        await using var disk = await Disk.OpenAsync(_folder.Write("a.raw", new byte[4 << 20]), new DiskOpenOptions { Format = "raw" }, TestContext.Current.CancellationToken);
        CopyProgress last = default;
        await Disk.ConvertAsync(
            disk, _folder["t.raw"], new RawCreateOptions { Preallocation = DiskPreallocation.Falloc }, null, new Tell(p => last = p), TestContext.Current.CancellationToken);
        Assert.Equal((4L << 20, 0), (last.Done, last.Written));
    }

    [Fact]
    public async Task Progress_is_printed_as_programs_expect_it()
    {
        var source = _folder.Write("a.raw", Pattern(1024 * 1024, 1));
        var run = await CliRun.PlatterAsync("convert", "-p", "-f", "raw", source, _folder["t.raw"]);
        Assert.StartsWith("    (0.00/100%)\r", run.Output, StringComparison.Ordinal);
        Assert.EndsWith("    (100.00/100%)\r\n", run.Output, StringComparison.Ordinal);
        run = await CliRun.PlatterAsync("convert", "-p", "-q", "-f", "raw", source, _folder["t.raw"]);
        Assert.Empty(run.Output);
    }

    [Theory]
    [InlineData(0, 262144, "bs=64k")]
    [InlineData(65536, 131072, "bs=64k", "skip=1", "count=2")]
    [InlineData(512, 512, "skip=1", "count=1")]
    [InlineData(0, 2331, "bs=777", "count=3")]
    [InlineData(262144, 0, "bs=1M", "skip=99999999999999")]
    [InlineData(0, 0, "count=0")]
    public async Task Dd_copies_the_blocks_that_were_asked_for(int from, int length, params string[] operands)
    {
        var source = _folder.Write("a.raw", Pattern(262144, 3));
        var run = await CliRun.PlatterAsync(["dd", "-f", "raw", $"if={source}", $"of={_folder["t.raw"]}", .. operands]);
        Assert.Equal(0, run.ExitCode);
        Assert.Equal(File.ReadAllBytes(source)[from..(from + length)], File.ReadAllBytes(_folder["t.raw"]));
    }

    [Fact]
    public async Task The_source_is_never_the_target()
    {
        var source = _folder.Write("a.raw", Pattern(65536, 4));
        foreach (var args in new[] { new[] { "convert", "-fraw", source, source }, ["dd", "-fraw", $"if={source}", $"of={source}"] })
        {
            var run = await CliRun.PlatterAsync(args);
            Assert.Equal(1, run.ExitCode);
            Assert.Equal(Pattern(65536, 4), File.ReadAllBytes(source));
        }
    }

    [Fact]
    public async Task Map_of_a_range_stays_in_the_range()
    {
        var source = _folder.Write("a.raw", Pattern(262144, 5));
        var run = await CliRun.PlatterAsync("map", "--output=json", "-f", "raw", "-s", "64k", "--max-length=1k", source);
        Assert.Equal("[{ \"start\": 65536, \"length\": 1024, \"depth\": 0, \"present\": true, \"zero\": false, \"data\": true, \"offset\": 65536}]\n", run.Output);
        run = await CliRun.PlatterAsync("map", "-f", "raw", "-s", "64k", "--max-length=1k", source);
        Assert.Equal($"Offset          Length          Mapped to       File\n0x10000         0x400           0x10000         {source}\n", run.Output);
        run = await CliRun.PlatterAsync("map", "--output=json", "-f", "raw", "-s", "1G", source);
        Assert.Equal("[{ \"start\": 1073741824, \"length\": 0, \"depth\": 0, \"present\": false, \"zero\": false, \"data\": false}]\n", run.Output);
    }

    [Fact]
    public async Task Check_has_nothing_to_say_of_raw_images()
    {
        var run = await CliRun.PlatterAsync("check", "-f", "raw", _folder.Write("a.raw", new byte[512]));
        Assert.Equal((63, "platter: This image format does not support checks\n"), (run.ExitCode, run.Error));
    }

    public void Dispose() => _folder.Dispose();

    private static byte[] Pattern(int length, int seed)
    {
        var bytes = new byte[length];
        new Random(seed).NextBytes(bytes);
        return bytes;
    }

    private sealed class Tell(Action<CopyProgress> action) : IProgress<CopyProgress>
    {
        public void Report(CopyProgress value) => action(value);
    }
}
