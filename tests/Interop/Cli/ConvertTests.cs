using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Cli;

/// <summary>convert and dd write the bytes that qemu-img writes, with every option that does not change them.</summary>
public sealed class ConvertTests(PeerImages images) : IClassFixture<PeerImages>
{
    public static TheoryData<string> Images => new(PeerImages.Names);

    [Theory]
    [MemberData(nameof(Images))]
    public void Raw_output_is_the_peers_byte_for_byte(string name)
    {
        ToolRunner.RunChecked("qemu-img", "convert", "-O", "raw", images[name], images.Folder["peer.raw"]);
        PlatterCli.RunChecked("convert", "-O", "raw", images[name], images.Folder["ours.raw"]);
        AssertSameBytes();
    }

    [Theory]
    [InlineData("-S", "0")]
    [InlineData("-S", "64k")]
    [InlineData("-m", "1")]
    [InlineData("-W", "-m", "16")]
    [InlineData("-C")]
    [InlineData("-t", "none", "-T", "none")]
    [InlineData("-U")]
    [InlineData("-q", "-p")]
    [InlineData("--salvage")]
    [InlineData("-r", "100M")]
    [InlineData("-o", "preallocation=full")]
    [InlineData("-o", "preallocation=off,size=1G")]
    public void Options_change_nothing_of_the_bytes(params string[] options)
    {
        ToolRunner.RunChecked("qemu-img", "convert", "-O", "raw", images["sub/top.qcow2"], images.Folder["peer.raw"]);
        var run = PlatterCli.RunChecked(["convert", "-O", "raw", .. options, images["sub/top.qcow2"], images.Folder["ours.raw"]]);
        Assert.Empty(run.Text);
        AssertSameBytes();
    }

    [Fact]
    public void Several_sources_are_put_one_after_the_other()
    {
        string[] sources = [images["plain.qcow2"], images["odd.raw"], images["used.hds"]];
        ToolRunner.RunChecked("qemu-img", ["convert", "-O", "raw", .. sources, images.Folder["peer.raw"]]);
        PlatterCli.RunChecked(["convert", "-O", "raw", .. sources, images.Folder["ours.raw"]]);
        AssertSameBytes();
    }

    [Theory]
    [InlineData("first snapshot")]
    [InlineData("2")]
    [InlineData("snapshot.id=1")]
    [InlineData("snapshot.name=first snapshot")]
    public void A_snapshot_is_a_source(string snapshot)
    {
        ToolRunner.RunChecked("qemu-img", "convert", "-l", snapshot, "-O", "raw", images["snapshots.qcow2"], images.Folder["peer.raw"]);
        PlatterCli.RunChecked("convert", "-l", snapshot, "-O", "raw", images["snapshots.qcow2"], images.Folder["ours.raw"]);
        AssertSameBytes();
        SameAsPeer.Failure("convert", "-l", "no such", "-O", "raw", images["snapshots.qcow2"], images.Folder["ours.raw"]);
    }

    [Fact]
    public void An_existing_target_is_filled_and_keeps_what_lies_behind()
    {
        var tail = Enumerable.Repeat((byte)0x5a, 1 << 20).ToArray();
        foreach (var name in new[] { "peer.raw", "ours.raw" })
        {
            File.WriteAllBytes(images.Folder[name], [.. new byte[12 << 20], .. tail]);
        }

        ToolRunner.RunChecked("qemu-img", "convert", "-n", "-O", "raw", images["plain.qcow2"], images.Folder["peer.raw"]);
        PlatterCli.RunChecked("convert", "-n", "-O", "raw", images["plain.qcow2"], images.Folder["ours.raw"]);
        AssertSameBytes();
        PlatterCli.RunChecked("convert", "-n", "--target-image-opts", images["plain.qcow2"], $"driver=raw,file.filename={images.Folder["ours.raw"]}");
        AssertSameBytes();
        SameAsPeer.Failure("convert", "-n", "-O", "raw", images["sub/top.qcow2"], images.Folder["ours.raw"]);
    }

