using System.Text.Json.Nodes;
using Platter.Host.Files;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Cli;

/// <summary>Bundles made, written, snapshotted by our commands; each image judged by the peer, and each state read by it through a chain that it is told.</summary>
public sealed class BundleTests
{
    [Theory]
    [InlineData("cluster_size=252k")]
    [InlineData("cluster_size=128k,split_size=3M")]
    public void Every_state_stays_what_it_was_and_the_peer_reads_the_same(string options)
    {
        ToolRunner.RequireOrSkip("qemu-img");
        using var folder = new TempFolder("bundle");
        var disk = folder["vm.hdd"];
        string[] create = ["create", "-f", "parallels-bundle", disk, "10M"];
        PlatterCli.Run([.. create, .. options.Length > 0 ? new[] { "-o", options } : []]).Expect();
        Io(disk, "write -P 1 0 3M", "write -P 2 9M 1M");
        var digests = new Dictionary<string, string> { ["one"] = Take(disk, "one") };
        Io(disk, "write -P 3 2M 2M", "write -z 9M 64k", "discard 0 1M");
        digests["two"] = Take(disk, "two");
        Io(disk, "write -P 4 5000 100");
        digests["three"] = Take(disk, "three");
        Io(disk, "write -P 5 7M 1M");
        Verify();

        PlatterCli.Run("snapshot", "-a", "two", disk).Expect();
        Assert.Equal(digests["two"], Digest(disk));
        Io(disk, "write -P 6 1M 3M");
        digests["four"] = Take(disk, "four");
        Verify();
        foreach (var name in new[] { "two", "one", "three" })
        {
            PlatterCli.Run("snapshot", "-d", name, disk).Expect();
            digests.Remove(name);
            Verify();
        }

        Io(disk, "write -P 7 8M 1M");
        var now = Digest(disk);
        PlatterCli.Run("commit", disk).Expect();
        digests["four"] = now;
        Verify();
        PlatterCli.Run("snapshot", "-d", "four", disk).Expect();
        PlatterCli.Run("resize", "--shrink", disk, "5M").Expect();
        PlatterCli.Run("resize", disk, "20M").Expect();
        Io(disk, "read -P 0 5M 15M", "read -P 6 1M 3M");
        digests.Clear();
        Verify();

        void Verify()
        {
            // A deleted snapshot on which two states stand stays as a layer, and is told of.
            Assert.DoesNotContain(PlatterCli.Run("check", disk).Expect().Error.Split('\n'), line => line.Length > 0 && !line.Contains("was deleted", StringComparison.Ordinal));
            foreach (var image in Directory.GetFiles(disk, "*.hds"))
            {
                ToolRunner.RunChecked("qemu-img", "check", "-q", "-f", "parallels", image);
            }

            foreach (var (name, digest) in digests)
            {
                Assert.Equal(digest, Digest(disk, "-l", name));
            }

            Assert.Equal(Digest(disk), DigestByPeer(folder, disk));
            Assert.Equal(File.ReadAllText(Path.Combine(disk, "DiskDescriptor.xml")), File.ReadAllText(Path.Combine(disk, "DiskDescriptor.xml.Backup")));
        }
    }

    [Fact]
    public void A_bundle_from_a_bundle_is_the_same_and_nothing_is_overwritten()
    {
        using var folder = new TempFolder("bundle");
        var source = Path.Combine(DemoSample.RepositoryRoot, "samples", "demo.pvm");
        PlatterCli.Run("convert", "--verify", "-l", "Clean install", "-O", "parallels-bundle", "-o", "split_size=4M,cluster_size=64k", source, folder["copy.hdd"]).Expect();
        Assert.Equal(Digest(source, "-l", "Clean install"), Digest(folder["copy.hdd"]));
        var again = PlatterCli.Run("convert", "-O", "parallels-bundle", source, folder["copy.hdd"]);
        Assert.Equal(1, again.ExitCode);
        Assert.Contains("not empty", again.Error);
        Assert.Contains("not empty", PlatterCli.Run("create", "-f", "parallels-bundle", folder["copy.hdd"], "1M").Error);
        PlatterCli.Run("convert", "-n", "-O", "parallels-bundle", source, folder["copy.hdd"]).Expect();
        Assert.Equal(Digest(source), Digest(folder["copy.hdd"]));
        Assert.Contains("is part of the source", PlatterCli.Run("convert", "-n", "-O", "parallels-bundle", folder["copy.hdd"], folder["copy.hdd"]).Error);
    }

