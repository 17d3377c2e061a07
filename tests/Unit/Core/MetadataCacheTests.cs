using Platter.Core.Metadata;
using Xunit;

namespace Platter.Tests.Unit.Core;

public sealed class MetadataCacheTests
{
    [Fact]
    public void Values_beyond_the_budget_are_dropped_and_the_newest_is_there()
    {
        var cache = new MetadataCache(16 * 1024);
        var owner = MetadataCache.NewOwner();
        var kept = 0;
        for (var key = 0; key < 1000; key++)
        {
            cache.Add(owner, key, new byte[256], 256);
            Assert.True(cache.TryGet<byte[]>(owner, key, out _));
        }

        for (var key = 0; key < 1000; key++)
        {
            kept += cache.TryGet<byte[]>(owner, key, out _) ? 1 : 0;
        }

        Assert.InRange(kept, 16, 64);
    }

    [Fact]
    public void A_value_larger_than_the_budget_is_kept_alone()
    {
        var cache = new MetadataCache(1024);
        cache.Add(1, 1, new byte[4096], 4096);
        Assert.True(cache.TryGet<byte[]>(1, 1, out var value));
        Assert.Equal(4096, value.Length);
    }

    [Fact]
    public void Owners_do_not_see_each_others_tables()
    {
        var cache = new MetadataCache(1 << 20);
        cache.Add(1, 7, "one", 3);
        cache.Add(2, 7, "two", 3);
        Assert.True(cache.TryGet<string>(1, 7, out var one));
        Assert.Equal("one", one);
    }
}
