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
    }
}
