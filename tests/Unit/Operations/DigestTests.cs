using System.Text;
using Platter.Core.Graph;
using Platter.Core.Images;
using Platter.Core.Storages;
using Platter.Operations.Digest;
using Platter.TestKit;
using Platter.Tests.Unit.Core;
using Xunit;

namespace Platter.Tests.Unit.Operations;

/// <summary>The digest is the documented one, in whatever order and pieces the content comes.</summary>
public sealed class DigestTests
{
    // Computed by a program of ten lines in another language, from docs/digest.md.
    [Theory]
    [InlineData(0, "665e51eaa888722689547e0feb2d0f22321568a69869d091d8d8ecb9a39680c7")]
    [InlineData(1 << 20, "b3c28dc731882d2ae9e47213dd13782dd05c28dcec33f1a3a838eb43535f28b0")]
    [InlineData(64 << 20, "7d812594c3e1059dc33dfe18d3539016bf6277798edc5c3653fb6e379ff20258")]
    public void Disks_of_zeros_have_the_recorded_digests(int size, string expected)
    {
        var tree = new DigestTree(size);
        tree.AddZeros(0, size);
        Assert.Equal(expected, tree.Finish());
        tree = new DigestTree(size);
        tree.Add(0, new byte[size]);
        Assert.Equal(expected, tree.Finish());
    }

    [Fact]
    public void A_disk_whose_last_block_is_cut_has_the_recorded_digest()
    {
        var bytes = Encoding.ASCII.GetBytes(string.Concat(Enumerable.Repeat("platter", 100_000)));
        var tree = new DigestTree(bytes.Length);
        tree.Add(0, bytes);
        Assert.Equal("406857f8ccd76c6087be8e23449973ff0f77ff4eec9dd04a22fea4873da8676e", tree.Finish());
    }

    [Theory]
    [InlineData(17 << 20)]
    [InlineData((40 << 20) + 512)]
    [InlineData(65536)]
    [InlineData(100)]
    public async Task Order_pieces_and_sparseness_do_not_matter(int size)
    {
        var random = new Random(size);
        var content = new byte[size];
        for (var i = 0; i < 20; i++)
        {
            var at = random.Next(size);
            TestContent.Fill(content.AsSpan(at, Math.Min(size - at, random.Next(300_000))), i, at);
        }

        var whole = new DigestTree(size);
        whole.Add(0, content);
        var expected = whole.Finish();
        var pieces = Enumerable.Range(0, (size + 65535) / 65536).ToArray();
        random.Shuffle(pieces);
        var tree = new DigestTree(size);
        Parallel.ForEach(pieces, piece =>
        {
            var part = content.AsSpan(piece << 16, Math.Min(65536, size - (piece << 16)));
            if (part.ContainsAnyExcept((byte)0))
            {
                tree.Add(piece << 16, part);
            }
            else
            {
                tree.AddZeros(piece << 16, part.Length);
            }
        });
        Assert.Equal(expected, tree.Finish());
        await using var disk = new ImageNode(
            new FakeDriver(size, new MemoryStorage("disk", content), [(size / 2, ExtentKind.Data, 0), (size - (size / 2), ExtentKind.Data, size / 2)]), null);
        Assert.Equal(expected, await DigestOperation.ComputeAsync(disk));
    }

    [Fact]
    public void Terabytes_of_nothing_cost_nothing()
    {
        var tree = new DigestTree(1L << 62);
        tree.AddZeros(0, 1L << 62);
        var nothing = tree.Finish();
        tree = new DigestTree(1L << 62);
        tree.AddZeros(0, 1L << 61);
        tree.Add(1L << 61, TestContent.Make(1, 0, 65536));
        tree.AddZeros((1L << 61) + 65536, (1L << 61) - 65536);
        Assert.NotEqual(nothing, tree.Finish());
    }

    [Fact]
    public void What_was_not_added_is_noticed()
    {
        var tree = new DigestTree(200_000);
        tree.Add(65536, new byte[65536]);
        Assert.Throws<InvalidOperationException>(tree.Finish);
        Assert.Throws<ArgumentException>(() => tree.Add(0, new byte[100]));
        Assert.Throws<ArgumentException>(() => tree.Add(100, new byte[65536]));
        Assert.Throws<ArgumentException>(() => tree.AddZeros(196608, 65536));
    }
}
