using Platter.Core.Images;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Formats;

/// <summary>What we write to a Parallels image, QEMU reads, finds clean, and writes on; and the other way round.</summary>
public sealed class ParallelsWriteTests
{
    private const int Size = (24 << 20) + 512;

    public static TheoryData<string, bool> Images() => new()
    {
        { "cluster_size=1M", true }, { "cluster_size=4k", true }, { "cluster_size=129024", true }, { "cluster_size=32256", true }, { "cluster_size=8M", true },
        { "cluster_size=1M", false }, { "version=1", false }, { "version=1,cluster_size=32256", false }, { "version=1,cluster_size=512", false },
        { "cluster_size=10k,version=2", false },
    };

    [Theory]
    [MemberData(nameof(Images))]
    public async Task Both_write_in_turns_and_both_find_the_image_clean(string options, bool theirs)
    {
        ToolRunner.RequireOrSkip("qemu-img", "qemu-io");
        using var folder = new TempFolder("write");
        var image = folder["disk.hds"];
        if (theirs)
        {
            ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "parallels", "-o", options, image, $"{Size}");
        }
        else
        {
            await Disk.CreateAsync(image, Size, new NamedCreateOptions("parallels", NodeOptions.ParseKeyValues(options)));
        }

        var model = new byte[Size];
        var random = new Random(options.Length);
        for (var round = 0; round < 3; round++)
        {
            await WriteAsync(image, model, random);
            Verify(folder, image, model);
            WriteWithPeer(image, model, random);
            await using var disk = await Disk.OpenAsync(image);
            var bytes = new byte[Size];
            await disk.ReadAsync(0, bytes);
            Assert.Equal(Size, bytes.AsSpan().CommonPrefixLength(model));
        }
    }

    [Theory]
    [InlineData("cluster_size=4k")]
    [InlineData("cluster_size=1M")]
    [InlineData("version=1,cluster_size=512")]
    [InlineData("version=1,cluster_size=32256")]
    public async Task A_disk_of_another_size_is_the_peers_as_well(string options)
    {
        ToolRunner.RequireOrSkip("qemu-img", "qemu-io");
        using var folder = new TempFolder("write");
        var image = folder["disk.hds"];
        await Disk.CreateAsync(image, 3 << 20, new NamedCreateOptions("parallels", NodeOptions.ParseKeyValues(options)));
        var model = TestContent.Make(1, 0, 3 << 20);
        await using (var disk = await Disk.OpenAsync(image, new DiskOpenOptions { Writable = true }))
        {
            await disk.WriteAsync(0, model);
        }

        // Far enough to outgrow the first data offset of small clusters; then a bit less than there was at first.
        foreach (var size in new[] { 60 << 20, (2 << 20) + 1536, 9 << 20 })
        {
            await using (var disk = await Disk.OpenAsync(image, new DiskOpenOptions { Writable = true }))
            {
                await disk.Node.ResizeAsync(size);
            }

            Array.Resize(ref model, size);
            Verify(folder, image, model);
            WriteWithPeer(image, model, new Random(size));
            Verify(folder, image, model);
        }
    }

    [Theory]
    [InlineData("")]
    [InlineData("version=1,cluster_size=252k")]
    [InlineData("cluster_size=512")]
    public void A_copy_is_the_peers_as_well(string options)
    {
        ToolRunner.RequireOrSkip("qemu-img", "qemu-io");
        PlatterCli.RequireOrSkip();
        using var folder = new TempFolder("write");
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", folder["a.qcow2"], "40M");
        ToolRunner.RunChecked("qemu-io", "-c", "write -P 1 0 3M", "-c", "write -P 2 17M 10k", "-c", "write -P 3 39M 1M", "-c", "write -z 5M 2M", folder["a.qcow2"]);
        PlatterCli.RunChecked(["convert", "-O", "parallels", .. options.Length > 0 ? new[] { "-o", options } : [], folder["a.qcow2"], folder["b.hds"]]);
        ToolRunner.RunChecked("qemu-img", "check", "-q", folder["b.hds"]);
        ToolRunner.RunChecked("qemu-img", "compare", "-q", folder["a.qcow2"], folder["b.hds"]);
        PlatterCli.RunChecked("convert", "-O", "raw", folder["b.hds"], folder["b.raw"]);
        ToolRunner.RunChecked("qemu-img", "compare", "-q", folder["a.qcow2"], folder["b.raw"]);
        PlatterCli.RunChecked("dd", "-O", "parallels", $"if={folder["a.qcow2"]}", $"of={folder["c.hds"]}", "bs=1M");
        ToolRunner.RunChecked("qemu-img", "check", "-q", folder["c.hds"]);
        ToolRunner.RunChecked("qemu-img", "compare", "-q", folder["a.qcow2"], folder["c.hds"]);
    }

    [Fact]
    public void Bitmaps_live_in_the_image_and_the_peer_still_reads_it()
    {
        ToolRunner.RequireOrSkip("qemu-img", "qemu-io");
        PlatterCli.RequireOrSkip();
        using var folder = new TempFolder("write");
        const string Name = "8c3b0b5e-90dd-4e5e-a4a6-0d4f0d2f2ea1";
        var image = folder["disk.hds"];
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "parallels", image, "64M");
        var refused = PlatterCli.Run("bitmap", "--add", image, "monday");
        Assert.Equal(1, refused.ExitCode);
        Assert.StartsWith("platter: Operation add on bitmap monday failed: Bitmap name 'monday' is not a UUID", refused.Error, StringComparison.Ordinal);
        PlatterCli.RunChecked("bitmap", "--add", "-g", "64k", image, Name);
        PlatterCli.RunChecked("io", "-c", "write -P 5 10M 100k", image);
        Assert.Contains(Name, PlatterCli.RunChecked("info", image).Text, StringComparison.Ordinal);
        ToolRunner.RunChecked("qemu-io", "-r", "-c", "read -P 5 10M 100k", image);
        PlatterCli.RunChecked("check", image);

        // The peer does not keep it up to date: from then on it does not count.
        ToolRunner.Run("qemu-io", "-c", "write -P 6 20M 100k", image);
        Assert.DoesNotContain(Name, PlatterCli.RunChecked("info", image).Text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_image_in_use_by_us_is_not_opened_by_the_peer()
    {
        ToolRunner.RequireOrSkip("qemu-img");
        using var folder = new TempFolder("write");
        await Disk.CreateAsync(folder["disk.hds"], 1 << 20, new NamedCreateOptions("parallels", new NodeOptions()));
        await using var mine = await Disk.OpenAsync(folder["disk.hds"], new DiskOpenOptions { Writable = true });
        Assert.Contains("lock", ToolRunner.Run("qemu-img", "info", folder["disk.hds"]).Error, StringComparison.Ordinal);
        await Assert.ThrowsAsync<Core.Errors.BlockException>(async () => await Disk.OpenAsync(folder["disk.hds"]));
    }

    private static async Task WriteAsync(string image, byte[] model, Random random)
    {
        await using var disk = await Disk.OpenAsync(image, new DiskOpenOptions { Writable = true });
        for (var i = 0; i < 120; i++)
        {
            var at = random.Next(model.Length);
            var length = Math.Min(random.Next(1, 300_000), model.Length - at);
            switch (random.Next(6))
            {
                case 0:
                    await disk.WriteZeroesAsync(at, length);
                    model.AsSpan(at, length).Clear();
                    break;
                case 1:
                    await disk.DiscardAsync(at, length);
                    await disk.ReadAsync(at, model.AsMemory(at, length));
                    break;
                case 2:
                    await disk.FlushAsync();
                    break;
                default:
                    var bytes = TestContent.Make(random.Next(), at, length);
                    await disk.WriteAsync(at, bytes);
                    bytes.CopyTo(model, at);
                    break;
            }
        }
    }

    private static void WriteWithPeer(string image, byte[] model, Random random)
    {
        var commands = new List<string>();
        for (var i = 0; i < 20; i++)
        {
            var sectors = random.Next(1, 400);
            var at = random.Next((model.Length / 512) - sectors) * 512L;
            var pattern = (byte)random.Next(1, 256);
            commands.AddRange(["-c", $"write -P {pattern} {at} {sectors * 512}"]);
            model.AsSpan((int)at, sectors * 512).Fill(pattern);
        }

        ToolRunner.RunChecked("qemu-io", [.. commands, "-f", "parallels", image]);
    }

    private static void Verify(TempFolder folder, string image, byte[] model)
    {
        ToolRunner.RunChecked("qemu-img", "check", "-q", image);
        File.WriteAllBytes(folder["model.raw"], model);
        ToolRunner.RunChecked("qemu-img", "compare", "-q", "-f", "parallels", "-F", "raw", image, folder["model.raw"]);
    }
}
