using System.Globalization;
using Platter.Core.Images;
using Platter.Operations.Copy;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Cli;

/// <summary>Copies that keep snapshots: every state reads the same on the other side, for us and for the peer, and what states share is stored once.</summary>
public sealed class ConvertSnapshotsTests : IDisposable
{
    private const long Size = 32 << 20;
    private readonly TempFolder _folder = new("snapshots");

    private string Target => _folder["target.qcow2"];

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void The_snapshots_of_a_bundle_become_internal_ones_with_names_and_dates(bool compress)
    {
        var machine = WriteMachine();
        PlatterCli.RunChecked(["convert", "--snapshots=internal", "--verify", "-O", "qcow2", .. compress ? ["-c"] : Array.Empty<string>(), machine.Path, Target]);

        ToolRunner.RunChecked("qemu-img", "check", "-q", Target);
        var list = ToolRunner.RunChecked("qemu-img", "snapshot", "-l", Target).Text;
        foreach (var (name, date, model) in machine.Snapshots)
        {
            Assert.Contains(list.Split('\n'), line => line.Contains(name, StringComparison.Ordinal) && line.Contains(date, StringComparison.Ordinal));
            AssertReads(model, "-l", name);
        }

        AssertReads(machine.Current);

        // Every cluster once: what the layers have, tables, and not one state more.
        Assert.True(new FileInfo(Target).Length < machine.StoredBytes + (3 << 20), $"{new FileInfo(Target).Length} bytes for {machine.StoredBytes}");
    }

