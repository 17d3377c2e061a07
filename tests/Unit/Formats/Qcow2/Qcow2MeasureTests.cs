using Platter.Core.Errors;
using Platter.Core.Images;
using Platter.Core.Units;
using Platter.Formats.Qcow2;
using Xunit;

namespace Platter.Tests.Unit.Formats.Qcow2;

/// <summary>Known answers of <c>qemu-img measure -O qcow2 -o OPTIONS --size SIZE</c> (7.2).</summary>
public sealed class Qcow2MeasureTests
{
    [Theory]
    [InlineData("", 1099511627776, 168034304, 1099679662080)]
    [InlineData("", 65537, 327680, 458752)]
    [InlineData("cluster_size=4096", 1099511627776, 2690920448, 1102202548224)]
    [InlineData("cluster_size=4k", 65537, 20480, 90112)]
    [InlineData("cluster_size=2M", 1099511627776, 12582912, 1099524210688)]
    [InlineData("cluster_size=2M", 65537, 10485760, 12582912)]
    [InlineData("extended_l2=on", 1099511627776, 302252032, 1099813879808)]
    [InlineData("refcount_bits=1", 1099511627776, 136577024, 1099648204800)]
    [InlineData("preallocation=full", 1099511627776, 1099679662080, 1099679662080)]
    [InlineData("encrypt.format=luks,encrypt.key-secret=s", 1073741824, 2490368, 1076232192)]
    public async Task The_sizes_are_those_of_the_peer(string options, long size, long required, long fullyAllocated)
    {
        var result = await new Qcow2Format().MeasureAsync(null, size, NodeOptions.ParseKeyValues(options));
        Assert.Equal(new MeasureResult(required, fullyAllocated), result);
    }

    [Theory]
    [InlineData("cluster_size=1000")]
    [InlineData("cluster_size=4M")]
    [InlineData("refcount_bits=3")]
    [InlineData("nonsense=1")]
    [InlineData("compat=0.9")]
    [InlineData("extended_l2=on,cluster_size=4k")]
    public async Task Bad_options_are_named(string options)
    {
        var error = await Assert.ThrowsAsync<BlockException>(async () =>
            await new Qcow2Format().MeasureAsync(null, Sizes.GiB, NodeOptions.ParseKeyValues(options)));
        Assert.Equal(BlockErrorKind.InvalidRequest, error.Kind);
    }
}
