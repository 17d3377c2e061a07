using System.Text.Json.Nodes;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Cli;

/// <summary><c>create</c> beside <c>qemu-img create</c>: what is printed, what is made, and what each makes of the other's image.</summary>
public sealed class CreateTests : IDisposable
{
    private const int Size = (20 << 20) + 512;
    private const string Secret = "secret,id=s,data=secret";

    private readonly TempFolder _folder = new("create");

    public static TheoryData<string> Options()
    {
        var result = new TheoryData<string>
        {
            "compat=0.10", "compat=v3", "cluster_size=512", "cluster_size=4k", "cluster_size=2M", "extended_l2=on", "extended_l2=on,cluster_size=16k",
            "refcount_bits=1", "refcount_bits=2", "refcount_bits=4", "refcount_bits=8", "refcount_bits=32", "refcount_bits=64,cluster_size=1k",
            "lazy_refcounts=on", "compression_type=zstd", "nocow=on", "extent_size_hint=1M",
            "preallocation=metadata", "preallocation=falloc", "preallocation=full", "preallocation=metadata,compat=0.10",
            "preallocation=metadata,cluster_size=512", "preallocation=metadata,refcount_bits=1,cluster_size=64k", "preallocation=full,extended_l2=on",
            "data_file=DATA", "data_file=DATA,preallocation=metadata", "data_file=DATA,preallocation=full", "data_file=DATA,data_file_raw=on",
            "backing_file=BASE,backing_fmt=raw", "backing_file=BASE,backing_fmt=raw,compat=0.10", "backing_file=BASE,backing_fmt=raw,data_file=DATA",
            "backing_file=BASE,backing_fmt=raw,extended_l2=on,preallocation=metadata", "encrypt.format=aes,encrypt.key-secret=s",
        };
        string[] luks =
        [
            "compat=1.1", "cluster_size=512", "cluster_size=2M", "preallocation=metadata", "compat=0.10", "data_file=DATA", "extended_l2=on,lazy_refcounts=on",
            "encrypt.cipher-alg=aes-128", "encrypt.cipher-mode=cbc,encrypt.ivgen-alg=essiv", "encrypt.hash-alg=sha512", "encrypt.hash-alg=md5",
            "encrypt.cipher-alg=serpent-256", "encrypt.cipher-alg=twofish-128,encrypt.cipher-mode=ctr", "encrypt.cipher-alg=aes-192",
            "encrypt.cipher-alg=cast5-128,encrypt.cipher-mode=cbc,encrypt.ivgen-alg=plain", "encrypt.cipher-mode=ecb",
        ];
        foreach (var options in luks)
        {
            result.Add($"encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10,{options}");
        }

        return result;
    }