    [Fact]
    public void An_interrupted_copy_is_no_bundle_and_is_resumed()
    {
        using var folder = new TempFolder("bundle");
        ToolRunner.RequireOrSkip("qemu-img");
        File.WriteAllBytes(folder["disk.raw"], TestContent.Make(1, 0, 12 << 20));

        // Interrupted when it has begun to fill the new disk, however slowly it got there.
        var script = $"'{PlatterCli.Path}' convert -r 2M -O parallels-bundle '{folder["disk.raw"]}' '{folder["vm.hdd"]}' & "
            + $"until [ \"$(cat '{folder["vm.hdd"]}'/*.hds 2>/dev/null | wc -c)\" -gt 1500000 ]; do sleep 0.1; done; kill -TERM $!; wait $!";
        var cut = ToolRunner.Run(new ToolCommand("bash", "-c", script));
        Assert.NotEqual(0, cut.ExitCode);
        Assert.False(File.Exists(folder["vm.hdd/DiskDescriptor.xml"]));
        Assert.Contains("unfinished copy", PlatterCli.Run("info", folder["vm.hdd"]).Error);
        PlatterCli.Run("convert", "--resume", "-O", "parallels-bundle", folder["disk.raw"], folder["vm.hdd"]).Expect();
        Assert.Equal(Digest(folder["disk.raw"], "-f", "raw"), Digest(folder["vm.hdd"]));
        PlatterCli.Run("check", folder["vm.hdd"]).Expect();
        var finished = PlatterCli.Run("convert", "--resume", "-O", "parallels-bundle", folder["disk.raw"], folder["vm.hdd"]);
        Assert.Contains("not an unfinished copy", finished.Error);
    }

    [Theory]
    [InlineData("fsync,fdatasync", 3, 6, 9)]
    [InlineData("rename,renameat,renameat2", 1, 2)]
    public void A_killed_copy_is_no_bundle_and_is_resumed_or_replaced(string calls, params int[] moments)
    {
        ToolRunner.RequireOrSkip("strace");
        using var folder = new TempFolder("bundle");
        File.WriteAllBytes(folder["disk.raw"], TestContent.Make(1, 0, 5 << 20));
        var digest = Digest(folder["disk.raw"], "-f", "raw");
        foreach (var moment in moments)
        {
            foreach (var resume in new[] { "--resume", "--quiet" })
            {
                var disk = folder[$"{moment}{resume}.hdd"];
                string[] convert = ["convert", "-f", "raw", "-O", "parallels-bundle", "-o", "split_size=3M", folder["disk.raw"], disk];
                ToolRunner.Run("strace", ["-qq", "-f", "-o", "/dev/null", "-e", $"trace={calls}", "-e", $"inject={calls}:signal=KILL:when={moment}", PlatterCli.Path!, .. convert]);
                if (File.Exists(Path.Combine(disk, "DiskDescriptor.xml")))
                {
                    // What is counted is counted for each thread alone: it may have come to its end.
                    Assert.True(moment > 1, $"there is a disk at {calls} {moment}");
                }
                else
                {
                    Assert.NotEqual(0, PlatterCli.Run("info", disk).ExitCode);
                    PlatterCli.RunChecked([.. convert, resume]);
                }

                Assert.Equal(digest, Digest(disk));
                var check = PlatterCli.RunChecked("check", disk);
                Assert.Equal(string.Empty, check.Error);
                Assert.Equal(5, Directory.GetFileSystemEntries(disk).Length);
            }
        }
    }

    [Fact]
    public void Nothing_but_an_unfinished_copy_is_replaced()
    {
        using var folder = new TempFolder("bundle");
        File.WriteAllBytes(folder["disk.raw"], TestContent.Make(1, 0, 1 << 20));
        var disk = folder["vm.hdd"];
        string[] convert = ["convert", "-f", "raw", "-O", "parallels-bundle", folder["disk.raw"], disk];
        PlatterCli.RunChecked(convert);
        File.Move(Path.Combine(disk, "DiskDescriptor.xml"), Path.Combine(disk, "DiskDescriptor.xml.unfinished"));
        var precious = folder.Write("vm.hdd/precious", "precious");
        var files = Directory.GetFiles(disk).ToDictionary(f => f, File.ReadAllBytes);
        Assert.Contains("not empty", PlatterCli.Run(convert).Expect(1).Error);
        Assert.Contains("not empty", PlatterCli.Run("create", "-f", "parallels-bundle", disk, "1M").Expect(1).Error);
        foreach (var (file, bytes) in files)
        {
            Assert.Equal(bytes, File.ReadAllBytes(file));
        }

        File.Delete(precious);
        PlatterCli.RunChecked(convert);
        Assert.Equal(4, Directory.GetFileSystemEntries(disk).Length);
    }