    [Theory]
    [InlineData("--object", "secret,id=s,data=secret", "--image-opts", "driver=qcow2,file.filename={0},encrypt.key-secret=s")]
    [InlineData("--password-file", "{1}", "{0}")]
    public void Encrypted_images_are_read_with_their_password(params string[] args)
    {
        images.Folder.Write("password", "secret\n");
        foreach (var name in PeerImages.Encrypted)
        {
            ToolRunner.RunChecked(
                "qemu-img", "convert", "--object", "secret,id=s,data=secret", "--image-opts",
                $"driver=qcow2,file.filename={images[name]},encrypt.key-secret=s", "-O", "raw", images.Folder["peer.raw"]);
            PlatterCli.RunChecked(
                ["convert", "-O", "raw", .. args.Select(a => string.Format(null, a, images[name], images.Folder["password"])), images.Folder["ours.raw"]]);
            AssertSameBytes();
            ToolRunner.Run(PlatterCli.Command("convert", "-O", "raw", images[name], images.Folder["ours.raw"]) with
            {
                Environment = new Dictionary<string, string?> { ["PLATTER_PASSWORD"] = "secret" },
            }).Expect();
            AssertSameBytes();
        }
    }

    [Fact]
    public void The_password_opens_the_encrypted_images_below_too()
    {
        var folder = images.Folder;
        PeerEncryption.Create(
            "--object", "secret,id=s,data=secret", "-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", folder["below.qcow2"], "4M");
        ToolRunner.RunChecked(
            "qemu-io", "--object", "secret,id=s,data=secret", "-c", "write -P 0x5a 1M 64k", "--image-opts",
            $"driver=qcow2,file.filename={folder["below.qcow2"]},encrypt.key-secret=s");
        ToolRunner.RunChecked("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", "below.qcow2", "-F", "qcow2", folder["above.qcow2"], "4M");
        folder.Write("password", "secret\n");
        PlatterCli.RunChecked("convert", "-O", "raw", "--password-file", folder["password"], folder["above.qcow2"], folder["ours.raw"]);
        var bytes = File.ReadAllBytes(folder["ours.raw"]);
        Assert.Equal(4 << 20, bytes.Length);
        Assert.Equal((0, 0x5a, 0x5a, 0), (bytes[(1 << 20) - 1], bytes[1 << 20], bytes[(1 << 20) + 65535], bytes[(1 << 20) + 65536]));
        PlatterCli.Run("convert", "-O", "raw", folder["above.qcow2"], folder["ours.raw"]).Expect(1);
    }

    [Theory]
    [InlineData("bs=1M")]
    [InlineData("bs=1M", "count=2")]
    [InlineData("bs=64k", "skip=3")]
    [InlineData("bs=1M", "skip=30")]
    [InlineData("count=0")]
    public void Dd_copies_what_the_peer_copies(params string[] operands)
    {
        ToolRunner.RunChecked("qemu-img", ["dd", "-O", "raw", .. operands, $"if={images["plain.qcow2"]}", $"of={images.Folder["peer.raw"]}"]);
        PlatterCli.RunChecked(["dd", "-O", "raw", .. operands, $"if={images["plain.qcow2"]}", $"of={images.Folder["ours.raw"]}"]);
        AssertSameBytes();
    }

    private void AssertSameBytes()
    {
        using var peer = File.OpenRead(images.Folder["peer.raw"]);
        using var ours = File.OpenRead(images.Folder["ours.raw"]);
        Assert.Equal(peer.Length, ours.Length);
        byte[] left = new byte[1 << 16], right = new byte[1 << 16];
        for (long at = 0; at < peer.Length; at += left.Length)
        {
            var count = peer.ReadAtLeast(left, left.Length, throwOnEndOfStream: false);
            _ = ours.ReadAtLeast(right, right.Length, throwOnEndOfStream: false);
            Assert.True(left.AsSpan(0, count).SequenceEqual(right.AsSpan(0, count)), $"bytes differ in the 64 KiB at {at}");
        }
    }
}