    [Theory]
    [MemberData(nameof(Options))]
    public async Task Both_make_the_same_image_and_both_write_to_ours(string options)
    {
        ToolRunner.RequireOrSkip("qemu-img", "qemu-io");
        var baseFile = TestContent.Make(1, 0, 3 << 20);
        _folder.Write("BASE", baseFile);
        var image = _folder["disk.qcow2"];
        string[] args = ["create", "--object", Secret, "-f", "qcow2", "-o", options.Replace("DATA", _folder["DATA"], StringComparison.Ordinal), image, $"{Size - 100}"];
        var theirs = Make(Peer(args), image);
        var ours = Make(ToolRunner.Run(AsPeer(args)), image);
        Assert.Equal(theirs.Printed, ours.Printed);
        Assert.True(JsonNode.DeepEquals(theirs.Info, ours.Info), $"{theirs.Info}\n{ours.Info}");
        Assert.Equal(theirs.DataLength, ours.DataLength);

        // With small clusters the peer outgrows its first refcount table and leaves the space behind; with a backing file it ends the file with the disk.
        if (!options.Contains("preallocation=metadata,cluster_size=512", StringComparison.Ordinal)
            && !(options.Contains("BASE", StringComparison.Ordinal) && options.Contains("preallocation", StringComparison.Ordinal)))
        {
            Assert.Equal(theirs.Length, ours.Length);
        }

        var encrypted = options.Contains("encrypt", StringComparison.Ordinal);
        var model = new byte[Size];
        if (options.Contains("BASE", StringComparison.Ordinal))
        {
            baseFile.CopyTo(model, 0);
        }

        Check(image, encrypted);
        await WriteAsync(image, encrypted, model, 5 << 20);
        ToolRunner.RunChecked(
            "qemu-io", "--object", Secret, "-c", "write -P 7 1000k 3000k", "-c", "write -P 8 12345 100000", "--image-opts", PeerOptions(image, encrypted));
        model.AsSpan(1000 << 10, 3000 << 10).Fill(7);
        model.AsSpan(12345, 100000).Fill(8);
        await WriteAsync(image, encrypted, model, 100_000);
        Check(image, encrypted);
        if (options.Contains("encrypt", StringComparison.Ordinal) && options.Contains("prealloc", StringComparison.Ordinal))
        {
            // What was preallocated and never written is the decryption of zeros, with the peer as with us.
            return;
        }

        ToolRunner.RunChecked("qemu-img", "convert", "--object", Secret, "--image-opts", PeerOptions(image, encrypted), "-O", "raw", _folder["check.raw"]);
        var same = File.ReadAllBytes(_folder["check.raw"]).AsSpan().CommonPrefixLength(model);
        Assert.True(same == Size, $"the peer reads something else at 0x{same:x}");
    }

    [Theory]
    [InlineData("raw", "", "10M")]
    [InlineData("raw", "", "65537")]
    [InlineData("raw", "preallocation=full", "1M")]
    [InlineData("raw", "preallocation=falloc,extent_size_hint=2M", "1M")]
    [InlineData("qcow2", "lazy_refcounts", "0")]
    [InlineData("qcow2", "nolazy_refcounts", "1.5k")]
    [InlineData("qcow2", "refcount_bits=0x10,cluster_size=4096", "0x10000")]
    [InlineData("qcow2", "size=1M,size=2M", null)]
    [InlineData("qcow2", "encryption=off,lazy_refcounts=yes", "513")]
    [InlineData("parallels", "", "10M")]
    [InlineData("parallels", "cluster_size=32256", "1000000")]
    [InlineData("parallels", "size=1G,cluster_size=1000", null)]
    public void The_printed_line_and_the_length_are_the_peers(string format, string options, string? size)
    {
        ToolRunner.RequireOrSkip("qemu-img");
        var image = _folder["a,b c"];
        string[] args = ["create", "-f", format, .. options.Length > 0 ? new[] { "-o", options } : [], image, .. size is null ? Array.Empty<string>() : [size]];
        var theirs = Make(Peer(args), image);
        var ours = Make(ToolRunner.Run(AsPeer(args)), image);
        Assert.Equal(theirs.Printed, ours.Printed);
        Assert.Equal(theirs.Length, ours.Length);
    }

    [Fact]
    public void Overlays_are_made_as_the_peer_makes_them()
    {
        ToolRunner.RequireOrSkip("qemu-img");
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", _folder["base,1"], "100M");
        var image = _folder["top"];
        string[][] ways =
        [
            ["-b", "base,1", "-F", "qcow2"], ["-b", "base,1", "-F", "qcow2", "-o", "size=1G"], ["-b", "base,1", "-F", "raw"],
            ["-o", "backing_file=base,,1,backing_fmt=qcow2"], ["-b", "base,1", "-o", "backing_file=nowhere,backing_fmt=qcow2"],
        ];
        foreach (var way in ways)
        {
            string[] args = ["create", "-f", "qcow2", .. way, image];
            var theirs = Make(Peer(args), image);
            var ours = Make(ToolRunner.Run(AsPeer(args)), image);
            Assert.Equal(theirs.Printed, ours.Printed);
            Assert.True(JsonNode.DeepEquals(theirs.Info, ours.Info));
        }

        SameAsPeer.Text("create", "-f", "qcow2", "-u", "-b", "nowhere", "-F", "qcow2", image, "1G");
        SameAsPeer.Text("create", "-q", "-f", "qcow2", image, "1G");
    }

