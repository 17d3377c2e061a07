using System.Diagnostics;
using System.Text.RegularExpressions;
using Platter.Core.Errors;
using Platter.Operations.Copy;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Cli;

/// <summary>A copy that was interrupted is not taken for a whole one by anybody, and goes on.</summary>
public sealed class ResumeTests : IDisposable
{
    private const int Size = 24 << 20;
    private readonly TempFolder _folder = new("resume");

    public ResumeTests()
    {
        var bytes = new byte[Size];
        TestContent.MakeCompressible(1, 10 << 20).CopyTo(bytes, 0);
        TestContent.Fill(bytes.AsSpan(14 << 20, 9 << 20), 2, 14 << 20);
        File.WriteAllBytes(Source, bytes);
    }

    private string Source => _folder["source.raw"];

    private string Target => _folder["target"];

    public static TheoryData<string, string, bool> Targets() => new()
    {
        { "raw", string.Empty, false },
        { "parallels", string.Empty, false },
        { "parallels", "version=1,cluster_size=252k", false },
        { "qcow2", string.Empty, false },
        { "qcow2", string.Empty, true },
        { "qcow2", "cluster_size=512", false },
        { "qcow2", "cluster_size=2M,lazy_refcounts=on", false },
        { "qcow2", "extended_l2=on,preallocation=metadata", false },
        { "qcow2", "data_file=DATA", false },
        { "qcow2", "compression_type=zstd", true },
    };

    [Theory]
    [MemberData(nameof(Targets))]
    public async Task An_interrupted_copy_goes_on(string format, string options, bool compress)
    {
        ToolRunner.RequireOrSkip("qemu-img");
        var create = new NamedCreateOptions(format, Core.Images.NodeOptions.ParseKeyValues(options.Replace("DATA", _folder["data"], StringComparison.Ordinal)));
        for (var round = 1; round <= 2; round++)
        {
            string? unfinished = null;
            await InterruptAsync(create, compress, round * 6 << 20, resume: round > 1, name => unfinished = name);
            Assert.Equal(format == "qcow2" ? Target : Target + ".unfinished", unfinished);
            Assert.True(File.Exists(unfinished));
            if (format != "qcow2")
            {
                Assert.False(File.Exists(Target));
                continue;
            }

            var error = await Assert.ThrowsAnyAsync<BlockException>(async () => await Disk.OpenAsync(Target));
            Assert.Contains("unfinished copy", error.Message, StringComparison.Ordinal);
            Assert.Contains("unfinished copy", ToolRunner.Run("qemu-img", "info", Target).Error, StringComparison.Ordinal);
        }

        // The source may have changed meanwhile; what is copied is what it is now.
        using (var file = File.OpenWrite(Source))
        {
            file.Position = 70_000;
            file.Write("other bytes"u8);
            file.Position = 2 << 20;
            file.Write(new byte[1 << 20]);
        }

        await using (var source = await Disk.OpenAsync(Source, new DiskOpenOptions { Format = "raw" }))
        {
            await Disk.ConvertAsync(source, Target, create.FormatName == "raw" ? null : create, new DiskConvertOptions { Resume = true, Compress = compress, Verify = true });
        }

        Assert.False(File.Exists(Target + ".unfinished"));
        ToolRunner.RunChecked("qemu-img", "compare", "-f", "raw", "-F", format, Source, Target);
        if (format == "qcow2")
        {
            ToolRunner.RunChecked("qemu-img", "check", "-q", Target);
            Assert.Equal(-1, File.ReadAllBytes(Target).AsSpan(0, 512).IndexOf("unfinished"u8));
        }
    }

