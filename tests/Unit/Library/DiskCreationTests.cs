using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Host.Files;
using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.Library;

public sealed class DiskCreationTests : IDisposable
{
    private static bool Portable => Environment.GetEnvironmentVariable("PLATTER_PORTABLE") == "1";

    private readonly TempFolder _folder = new("create");

    [Fact]
    public async Task Typed_options_make_what_they_say()
    {
        var path = _folder["disk.qcow2"];
        await Disk.CreateAsync(path, 10_000_000, new Qcow2CreateOptions
        {
            ClusterSize = 4096, RefcountBits = 8, LazyRefcounts = true, Compression = Qcow2Compression.Zstd, Preallocation = DiskPreallocation.Metadata,
            Encryption = new Qcow2Encryption { Cipher = "aes-128", IterationTime = TimeSpan.FromMilliseconds(1) }, Password = "secret",
        });
        await using var disk = await Disk.OpenAsync(path, new DiskOpenOptions { Writable = true, Password = "secret" });
        var info = await disk.GetInfoAsync();
        Assert.Equal(10_000_384, disk.Size);
        Assert.Equal(4096, info.ClusterSize);
        Assert.Equal(8, (int)info.FormatSpecific!["refcount-bits"]!);
        Assert.Equal("zstd", (string?)info.FormatSpecific["compression-type"]);
        Assert.Equal("aes-128", (string?)info.FormatSpecific["encrypt"]!["cipher-alg"]);
    }

    [Fact]
    public async Task An_overlay_takes_its_size_from_the_backing_file()
    {
        await Disk.CreateAsync(_folder["base.raw"], 1_000_000, new RawCreateOptions { Preallocation = DiskPreallocation.Falloc });
        await Disk.CreateAsync(_folder["top.qcow2"], null, new Qcow2CreateOptions { BackingFile = "base.raw", BackingFormat = "raw" });
        await using var disk = await Disk.OpenAsync(_folder["top.qcow2"]);
        Assert.Equal(1_000_448, disk.Size);
    }

    [Fact]
    public async Task A_file_of_the_backing_chain_is_not_overwritten()
    {
        Assert.SkipWhen(Portable, "the portable way cannot tell files apart");
        var path = _folder["base.raw"];
        File.WriteAllBytes(path, new byte[1024]);
        File.CreateSymbolicLink(_folder["link"], path);
        var options = new Qcow2CreateOptions { BackingFile = "link", BackingFormat = "raw" };
        await Assert.ThrowsAsync<BlockException>(async () => await Disk.CreateAsync(path, null, options));
        Assert.Equal(1024, new FileInfo(path).Length);
    }

    [Fact]
    public async Task A_file_in_use_is_not_touched()
    {
        Assert.SkipWhen(Portable, "the portable way has no image locks");
        var path = _folder["disk.raw"];
        File.WriteAllText(path, "precious");
        await using (var user = FileStorage.Open(path, writable: true))
        {
            user.LockForWriting();
            var error = await Assert.ThrowsAsync<BlockException>(async () => await Disk.CreateAsync(path, 1 << 20, new Qcow2CreateOptions()));
            Assert.Equal(BlockErrorKind.Locked, error.Kind);
        }

        Assert.Equal("precious", File.ReadAllText(path));
    }

    [Theory]
    [InlineData("cluster_size=3k")]
    [InlineData("encrypt.format=luks,encrypt.key-secret=missing")]
    [InlineData("data_file=/nonexistent/data")]
    [InlineData("data_file=SELF")]
    public async Task Nothing_is_left_of_an_image_that_cannot_be_made(string options)
    {
        var path = _folder["disk.qcow2"];
        var named = NodeOptions.ParseKeyValues(options.Replace("SELF", path, StringComparison.Ordinal));
        var error = await Assert.ThrowsAsync<BlockException>(async () => await Disk.CreateAsync(path, 1 << 20, new NamedCreateOptions("qcow2", named)));
        Assert.StartsWith($"{path}: ", error.Message, StringComparison.Ordinal);
        Assert.False(File.Exists(path));
    }

    [Theory]
    [InlineData("nbd", "Unknown file format 'nbd'")]
    [InlineData("vmdk", "Unknown file format 'vmdk'")]
    public async Task Formats_that_cannot_be_made_are_named(string format, string message)
    {
        var error = await Assert.ThrowsAsync<BlockException>(async () =>
            await Disk.CreateAsync(_folder["disk"], 1 << 20, new NamedCreateOptions(format, new NodeOptions())));
        Assert.Contains(message, error.Message, StringComparison.Ordinal);
    }

    public void Dispose() => _folder.Dispose();
}
