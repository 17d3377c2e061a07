using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.TestKit;
using Xunit;
using static Platter.Tests.Interop.Formats.Qcow2Interop;

namespace Platter.Tests.Interop.Formats;

/// <summary>What the real tool wrote, we read and map alike.</summary>
public sealed class Qcow2ReadTests
{
    [Theory]
    [InlineData("compat=1.1")]
    [InlineData("compat=0.10")]
    [InlineData("cluster_size=512")]
    [InlineData("cluster_size=4096,refcount_bits=1")]
    [InlineData("cluster_size=2M,refcount_bits=64")]
    [InlineData("extended_l2=on")]
    [InlineData("extended_l2=on,cluster_size=16k")]
    [InlineData("extended_l2=on,cluster_size=2M")]
    [InlineData("lazy_refcounts=on,refcount_bits=8")]
    [InlineData("preallocation=metadata")]
    [InlineData("preallocation=falloc")]
    [InlineData("preallocation=metadata,extended_l2=on")]
    public async Task Plain_images_read_and_map_as_with_the_peer(string options)
    {
        ToolRunner.RequireOrSkip("qemu-img", "qemu-io");
        using var folder = new TempFolder();
        var image = folder["a.qcow2"];
        QemuImg("create", "-f", "qcow2", "-o", options, image, "67M");
        QemuIo(image,
            "write -P 1 0 1M", "write -P 2 5M 64k", "write -P 3 5120k 4k", "write -P 5 10M 4k", "write -P 6 30000k 100k", "write -P 9 66M 1M",
            "write -P 7 12345856 512");
        if (!options.Contains("0.10", StringComparison.Ordinal))
        {
            QemuIo(image, "write -z 8M 1M", "write -z 10M 64k", "write -z 100k 4k", "write -z -u 200k 128k", "discard 300k 200k");
        }

        await using var node = await OpenAsync(image);
        await AssertSameContentAsync(node, image, folder);
        await AssertSameMapAsync(node, image);
        await AssertSameInfoAsync(node, image);
    }

    [Theory]
    [InlineData("compression_type=zlib")]
    [InlineData("compression_type=zstd")]
    [InlineData("compat=0.10")]
    [InlineData("compression_type=zlib,cluster_size=512")]
    [InlineData("compression_type=zstd,cluster_size=2M")]
    [InlineData("compression_type=zlib,cluster_size=2M")]
    [InlineData("compression_type=zstd,extended_l2=on,cluster_size=32k")]
    [InlineData("compression_type=zlib,extended_l2=on")]
    public async Task Compressed_images_read_and_map_as_with_the_peer(string options)
    {
        using var folder = new TempFolder();
        var raw = folder["a.raw"];
        RealFileSystem.MakeExt4(raw, 24 << 20, seed: 3);
        var image = folder["a.qcow2"];
        QemuImg("convert", "-c", "-O", "qcow2", "-o", options, raw, image);

        // Some plain clusters among them.
        QemuIo(image, "write -P 1 3M 512k", "write -P 2 9M 4k");
        await using var node = await OpenAsync(image);
        await AssertSameContentAsync(node, image, folder);
        await AssertSameMapAsync(node, image);
        await AssertSameInfoAsync(node, image);
    }

    [Fact]
    public async Task Small_reads_of_compressed_clusters_are_right_at_any_offset()
    {
        using var folder = new TempFolder();
        var raw = folder["a.raw"];
        var bytes = TestContent.MakeCompressible(4, 1 << 20);
        File.WriteAllBytes(raw, bytes);
        var image = folder["a.qcow2"];
        QemuImg("convert", "-c", "-O", "qcow2", raw, image);
        await using var node = await OpenAsync(image);
        var random = new Random(5);
        var buffer = new byte[200_000];
        for (var i = 0; i < 300; i++)
        {
            var at = random.Next(bytes.Length - 1);
            var count = random.Next(1, Math.Min(i % 3 == 0 ? buffer.Length : 4096, bytes.Length - at) + 1);
            await node.ReadAsync(new(at), buffer.AsMemory(0, count));
            Assert.True(buffer.AsSpan(0, count).SequenceEqual(bytes.AsSpan(at, count)), $"{count} bytes at {at}");
        }
    }