    [Theory]
    [InlineData("raw", "target.unfinished")]
    [InlineData("parallels", "target.unfinished")]
    [InlineData("qcow2", "target")]
    public void A_killed_copy_goes_on(string format, string unfinished)
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "signals are sent with kill");
        ToolRunner.RequireOrSkip("qemu-img");
        var info = new ProcessStartInfo(PlatterCli.RequireOrSkip(), ["convert", "-p", "-f", "raw", "-r", "4M", "-O", format, Source, Target])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        using (var process = Process.Start(info)!)
        {
            for (var i = 0; i < 40; i++)
            {
                Assert.NotEqual(-1, process.StandardOutput.Read());
            }

            process.Kill();
            process.WaitForExit();
        }

        Assert.True(File.Exists(_folder[unfinished]));
        if (format == "qcow2")
        {
            foreach (var command in new[] { "info", "check", "map" })
            {
                var line = PlatterCli.Run(command, Target).Expect(1).Error;
                Assert.Matches($"^[^\n]*{Regex.Escape(Target)}'?: an unfinished copy \\(platter convert --resume\\): .*--resume goes on with it\n$", line);
            }
        }

        PlatterCli.RunChecked("convert", "--resume", "-f", "raw", "-O", format, Source, Target);
        ToolRunner.RunChecked("qemu-img", "compare", "-f", "raw", "-F", format, Source, Target);
        Assert.Equal(["source.raw", "target"], Directory.GetFiles(_folder.Path).Select(Path.GetFileName).Order());

        var again = PlatterCli.Run("convert", "--resume", "-f", "raw", "-O", format, Source, Target);
        Assert.Equal(1, again.ExitCode);
        Assert.Contains("nothing else can be resumed", again.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("fsync,fdatasync", 1)]
    [InlineData("fsync,fdatasync", 2)]
    [InlineData("fsync,fdatasync", 4)]
    public void A_killed_copy_into_a_Parallels_image_that_was_there_leaves_it_alone_or_has_no_image_of_its_name(string calls, int moment)
    {
        ToolRunner.RequireOrSkip("qemu-img", "strace");
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "parallels", Target, "1M");
        var before = File.ReadAllBytes(Target);
        string[] convert = ["convert", "-f", "raw", "-O", "parallels", Source, Target];
        var killed = ToolRunner.Run(
            "strace", ["-qq", "-f", "-o", "/dev/null", "-e", $"trace={calls}", "-e", $"inject={calls}:signal=KILL:when={moment}", PlatterCli.RequireOrSkip(), .. convert]);
        Assert.NotEqual(0, killed.ExitCode);
        if (File.Exists(Target) && !File.ReadAllBytes(Target).AsSpan().SequenceEqual(before))
        {
            ToolRunner.RunChecked("qemu-img", "compare", "-f", "raw", "-F", "parallels", Source, Target);
        }

        PlatterCli.RunChecked(convert);
        ToolRunner.RunChecked("qemu-img", "compare", "-f", "raw", "-F", "parallels", Source, Target);
        PlatterCli.RunChecked("check", Target);
        Assert.Equal(["source.raw", "target"], Directory.GetFiles(_folder.Path).Select(Path.GetFileName).Order());
    }

    [Fact]
    public async Task A_Parallels_image_that_is_in_use_or_cannot_be_made_is_not_touched()
    {
        PlatterCli.RunChecked("create", "-f", "parallels", Target, "1M");
        File.Copy(Target, Target + ".unfinished");
        var before = File.ReadAllBytes(Target);
        foreach (var held in new[] { Target, Target + ".unfinished" })
        {
            var storage = Host.Files.FileStorage.Open(held);
            await using (storage)
            {
                storage.LockForReading(allowWriters: false);
                Assert.Contains("lock", PlatterCli.Run("convert", "-f", "raw", "-O", "parallels", Source, Target).Expect(1).Error, StringComparison.Ordinal);
            }
        }

        Assert.Contains($"{Target}: ", PlatterCli.Run("convert", "-f", "raw", "-O", "parallels", "-o", "version=3", Source, Target).Expect(1).Error, StringComparison.Ordinal);
        Assert.Equal(before, File.ReadAllBytes(Target));
        Assert.Equal(before, File.ReadAllBytes(Target + ".unfinished"));
    }

    [Fact]
    public void A_copy_that_stops_at_an_error_says_how_to_go_on()
    {
        ToolRunner.RequireOrSkip("nbdkit", "qemu-img");
        var trigger = _folder["fail"];
        using var server = NbdServer.Nbdkit(
            _folder,
            "eval",
            $"get_size=echo {Size}",
            $"pread=if [ -e {trigger} ] && [ $4 -ge 8388608 ]; then echo EIO >&2; exit 1; fi; dd if={Source} iflag=skip_bytes,count_bytes skip=$4 count=$3 status=none");
        File.WriteAllText(trigger, string.Empty);
        var result = PlatterCli.Run("convert", "-f", "raw", "-O", "qcow2", server.Uri, Target);
        Assert.Equal(1, result.ExitCode);
        Assert.Contains($"{Target} is an unfinished copy, and the same command with --resume goes on with it", result.Error, StringComparison.Ordinal);
        File.Delete(trigger);
        PlatterCli.RunChecked("convert", "--resume", "-f", "raw", "-O", "qcow2", server.Uri, Target);
        ToolRunner.RunChecked("qemu-img", "compare", "-f", "raw", "-F", "qcow2", Source, Target);
    }

    [Fact]
    public void What_is_no_unfinished_copy_of_this_disk_is_not_touched()
    {
        ToolRunner.RequireOrSkip("qemu-img");
        File.WriteAllText(Target, "precious");
        foreach (var format in new[] { "raw", "qcow2", "parallels" })
        {
            Assert.Equal(1, PlatterCli.Run("convert", "--resume", "-f", "raw", "-O", format, Source, Target).ExitCode);
            Assert.Equal("precious", File.ReadAllText(Target));
        }

        Assert.Contains("mutually exclusive", PlatterCli.Run("convert", "--resume", "-n", Source, Target).Error, StringComparison.Ordinal);
    }

    public void Dispose() => _folder.Dispose();

    private async Task InterruptAsync(NamedCreateOptions create, bool compress, long after, bool resume, Action<string> unfinished)
    {
        await using var source = await Disk.OpenAsync(Source, new DiskOpenOptions { Format = "raw" });
        using var stop = new CancellationTokenSource();
        var options = new DiskConvertOptions { Compress = compress, Resume = resume, OnUnfinished = unfinished, Copy = new CopyOptions { Workers = 2 } };
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => Disk.ConvertAsync(
            source, Target, create.FormatName == "raw" ? null : create, options, new StopAfter(stop, after), stop.Token));
    }

    private sealed class StopAfter(CancellationTokenSource stop, long bytes) : IProgress<CopyProgress>
    {
        public void Report(CopyProgress value)
        {
            if (value.Done >= bytes)
            {
                stop.Cancel();
            }
        }
    }
}