    [Theory]
    [InlineData("create", "-f", "qcow2", "-o", "help", "x")]
    [InlineData("create", "-f", "qcow2", "-o", "?,cluster_size=3", "x")]
    [InlineData("create", "-f", "raw", "-o", "help", "x")]
    [InlineData("create", "-o", "help")]
    public void Help_lists_the_same_options(params string[] args)
    {
        ToolRunner.RequireOrSkip("qemu-img");
        SameAsPeer.Text(args);
    }

    /// <summary>The peer may say more in further lines; the first is the same.</summary>
    [Theory]
    [InlineData("IMAGE")]
    [InlineData("-f", "foo", "IMAGE", "1G")]
    [InlineData("-f", "qcow2", "IMAGE", "2E")]
    [InlineData("-f", "qcow2", "IMAGE", "8E")]
    [InlineData("-f", "qcow2", "-o", "size=1M", "IMAGE", "2M")]
    [InlineData("-f", "qcow2", "-o", "cluster_size=3k", "IMAGE", "1M")]
    [InlineData("-f", "qcow2", "-o", "cluster_size=abc", "IMAGE", "1M")]
    [InlineData("-f", "qcow2", "-o", "refcount_bits=abc", "IMAGE", "1M")]
    [InlineData("-f", "qcow2", "-o", "refcount_bits=-1", "IMAGE", "1M")]
    [InlineData("-f", "qcow2", "-o", "compat=2", "IMAGE", "1M")]
    [InlineData("-f", "qcow2", "-o", "compat=0.10,lazy_refcounts=on", "IMAGE", "1M")]
    [InlineData("-f", "qcow2", "-o", "compat=0.10,compression_type=zstd", "IMAGE", "1M")]
    [InlineData("-f", "qcow2", "-o", "extended_l2=on,cluster_size=8k", "IMAGE", "1M")]
    [InlineData("-f", "qcow2", "-o", "extended_l2=maybe", "IMAGE", "1M")]
    [InlineData("-f", "qcow2", "-o", "preallocation=some", "IMAGE", "1M")]
    [InlineData("-f", "qcow2", "-o", "data_file_raw=on", "IMAGE", "1M")]
    [InlineData("-f", "qcow2", "-o", "data_file=/nonexistent/d", "IMAGE", "1M")]
    [InlineData("-f", "qcow2", "-o", "encrypt.format=luks", "IMAGE", "1M")]
    [InlineData("-f", "qcow2", "-o", "encrypt.format=luks,encrypt.key-secret=s", "IMAGE", "1M")]
    [InlineData("-f", "qcow2", "-o", "encrypt.key-secret=s", "IMAGE", "1M")]
    [InlineData("-f", "qcow2", "-o", "foo=1", "IMAGE", "1M")]
    [InlineData("-f", "qcow2", "-o", ",,", "IMAGE", "1M")]
    [InlineData("-f", "qcow2", "-b", "", "IMAGE", "1M")]
    [InlineData("-f", "qcow2", "-F", "raw", "IMAGE", "1M")]
    [InlineData("-f", "qcow2", "-b", "IMAGE", "-F", "raw", "IMAGE", "1M")]
    [InlineData("-f", "raw", "-b", "x", "-F", "raw", "IMAGE", "1M")]
    [InlineData("-f", "raw", "-o", "preallocation=metadata", "IMAGE", "1M")]
    [InlineData("-f", "qcow2", "-b", "x", "-u", "IMAGE", "1M")]
    [InlineData("-f", "qcow2", "/nonexistent/x", "1M")]
    [InlineData("-f", "qcow2", "IMAGE", "1M", "more")]
    public void Failures_are_the_peers_in_the_first_line_and_leave_no_file(params string[] args)
    {
        ToolRunner.RequireOrSkip("qemu-img");
        var image = _folder["disk"];
        string[] full = ["create", .. args.Select(arg => arg.Replace("IMAGE", image, StringComparison.Ordinal))];
        var theirs = ToolRunner.Run("qemu-img", full);
        File.Delete(image);
        var ours = ToolRunner.Run(AsPeer(full));
        Assert.Equal(1, theirs.ExitCode);
        Assert.Equal(1, ours.ExitCode);
        Assert.Equal(theirs.Text, ours.Text);
        Assert.Equal(theirs.Error.Split('\n')[0], ours.Error.Split('\n')[0]);
        Assert.False(File.Exists(image));
    }

