using Platter.Core.Units;
using Xunit;

namespace Platter.Tests.Unit.Core;

public sealed class SizesTests
{
    [Theory]
    [InlineData(long.MaxValue, 1)]
    [InlineData(-1, 5)]
    [InlineData(5, -1)]
    public void Sums_that_do_not_fit_are_refused(long left, long right) => Assert.False(Sizes.TryAdd(left, right, out _));

    [Theory]
    [InlineData(1L << 32, 1L << 31)]
    [InlineData(long.MaxValue, 2)]
    [InlineData(-1, 1)]
    public void Products_that_do_not_fit_are_refused(long left, long right) => Assert.False(Sizes.TryMultiply(left, right, out _));

    [Fact]
    public void The_largest_product_that_fits_is_exact()
    {
        Assert.True(Sizes.TryMultiply(long.MaxValue, 1, out var product));
        Assert.Equal(long.MaxValue, product);
        Assert.True(Sizes.TryMultiply(1L << 31, 1L << 31, out product));
        Assert.Equal(1L << 62, product);
    }

    [Fact]
    public void Aligning_up_does_not_wrap()
    {
        Assert.False(Sizes.TryAlignUp(long.MaxValue - 1, 4096, out _));
        Assert.True(Sizes.TryAlignUp(4097, 4096, out var aligned));
        Assert.Equal(8192, aligned);
    }
}