    [Theory]
    [InlineData("qcow2", "compat=1.1")]
    [InlineData("qcow2", "extended_l2=on")]
    [InlineData("raw", "compat=1.1")]
    public async Task Overlays_show_their_backing_files(string format, string options)
    {
        using var folder = new TempFolder();
        var (bottom, image) = (folder["base"], folder["top.qcow2"]);
        QemuImg("create", "-f", format, bottom, "5M");
        QemuIo(bottom, ["write -P 1 0 1M", "write -P 2 3M 2M", "write -P 3 4M 10k"]);
        QemuImg("create", "-f", "qcow2", "-F", format, "-b", bottom, "-o", options, image, "9M");
        QemuIo(image, "write -P 7 512k 128k", "write -P 8 4500k 4k", "write -z 3M 100k", "write -P 9 8M 64k");
        await using var node = await OpenAsync(image);
        await AssertSameContentAsync(node, image, folder);
        await AssertSameMapAsync(node, image);
        await AssertSameInfoAsync(node, image);
    }

    [Theory]
    [InlineData("off", "64k")]
    [InlineData("on", "64k")]
    [InlineData("on", "2M")]
    [InlineData("off", "4k")]
    public async Task Data_files_read_and_map_as_with_the_peer(string raw, string clusterSize)
    {
        using var folder = new TempFolder();
        var image = folder["a.qcow2"];
        QemuImg("create", "-f", "qcow2", "-o", $"data_file={folder["a.raw"]},data_file_raw={raw},cluster_size={clusterSize}", image, "9M");
        QemuIo(image, "write -P 1 0 100k", "write -P 2 5M 64k", "write -P 3 5120k 4k", "write -z 0 64k", "write -z 7M 1M", "discard 2M 1M");
        await using var node = await OpenAsync(image);
        await AssertSameContentAsync(node, image, folder);
        await AssertSameMapAsync(node, image);
        await AssertSameInfoAsync(node, image);
        await using var info = await OpenAsync(image, Context(metadataOnly: true));
        await AssertSameInfoAsync(info, image);
    }

    [Theory]
    [InlineData("compat=1.1")]
    [InlineData("compat=0.10")]
    [InlineData("extended_l2=on")]
    public async Task Snapshots_read_as_with_the_peer(string options)
    {
        using var folder = new TempFolder();
        var image = folder["a.qcow2"];
        QemuImg("create", "-f", "qcow2", "-o", options, image, "9M");
        QemuIo(image, "write -P 1 0 3M");
        QemuImg("snapshot", "-c", "one", image);
        QemuIo(image, "write -P 2 1M 1M", "discard 4M 64k");
        QemuImg("snapshot", "-c", "two words, ünd more", image);
        QemuIo(image, "write -P 3 0 1M", "write -P 4 7M 64k");
        await using (var node = await OpenAsync(image))
        {
            await AssertSameContentAsync(node, image, folder);
            await AssertSameMapAsync(node, image);
            await AssertSameInfoAsync(node, image);
            Assert.Equal(2, node.Snapshots.Count);
        }

        foreach (var name in new[] { "one", "two words, ünd more", "1", "2" })
        {
            await using var snapshot = await OpenAsync(image, snapshot: name);
            await AssertSameContentAsync(snapshot, image, folder, "-l", name);
        }
    }

    [Fact]
    public async Task A_snapshot_has_the_size_that_the_disk_had()
    {
        using var folder = new TempFolder();
        var image = folder["a.qcow2"];
        QemuImg("create", "-f", "qcow2", image, "4M");
        QemuIo(image, "write -P 1 0 4M");
        QemuImg("snapshot", "-c", "small", image);
        QemuImg("resize", image, "64M");
        QemuImg("snapshot", "-c", "big", image);
        QemuImg("resize", "--shrink", image, "2M");
        foreach (var (name, size) in new[] { ("small", 4 << 20), ("big", 64 << 20) })
        {
            // The peer gives a snapshot the size that the disk has now; so it has to go back to it before it reads all of it.
            var reverted = folder[$"{name}.qcow2"];
            File.Copy(image, reverted);
            QemuImg("snapshot", "-a", name, reverted);
            await using var node = await OpenAsync(image, snapshot: name);
            Assert.Equal(size, node.VirtualSize);
            await AssertSameContentAsync(node, reverted, folder);
        }
    }

