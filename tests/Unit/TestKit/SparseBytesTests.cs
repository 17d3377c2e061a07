using Platter.TestKit;
using Xunit;

namespace Platter.Tests.Unit.TestKit;

public sealed class SparseBytesTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void Random_changes_equal_a_byte_array(int seed)
    {
        var random = new Random(seed);
        var plain = new byte[60_000];
        var bytes = new SparseBytes(plain.Length);
        for (var i = 0; i < 300; i++)
        {
            var at = random.Next(plain.Length);
            var length = random.Next(Math.Min(6000, plain.Length - at) + 1);
            if (random.Next(3) == 0)
            {
                bytes.Zero(at, length);
                plain.AsSpan(at, length).Clear();
            }
            else
            {
                var part = TestContent.Make(i, at, length);
                bytes.Write(at, part);
                part.CopyTo(plain, at);
            }
        }

        Assert.True(bytes.ToArray().AsSpan().SequenceEqual(plain), $"seed {seed}");
        Assert.Equal(plain, bytes.Clone().ToArray());
        using var folder = new TempFolder();
        bytes.SaveTo(folder["a"]);
        Assert.Equal(plain, File.ReadAllBytes(folder["a"]));
        Assert.Equal(bytes.Sha256(), SparseBytes.Load(folder["a"]).Sha256());
    }

    [Fact]
    public void Cutting_and_growing_leaves_zeros_behind()
    {
        var bytes = SparseBytes.From(TestContent.Make(1, 0, 10_000));
        bytes.SetLength(5000);
        bytes.SetLength(10_000);
        Assert.All(bytes.Slice(5000, 5000), b => Assert.Equal(0, b));
    }

    [Fact]
    public void Numbers_are_put_in_both_byte_orders()
    {
        var bytes = new SparseBytes(16);
        bytes.PutU32Le(0, 0x11223344);
        bytes.PutU16Be(4, 0x5566);
        bytes.PutU64Be(8, 0x0102030405060708);
        Assert.Equal(Convert.FromHexString("44332211556600000102030405060708"), bytes.ToArray());
        Assert.Equal(0x0807060504030201u, bytes.U64Le(8));
    }

    [Fact]
    public void A_huge_sparse_file_costs_what_it_holds()
    {
        var bytes = new SparseBytes(64L << 40);
        bytes.PutU8(5L << 40, 1);
        Assert.Equal([(5L << 40, 4096)], bytes.DataRanges());
        using var folder = new TempFolder();
        bytes.SetLength(1L << 33);
        bytes.PutU8(1L << 32, 1);
        bytes.SaveTo(folder["a"]);
        Assert.Equal(1L << 33, new FileInfo(folder["a"]).Length);
    }
}
