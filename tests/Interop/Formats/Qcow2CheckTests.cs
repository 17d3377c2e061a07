using System.Text.Json.Nodes;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.TestKit;
using Xunit;
using static Platter.Tests.Interop.Formats.Qcow2Interop;

namespace Platter.Tests.Interop.Formats;

/// <summary>Check counts what the real tool counts, on good images and on broken ones.</summary>
/// <remarks>The broken ones are made by changing metadata at random; the seed is in the message and in <c>PLATTER_CHECK_SEED</c> replays.
/// <c>PLATTER_CHECK_ROUNDS</c> runs more of them.</remarks>
public sealed class Qcow2CheckTests
{
    public static TheoryData<string> Kinds => [.. Makers.Keys];

    internal static readonly Dictionary<string, Action<string, TempFolder>> Makers = new()
    {
        ["plain"] = (image, _) => Make(image, "cluster_size=65536", "8M"),
        ["small clusters"] = (image, _) => Make(image, "cluster_size=512,refcount_bits=64", "200k"),
        ["one bit"] = (image, _) => Make(image, "cluster_size=4096,refcount_bits=1", "4M"),
        ["two bits"] = (image, _) => Snapshots(image, "cluster_size=4096,refcount_bits=2", "4M"),
        ["snapshots"] = (image, _) => Snapshots(image, "cluster_size=4096", "4M"),
        ["snapshots v2"] = (image, _) => Snapshots(image, "cluster_size=1024,compat=0.10", "1M"),
        ["extended"] = (image, _) => Make(image, "cluster_size=16k,extended_l2=on", "4M"),
        ["extended snapshots"] = (image, _) => Snapshots(image, "cluster_size=16k,extended_l2=on,refcount_bits=32", "4M"),
        ["data file"] = (image, folder) => Make(image, $"cluster_size=4096,data_file={folder["data.raw"]}", "4M"),
        ["compressed"] = (image, folder) => Compressed(image, folder, "cluster_size=4096"),
        ["compressed extended"] = (image, folder) => Compressed(image, folder, "cluster_size=16k,extended_l2=on,compression_type=zstd"),
        ["luks"] = (image, folder) => Luks(image, folder),
        ["bitmaps"] = (image, _) => Bitmaps(image),
        ["empty"] = (image, _) => QemuImg("create", "-f", "qcow2", image, "0"),
        ["preallocated"] = (image, _) => Make(image, "cluster_size=512,preallocation=metadata", "2M"),
    };