    [Fact]
    public void An_image_that_the_peer_has_open_is_not_touched()
    {
        ToolRunner.RequireOrSkip("qemu-img", "qemu-nbd");
        var image = _folder["disk.qcow2"];
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-f", "qcow2", image, "10M");
        var before = File.ReadAllBytes(image);
        using (NbdServer.QemuNbd(image, "qcow2", _folder))
        {
            var result = ToolRunner.Run(AsPeer("create", "-q", "-f", "qcow2", image, "1M"));
            Assert.Equal(1, result.ExitCode);
            Assert.Contains("lock", result.Error, StringComparison.Ordinal);
        }

        Assert.Equal(before, File.ReadAllBytes(image));
    }

    public void Dispose() => _folder.Dispose();

    // On a busy machine the peer sometimes gives up measuring how fast it hashes.
    private static ToolResult Peer(string[] args)
    {
        for (var tries = 0; ; tries++)
        {
            var result = ToolRunner.Run("qemu-img", args);
            if (tries == 20 || !result.Error.Contains("Unable to get accurate CPU usage", StringComparison.Ordinal))
            {
                return result;
            }
        }
    }

    private static ToolCommand AsPeer(params string[] args) => PlatterCli.Command(args) with
    {
        Environment = new Dictionary<string, string?> { ["PLATTER_INVOKED_AS"] = "qemu-img" },
    };

    private static string PeerOptions(string image, bool encrypted) =>
        $"driver=qcow2,file.filename={image}{(encrypted ? ",encrypt.key-secret=s" : string.Empty)}";

    private static void Check(string image, bool encrypted)
    {
        var check = ToolRunner.Run("qemu-img", "check", "--object", Secret, "--image-opts", PeerOptions(image, encrypted));
        Assert.True(check.ExitCode == 0, check.Text + check.Error);
        Assert.Contains("No errors were found", check.Text, StringComparison.Ordinal);
    }

    private static async Task WriteAsync(string image, bool encrypted, byte[] model, int length)
    {
        await using var disk = await Disk.OpenAsync(image, new DiskOpenOptions { Writable = true, Password = encrypted ? "secret" : null });
        var bytes = TestContent.Make(length, 0, length);
        await disk.WriteAsync(2_000_001, bytes);
        bytes.CopyTo(model.AsSpan(2_000_001));
    }

    /// <summary>Takes stock of an image and removes it.</summary>
    private Made Make(ToolResult result, string image)
    {
        result.Expect();
        var text = File.Exists(image) && result.Text.Contains("fmt=qcow2", StringComparison.Ordinal)
            ? ToolRunner.RunChecked("qemu-img", "info", "--output=json", image).Text
            : "{}";
        var info = JsonNode.Parse(text)!.AsObject();
        info.Remove("actual-size");
        if (info["format-specific"]?["data"]?["encrypt"] is JsonObject encrypt)
        {
            encrypt.Remove("uuid");
            encrypt.Remove("master-key-iters");
            (encrypt["slots"]?[0] as JsonObject)?.Remove("iters");
        }

        var data = File.Exists(_folder["DATA"]) ? new FileInfo(_folder["DATA"]).Length : -1;
        return new Made(result.Text, info, new FileInfo(image).Length, data);
    }

    private sealed record Made(string Printed, JsonNode Info, long Length, long DataLength);
}
