using System.IO.Compression;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Interop.Hostile;

/// <summary>Compressed clusters that never end, expand without end, or want a window of gigabytes.</summary>
public sealed class HostileStreamTests
{
    private const int ClusterBits = 16;

    [Fact]
    public void Deflate_of_endless_empty_blocks()
    {
        // A stored block of length 0, not the last one, again and again.
        Refused(0, Repeated([0x00, 0x00, 0x00, 0xff, 0xff], 60_000));
    }

    [Fact]
    public void Deflate_that_expands_far_beyond_its_cluster()
    {
        // More than a cluster is what a writer's padding may hold; only a cluster is taken.
        using var folder = new TempFolder("hostile");
        var bomb = Qcow2Builder.Deflate(new byte[60 << 20], CompressionLevel.SmallestSize);
        Save(folder, 0, bomb);
        HostileRun.Of("convert", "-O", "raw", folder["a.qcow2"], folder["out.raw"]);
    }

    [Fact]
    public void Deflate_that_ends_too_early() => Refused(0, Qcow2Builder.Deflate(new byte[100]));

    [Fact]
    public void Deflate_that_is_noise() => Refused(0, [0x07, 0xff, 0x12, 0x34]);

    [Fact]
    public void Zstd_of_endless_empty_frames()
    {
        // Magic, a single-segment descriptor, content size 0, an empty last raw block.
        Refused(1, Repeated([0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x00, 0x01, 0x00, 0x00], 60_000));
    }

    [Fact]
    public void Zstd_of_endless_empty_blocks() => Refused(1, [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58, .. Repeated([0x00, 0x00, 0x00], 60_000)]);

    [Fact]
    public void Zstd_of_skippable_frames_only() => Refused(1, Repeated(ZstdFrames.Skippable([]), 60_000));

    [Fact]
    public void Zstd_with_a_window_of_gigabytes()
    {
        // Window descriptor 0xa8: exponent 21, which is 2 GiB.
        Refused(1, [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x02, 0x00, 0x80, .. new byte[60_000]]);
    }

    [Fact]
    public void Zstd_that_expands_far_beyond_its_cluster()
    {
        // Run-length blocks of 128 KiB each, four bytes apiece.
        using var folder = new TempFolder("hostile");
        Save(folder, 1, [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58, .. Repeated([0x02, 0x00, 0x10, 0x41], 60_000)]);
        HostileRun.Of("convert", "-O", "raw", folder["a.qcow2"], folder["out.raw"]);
    }

    private static void Refused(byte type, byte[] stream)
    {
        using var folder = new TempFolder("hostile");
        Save(folder, type, stream);

        HostileRun.Of("info", folder["a.qcow2"]).Done();
        HostileRun.Of("map", "--output=json", folder["a.qcow2"]).Done();
        HostileRun.Of("convert", "-O", "raw", folder["a.qcow2"], folder["out.raw"]).Refused("a.qcow2: compressed cluster of guest offset 0x20000 at 0x");
        HostileRun.Of("convert", "--untrusted", "-m", "4", "-O", "raw", folder["a.qcow2"], folder["out.raw"]).Refused("a.qcow2");
        Assert.False(File.Exists(folder["out.raw"]));
    }

    private static void Save(TempFolder folder, byte type, byte[] stream) =>
        new Qcow2Builder { ClusterBits = ClusterBits, CompressionType = type, Size = 1 << 20 }.SetCompressed(2, stream, []).Build().SaveTo(folder["a.qcow2"]);

    private static byte[] Repeated(byte[] piece, int upTo) => [.. Enumerable.Repeat(piece, upTo / piece.Length).SelectMany(b => b)];
}
