using System.Globalization;
using System.Text.Json.Nodes;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Cli;

/// <summary>Persistent dirty bitmaps: what either of us tracks, stores, changes and copies, the other reads bit for bit.</summary>
public sealed class BitmapTests
{
    private const int Size = (20 << 20) + 512;

    public static TheoryData<string, string> Options() => new()
    {
        { "compat=1.1", "64k" },
        { "compat=1.1", "512" },
        { "cluster_size=512", "4k" },
        { "cluster_size=2M", "1M" },
        { "extended_l2=on", "128k" },
        { "lazy_refcounts=on,cluster_size=4k", "1k" },
        { "data_file=DATA", "32k" },
        { "refcount_bits=1", "8k" },
    };

    [Theory]
    [MemberData(nameof(Options))]
    public async Task The_same_requests_leave_the_same_bits(string options, string granularity)
    {
        ToolRunner.RequireOrSkip("qemu-img", "qemu-io", "qemu-nbd", "nbdinfo");
        using var folder = new TempFolder("bitmap");
        var (ours, theirs) = (folder["ours.qcow2"], folder["theirs.qcow2"]);
        foreach (var image in new[] { ours, theirs })
        {
            ToolRunner.RunChecked(
                "qemu-img", "create", "-q", "-f", "qcow2", "-o", options.Replace("DATA", image + ".raw", StringComparison.Ordinal), image, $"{Size}");
            ToolRunner.RunChecked("qemu-img", "bitmap", "--add", "-g", granularity, image, "b");
            ToolRunner.RunChecked("qemu-img", "bitmap", "--add", "--disable", image, "off");
        }

        var random = new Random(options.Length + granularity.Length);
        for (var round = 0; round < 4; round++)
        {
            var commands = new List<string>();
            await using (var disk = await Disk.OpenAsync(ours, new DiskOpenOptions { Writable = true }))
            {
                for (var i = 0; i < 12; i++)
                {
                    var at = random.Next(Size / 512) * 512L;
                    var length = (int)Math.Min(random.Next(1, 600) * 512L, Size - at);
                    commands.Add(random.Next(4) switch { 0 => "discard", 1 => "write -z", 2 => "write -z -u", _ => "write -P 5" } + $" {at} {length}");
                    await (commands[^1][0] == 'd' ? disk.DiscardAsync(at, length)
                        : commands[^1].Contains("-z", StringComparison.Ordinal) ? disk.WriteZeroesAsync(at, length)
                        : disk.WriteAsync(at, Enumerable.Repeat((byte)5, length).ToArray()));
                }
            }

            ToolRunner.RunChecked("qemu-io", ["-f", "qcow2", "-d", "unmap", .. commands.SelectMany(c => new[] { "-c", c }), theirs]);
            Check(ours);
            Assert.Equal(PeerMap(folder, theirs, "b"), PeerMap(folder, ours, "b"));
            Assert.Equal(PeerMap(folder, ours, "b"), await OurMapAsync(ours, "b"));
            Assert.Equal($"0 {Size} clean", PeerMap(folder, ours, "off"));

            // And now each goes on with the other's file.
            (ours, theirs) = (theirs, ours);
        }
    }

