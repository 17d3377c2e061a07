using System.Text.Json.Nodes;
using Platter.Core.Images;
using Platter.TestKit;
using Xunit;
using static Platter.Tests.Interop.Formats.Qcow2Interop;

namespace Platter.Tests.Interop.Formats;

/// <summary>Raw files of any size, and parts of them, are the same disks to us and to the peer.</summary>
public sealed class RawReadTests
{
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(511)]
    [InlineData(512)]
    [InlineData(1000)]
    [InlineData(70_001)]
    public async Task Files_of_any_size_read_and_map_alike(int length)
    {
        ToolRunner.RequireOrSkip("qemu-img");
        using var folder = new TempFolder();
        var image = folder.Write("a.raw", TestContent.Make(1, 0, length));
        await using var disk = await Disk.OpenAsync(image, new DiskOpenOptions { Format = "raw" });
        await AssertSameContentAsync(disk.Node, image, folder, "-f", "raw");
        var theirs = JsonNode.Parse(QemuImg("info", "-f", "raw", "--output=json", image).Text)!;
        var info = await disk.Node.GetInfoAsync();
        Assert.Equal(((long)theirs["virtual-size"]!, (bool)theirs["dirty-flag"]!), (info.VirtualSize, info.Dirty!.Value));
        if (length > 0)
        {
            // Of an empty disk the peer prints one entry without length.
            await AssertSameMapAsync(disk.Node, image);
        }
    }

    [Fact]
    public async Task Holes_of_the_file_are_zeros_of_the_disk()
    {
        ToolRunner.RequireOrSkip("qemu-img");
        using var folder = new TempFolder();
        var bytes = new SparseBytes(50 << 20);
        bytes.Write(0, TestContent.Make(1, 0, 70_000));
        bytes.Write(20 << 20, TestContent.Make(2, 0, 1 << 20));
        bytes.SaveTo(folder["a.raw"]);
        await using var disk = await Disk.OpenAsync(folder["a.raw"], new DiskOpenOptions { Format = "raw" });
        await AssertSameMapAsync(disk.Node, folder["a.raw"]);
        await AssertSameContentAsync(disk.Node, folder["a.raw"], folder, "-f", "raw");
    }

    [Theory]
    [InlineData("offset=512")]
    [InlineData("offset=100,size=512")]
    [InlineData("size=1k")]
    [InlineData("offset=1000")]
    [InlineData("offset=0x200,size=512")]
    public async Task Parts_of_a_file_are_the_same_disks(string part)
    {
        ToolRunner.RequireOrSkip("qemu-img");
        using var folder = new TempFolder();
        var options = $"driver=raw,{part},file.driver=file,file.filename={folder.Write("a.raw", TestContent.Make(1, 0, 1500))}";
        QemuImg("convert", "--image-opts", "-O", "raw", options, folder["b.raw"]);
        await using var disk = await Disk.OpenAsync(NodeOptions.ParseKeyValues(options));
        await using var expected = Platter.Host.Files.FileStorage.Open(folder["b.raw"]);
        Assert.Equal(expected.Length, disk.Size);
        await AssertSameBytesAsync(expected, disk.Node);
    }
}