    [Fact]
    public void The_snapshots_of_a_bundle_become_overlay_files()
    {
        var machine = WriteMachine();
        PlatterCli.RunChecked("convert", "--snapshots=chain", "--verify", "-O", "qcow2", machine.Path, Target);

        var files = Directory.GetFiles(_folder.Path, "target*.qcow2").Order(StringComparer.Ordinal).ToList();
        Assert.Equal(
            ["target.1.Clean install.qcow2", "target.2.side%2Fbranch.qcow2", "target.3.After update.qcow2", "target.qcow2"],
            files.Select(file => Path.GetFileName(file)));
        for (var i = 0; i < 3; i++)
        {
            ToolRunner.RunChecked("qemu-img", "check", "-q", files[i]);
            var raw = _folder["peer.raw"];
            ToolRunner.RunChecked("qemu-img", "convert", "-O", "raw", files[i], raw);
            machine.Snapshots[i].Model.AssertEqualsFile(raw);
            Assert.StartsWith(
                machine.Snapshots[i].Date, File.GetLastWriteTimeUtc(files[i]).ToString("yyyy-MM-dd HH:mm:ss", CultureInfo.InvariantCulture), StringComparison.Ordinal);
        }

        AssertReads(machine.Current);

        // What the peer changes in a header keeps whose snapshot it is.
        foreach (var command in new[] { "amend -f qcow2 -o lazy_refcounts=on {0}", "bitmap --add {0} dirty", "resize -q {0} +1M", "rebase -u -f qcow2 -b new -F raw {0}" })
        {
            var kept = _folder["kept.qcow2"];
            File.Copy(files[1], kept, overwrite: true);
            Peer(command, kept);
            Assert.Contains("    snapshot:\n        name: side/branch\n        date: 2024-03-02T09:00:00Z\n", PlatterCli.RunChecked("info", kept).Text, StringComparison.Ordinal);
        }

        // The parent of the branch and of the main line is one file, and everything can be moved together.
        Assert.Contains("backing file: target.1.Clean install.qcow2", ToolRunner.RunChecked("qemu-img", "info", files[1]).Text, StringComparison.Ordinal);
        Assert.Contains("backing file: target.1.Clean install.qcow2", ToolRunner.RunChecked("qemu-img", "info", files[2]).Text, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("internal")]
    [InlineData("chain")]
    public void Internal_snapshots_of_the_peer_are_copied_with_their_branches(string form)
    {
        var source = WritePeerImage();
        var digests = PlatterCli.RunChecked("convert", "--snapshots=" + form, "--digest", "--verify", "-O", "qcow2", source, Target).Text
            .Split('\n', StringSplitOptions.RemoveEmptyEntries);
        string[] names = ["one", "two", "three", "branch"];
        Assert.Equal(5, digests.Length);
        for (var i = 0; i < names.Length; i++)
        {
            ToolRunner.RunChecked("qemu-img", "convert", "-l", names[i], "-O", "raw", source, _folder["source.raw"]);
            var copy = form == "chain" ? _folder[$"target.{i + 1}.{names[i]}.qcow2"] : Target;
            string[] select = form == "chain" ? [] : ["-l", names[i]];
            ToolRunner.RunChecked("qemu-img", ["convert", .. select, "-O", "raw", copy, _folder["copy.raw"]]);
            Assert.True(FilesAreEqual(_folder["source.raw"], _folder["copy.raw"]), names[i]);
            var digest = PlatterCli.RunChecked("digest", "-f", "raw", _folder["source.raw"]).Text.Split(' ')[0];
            Assert.StartsWith(digest, digests[i], StringComparison.Ordinal);
            Assert.EndsWith(names[i], digests[i], StringComparison.Ordinal);
        }

        ToolRunner.RunChecked("qemu-img", "compare", source, Target);

        // "branch" descends from "one": one file stands on the other, or one cluster has both.
        if (form == "chain")
        {
            Assert.Contains("target.1.one.qcow2", ToolRunner.RunChecked("qemu-img", "info", _folder["target.4.branch.qcow2"]).Text, StringComparison.Ordinal);
        }
        else
        {
            Assert.True(new FileInfo(Target).Length < new FileInfo(source).Length + (2 << 20));
        }
    }

    [Theory]
    [InlineData("internal")]
    [InlineData("chain")]
    public void A_machine_goes_to_qcow2_and_back_with_every_state(string form)
    {
        var machine = WriteMachine();
        string[] there = PlatterCli.RunChecked("convert", "--snapshots=" + form, "--digest", "-O", "qcow2", machine.Path, Target).Text.Split('\n');
        var bundle = _folder["back.hdd"];
        string[] back = PlatterCli.RunChecked("convert", "--snapshots=" + form, "--digest", "--verify", "-O", "parallels-bundle", Target, bundle).Text.Split('\n');
        PlatterCli.RunChecked("check", bundle);

        // A chain of files has no branches: the side branch stays a file of its own.
        string[] names = form == "chain" ? ["Clean install", "After update", "current state"] : ["Clean install", "side/branch", "After update", "current state"];
        Assert.Equal(names, back.Where(line => line.Length > 0).Select(line => line.Split("  ")[^1]));
        Assert.Subset(
            there.Where(line => line.Length > 0).Select(line => line.Split("  ") is var parts ? $"{parts[0]} {parts[^1]}" : null).ToHashSet(),
            back.Where(line => line.Length > 0).Select(line => line.Split("  ") is var parts ? $"{parts[0]} {parts[^1]}" : null).ToHashSet());
        var list = PlatterCli.RunChecked("snapshot", "-l", bundle).Text;
        foreach (var (name, date, _) in machine.Snapshots.Where(s => names.Contains(s.Name)))
        {
            Assert.Contains(list.Split('\n'), line => line.Contains(name, StringComparison.Ordinal) && line.Contains(date, StringComparison.Ordinal));
        }

        // Every cluster once, in units of the bundle's clusters of 1 MiB.
        var stored = Directory.GetFiles(bundle).Sum(file => new FileInfo(file).Length);
        Assert.True(stored < machine.StoredBytes + (12 << 20), $"{stored} bytes for {machine.StoredBytes}");
    }

    [Fact]
    public async Task Sizes_that_changed_between_snapshots_are_kept()
    {
        ToolRunner.RequireOrSkip("qemu-img");
        var source = _folder["resized.qcow2"];
        Peer("create -q -f qcow2 {0} 8M", source);
        Write(source, "write -P 1 0 8M");
        Peer("snapshot -c small {0}", source);
        Peer("resize -q {0} 20M", source);
        Write(source, "write -P 2 12M 8M");
        Peer("snapshot -c large {0}", source);
        Peer("resize -q --shrink {0} 10M", source);
        PlatterCli.RunChecked("convert", "--snapshots=internal", "--verify", "-O", "qcow2", source, Target);
        ToolRunner.RunChecked("qemu-img", "check", "-q", Target);
        foreach (var (name, size) in new[] { ("small", 8L << 20), ("large", 20L << 20) })
        {
            await using var state = await Disk.OpenAsync(Target, new DiskOpenOptions { Snapshot = SnapshotSelector.Parse(name) });
            Assert.Equal(size, state.Size);
        }

        ToolRunner.RunChecked("qemu-img", "compare", source, Target);

        // A bundle has one size, and says so; what is told is what is there.
        var bundle = _folder["resized.hdd"];
        var run = PlatterCli.RunChecked("convert", "--snapshots=internal", "--digest", "--verify", "-O", "parallels-bundle", source, bundle);
        Assert.Contains("'small' has 8388608 bytes; all states of a bundle have one size, 20971520 bytes", run.Error, StringComparison.Ordinal);
        foreach (var line in run.Text.Split('\n').Where(line => line.EndsWith("small", StringComparison.Ordinal) || line.EndsWith("large", StringComparison.Ordinal)))
        {
            var (digest, name) = (line.Split(' ')[0], line.Split(' ')[^1]);
            Assert.StartsWith(digest, PlatterCli.RunChecked("digest", "-l", name, bundle).Text, StringComparison.Ordinal);
        }

        PlatterCli.RunChecked("compare", "--load-snapshot=large", "--second-snapshot=large", source, bundle);
        Assert.Equal(1, PlatterCli.Run("compare", "--load-snapshot=small", "--second-snapshot=large", source, bundle).ExitCode);
    }

    [Theory]
    [InlineData("raw", "internal", "cannot hold snapshots")]
    [InlineData("qcow2", "sideways", "Invalid form of snapshots 'sideways'")]
    public void What_cannot_be_done_is_refused_and_leaves_nothing(string format, string form, string message)
    {
        var machine = WriteMachine();
        var refused = PlatterCli.Run("convert", "--snapshots=" + form, "-O", format, machine.Path, Target);
        Assert.NotEqual(0, refused.ExitCode);
        Assert.Contains(message, refused.Error, StringComparison.Ordinal);
        Assert.False(File.Exists(Target));
    }

    [Fact]
    public void A_file_in_the_way_of_a_snapshot_is_not_overwritten()
    {
        var machine = WriteMachine();
        var precious = _folder.Write("target.3.After update.qcow2", "precious");
        var refused = PlatterCli.Run("convert", "--snapshots=chain", "-O", "qcow2", machine.Path, Target);
        Assert.NotEqual(0, refused.ExitCode);
        Assert.Contains("target.3.After update.qcow2: is there already", refused.Error, StringComparison.Ordinal);
        Assert.Equal("precious", File.ReadAllText(precious));
        Assert.Equal([precious], Directory.GetFiles(_folder.Path, "target*"));
    }

    [Theory]
    [InlineData("internal", "qcow2", "target.qcow2")]
    [InlineData("chain", "qcow2", "target.qcow2")]
    [InlineData("internal", "parallels-bundle", "target.hdd")]
    public void A_killed_copy_is_no_disk_and_the_same_command_replaces_it(string form, string format, string name)
    {
        ToolRunner.RequireOrSkip("bash");
        var machine = WriteMachine();
        var target = _folder[name];
        var command = $"'{PlatterCli.RequireOrSkip()}' convert --snapshots={form} -O {format} -r 4M '{machine.Path}' '{target}'";
        ToolRunner.Run(new ToolCommand("bash", "-c", $"{command} & until [ \"$(cat '{_folder.Path}'/target*.qcow2 '{_folder.Path}'/target.hdd/*.hds 2>/dev/null | wc -c)\" -gt 8000000 ] || ! kill -0 $!; do sleep 0.1; done; kill -KILL $!; wait $!"));
        foreach (var file in format == "qcow2" ? Directory.GetFiles(_folder.Path, "target*") : [target])
        {
            Assert.Contains("unfinished copy", PlatterCli.Run("info", file).Expect(1).Error, StringComparison.Ordinal);
        }

        string[] again = ["convert", "--snapshots=" + form, "--verify", "-O", format, machine.Path, target];
        Assert.Contains("is replaced", PlatterCli.Run([.. again, "--resume"]).Expect(1).Error, StringComparison.Ordinal);
        PlatterCli.RunChecked(again);
        PlatterCli.RunChecked("check", target);
        PlatterCli.RunChecked("compare", machine.Path, target);
        Assert.Equal(form == "chain" ? 4 : 1, Directory.GetFileSystemEntries(_folder.Path, "target*").Length);
    }

    [Fact]
    public async Task A_copy_that_fails_leaves_nothing()
    {
        var machine = WriteMachine();
        using var stop = new CancellationTokenSource();
        await using var source = await Disk.OpenAsync(machine.Path);
        var create = new NamedCreateOptions("qcow2", new NodeOptions());
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => Disk.ConvertSnapshotsAsync(
            source, Target, create, SnapshotForm.Chain, progress: new StopAfter(stop, 40 << 20), cancellationToken: stop.Token));
        Assert.Empty(Directory.GetFiles(_folder.Path, "target*"));
    }