    [Fact]
    public async Task Every_action_leaves_what_it_leaves_with_the_peer()
    {
        ToolRunner.RequireOrSkip("qemu-img", "qemu-io", "qemu-nbd", "nbdinfo");
        using var folder = new TempFolder("bitmap");
        var (ours, theirs, source) = (folder["ours.qcow2"], folder["theirs.qcow2"], folder["source.qcow2"]);
        foreach (var image in new[] { ours, theirs, source })
        {
            ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", image, "30M");
        }

        ToolRunner.RunChecked("qemu-img", "bitmap", "--add", "-g", "4k", source, "s");
        ToolRunner.RunChecked("qemu-io", "-f", "qcow2", "-c", "write 5000k 3k", "-c", "write 29M 1M", source);
        string[][] steps =
        [
            ["--add", "one"], ["--add", "-g", "512", "fine"], ["--add", "--disable", "off"], ["--add", "-g", "2G", "-f", "qcow2", "huge"],
            ["write", "write 100k 1k", "write -z 20M 5k"],
            ["--merge", "fine", "off"], ["--disable", "one"],
            ["write", "write 7M 64k"],
            ["--enable", "one"], ["--merge", "one", "fine"], ["--add", "-g", "8k", "--merge", "fine", "--disable", "sum"], ["--remove", "huge"],
            ["--merge", "s", "-b", source, "-F", "qcow2", "sum"], ["--clear", "one"],
            ["write", "write 9M 300k"],
            ["--add", "--clear", "--enable", "--remove", "--add", "last"], ["--remove", "off"],
        ];
        foreach (var step in steps)
        {
            if (step[0] == "write")
            {
                foreach (var image in new[] { ours, theirs })
                {
                    ToolRunner.RunChecked("qemu-io", ["-f", "qcow2", .. step[1..].SelectMany(c => new[] { "-c", c }), image]);
                }

                continue;
            }

            PlatterCli.RunChecked(["bitmap", .. step[..^1], ours, step[^1]]);
            ToolRunner.RunChecked("qemu-img", ["bitmap", .. step[..^1], theirs, step[^1]]);
            Check(ours);
            await AssertSameBitmapsAsync(folder, theirs, ours);
        }
    }

    [Fact]
    public async Task A_disk_of_another_size_keeps_its_bits_as_with_the_peer()
    {
        ToolRunner.RequireOrSkip("qemu-img", "qemu-io", "qemu-nbd", "nbdinfo");
        using var folder = new TempFolder("bitmap");
        var (ours, theirs) = (folder["ours.qcow2"], folder["theirs.qcow2"]);
        foreach (var image in new[] { ours, theirs })
        {
            ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=512", image, "10M");
            ToolRunner.RunChecked("qemu-img", "bitmap", "--add", "-g", "1k", image, "fine");
            ToolRunner.RunChecked("qemu-img", "bitmap", "--add", "-g", "64k", image, "coarse");
            ToolRunner.RunChecked("qemu-io", "-f", "qcow2", "-c", "write 3M 3M", "-c", "write 9M 1M", image);
        }

        foreach (var size in new[] { "9700k", "9701k", "30M", "60M", "5001k", "4M", "40M" })
        {
            PlatterCli.RunChecked("resize", "--shrink", ours, size);
            ToolRunner.RunChecked("qemu-img", "resize", "-q", "--shrink", theirs, size);
            Check(ours);
            await AssertSameBitmapsAsync(folder, theirs, ours);
        }
    }

    [Fact]
    public async Task An_image_that_was_not_closed_says_that_its_bitmaps_are_inconsistent()
    {
        ToolRunner.RequireOrSkip("qemu-img", "qemu-io");
        using var folder = new TempFolder("bitmap");
        var (image, cut) = (folder["disk.qcow2"], folder["cut.qcow2"]);
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", image, "10M");
        ToolRunner.RunChecked("qemu-img", "bitmap", "--add", image, "on");
        ToolRunner.RunChecked("qemu-img", "bitmap", "--add", "--disable", image, "off");
        await using (var disk = await Disk.OpenAsync(image, new DiskOpenOptions { Writable = true }))
        {
            await disk.WriteAsync(0, new byte[1000]);
            File.Copy(image, cut);
        }

        var flags = JsonNode.Parse(ToolRunner.RunChecked("qemu-img", "info", "--output=json", cut).Text)!["format-specific"]!["data"]!["bitmaps"]!.ToJsonString();
        Assert.Contains("in-use", flags);
        foreach (var action in new[] { "--clear", "--enable", "--disable" })
        {
            Assert.Contains("is inconsistent and cannot be used", PlatterCli.Run("bitmap", action, cut, "on").Expect(1).Error);
        }

        Assert.Contains("'on' is inconsistent", PlatterCli.Run("bitmap", "--merge", "on", cut, "off").Expect(1).Error);
        Assert.Contains("'on' is inconsistent", PlatterCli.Run("resize", cut, "20M").Expect(1).Error);
        PlatterCli.RunChecked("bitmap", "--disable", cut, "off");
        PlatterCli.RunChecked("bitmap", "--remove", cut, "on");
        Check(cut);
        Assert.Equal(["off"], await NamesAsync(cut));
    }

