using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Cli;

/// <summary><c>convert -O qcow2</c>: what comes out is clean and the same disk to QEMU, whatever the options.</summary>
public sealed class ConvertToQcow2Tests : IDisposable
{
    private const int Size = (12 << 20) + 1536;
    private readonly TempFolder _folder = new("convert");

    public ConvertToQcow2Tests()
    {
        ToolRunner.RequireOrSkip("qemu-img", "qemu-io");
        using var file = File.Create(_folder["source.raw"]);
        file.SetLength(Size);
        foreach (var (at, bytes) in Pieces())
        {
            file.Position = at;
            file.Write(bytes);
        }
    }

    private string Source => _folder["source.raw"];

    private string Target => _folder["target.qcow2"];

    public static TheoryData<string> Options() => new(
        "", "-c", "-S 0", "-S 64k", "-m 1", "-W -m 16", "-C", "-c -m 8", "-c -S 0", "-c --compression-level 1", "-c --compression-level 9",
        "-o cluster_size=512", "-c -o cluster_size=512", "-o cluster_size=2M", "-c -o cluster_size=2M", "-c -o compression_type=zstd",
        "-c -o compression_type=zstd,cluster_size=4k --compression-level 19", "-c -o refcount_bits=1", "-c -o refcount_bits=2", "-o refcount_bits=64",
        "-o compat=0.10", "-c -o compat=0.10", "-o extended_l2=on", "-c -o extended_l2=on", "-o extended_l2=on,cluster_size=16k", "-o lazy_refcounts=on",
        "-o preallocation=metadata", "-o preallocation=falloc", "-o preallocation=full", "-o data_file=DATA", "-o data_file=DATA,data_file_raw=on",
        "-c -o lazy_refcounts=on");

    [Theory]
    [MemberData(nameof(Options))]
    public void The_image_is_clean_and_the_same_disk(string options)
    {
        PlatterCli.RunChecked(["convert", "-f", "raw", "-O", "qcow2", .. Split(options), Source, Target]);
        AssertSame(Source, Target);
        Assert.Equal(options.Contains("-c", StringComparison.Ordinal), !Peer("check", Target).Contains(" 0.00% compressed", StringComparison.Ordinal));
    }

    [Fact]
    public void Encrypted_images_open_with_the_password()
    {
        PlatterCli.RunChecked(
            "convert", "-f", "raw", "-O", "qcow2", "--object", "secret,id=s,data=secret", "-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", Source, Target);
        ToolRunner.RunChecked(
            "qemu-img", "compare", "--image-opts", "--object", "secret,id=s,data=secret", $"driver=raw,file.filename={Source}",
            $"driver=qcow2,file.filename={Target},encrypt.key-secret=s");
        PeerEncryption.Create("--object", "secret,id=s,data=secret", "-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", _folder["theirs.qcow2"], "16M");
        string[] theirs = ["--object", "secret,id=s,data=secret", "--image-opts", $"driver=qcow2,file.filename={_folder["theirs.qcow2"]},encrypt.key-secret=s"];
        PlatterCli.RunChecked(
            "convert", "-n", "--object", "secret,id=s,data=secret", "--target-image-opts", "-f", "raw", Source, theirs[^1]);
        ToolRunner.RunChecked("qemu-img", ["check", "-q", .. theirs]);
        ToolRunner.RunChecked(
            "qemu-img", "compare", "--image-opts", "--object", "secret,id=s,data=secret", $"driver=raw,file.filename={Source}", theirs[^1]);
        Assert.DoesNotContain("a sentence", File.ReadAllText(Target, System.Text.Encoding.Latin1), StringComparison.Ordinal);
    }

    [Fact]
    public void Compressed_images_are_as_small_as_the_peers()
    {
        PlatterCli.RunChecked("convert", "-c", "-O", "qcow2", Source, Target);
        ToolRunner.RunChecked("qemu-img", "convert", "-c", "-O", "qcow2", Source, _folder["peer.qcow2"]);
        Assert.InRange(new FileInfo(Target).Length, 1, new FileInfo(_folder["peer.qcow2"]).Length * 1.04);
        var (ours, peers) = (ToolRunner.RunChecked("qemu-img", "check", Target).Text, ToolRunner.RunChecked("qemu-img", "check", _folder["peer.qcow2"]).Text);
        Assert.Equal(AllocatedClusters(peers), AllocatedClusters(ours));
    }

    [Fact]
    public void Without_native_libraries_the_peer_reads_it_too()
    {
        var result = ToolRunner.Run(PlatterCli.Command("convert", "-c", "-O", "qcow2", Source, Target) with
        {
            Environment = new Dictionary<string, string?> { ["PLATTER_PORTABLE"] = "1" },
        });
        result.Expect();
        AssertSame(Source, Target);
        Assert.InRange(new FileInfo(Target).Length, 1, Size * 2 / 3);
    }