    [Theory]
    [MemberData(nameof(Kinds))]
    public async Task Good_images_have_the_same_counts(string kind)
    {
        using var folder = new TempFolder();
        var image = folder["a.qcow2"];
        Makers[kind](image, folder);
        await AssertSameCheckAsync(image, kind);
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public async Task Broken_images_have_the_same_counts(string kind)
    {
        using var folder = new TempFolder();
        var good = folder["good.qcow2"];
        Makers[kind](good, folder);
        var bytes = File.ReadAllBytes(good);
        var rounds = int.Parse(Environment.GetEnvironmentVariable("PLATTER_CHECK_ROUNDS") ?? "25");
        var first = int.Parse(Environment.GetEnvironmentVariable("PLATTER_CHECK_SEED") ?? "1");
        var image = folder["a.qcow2"];
        var compared = 0;
        var failures = new List<string>();
        for (var seed = first; seed < first + rounds; seed++)
        {
            var broken = bytes.ToArray();
            var random = new Random(seed);
            var said = $"{kind}, seed {seed}: ";
            for (var changes = random.Next(1, 4); changes > 0; changes--)
            {
                broken = MetadataBreaker.Break(broken, random, out var change);
                said += change;
            }

            File.WriteAllBytes(image, broken);
            try
            {
                compared += await AssertSameCheckAsync(image, said) ? 1 : 0;
            }
            catch (Exception e)
            {
                failures.Add(e is Xunit.Sdk.XunitException ? e.Message : $"{said}\n{e}");
            }
        }

        Assert.True(failures.Count == 0, $"{failures.Count} of {rounds} differ\n{string.Join("\n=====\n", failures.Take(3))}");

        Assert.True(compared > rounds / 3, $"only {compared} images could be checked by the peer");
    }

    private static async Task<bool> AssertSameCheckAsync(string image, string said)
    {
        // The peer does not check without the password, even though it needs none.
        var result = said.StartsWith("luks", StringComparison.Ordinal)
            ? ToolRunner.Run(
                "qemu-img", "check", "--output=json", "--object", "secret,id=s,data=abc", "--image-opts", $"driver=qcow2,file.filename={image},encrypt.key-secret=s")
            : ToolRunner.Run("qemu-img", "check", "--output=json", image);
        if (result.Text.Length == 0)
        {
            // The peer does not open it. Whether we do is another matter; we must not fall over.
            try
            {
                await using var refused = await OpenAsync(image, Context(metadataOnly: true));
                await refused.CheckAsync(_ => { });
            }
            catch (BlockException)
            {
            }

            return false;
        }

        var theirs = JsonNode.Parse(result.Text)!.AsObject();
        theirs.Remove("filename");
        theirs.Remove("format");
        var findings = new List<string>();
        await using var node = await OpenAsync(image, Context(metadataOnly: true));
        var report = await node.CheckAsync(f => findings.Add($"{f.Severity}: {f.Message}"));
        findings.RemoveAll(f => f.StartsWith(nameof(CheckSeverity.Note), StringComparison.Ordinal));
        var ours = new JsonObject { ["check-errors"] = report.Errors };
        Add("image-end-offset", report.ImageEndOffset ?? 0);
        Add("corruptions", report.Corruptions);
        Add("leaks", report.Leaks);
        Add("total-clusters", report.TotalClusters);
        Add("allocated-clusters", report.AllocatedClusters);
        Add("fragmented-clusters", report.FragmentedClusters);
        Add("compressed-clusters", report.CompressedClusters);
        Assert.True(
            JsonNode.DeepEquals(theirs, ours),
            $"{said}\ntheirs: {Sorted(theirs)}\nours:   {Sorted(ours)}\n{string.Join('\n', findings.Take(40))}\n--- theirs\n{Head(result.Error)}");
        Assert.Equal(Math.Min(report.Corruptions + report.Leaks + report.Errors, FindingLimit.Max), findings.Count);
        return true;

        void Add(string key, long value)
        {
            if (value != 0)
            {
                ours[key] = value;
            }
        }

        static string Sorted(JsonObject json) => string.Join(", ", json.OrderBy(p => p.Key).Select(p => $"{p.Key}={p.Value}"));
        static string Head(string text) => string.Join('\n', text.Split('\n').Take(40));
    }

    private static void Make(string image, string options, string size)
    {
        QemuImg("create", "-f", "qcow2", "-o", options, image, size);
        QemuIo(image, "write -P 1 0 30k", "write -P 2 100k 70k");
        if (size != "200k" && !options.Contains("0.10", StringComparison.Ordinal))
        {
            QemuIo(image, "write -P 3 500k 20k", "write -P 2 1M 400k", "write -z 1200k 64k", "write -z 1800k 8k");
        }
    }

    private static void Snapshots(string image, string options, string size)
    {
        Make(image, options, size);
        QemuImg("snapshot", "-c", "one", image);
        QemuIo(image, "write -P 7 4k 40k");
        QemuImg("snapshot", "-c", "two", image);
        QemuIo(image, "write -P 8 20k 4k", "discard 110k 20k");
    }

    private static void Compressed(string image, TempFolder folder, string options)
    {
        File.WriteAllBytes(folder["a.raw"], TestContent.MakeCompressible(3, 3 << 20));
        QemuImg("convert", "-c", "-O", "qcow2", "-o", options, folder["a.raw"], image);
        QemuIo(image, "write -P 3 500k 20k");
        QemuImg("snapshot", "-c", "one", image);
        QemuIo(image, "write -P 7 4k 40k");
    }

    private static void Luks(string image, TempFolder folder)
    {
        PeerEncryption.Create(
            "--object", "secret,id=s,data=abc",
            "-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10,cluster_size=4096", image, "4M");
        ToolRunner.RunChecked(
            "qemu-io", "--object", "secret,id=s,data=abc", "-c", "write 0 100k", "-c", "write 1M 30k",
            "--image-opts", $"driver=qcow2,file.filename={image},encrypt.key-secret=s");
    }

    private static void Bitmaps(string image)
    {
        Make(image, "cluster_size=512", "4M");
        QemuImg("bitmap", "--add", "-g", "512", image, "fine");
        QemuImg("bitmap", "--add", image, "other");
        QemuIo(image, "write 0 1M", "write 3M 4k");
    }
}