    [Fact]
    public async Task Bitmaps_that_a_killed_peer_left_are_kept_and_not_used()
    {
        ToolRunner.RequireOrSkip("qemu-img", "qemu-io");
        using var folder = new TempFolder("bitmap");
        var image = folder["disk.qcow2"];
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", image, "10M");
        ToolRunner.RunChecked("qemu-img", "bitmap", "--add", image, "on");
        _ = ToolRunner.Run("qemu-io", "-f", "qcow2", "-c", "write 0 64k", "-c", "flush", "-c", "sigraise 9", image);
        await using (var disk = await Disk.OpenAsync(image, new DiskOpenOptions { Writable = true }))
        {
            Assert.True(disk.Bitmaps.Single().InUse);
            await disk.WriteAsync(0, new byte[1000]);
            await disk.AddBitmapAsync("new");
            await disk.WriteAsync(1 << 20, new byte[1000]);
        }

        Check(image);
        Assert.Equal(["on", "new"], await NamesAsync(image));
        await using var again = await Disk.OpenAsync(image);
        Assert.Equal([true, false], again.Bitmaps.Select(b => b.InUse));
        Assert.Equal("0 1048576 clean\n1048576 65536 dirty\n1114112 9371648 clean", await OurMapAsync(image, "new"));
    }

    [Fact]
    public async Task Copied_bitmaps_are_those_that_the_peer_copies()
    {
        ToolRunner.RequireOrSkip("qemu-img", "qemu-io", "qemu-nbd", "nbdinfo");
        using var folder = new TempFolder("bitmap");
        var (source, theirs, ours) = (folder["source.qcow2"], folder["theirs.qcow2"], folder["ours.qcow2"]);
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", source, "50M");
        ToolRunner.RunChecked("qemu-img", "bitmap", "--add", "-g", "512", source, "fine");
        ToolRunner.RunChecked("qemu-io", "-f", "qcow2", "-c", "write 0 1k", "-c", "write 30M 3M", source);
        ToolRunner.RunChecked("qemu-img", "bitmap", "--add", "--merge", "fine", "--disable", source, "off");
        ToolRunner.RunChecked("qemu-img", "convert", "-O", "qcow2", "--bitmaps", source, theirs);
        ToolRunner.RunChecked("qemu-img", "convert", "-O", "qcow2", source, ours);
        await using (var from = await Disk.OpenAsync(source))
        await using (var to = await Disk.OpenAsync(ours, new DiskOpenOptions { Writable = true }))
        {
            await to.CopyBitmapsAsync(from);
        }

        Check(ours);
        await AssertSameBitmapsAsync(folder, theirs, ours, inOrder: false);
    }

    [Fact]
    public void Mistakes_are_refused_with_the_peers_words()
    {
        ToolRunner.RequireOrSkip("qemu-img");
        using var folder = new TempFolder("bitmap");
        var (image, old, other) = (folder["disk.qcow2"], folder["old.qcow2"], folder["other.qcow2"]);
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", image, "10M");
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", "-o", "compat=0.10", old, "10M");
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", other, "20M");
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "raw", folder["disk.raw"], "10M");
        ToolRunner.RunChecked("qemu-img", "bitmap", "--add", image, "b");
        ToolRunner.RunChecked("qemu-img", "bitmap", "--add", other, "b");
        var need = "Need at least one of --add, --remove, --clear, --enable, --disable, or --merge";
        Refused(need, "bitmap");
        Refused(need, "bitmap", image, "b");
        Refused("Expecting filename and bitmap name", "bitmap", "--add", image);
        Refused("-F only supported with -b", "bitmap", "--merge", "b", "-F", "qcow2", image, "b");
        Refused("Merge bitmap source file only supported with --merge", "bitmap", "--add", "-b", image, image, "b");
        Refused("granularity only supported with --add", "bitmap", "--clear", "-g", "512", image, "b");
        Refused("Operation add on bitmap b failed: Bitmap already exists: b", "bitmap", "--add", image, "b");
        Refused("Operation add on bitmap  failed: Bitmap name cannot be empty", "bitmap", "--add", image, "");
        Refused("Operation add on bitmap c failed: Granularity must be power of 2 and at least 512", "bitmap", "--add", "-g", "1000", image, "c");
        Refused("Operation add on bitmap c failed: Granularity must be power of 2 and at least 512", "bitmap", "--add", "-g", "4G", image, "c");
        foreach (var action in new[] { "remove", "clear", "enable", "disable" })
        {
            Refused($"Operation {action} on bitmap c failed: Dirty bitmap 'c' not found", "bitmap", $"--{action}", image, "c");
        }

