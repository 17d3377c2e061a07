using Platter.Core.Errors;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Raw;
using Xunit;

namespace Platter.Tests.Unit.Formats.Raw;

public class RawTests
{
    [Fact]
    public async Task A_file_of_1000_bytes_is_a_disk_of_1024()
    {
        var bytes = Bytes(1000);
        await using var node = await OpenAsync(bytes);

        Assert.Equal(1024, node.VirtualSize);
        var read = await Opening.ReadAllAsync(node);
        Assert.Equal([.. bytes, .. new byte[24]], read);
        var map = await Opening.MapAllAsync(node);
        Assert.Equal([(0L, 1000L, ExtentKind.Data, 0L), (1000, 24, ExtentKind.Zero, 1000)],
            map.Select(e => (e.Offset.Value, e.Length, e.Kind, e.HostOffset.Value)));
    }

    [Fact]
    public async Task A_whole_disk_is_one_extent_that_may_have_holes()
    {
        await using var node = await OpenAsync(Bytes(8192));
        var extent = Assert.Single(await Opening.MapAllAsync(node));

        Assert.Equal((8192L, ExtentKind.Data, ExtentFlags.MayHaveHoles), (extent.Length, extent.Kind, extent.Flags));
        Assert.True(node.Driver.IsTransparent);
    }

    [Fact]
    public async Task An_empty_file_is_an_empty_disk()
    {
        await using var node = await OpenAsync([]);
        Assert.Equal(0, node.VirtualSize);
        await node.ReadAsync(GuestOffset.Zero, Memory<byte>.Empty);
    }

    // What qemu-img 7.2 says to the same options and a file of 1000 bytes.
    [Theory]
    [InlineData("512", null, 512)]
    [InlineData("100", "512", 512)]
    [InlineData("0x200", "0x200", 512)]
    [InlineData(null, "1k", 1024)]
    [InlineData("1000", null, 512)]
    [InlineData("1024", null, 0)]
    [InlineData("0", "0", 0)]
    [InlineData("0.5k", null, 512)]
    [InlineData("0.5K", "0.5k", 512)]
    [InlineData("512.0", null, 512)]
    [InlineData(null, "0.00048828125M", 512)]
    public async Task Offset_and_size_cut_out_a_part(string? offset, string? size, long expected)
    {
        var bytes = Bytes(1000);
        await using var node = await OpenAsync(bytes, offset, size);

        Assert.Equal(expected, node.VirtualSize);
        var start = offset is null ? 0 : int.TryParse(offset, out var plain) ? plain : 512;
        var all = (byte[])[.. bytes, .. new byte[2048]];
        Assert.Equal(all[start..(start + (int)expected)], await Opening.ReadAllAsync(node));
    }

    [Theory]
    [InlineData("512", "100", "disk.raw: option 'size' (100) is not a multiple of 512")]
    [InlineData("2048", null, "disk.raw: option 'offset' (2048) is greater than the size of the file (1024)")]
    [InlineData(null, "4096", "disk.raw: options 'offset' (0) and 'size' (4096) reach beyond the end of the file (1024)")]
    [InlineData("1000", "512", "disk.raw: options 'offset' (1000) and 'size' (512) reach beyond the end of the file (1024)")]
    [InlineData("-512", null, "disk.raw: option 'offset' is '-512': expected a number of bytes, or one with a suffix k, M, G, T, P or E")]
    [InlineData("", null, "disk.raw: option 'offset' is '': expected a number of bytes, or one with a suffix k, M, G, T, P or E")]
    [InlineData("1.5", null, "disk.raw: option 'offset' is '1.5': expected a number of bytes, or one with a suffix k, M, G, T, P or E")]
    [InlineData(".5k", null, "disk.raw: option 'offset' is '.5k': expected a number of bytes, or one with a suffix k, M, G, T, P or E")]
    [InlineData("k", null, "disk.raw: option 'offset' is 'k': expected a number of bytes, or one with a suffix k, M, G, T, P or E")]
    [InlineData("9000000E", null, "disk.raw: option 'offset' is '9000000E': expected a number of bytes, or one with a suffix k, M, G, T, P or E")]
    public async Task Impossible_parts_are_refused(string? offset, string? size, string message)
    {
        var error = await Assert.ThrowsAsync<BlockException>(() => OpenAsync(Bytes(1000), offset, size));
        Assert.Equal(BlockErrorKind.InvalidRequest, error.Kind);
        Assert.Equal(message, error.Message);
    }

    [Theory]
    [InlineData("foo")]
    [InlineData("foo.bar")]
    [InlineData("lazy-refcounts")]
    [InlineData("encrypt.key-secret")]
    [InlineData("backing.file.filename")]
    [InlineData("cache.writeback")]
    public async Task Options_that_raw_does_not_have_are_refused_by_name(string key)
    {
        var options = new NodeOptions { ["driver"] = "raw", ["file.filename"] = "disk.raw", ["cache.direct"] = "on", ["backing"] = null, [key] = "1" };
        var error = await Assert.ThrowsAsync<BlockException>(() => Opening.OpenAsync(new MemoryStorage("disk.raw", Bytes(512)), "raw", options));
        Assert.Equal((BlockErrorKind.InvalidRequest, $"Block format 'raw' does not support the option '{key}'"), (error.Kind, error.Message));
    }

    [Fact]
    public async Task A_file_that_was_cut_meanwhile_reads_as_zeros_behind_its_end()
    {
        var storage = new MemoryStorage("disk.raw", Bytes(4096));
        await using var node = await Opening.OpenAsync(storage, "raw");
        await storage.SetLengthAsync(1024);

        var bytes = await Opening.ReadAllAsync(node);
        Assert.Equal([.. Bytes(4096)[..1024], .. new byte[3072]], bytes);
    }

    [Fact]
    public void Raw_is_what_remains_when_probing() => Assert.Equal("raw", Opening.Formats.Probe("anything"u8).Name);

    [Fact]
    public async Task Raw_has_nothing_to_check()
    {
        await using var node = await OpenAsync(Bytes(512));
        var error = await Assert.ThrowsAsync<BlockException>(async () => await node.CheckAsync(_ => { }));
        Assert.Equal(BlockErrorKind.Unsupported, error.Kind);
    }

    private static byte[] Bytes(int count)
    {
        var bytes = new byte[count];
        new Random(1).NextBytes(bytes);
        return bytes;
    }

    private static Task<ImageNode> OpenAsync(byte[] bytes, string? offset = null, string? size = null)
    {
        var options = new NodeOptions();
        if (offset is not null)
        {
            options["offset"] = offset;
        }

        if (size is not null)
        {
            options["size"] = size;
        }

        return Opening.OpenAsync(new MemoryStorage("disk.raw", bytes), "raw", options);
    }
}
