using System.Buffers.Binary;
using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Core.Units;
using Platter.Formats.Parallels;
using Platter.Formats.Parallels.Create;
using Platter.Formats.Parallels.Layout;
using Xunit;

namespace Platter.Tests.Unit.Formats.Parallels.Create;

public sealed class ParallelsCreatorTests
{
    private static readonly ParallelsFormat s_format = new();

    /// <summary>First bytes of <c>qemu-img create -f parallels v SIZE</c> (7.2), its options, and the length of its file; zeros follow.</summary>
    [Theory]
    [InlineData("", 10 << 20, 1 << 20,
        "576974686f75467265537061634578740200000010000000280000000008" + "00000a0000000050000000000000000000000008000000000000")]
    [InlineData("", 0, 1 << 20,
        "57697468" + "6f754672655370616345787402000000100000000000000000080000" + "000000000000000000000000000000000008000000000000")]
    [InlineData("cluster_size=32256", 1_000_000, 32256,
        "57697468" + "6f7546726553706163457874020000001000000003000000" + "3f00000020000000a207000000000000000000003f00000000000000")]
    [InlineData("cluster_size=1000", 1 << 20, 5120,
        "57697468" + "6f7546726553706163457874020000001000000004000000" + "020000000004000000080000000000000000" + "00000a00000000000000")]
    [InlineData("", 1000, 1 << 20,
        "57697468" + "6f7546726553706163457874020000001000000000000000" + "00080000010000000200000000000000000000000008000000000000")]
    public async Task Layout_2_is_the_peers_byte_for_byte(string options, long size, int length, string golden)
    {
        var expected = new byte[length];
        Convert.FromHexString(golden).CopyTo(expected, 0);
        Assert.Equal(expected, (await CreateAsync(size, options)).ToArray());
    }

    [Theory]
    [InlineData("version=1", 10 << 20)]
    [InlineData("version=1,cluster_size=32256", 1_000_000)]
    [InlineData("version=2,cluster_size=512", 3 << 20)]
    [InlineData("version=1", 0)]
    [InlineData("version=1", (2L << 40) - (16 << 20))]
    public async Task What_is_made_opens_empty_and_is_clean(string options, long size)
    {
        var storage = await CreateAsync(size, options);
        await using var image = await Opening.OpenAsync(storage, "parallels");
        Assert.Equal(Sizes.AlignDown(size + 511, 512), image.VirtualSize);
        Assert.Equal(options.StartsWith("version=1", StringComparison.Ordinal), BinaryPrimitives.ReadUInt32LittleEndian(storage.ToArray().AsSpan(12)) == 0x65636170);
        var report = await image.CheckAsync(static _ => { });
        Assert.True(report is { Corruptions: 0, Leaks: 0, Errors: 0, AllocatedClusters: 0 });
        Assert.All(await Opening.MapAllAsync(image), extent => Assert.Equal(ExtentKind.Unallocated, extent.Kind));
    }

    [Theory]
    [InlineData("version=3", 1 << 20, "Parameter 'version' is 3: there are the layouts 1 and 2")]
    [InlineData("cluster_size=0", 1 << 20, "Cluster size must be between 512 and 2143297024 bytes")]
    [InlineData("cluster_size=2G", 1 << 20, "Cluster size must be between 512 and 2143297024 bytes")]
    [InlineData("cluster_size=512", 1L << 40, "Image size is too large for this cluster size")]
    [InlineData("version=1", 2L << 40, "Image size is too large for this cluster size and version 1, which ends at 2 TiB")]
    [InlineData("", long.MaxValue, "Image size is too large for this cluster size")]
    public async Task What_cannot_be_made_is_refused_with_nothing_touched(string options, long size, string message)
    {
        var storage = new MemoryStorage("x", new byte[100]);
        var error = await Assert.ThrowsAsync<BlockException>(async () =>
            await s_format.CreateAsync(storage, size, NodeOptions.ParseKeyValues(options), new CreateContext()));
        Assert.Equal((BlockErrorKind.InvalidRequest, message), (error.Kind, error.Message));
        Assert.Equal(100, storage.Length);
    }

    [Fact]
    public async Task The_largest_disk_of_any_options_opens()
    {
        const long Size = ((1L << 29) - 1) << 20;
        var settings = ParallelsCreateSettings.Plan(Size, 2048, 2);
        settings.ToHeader().Validate("x", settings.DataOffsetSectors * 512);
        Assert.Equal((uint)int.MaxValue / 4, settings.ToHeader().BatEntryCount);
        await Task.CompletedTask;
    }

    [Fact]
    public async Task A_bundle_has_an_entry_of_its_own()
    {
        var storage = new MemoryStorage("x", new byte[5000]);
        await ParallelsCreator.MakeAsync(storage, 1 << 20, 63, 1);
        var header = ParallelsHeader.Parse(storage.ToArray(), "x");
        Assert.Equal((false, 63u, 33u, 2048ul, 63u), (header.IsExtended, header.ClusterSizeSectors, header.BatEntryCount, header.SizeSectors, header.DataOffsetSectors));
        Assert.Equal(63 * 512, storage.Length);
    }

    private static async Task<MemoryStorage> CreateAsync(long size, string options)
    {
        // What was there before must be gone.
        var before = new byte[100];
        before.AsSpan().Fill(0xAA);
        var storage = new MemoryStorage("x", before);
        await s_format.CreateAsync(storage, size, s_format.CreateOptions.Normalize(NodeOptions.ParseKeyValues(options)), new CreateContext());
        return storage;
    }
}