    [Theory]
    [InlineData("luks", "cluster_size=65536")]
    [InlineData("luks", "cluster_size=512")]
    [InlineData("luks", "extended_l2=on")]
    [InlineData("luks", "preallocation=metadata")]
    [InlineData("luks", "data_file=FOLDER/data.raw")]
    [InlineData("aes", "cluster_size=65536")]
    [InlineData("aes", "compat=0.10")]
    public async Task Encrypted_images_read_and_map_as_with_the_peer(string format, string options)
    {
        using var folder = new TempFolder();
        var image = folder["a.qcow2"];
        const string secret = "secret,id=s,data=open sesame";
        var iterations = format == "luks" ? ",encrypt.iter-time=10" : string.Empty;
        PeerEncryption.Create(
            "--object", secret, "-o",
            $"encrypt.format={format},encrypt.key-secret=s{iterations},{options.Replace("FOLDER", folder.Path, StringComparison.Ordinal)}", image, "5M");
        string[] opened = ["--object", secret, "--image-opts"];
        var name = $"driver=qcow2,file.filename={image},encrypt.key-secret=s";
        ToolRunner.RunChecked(
            "qemu-io", ["-c", "write -P 1 0 1M", "-c", "write -P 2 1500k 3k", "-c", "write -P 3 5119k 1k", .. opened, name]);
        if (!options.Contains("0.10", StringComparison.Ordinal))
        {
            ToolRunner.RunChecked("qemu-io", ["-c", "write -z 128k 64k", "-c", "write -z 3M 1M", "-c", "discard 512k 64k", .. opened, name]);
        }

        var context = Context(secrets: new OneSecret());
        var ours = new NodeOptions { ["driver"] = "qcow2", ["file.filename"] = image, ["encrypt.key-secret"] = "s" };
        await using var node = await OpenAsync(ours, context);
        await AssertSameContentAsync(node, name, folder, opened);
        await AssertSameMapAsync(node, name, opened);
        await AssertSameInfoAsync(node, image);
        await using (var metadata = await OpenAsync(image, Context(metadataOnly: true)))
        {
            await AssertSameInfoAsync(metadata, image);
        }

        var missing = await Assert.ThrowsAsync<BlockException>(async () => await OpenAsync(image));
        Assert.Equal(BlockErrorKind.WrongSecret, missing.Kind);
        Assert.Contains("encrypt.key-secret", missing.Message, StringComparison.Ordinal);
    }

    private sealed class OneSecret : ISecretSource
    {
        public ReadOnlyMemory<byte> Get(string id) => "open sesame"u8.ToArray();
    }

    [Fact]
    public async Task Bitmaps_are_listed_and_read_as_the_peer_exports_them()
    {
        using var folder = new TempFolder();
        var image = folder["a.qcow2"];
        QemuImg("create", "-f", "qcow2", image, "300M");
        QemuImg("bitmap", "--add", "-g", "4096", image, "fine");
        QemuImg("bitmap", "--add", "-g", "1M", image, "coarse");
        QemuImg("bitmap", "--add", "--disable", image, "off");
        QemuIo(image,
            "write 0 4k", "write 8k 12k", "write 1M 1M", "write 65535k 2k", "write 299M 1M", "write -z 100M 128M");
        await using var node = await OpenAsync(image);
        await AssertSameInfoAsync(node, image);
        Assert.Equal(["coarse", "fine", "off"], node.Bitmaps.Select(b => b.Name).Order());
        foreach (var bitmap in node.Bitmaps)
        {
            Assert.Equal(bitmap.Name != "off", bitmap.Enabled);
            var ours = new List<(long, long)>();
            await foreach (var range in node.ReadBitmapAsync(bitmap.Name))
            {
                ours.Add((range.Offset.Value, range.Length));
            }

            Assert.Equal(DirtyByPeer(folder, image, bitmap.Name), ours);
        }
    }

    // The peer shows a bitmap over NBD; its map merges nothing, so we do.
    private static List<(long Start, long Length)> DirtyByPeer(TempFolder folder, string image, string bitmap)
    {
        using var server = NbdServer.QemuNbd(image, "qcow2", folder, "-B", bitmap);
        var options = $"driver=nbd,server.type=unix,server.path={server.Socket},x-dirty-bitmap=qemu:dirty-bitmap:{bitmap}";
        var map = System.Text.Json.Nodes.JsonNode.Parse(QemuImg("map", "--output=json", "--image-opts", options).Text)!.AsArray();
        var result = new List<(long Start, long Length)>();
        foreach (var entry in map)
        {
            // A dirty range is shown as not data.
            if (entry!["data"]!.GetValue<bool>())
            {
                continue;
            }

            var (start, length) = (entry["start"]!.GetValue<long>(), entry["length"]!.GetValue<long>());
            if (result.Count > 0 && result[^1].Start + result[^1].Length == start)
            {
                result[^1] = (result[^1].Start, result[^1].Length + length);
            }
            else
            {
                result.Add((start, length));
            }
        }

        return result;
    }
}