    public void Dispose() => _folder.Dispose();

    private static bool FilesAreEqual(string one, string other) => File.ReadAllBytes(one).AsSpan().SequenceEqual(File.ReadAllBytes(other));

    private static void Peer(string arguments, string image) =>
        ToolRunner.RunChecked("qemu-img", [.. arguments.Split(' ').Select(word => word == "{0}" ? image : word)]);

    private static void Write(string image, string command) => ToolRunner.RunChecked("qemu-io", "-c", command, image);

    private void AssertReads(ReferenceDisk model, params string[] select)
    {
        var raw = _folder["peer.raw"];
        ToolRunner.RunChecked("qemu-img", ["convert", .. select, "-O", "raw", Target, raw]);
        model.AssertEqualsFile(raw);
    }

    private string WritePeerImage()
    {
        ToolRunner.RequireOrSkip("qemu-img", "qemu-io");
        var source = _folder["source.qcow2"];
        Peer("create -q -f qcow2 {0} 32M", source);
        foreach (var (name, i) in new[] { ("one", 1), ("two", 2), ("three", 3) })
        {
            Write(source, $"write -P {i} {i * 4}M 3M");
            Write(source, $"write -P {i + 100} 30M 70k");
            Peer($"snapshot -c {name} {{0}}", source);
        }

        Peer("snapshot -a one {0}", source);
        Write(source, "write -P 77 20M 2M");
        Peer("snapshot -c branch {0}", source);
        Write(source, "write -z -u 4M 1M");
        return source;
    }