    [Fact]
    public void An_overlay_holds_only_what_the_source_s_overlay_held()
    {
        var (lower, copy, top) = (_folder["base.qcow2"], _folder["copy.qcow2"], _folder["top.qcow2"]);
        Peer("convert", "-O", "qcow2", Source, lower);
        File.Copy(lower, copy);
        Peer("create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", lower, top, "14M");
        Io(top, "write -P 3 1M 300k", "write -z 2M 1M", "write -P 4 13M 64k", "write -P 5 100k 4k");
        PlatterCli.RunChecked("convert", "-O", "qcow2", "-B", copy, "-F", "qcow2", top, Target);
        AssertSame(top, Target);
        Assert.InRange(new FileInfo(Target).Length, 1, 1 << 20);
        Assert.Contains("copy.qcow2", Peer("info", Target), StringComparison.Ordinal);

        // A source without a backing file has everything, its zeros too.
        Peer("convert", "-O", "qcow2", top, _folder["flat.qcow2"]);
        File.Delete(Target);
        PlatterCli.RunChecked("convert", "-c", "-O", "qcow2", "-B", copy, "-F", "qcow2", _folder["flat.qcow2"], Target);
        AssertSame(top, Target);
    }

    [Fact]
    public void An_image_that_is_there_is_filled()
    {
        Peer("create", "-q", "-f", "qcow2", Target, "16M");
        Io(Target, "write -P 9 0 16M");
        PlatterCli.RunChecked("convert", "-n", "-O", "qcow2", Source, Target);
        Peer("check", "-q", Target);
        Io(Target, $"read -P 9 {Size} {(16 << 20) - Size}");
        PlatterCli.RunChecked("convert", "-O", "raw", Target, _folder["out.raw"]);
        Assert.True(File.ReadAllBytes(_folder["out.raw"]).AsSpan(0, Size).SequenceEqual(File.ReadAllBytes(Source)));

        Peer("create", "-q", "-f", "qcow2", Target, "4M");
        var small = PlatterCli.Run("convert", "-n", "-O", "qcow2", Source, Target);
        Assert.Equal(1, small.ExitCode);
        Assert.Contains("smaller than input file", small.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void Snapshots_and_several_sources_can_be_the_source()
    {
        var image = _folder["snap.qcow2"];
        Peer("convert", "-O", "qcow2", Source, image);
        Peer("snapshot", "-c", "one", image);
        Io(image, "write -P 1 0 12M");
        PlatterCli.RunChecked("convert", "-l", "one", "-c", "-O", "qcow2", image, Target);
        AssertSame(Source, Target);
        Peer("convert", "-O", "raw", image, Source, _folder["both.raw"]);
        PlatterCli.RunChecked("convert", "-O", "qcow2", image, Source, Target);
        AssertSame(_folder["both.raw"], Target);
    }

    [Theory]
    [InlineData("")]
    [InlineData("-o extended_l2=on")]
    [InlineData("-o refcount_bits=4,cluster_size=4k")]
    public void Compressed_clusters_are_overwritten_and_discarded_by_both(string options)
    {
        PlatterCli.RunChecked(["convert", "-c", "-O", "qcow2", .. Split(options), Source, Target]);
        File.Copy(Source, _folder["model.raw"]);
        string[] commands = ["write -P 7 64k 200k", "write -P 8 5000 100", "write -z 3M 1M", "write -P 6 4198400 3000", "discard 6M 1M", "write -P 2 6M 1M"];
        foreach (var command in commands)
        {
            Io(Target, command);
            Io(_folder["model.raw"], "-f", "raw", command);
        }

        Peer("check", "-q", Target);
        AssertSame(_folder["model.raw"], Target);
        PlatterCli.RunChecked("convert", "-c", "-n", "-O", "qcow2", Source, Target);
        AssertSame(Source, Target);
    }

    [Theory]
    [InlineData("Compression not supported for this file format", "-c", "-O", "raw")]
    [InlineData("cannot hold compressed clusters", "-c", "-O", "qcow2", "-o", "data_file=DATA")]
    [InlineData("Invalid parameter 'nonsense'", "-O", "qcow2", "-o", "nonsense=1")]
    [InlineData("Cluster size must be a power of two", "-O", "qcow2", "-o", "cluster_size=3k")]
    [InlineData("1 to 9 are possible", "-c", "-O", "qcow2", "--compression-level", "10")]
    [InlineData("requires -c", "-O", "qcow2", "--compression-level", "1")]
    [InlineData("Backing file not supported for file format 'raw'", "-O", "raw", "-B", "base")]
    [InlineData("not in this version yet", "-O", "vmdk")]
    [InlineData("Unknown file format 'nonsense'", "-O", "nonsense")]
    public void What_cannot_be_is_said_and_leaves_nothing(string words, params string[] options)
    {
        var result = PlatterCli.Run(["convert", .. options.Select(o => o.Replace("DATA", _folder["data.raw"], StringComparison.Ordinal)), Source, Target]);
        Assert.Equal(1, result.ExitCode);
        Assert.Contains(words, result.Error, StringComparison.Ordinal);
        Assert.Equal(["source.raw"], Directory.GetFiles(_folder.Path).Select(Path.GetFileName));
    }

    [Fact]
    public void Part_of_a_disk_becomes_an_image_of_its_own()
    {
        PlatterCli.RunChecked("dd", "-f", "raw", "-O", "qcow2", "bs=1M", "skip=2", "count=5", $"if={Source}", $"of={Target}");
        File.WriteAllBytes(_folder["expected.raw"], File.ReadAllBytes(Source)[(2 << 20)..(7 << 20)]);
        AssertSame(_folder["expected.raw"], Target);
    }

    [Fact]
    public async Task Bitmaps_go_along()
    {
        var image = _folder["marked.qcow2"];
        Peer("convert", "-O", "qcow2", Source, image);
        Peer("bitmap", "--add", "-g", "32k", image, "b0");
        Peer("bitmap", "--add", "--disable", image, "b1");
        Io(image, "write -P 1 3M 100k", "write -P 2 9M 64k");
        PlatterCli.RunChecked("convert", "--bitmaps", "-c", "-O", "qcow2", image, Target);
        Peer("convert", "--bitmaps", "-c", "-O", "qcow2", image, _folder["peer.qcow2"]);
        Assert.Equal(BitmapsOf(_folder["peer.qcow2"]), BitmapsOf(Target));
        AssertSame(image, Target);
        foreach (var name in new[] { "b0", "b1" })
        {
            Assert.Equal(await DirtyAsync(_folder["peer.qcow2"], name), await DirtyAsync(Target, name));
        }

        File.Delete(Target);
        var missing = PlatterCli.Run("convert", "--bitmaps", "-O", "raw", image, Target);
        Assert.Contains("Format driver 'raw' does not support bitmaps", missing.Error, StringComparison.Ordinal);
        var alone = PlatterCli.Run("convert", "--skip-broken-bitmaps", "-O", "qcow2", image, Target);
        Assert.Contains("requires --bitmaps", alone.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void A_source_is_not_its_own_target()
    {
        Peer("convert", "-O", "qcow2", Source, _folder["base.qcow2"]);
        Peer("create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", _folder["base.qcow2"], _folder["top.qcow2"]);
        var before = File.ReadAllBytes(_folder["base.qcow2"]);
        var result = PlatterCli.Run("convert", "-O", "qcow2", _folder["top.qcow2"], _folder["base.qcow2"]);
        Assert.Equal(1, result.ExitCode);
        Assert.Contains("is part of the source", result.Error, StringComparison.Ordinal);
        Assert.Equal(before, File.ReadAllBytes(_folder["base.qcow2"]));
    }

    public void Dispose() => _folder.Dispose();

    // Text, noise, zeros that are written, pieces of less than a cluster, holes; the end is not at a cluster.
    private static IEnumerable<(int At, byte[] Bytes)> Pieces()
    {
        var random = new Random(7);
        var noise = new byte[1 << 20];
        random.NextBytes(noise);
        yield return (0, TestContent.MakeCompressible(1, 3 << 20));
        yield return (3 << 20, noise);
        yield return (4 << 20, new byte[1 << 20]);
        yield return ((5 << 20) + 4096, "a sentence in plain words"u8.ToArray());
        yield return ((6 << 20) - 512, TestContent.MakeCompressible(2, 70000));
        yield return (8 << 20, TestContent.MakeCompressible(3, 2 << 20));
        yield return (Size - 1000, TestContent.MakeCompressible(4, 1000));
    }

    private static string AllocatedClusters(string check) => check.Split('\n').First(line => line.Contains("allocated", StringComparison.Ordinal)).Split('/')[0];

    private string[] Split(string options) =>
        options.Replace("DATA", _folder["data.raw"], StringComparison.Ordinal).Split(' ', StringSplitOptions.RemoveEmptyEntries);

    private void AssertSame(string expected, string image)
    {
        Peer("check", "-q", image);
        Peer("compare", expected, image);
        PlatterCli.RunChecked("check", "-q", image);
        PlatterCli.RunChecked("compare", "-q", expected, image);
    }

    private static string BitmapsOf(string image)
    {
        using var info = System.Text.Json.JsonDocument.Parse(Peer("info", "--output=json", image));
        return info.RootElement.GetProperty("format-specific").GetProperty("data").GetProperty("bitmaps").ToString();
    }

    private static async Task<string> DirtyAsync(string image, string name)
    {
        await using var disk = await Disk.OpenAsync(image);
        var ranges = new List<string>();
        await foreach (var range in disk.ReadBitmapAsync(name))
        {
            ranges.Add(range.ToString());
        }

        return string.Join('\n', ranges);
    }

    private static string Peer(params string[] arguments) => ToolRunner.RunChecked("qemu-img", arguments).Text;

    private static void Io(string image, params string[] commands)
    {
        var arguments = new List<string>();
        for (var i = 0; i < commands.Length; i++)
        {
            if (commands[i] == "-f")
            {
                arguments.AddRange(["-f", commands[++i]]);
                continue;
            }

            arguments.AddRange(["-c", commands[i]]);
        }

        var result = ToolRunner.RunChecked("qemu-io", [.. arguments, image]);
        Assert.DoesNotContain("failed", result.Text, StringComparison.Ordinal);
    }
}