        Refused("Operation merge on bitmap b failed: Dirty bitmap 'c' not found", "bitmap", "--merge", "c", image, "b");
        Refused("Operation merge on bitmap c failed: Dirty bitmap 'c' not found", "bitmap", "--merge", "b", image, "c");
        Refused(
            "Operation merge on bitmap b failed: Bitmaps are of different sizes (destination size is 10485760, source size is 20971520) and can't be merged",
            "bitmap", "--merge", "b", "-b", other, "-F", "qcow2", image, "b");
        Assert.Contains("Cannot store dirty bitmaps in qcow2 v2 files", SameAsPeer.Failure("bitmap", "--add", old, "b"));
        Assert.Contains("Operation not supported", SameAsPeer.Failure("bitmap", "--add", "-f", "raw", folder["disk.raw"], "b"));
        Assert.Contains("Device has active dirty bitmaps", SnapshotRefusal(image));
    }

    private static string SnapshotRefusal(string image)
    {
        ToolRunner.RunChecked("qemu-img", "snapshot", "-c", "s", image);
        return SameAsPeer.Failure("snapshot", "-a", "s", image);
    }

    private static void Refused(string message, params string[] args) => Assert.Equal(message, SameAsPeer.Failure(args));

    private static void Check(string image)
    {
        var result = ToolRunner.Run("qemu-img", "check", image);
        Assert.True(result.ExitCode == 0, $"{image}: {result.Text}{result.Error}");
        PlatterCli.RunChecked("check", image);
    }

    private static async Task AssertSameBitmapsAsync(TempFolder folder, string theirs, string ours, bool inOrder = true)
    {
        var (wanted, found) = (Bitmaps(theirs), Bitmaps(ours));
        if (!inOrder)
        {
            wanted.Sort(StringComparer.Ordinal);
            found.Sort(StringComparer.Ordinal);
        }

        Assert.Equal(wanted, found);
        foreach (var name in await NamesAsync(ours))
        {
            var map = PeerMap(folder, theirs, name);
            Assert.Equal(map, PeerMap(folder, ours, name));
            Assert.Equal(map, await OurMapAsync(ours, name));
        }
    }

    // As the peer lists them: name, granularity, flags.
    private static List<string> Bitmaps(string image)
    {
        var info = JsonNode.Parse(ToolRunner.RunChecked("qemu-img", "info", "--output=json", image).Text)!;
        return [.. (info["format-specific"]!["data"]!["bitmaps"]?.AsArray() ?? []).Select(b => $"{b!["name"]} {b["granularity"]} {b["flags"]!.ToJsonString()}")];
    }

    private static async Task<List<string>> NamesAsync(string image)
    {
        await using var disk = await Disk.OpenAsync(image);
        return [.. disk.Bitmaps.Select(b => b.Name)];
    }

    private static string PeerMap(TempFolder folder, string image, string bitmap)
    {
        using var server = NbdServer.QemuNbd(image, "qcow2", folder, "-B", bitmap);
        var lines = ToolRunner.RunChecked("nbdinfo", $"--map=qemu:dirty-bitmap:{bitmap}", server.Uri).Lines;
        return string.Join('\n', lines.Select(l => l.Split(' ', StringSplitOptions.RemoveEmptyEntries)).Select(f => $"{f[0]} {f[1]} {f[3]}"));
    }

    // In the words of nbdinfo.
    private static async Task<string> OurMapAsync(string image, string bitmap)
    {
        await using var disk = await Disk.OpenAsync(image);
        var result = new List<string>();
        var at = 0L;
        await foreach (var range in disk.ReadBitmapAsync(bitmap))
        {
            Add(range.Offset.Value, "clean");
            Add(range.Offset.Value + range.Length, "dirty");
        }

        Add(disk.Size, "clean");
        return string.Join('\n', result);

        void Add(long end, string what)
        {
            if (end > at)
            {
                result.Add(string.Create(CultureInfo.InvariantCulture, $"{at} {end - at} {what}"));
                at = end;
            }
        }
    }
}