    // Clean install -> After update -> current, and a side branch of the first.
    private Machine WriteMachine()
    {
        ToolRunner.RequireOrSkip("qemu-img");
        var disk = new BundleBuilder("disk", Size / 512, 128);
        var clean = disk.AddLayer().Fill(1, 0, 6 << 20).Fill(2, 10 << 20, 100_000);
        var side = disk.AddLayer(parent: clean).Fill(3, 2 << 20, 1 << 20);
        var update = disk.AddLayer(parent: clean).Fill(4, 3 << 20, 2 << 20).Write(1 << 20, new byte[65536]);
        var top = disk.AddTop(update).Fill(5, 20 << 20, 300_000);
        var built = new MachineBuilder("vm").Add(disk.Build())
            .AddSnapshot(clean.Id, "Clean install", new DateTime(2024, 3, 1, 9, 0, 0))
            .AddSnapshot(side.Id, "side/branch", new DateTime(2024, 3, 2, 9, 0, 0), clean.Id)
            .AddSnapshot(update.Id, "After update", new DateTime(2024, 3, 8, 18, 30, 5), clean.Id)
            .Build();
        return new(built.SaveTo(_folder.Path), (9L << 20) + 800_000, top.Model, [
            ("Clean install", "2024-03-01 09:00:00", clean.Model), ("side/branch", "2024-03-02 09:00:00", side.Model), ("After update", "2024-03-08 18:30:05", update.Model),
        ]);
    }

    private sealed record Machine(string Path, long StoredBytes, ReferenceDisk Current, IReadOnlyList<(string Name, string Date, ReferenceDisk Model)> Snapshots);

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
