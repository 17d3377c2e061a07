using Platter.Core.Units;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Formats;

/// <summary>What we write, QEMU reads, finds clean, and writes on; and the other way round.</summary>
public sealed class Qcow2WriteTests
{
    private const int Size = 24 << 20;

    public static TheoryData<string> Options() =>
    [
        "compat=1.1", "compat=0.10", "cluster_size=512", "cluster_size=4k", "cluster_size=2M", "extended_l2=on", "extended_l2=on,cluster_size=16k",
        "refcount_bits=1", "refcount_bits=64,cluster_size=1k", "lazy_refcounts=on", "preallocation=metadata", "data_file=DATA", "data_file=DATA,data_file_raw=on",
        "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", "encrypt.format=aes,encrypt.key-secret=s",
    ];

    [Theory]
    [MemberData(nameof(Options))]
    public async Task Both_write_in_turns_and_both_find_the_image_clean(string options)
    {
        ToolRunner.RequireOrSkip("qemu-img", "qemu-io");
        using var folder = new TempFolder("write");
        var image = folder["disk.qcow2"];
        var encrypted = options.Contains("encrypt", StringComparison.Ordinal);
        PeerEncryption.Create(
            "--object", "secret,id=s,data=secret", "-o", options.Replace("DATA", folder["data.raw"], StringComparison.Ordinal), image, $"{Size}");
        var model = new byte[Size];
        var random = new Random(options.Length);
        for (var round = 0; round < 3; round++)
        {
            await WriteAsync(image, model, random, encrypted);
            Verify(folder, image, model, encrypted);
            WriteWithPeer(image, model, random, encrypted);
            await using var disk = await Disk.OpenAsync(image, new DiskOpenOptions { Password = encrypted ? "secret" : null });
            var bytes = new byte[Size];
            await disk.ReadAsync(0, bytes);
            Assert.Equal(Size, bytes.AsSpan().CommonPrefixLength(model));
        }
    }

    [Fact]
    public async Task Overlays_and_snapshots_keep_what_lies_below()
    {
        ToolRunner.RequireOrSkip("qemu-img", "qemu-io");
        using var folder = new TempFolder("write");
        var (lower, image) = (folder["base.qcow2"], folder["top.qcow2"]);
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", lower, "20M");
        ToolRunner.RunChecked("qemu-io", "-c", "write -P 9 0 20M", lower);
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", "-b", lower, "-F", "qcow2", image, $"{Size}");
        var model = new byte[Size];
        model.AsSpan(0, 20 << 20).Fill(9);
        var before = File.ReadAllBytes(lower);
        var random = new Random(5);
        await WriteAsync(image, model, random, encrypted: false);
        var snapshot = model.ToArray();
        ToolRunner.RunChecked("qemu-img", "snapshot", "-c", "one", image);
        await WriteAsync(image, model, random, encrypted: false);
        Verify(folder, image, model, encrypted: false);
        File.WriteAllBytes(folder["one.raw"], snapshot);
        ToolRunner.RunChecked("qemu-img", "convert", "-l", "one", "-O", "raw", image, folder["was.raw"]);
        Assert.True(File.ReadAllBytes(folder["was.raw"]).AsSpan().SequenceEqual(snapshot), "the snapshot changed");
        Assert.True(File.ReadAllBytes(lower).AsSpan().SequenceEqual(before), "the backing file changed");
    }

    [Fact]
    public async Task An_image_in_use_by_the_peer_is_not_written_to()
    {
        ToolRunner.RequireOrSkip("qemu-img", "qemu-nbd");
        using var folder = new TempFolder("write");
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", folder["disk.qcow2"], "1M");
        await using var mine = await Disk.OpenAsync(folder["disk.qcow2"], new DiskOpenOptions { Writable = true });
        var refused = ToolRunner.Run("qemu-img", "snapshot", "-c", "x", folder["disk.qcow2"]);
        Assert.Contains("lock", refused.Error, StringComparison.Ordinal);
        await Assert.ThrowsAsync<Core.Errors.BlockException>(async () => await Disk.OpenAsync(folder["disk.qcow2"]));
    }

    [Fact]
    public async Task Locks_end_with_the_disk_even_while_processes_are_started()
    {
        ToolRunner.RequireOrSkip("qemu-img");
        using var folder = new TempFolder("write");
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", folder["disk.qcow2"], "1M");
        using var stop = new CancellationTokenSource();
        var starting = Task.Run(() =>
        {
            while (!stop.IsCancellationRequested)
            {
                ToolRunner.Run("true");
            }
        });
        for (var i = 0; i < 300; i++)
        {
            await using var disk = await Disk.OpenAsync(folder["disk.qcow2"], new DiskOpenOptions { Writable = true });
        }

        await stop.CancelAsync();
        await starting;
    }

    private static async Task WriteAsync(string image, byte[] model, Random random, bool encrypted)
    {
        await using var disk = await Disk.OpenAsync(image, new DiskOpenOptions { Writable = true, Password = encrypted ? "secret" : null });
        await Parallel.ForEachAsync(Enumerable.Range(0, 4), async (part, _) =>
        {
            var own = new Random(random.Next());
            for (var i = 0; i < 60; i++)
            {
                // Each of the four has a quarter of the disk.
                var length = own.Next(3) == 0 ? own.Next(1, 300_000) : own.Next(1, 16) * 512;
                var at = (part * (Size / 4)) + own.Next((Size / 4) - length);
                switch (own.Next(6))
                {
                    case 0:
                        await disk.WriteZeroesAsync(at, length);
                        model.AsSpan(at, length).Clear();
                        break;
                    case 1 when i % 4 == 0:
                        await disk.FlushAsync();
                        break;
                    default:
                        var bytes = TestContent.Make(own.Next(), at, length);
                        await disk.WriteAsync(at, bytes);
                        bytes.CopyTo(model.AsSpan(at));
                        break;
                }
            }
        });
    }

    private static void WriteWithPeer(string image, byte[] model, Random random, bool encrypted)
    {
        var commands = new List<string>();
        for (var i = 0; i < 20; i++)
        {
            var (at, length, pattern) = (random.Next((Size / 512) - 400) * 512, random.Next(1, 400) * 512, random.Next(1, 256));
            var zero = i % 5 == 0;
            commands.AddRange(["-c", zero ? $"write -z -u {at} {length}" : $"write -P {pattern} {at} {length}"]);
            model.AsSpan(at, length).Fill(zero ? (byte)0 : (byte)pattern);
        }

        ToolRunner.RunChecked("qemu-io", ["--object", "secret,id=s,data=secret", .. commands, "--image-opts", Options(image, encrypted)]);
    }

    private static void Verify(TempFolder folder, string image, byte[] model, bool encrypted)
    {
        var check = ToolRunner.Run("qemu-img", "check", "--object", "secret,id=s,data=secret", "--image-opts", Options(image, encrypted));
        Assert.True(check.ExitCode == 0, check.Text + check.Error);
        Assert.Contains("No errors were found", check.Text, StringComparison.Ordinal);
        ToolRunner.RunChecked(
            "qemu-img", "convert", "--object", "secret,id=s,data=secret", "--image-opts", Options(image, encrypted), "-O", "raw", folder["check.raw"]);
        var same = File.ReadAllBytes(folder["check.raw"]).AsSpan().CommonPrefixLength(model);
        Assert.True(same == Size, $"the peer reads something else at 0x{same:x}");
    }

    private static string Options(string image, bool encrypted) =>
        $"driver=qcow2,file.filename={image}" + (encrypted ? ",encrypt.key-secret=s" : string.Empty);
}