    [Fact]
    public async Task What_somebody_uses_is_not_changed()
    {
        using var folder = new TempFolder("bundle");
        var disk = folder["vm.hdd"];
        PlatterCli.Run("create", "-f", "parallels-bundle", disk, "4M").Expect();
        Io(disk, "write -P 1 0 1M");
        PlatterCli.Run("snapshot", "-c", "one", disk).Expect();
        Io(disk, "write -P 2 0 64k");
        var files = Directory.GetFiles(disk, "*.hds");
        var before = files.Append(Path.Combine(disk, "DiskDescriptor.xml")).ToDictionary(f => f, File.ReadAllBytes);
        foreach (var held in files)
        {
            var storage = FileStorage.Open(held);
            await using (storage)
            {
                storage.LockForReading(allowWriters: false);
                var result = PlatterCli.Run("snapshot", "-d", "one", disk);
                Assert.Equal(1, result.ExitCode);
                Assert.Contains("lock", result.Error);
                if (held == TopOf(disk))
                {
                    Assert.Contains("lock", PlatterCli.Run("snapshot", "-c", "two", disk).Error);
                    Assert.Contains("lock", PlatterCli.Run("io", "-c", "write 0 512", disk).Error);
                    Assert.Contains("lock", PlatterCli.Run("resize", disk, "8M").Error);
                }
            }
        }

        foreach (var (file, bytes) in before)
        {
            Assert.Equal(bytes, File.ReadAllBytes(file));
        }

        PlatterCli.Run("snapshot", "-d", "one", disk).Expect();
        Assert.Single(Directory.GetFiles(disk, "*.hds"));
    }

    [Fact]
    public void Commands_take_a_bundle_and_each_of_its_snapshots()
    {
        using var folder = new TempFolder("bundle");
        var disk = folder["vm.hdd"];
        PlatterCli.Run("create", "-f", "parallels-bundle", "-o", "cluster_size=64k", disk, "4M").Expect();
        Io(disk, "write -P 1 0 1M");
        PlatterCli.Run("snapshot", "-c", "one", disk).Expect();
        Io(disk, "write -P 2 0 64k");
        Assert.Contains("one", PlatterCli.Run("snapshot", "-l", disk).Expect().Text);
        PlatterCli.Run("io", "-r", "-c", "read -P 1 65536 64k", "-c", "read -P 2 0 64k", disk).Expect();
        PlatterCli.Run("convert", "-l", "one", disk, folder["one.raw"]).Expect();
        Assert.Equal(1, PlatterCli.Run("compare", "-F", "raw", disk, folder["one.raw"]).ExitCode);
        var map = JsonNode.Parse(PlatterCli.Run("map", "--output=json", disk).Expect().Text)!.AsArray();
        Assert.Equal([0, 1], map.Where(e => (bool)e!["data"]!).Select(e => (int)e!["depth"]!).Distinct().Order());
        Assert.Contains("required size", PlatterCli.Run("measure", "-O", "qcow2", disk).Expect().Text);
        var info = JsonNode.Parse(PlatterCli.Run("info", "--output=json", disk).Expect().Text)!;
        Assert.Equal(2, info["format-specific"]!["data"]!["layers"]!.AsArray().Count);
        Assert.Contains("Files:", PlatterCli.Run("info", disk).Expect().Text);
        Assert.Equal(1, PlatterCli.Run("commit", "-d", disk).ExitCode);
        Assert.Contains("has no snapshot 'nothing'", PlatterCli.Run("snapshot", "-a", "nothing", disk).Error);
        Assert.Contains("Use the --shrink option", PlatterCli.Run("resize", disk, "1M").Error);
        Assert.Contains("cannot be made smaller", PlatterCli.Run("resize", "--shrink", disk, "1M").Error);
    }

    [Theory]
    [InlineData("snapshot -d one", "pwrite64", 6)]
    [InlineData("snapshot -d one", "rename,renameat,renameat2", 4, 6)]
    [InlineData("commit", "fsync,fdatasync", 11)]
    [InlineData("resize 9M", "fsync,fdatasync", 11)]
    public void A_change_that_was_killed_leaves_no_more_than_leaks(string change, string calls, params int[] moments)
    {
        ToolRunner.RequireOrSkip("strace");
        using var folder = new TempFolder("bundle");
        var whole = folder["whole.hdd"];
        PlatterCli.Run("create", "-f", "parallels-bundle", "-o", "cluster_size=64k,split_size=2M", whole, "4M").Expect();
        Io(whole, "write -P 1 0 3M");
        PlatterCli.Run("snapshot", "-c", "one", whole).Expect();
        Io(whole, "write -P 2 1M 2M");
        foreach (var moment in moments)
        {
            var disk = folder[$"{moment}.hdd"];
            Directory.CreateDirectory(disk);
            foreach (var file in Directory.GetFiles(whole))
            {
                File.Copy(file, Path.Combine(disk, Path.GetFileName(file)));
            }

            var digest = Digest(disk);
            var words = change.Split(' ');
            string[] command = words[0] == "resize" ? ["resize", disk, words[1]] : [.. words, disk];
            ToolRunner.Run("strace", ["-qq", "-f", "-o", "/dev/null", "-e", $"trace={calls}", "-e", $"inject={calls}:signal=KILL:when={moment}", PlatterCli.Path!, .. command]);
            var check = PlatterCli.Run("check", disk);
            Assert.True(check.ExitCode is 0 or 3, $"killed at {calls} {moment}: {check.ExitCode} {check.Error}");
            var found = Digest(disk);
            Assert.True(found == digest || words[0] == "resize");
            var repair = PlatterCli.Run("check", "-r", "leaks", disk);
            Assert.True(repair.ExitCode == 0, $"killed at {calls} {moment}: {repair.ExitCode} {repair.Error}");
            var after = PlatterCli.Run("check", disk);
            Assert.Equal((0, string.Empty), (after.ExitCode, after.Error));
            Assert.Equal(found, Digest(disk));
            Assert.DoesNotContain(Directory.GetFiles(disk), f => f.EndsWith(".new", StringComparison.Ordinal) || f.EndsWith(".changes", StringComparison.Ordinal));
        }
    }

    private static void Io(string disk, params string[] commands) => PlatterCli.Run(["io", .. commands.SelectMany(c => new[] { "-c", c }), disk]).Expect();

    private static string Take(string disk, string name)
    {
        var before = Digest(disk);
        PlatterCli.Run("snapshot", "-c", name, disk).Expect();
        Assert.Equal(before, Digest(disk));
        return before;
    }

    private static string Digest(string disk, params string[] options) => PlatterCli.Run(["digest", .. options, disk]).Expect().Text.Split(' ')[0];

    private static string TopOf(string disk)
    {
        var layers = JsonNode.Parse(PlatterCli.Run("info", "--output=json", disk).Expect().Text)!["format-specific"]!["data"]!["layers"]!.AsArray();
        return Path.Combine(disk, layers.First(l => (bool)l!["top"]!)!["images"]![0]!["file"]!.ToString());
    }

    // The peer opens one image; the chain below it has to be told, and a split disk put together.
    private static string DigestByPeer(TempFolder folder, string disk)
    {
        var info = JsonNode.Parse(PlatterCli.Run("info", "--output=json", disk).Expect().Text)!["format-specific"]!["data"]!;
        var layers = info["layers"]!.AsArray().ToDictionary(l => l!["guid"]!.ToString(), l => l!);
        using (var whole = File.Create(folder["whole.raw"]))
        {
            foreach (var (storage, index) in info["storages"]!.AsArray().Select((s, i) => (s!, i)))
            {
                var part = folder["part.raw"];
                ToolRunner.RunChecked("qemu-img", "convert", "-O", "raw", "json:" + Chain(layers, layers.Values.First(l => (bool)l["top"]!), index, disk).ToJsonString(), part);
                var bytes = File.ReadAllBytes(part);
                whole.Write(bytes.AsSpan(0, (int)((long)storage["end"]! - (long)storage["start"]!)));
            }
        }

        return Digest(folder["whole.raw"], "-f", "raw");
    }

    private static JsonObject Chain(Dictionary<string, JsonNode> layers, JsonNode layer, int storage, string disk)
    {
        var file = layer["images"]!.AsArray().First(i => (int)i!["storage"]! == storage)!["file"]!.ToString();
        var image = new JsonObject
        {
            ["driver"] = "parallels",
            ["file"] = new JsonObject { ["driver"] = "file", ["filename"] = Path.Combine(disk, file) },
        };
        if (layer["parent-guid"]?.ToString() is { } parent)
        {
            image["backing"] = Chain(layers, layers[parent], storage, disk);
        }

        return image;
    }
}
